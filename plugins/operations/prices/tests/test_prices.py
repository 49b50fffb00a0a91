"""Prices that nobody has written down: asked of a process, remembered in a file, given to the catalog."""

from __future__ import annotations

import asyncio
import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import routerpool_prices
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from routerpool_prices import PriceList, inquiry, lookup
from routerpool_prices.inquiry import InquiryError, Known, Question, inquire, installed_version, prices_of

from routerpool import ConfigError, Level, Model, OpenAIProvider, Prices, Probe, Report, Router, Usage
from routerpool.planning import cost_of
from routerpool.testing import make_router

LLAMA = "llama-3.3-70b-versatile"
TODAY = datetime.now(UTC).date()
DAY = date(2026, 11, 20)


class Groq(OpenAIProvider):
    base_url = "https://api.groq.com/openai/v1"
    models = (
        Model(id=LLAMA),
        Model(id="a-model-of-nobody"),
        Model(id="gift", free=True),
        Model(id="own", prices=Prices(input=9.0, output=9.0)),
    )


class House(OpenAIProvider):
    base_url = "http://127.0.0.1:9/v1"
    local = True
    models = (Model(id="m", local=True),)


class Deferred(OpenAIProvider):
    """One whose models are known later."""

    base_url = "https://gateway.example/v1"
    prices_as = "anthropic"


PLUGINS = {"groq": Groq, "house": House, "deferred": Deferred, "prices": PriceList}


def router_of(section: dict[str, Any] | None = None, **more: Any) -> Router:
    plugins: dict[str, Any] = {"groq": {}, "house": {}, "deferred": {}, "prices": section or {}}
    return make_router({"plugins": plugins, **more}, plugins=PLUGINS)


def plugin_of(router: Router) -> PriceList:
    found = router.hooks.instances["prices"].plugin
    assert isinstance(found, PriceList)
    return found


def price(router: Router, key: str) -> Prices:
    return router.catalog.snapshot.by_key[key].model.prices


async def priced(router: Router, key: str) -> Prices:
    """The price of a candidate, as soon as it has one."""
    changed = asyncio.Event()
    leave = router.catalog.watch(changed.set)
    async with asyncio.timeout(60):
        while price(router, key) == Prices():
            await changed.wait()
            changed.clear()
    leave()
    return price(router, key)


class Desk:
    """In the place of the process: it answers from a table, and keeps what it was asked."""

    def __init__(self, table: dict[str, Prices] | None = None, newest: str | None = None) -> None:
        self.table = table or {}
        self.newest = newest or TODAY.isoformat()
        self.asked: list[Question] = []
        self.times = 0
        self.error: str | None = None

    async def inquire(self, known: Known, questions: Iterable[Question], seconds: float) -> Known:
        self.times += 1
        if self.error is not None:
            raise InquiryError(self.error)
        new = tuple(questions)
        self.asked += new
        prices = {question.key: self.table.get(question.model) for question in new}
        return Known(known.version, known.day, self.newest, {**known.prices, **prices})


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> Desk:
    desk = Desk({LLAMA: Prices(input=0.59, output=0.79)})
    monkeypatch.setattr(routerpool_prices, "inquire", desk.inquire)
    return desk


async def settled(router: Router) -> None:
    """Until the plugin has looked at all the candidates that there are."""
    async with asyncio.timeout(10):
        await plugin_of(router)._settled.wait()


# With the real package


def test_a_model_gets_the_price_of_the_list_and_a_server_never_imports_it() -> None:
    script = f"""
import asyncio, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_prices import LLAMA, priced, router_of
from routerpool import Usage
from routerpool.planning.cost import cost_of

async def main():
    async with router_of() as router:
        prices = await priced(router, "groq/" + LLAMA)
        print(cost_of(Usage(input_uncached=1_000_000), prices), cost_of(Usage(output=1_000_000), prices))
    print(sorted({{"genai_prices", "pydantic", "httpx2", "httpx"}} & set(sys.modules)))

asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    costs, imported = done.stdout.splitlines()

    assert [float(cost) > 0 for cost in costs.split()] == [True, True]
    assert imported == "[]"


def test_a_model_that_joins_later_is_looked_up_too_by_the_name_of_who_bills() -> None:
    async def body() -> tuple[Prices, Prices]:
        async with router_of() as router:
            first = await priced(router, f"groq/{LLAMA}")
            router.catalog.replace("deferred", (Model(id="claude-sonnet-4-5"),))
            return first, await priced(router, "deferred/claude-sonnet-4-5")

    first, later = asyncio.run(body())

    assert first.input is not None
    assert later.input is not None
    assert later.cached is not None
    assert later.cache_write is not None
    assert later.cached < later.input < later.cache_write


def test_doctor_tells_the_age_of_the_list_and_who_has_no_price() -> None:
    async def body() -> list[Report]:
        async with router_of({"prices": {"groq/gone": {"input": 1.0}}}) as router:
            await priced(router, f"groq/{LLAMA}")
            return list(await plugin_of(router).check(Probe()))

    age, gaps, idle = asyncio.run(body())

    assert f"genai-prices {installed_version()}: its newest change of a price is of 20" in age.text
    assert (gaps.level, idle.level) == (Level.NOTE, Level.NOTE)
    assert "groq/a-model-of-nobody" in gaps.text
    assert not any(name in gaps.text for name in ("gift", "groq/own", LLAMA, "house"))
    assert "groq/gone" in idle.text


def test_doctor_tells_the_age_without_an_open_router() -> None:
    (age,) = asyncio.run(_check(PriceList()))

    assert "its newest change of a price is of 20" in age.text


async def _check(plugin: PriceList) -> Sequence[Report]:
    return list(await plugin.check(Probe()))


def asked(names: Sequence[str], model: str, url: str = "", day: date = DAY) -> Any:
    (found,) = lookup.answer([{"url": url, "names": list(names), "model": model}], day)["prices"]
    return found


def test_who_bills_is_told_by_the_address_else_by_the_exact_name() -> None:
    groq = asked(["groq"], LLAMA)

    assert groq["input"] > 0
    assert asked(["lab"], LLAMA, "https://api.groq.com/openai/v1") == groq
    assert asked(["openai"], LLAMA, "https://api.groq.com/openai/v1") == groq
    assert asked(["lab", "GROQ"], LLAMA, "https://elsewhere.example/v1") == groq
    assert asked(["groq"], "a-model-of-nobody") is None
    assert asked(["openai_compatible"], "gpt-4o-mini") is None
    assert asked(["my-openai"], "gpt-4o-mini", "http://127.0.0.1:9/v1") is None
    assert asked([], "gpt-4o-mini") is None


def test_litellm_names_the_provider_before_the_model() -> None:
    assert asked(["litellm"], f"groq/{LLAMA}") == asked(["groq"], LLAMA)
    assert asked(["litellm"], f"nobody/{LLAMA}") is None
    assert asked(["litellm"], "gpt-4o-mini") is None


def test_a_free_model_costs_nothing_and_one_billed_by_more_than_tokens_is_unknown() -> None:
    assert asked(["openrouter"], "openai/gpt-oss-20b:free") == {"input": 0.0, "output": 0.0}
    assert asked(["perplexity"], "sonar") is None


def test_a_price_begins_on_its_day() -> None:
    before, after = (asked(["mistral"], "mistral-small-latest", day=date(2026, 3, day)) for day in (15, 16))

    assert before != after


@pytest.mark.parametrize("dear", [0, 6, 12, 18])
def test_what_changes_with_the_hour_is_taken_at_its_dearest(dear: int) -> None:
    from genai_prices import types

    hours = types.TimeOfDateConstraint(start_time=time(dear, tzinfo=UTC), end_time=time(dear + 1, tzinfo=UTC))
    cheap, full = (types.ModelPrice(input_mtok=Decimal(price), output_mtok=Decimal(price)) for price in (1, 2))
    prices = [types.ConditionalPrice(prices=cheap), types.ConditionalPrice(constraint=hours, prices=full)]
    model = types.ModelInfo(id="m", match=types.ClauseEquals(equals="m"), prices=prices)

    assert lookup._prices(model, DAY) == {"input": 2.0, "output": 2.0}


@cache
def _listed() -> list[tuple[Any, Any]]:
    """Providers of the package with a model that can be asked for by its id."""
    from genai_prices.data_snapshot import get_snapshot

    found = [
        (provider, provider.find_model(model.id)) for provider in get_snapshot().providers for model in provider.models
    ]
    return [(provider, model) for provider, model in found if model is not None]


tokens = st.integers(0, 400_000)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data(), uncached=tokens, cached=tokens, written=tokens, hour=tokens, output=tokens)
def test_we_price_any_usage_of_any_model_as_the_package_does(
    data: st.DataObject, uncached: int, cached: int, written: int, hour: int, output: int
) -> None:
    from genai_prices import types

    provider, model = data.draw(st.sampled_from(_listed()))
    found = prices_of(lookup._prices(model, DAY))
    by_hour = isinstance(model.prices, list) and any(
        isinstance(price.constraint, types.TimeOfDateConstraint) for price in model.prices
    )
    usage = Usage(input_uncached=uncached, input_cached=cached, cache_write=written, cache_write_1h=hour, output=output)
    cost = cost_of(usage, found) if found is not None else None
    if cost is None or by_hour:
        return
    theirs = model.calc_price(
        types.Usage(
            input_tokens=usage.input,
            cache_read_tokens=cached,
            cache_write_tokens=written + hour,
            cache_write_1h_tokens=hour,
            output_tokens=output,
        ),
        provider,
        genai_request_timestamp=datetime(2026, 11, 20, 12, tzinfo=UTC),
    )

    assert cost == pytest.approx(float(theirs.total_price), rel=1e-9, abs=1e-12)


# What is asked


def test_only_what_costs_something_and_has_no_price_is_asked_for(desk: Desk) -> None:
    async def body() -> dict[str, Prices]:
        async with router_of({"prices": {"deferred/*": {"input": 1.0}}}) as router:
            await settled(router)
            return {c.key: c.model.prices for c in router.catalog.snapshot.candidates}

    prices = asyncio.run(body())

    assert [question.model for question in desk.asked] == [LLAMA, "a-model-of-nobody"]
    assert desk.asked[0] == Question("https://api.groq.com/openai/v1", ("groq",), LLAMA)
    assert prices[f"groq/{LLAMA}"] == Prices(input=0.59, output=0.79)
    assert prices["groq/own"] == Prices(input=9.0, output=9.0)
    assert prices["groq/gift"] == prices["house/m"] == prices["groq/a-model-of-nobody"] == Prices()


def test_what_you_state_goes_before_the_list_and_before_what_a_model_brings(desk: Desk) -> None:
    stated = {"groq/*": {"input": 1.0, "output": 2.0}, "groq/own": {"input": 3.0}, f"groq/{LLAMA}": {"output": 4.0}}

    async def body() -> list[Prices]:
        async with router_of({"prices": stated}) as router:
            await settled(router)
            return [price(router, f"groq/{name}") for name in (LLAMA, "a-model-of-nobody", "own")]

    assert asyncio.run(body()) == [Prices(output=4.0), Prices(input=1.0, output=2.0), Prices(input=3.0)]
    assert desk.asked == []


def test_nothing_is_asked_twice_and_a_price_stays_while_the_catalog_changes(desk: Desk) -> None:
    async def body() -> list[Prices]:
        async with router_of() as router:
            await settled(router)
            plugin_of(router)._settled.clear()
            router.catalog.replace("groq", (Model(id=LLAMA), Model(id="another")))
            await settled(router)
            return [price(router, f"groq/{LLAMA}"), price(router, "groq/another")]

    assert asyncio.run(body()) == [Prices(input=0.59, output=0.79), Prices()]
    assert [question.model for question in desk.asked] == [LLAMA, "a-model-of-nobody", "another"]


def test_with_lookup_off_only_what_is_stated_counts(desk: Desk) -> None:
    async def body() -> tuple[Prices, Prices, list[Report]]:
        async with router_of({"lookup": False, "prices": {"groq/own": {"input": 1.0}}}) as router:
            await settled(router)
            reports = list(await plugin_of(router).check(Probe()))
            return price(router, "groq/own"), price(router, f"groq/{LLAMA}"), reports

    own, other, reports = asyncio.run(body())
    assert (own, other, desk.times) == (Prices(input=1.0), Prices(), 0)
    assert [report.level for report in reports] == [Level.NOTE]


@pytest.mark.parametrize("bad", [{"input": -1.0}, {"inputs": 1.0}, {"output": "much"}, {"over": 5}])
def test_what_is_no_price_is_a_mistake_in_the_file(bad: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="groq"):
        router_of({"prices": {"groq/*": bad}})


# The file


def store(folder: Path) -> str:
    return f"sqlite:///{folder}/routerpool.db"


def test_what_was_answered_is_kept_beside_the_store_until_another_release_or_day(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def body() -> Prices:
        async with router_of(store=store(tmp_path)) as router:
            await settled(router)
            return price(router, f"groq/{LLAMA}")

    first = asyncio.run(body())
    file = tmp_path / "prices.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [asyncio.run(body()), asyncio.run(body())] == [first, first]
    assert desk.times == 1

    monkeypatch.setattr(routerpool_prices, "installed_version", lambda: "99.0")
    assert asyncio.run(body()) == first
    assert desk.times == 2
    monkeypatch.setattr(routerpool_prices, "_today", lambda: TODAY + timedelta(days=1))
    assert asyncio.run(body()) == first
    assert desk.times == 3
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize(
    "rubbish",
    [b"", b"{", b"[]", b"\xff", b'{"version": 3}', b'{"version": "%s", "day": "%s", "newest": "x", "prices": []}'],
)
def test_a_file_that_is_damaged_is_asked_for_again(desk: Desk, tmp_path: Path, rubbish: bytes) -> None:
    file = tmp_path / "kept.json"
    if b"%s" in rubbish:
        rubbish %= (str(installed_version()).encode(), TODAY.isoformat().encode())
    file.write_bytes(rubbish)

    async def body() -> Prices:
        async with router_of({"cache": str(file)}) as router:
            await settled(router)
            return price(router, f"groq/{LLAMA}")

    assert asyncio.run(body()) == Prices(input=0.59, output=0.79)
    assert json.loads(file.read_bytes())["newest"] == desk.newest


def test_a_price_in_the_file_that_is_none_is_asked_for_again(desk: Desk, tmp_path: Path) -> None:
    file = tmp_path / "kept.json"
    question = Question("https://api.groq.com/openai/v1", ("groq",), LLAMA)
    held = {"version": installed_version(), "day": TODAY.isoformat(), "newest": "2026-11-09"}
    file.write_text(json.dumps({**held, "prices": {question.key: {"input": "much"}}}))

    async def body() -> Prices:
        async with router_of({"cache": str(file)}) as router:
            await settled(router)
            return price(router, f"groq/{LLAMA}")

    assert asyncio.run(body()) == Prices(input=0.59, output=0.79)


def test_a_file_that_cannot_be_written_costs_nothing_but_a_word(
    desk: Desk, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")

    async def body() -> Prices:
        async with router_of({"cache": str(tmp_path / "file" / "prices.json")}) as router:
            await settled(router)
            return price(router, f"groq/{LLAMA}")

    assert asyncio.run(body()) == Prices(input=0.59, output=0.79)
    assert "cannot keep what was looked up" in caplog.text


# What goes wrong


def test_without_the_package_nothing_fails_and_the_cure_is_named(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routerpool_prices, "installed_version", lambda: None)

    async def body() -> tuple[Any, list[Report], Prices]:
        async with router_of({"prices": {"groq/own": {"input": 1.0}}}) as router:
            await settled(router)
            plugin = plugin_of(router)
            return plugin.status(), list(await plugin.check(Probe())), price(router, "groq/own")

    status, (first, *_), own = asyncio.run(body())

    assert "not installed" in status["problem"]
    assert (first.level, first.cure) == (Level.NOTE, "pip install -U genai-prices")
    assert "genai-prices is not installed" in first.text
    assert (own, desk.times) == (Prices(input=1.0), 0)


def test_a_lookup_that_fails_is_told_and_not_repeated_at_once(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    desk.error = "the lookup of prices failed (3): no module"

    async def body() -> tuple[Any, list[Report]]:
        async with router_of() as router:
            await settled(router)
            plugin = plugin_of(router)
            plugin._settled.clear()
            router.catalog.replace("groq", (Model(id="another"),))
            await settled(router)
            return plugin.status(), list(await plugin.check(Probe()))

    status, reports = asyncio.run(body())

    assert status["problem"] == desk.error
    assert status["listed"] == 0
    assert (reports[0].level, reports[0].text) == (Level.NOTE, desk.error)
    assert desk.times == 2, "once for the models, once for doctor"
    assert desk.error in caplog.text


def test_an_old_list_is_warned_of(desk: Desk) -> None:
    desk.newest = (TODAY - timedelta(days=routerpool_prices.OLD_DAYS + 1)).isoformat()
    (old,) = asyncio.run(_check(PriceList()))
    desk.newest = (TODAY - timedelta(days=routerpool_prices.OLD_DAYS)).isoformat()
    (young,) = asyncio.run(_check(PriceList()))

    assert (old.level, old.cure) == (Level.WARNING, "pip install -U genai-prices")
    assert (young.level, young.cure) == (Level.OK, "")


def program(folder: Path, script: str) -> str:
    """A program in the place of Python."""
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o700)
    return str(path)


KNOWN = Known("0", DAY)
QUESTION = Question("", ("groq",), "m")


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("cat > /dev/null; echo nonsense", "no JSON"),
        ("cat > /dev/null; echo 'boom' >&2; exit 3", r"failed \(3\): boom"),
        ("cat > /dev/null; exit 4", r"failed \(4\): no word"),
        ("""cat > /dev/null; echo '{"newest": null}'""", "something else"),
        ("""cat > /dev/null; echo '{"newest": 3, "prices": [null]}'""", "another number"),
        ("""cat > /dev/null; echo '{"newest": null, "prices": []}'""", "another number"),
        ("cat > /dev/null; echo '[]'", "something else"),
        ("exec sleep 600", "longer than 0.5 seconds"),
    ],
)
def test_a_process_that_does_not_answer_well_is_an_error_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, words: str
) -> None:
    monkeypatch.setattr(inquiry.sys, "executable", program(tmp_path, script))

    async def body() -> None:
        async with asyncio.timeout(40):
            await inquire(KNOWN, [QUESTION], 0.5 if "sleep" in script else 30)

    with pytest.raises(InquiryError, match=words):
        asyncio.run(body())


def test_a_process_that_cannot_be_started_is_an_error_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inquiry.sys, "executable", "/nonexistent/python")
    with pytest.raises(InquiryError, match="cannot be started"):
        asyncio.run(inquire(KNOWN, [QUESTION], 30))


def test_a_process_under_way_ends_with_its_router(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = tmp_path / "pid"
    monkeypatch.setattr(
        inquiry.sys, "executable", program(tmp_path, f"echo $$ > {told}.part; mv {told}.part {told}; exec sleep 60")
    )

    async def body() -> int:
        async with router_of() as router:
            assert price(router, f"groq/{LLAMA}") == Prices(), "a start does not wait for prices"
            async with asyncio.timeout(30):
                while not told.exists():
                    await asyncio.sleep(0.01)
            return int(told.read_text())

    pid = asyncio.run(body())
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_the_process_gets_no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GROQ_API_KEY", "sk-secret")
    monkeypatch.setattr(inquiry.sys, "executable", program(tmp_path, f"env > {tmp_path}/env; exit 1"))
    with pytest.raises(InquiryError):
        asyncio.run(inquire(KNOWN, [QUESTION], 30))

    told = (tmp_path / "env").read_text()
    assert "PATH=" in told
    assert "sk-secret" not in told


def test_the_process_cannot_use_the_network() -> None:
    script = """
import socket, sys
from routerpool_prices import lookup
lookup.answer = lambda *_: socket.create_connection(("127.0.0.1", 9))
lookup.main()
"""
    asked = b'{"day": "2026-11-20", "questions": []}'
    done = subprocess.run([sys.executable, "-c", script], input=asked, capture_output=True, timeout=60, check=False)

    assert done.returncode == 1
    assert b"prices are looked up without the network" in done.stderr


# Their plain form

plain = st.none() | st.booleans() | st.floats() | st.integers(-5, 5) | st.text(max_size=3)
NAMES = ("input", "cached", "cache_write", "cache_write_1h", "output", "over", "long", "other")
amounts = st.none() | st.floats(0, 1000)
prices = st.recursive(
    st.builds(Prices, input=amounts, cached=amounts, cache_write=amounts, cache_write_1h=amounts, output=amounts),
    lambda inner: st.builds(Prices, input=amounts, output=amounts, over=st.integers(0, 10**6), long=inner),
    max_leaves=3,
)


def _meant(prices: Prices) -> Prices | None:
    """Without thresholds above which nothing is known."""
    long = _meant(prices.long) if prices.long is not None else None
    found = Prices(
        input=prices.input,
        cached=prices.cached,
        cache_write=prices.cache_write,
        cache_write_1h=prices.cache_write_1h,
        output=prices.output,
        over=prices.over if long is not None else None,
        long=long,
    )
    return found if found != Prices() else None


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(prices=prices)
def test_prices_come_out_of_the_file_as_they_went_in(tmp_path: Path, prices: Prices) -> None:
    path = tmp_path / "prices.json"
    inquiry.write(path, Known("1", DAY, "2026-11-09", {"a": prices, "b": None}))
    kept = inquiry.read(path, "1", DAY)

    assert kept.newest == "2026-11-09"
    assert kept.prices["b"] is None
    assert kept.prices.get("a") == _meant(prices)


@settings(max_examples=200, deadline=None)
@given(raw=st.recursive(plain, lambda inner: st.dictionaries(st.sampled_from(NAMES), inner, max_size=5), max_leaves=9))
def test_whatever_stands_there_is_a_price_or_none(raw: Any) -> None:
    found = prices_of(raw)

    assert found is None or found != Prices()
    cost = cost_of(Usage(input_uncached=10, output=10), found) if found else None
    assert cost is None or cost >= 0
