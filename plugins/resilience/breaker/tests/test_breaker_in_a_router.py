"""The breaker at work: a router, providers on loopback, and a clock that we set."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
from attrs import define
from routerpool_breaker import Breaker, BreakerConfig

from routerpool import ConfigError, OpenAIProvider, RequestError, Router
from routerpool.testing import Upstream, make_router

ASK = {"model": "auto", "messages": [{"role": "user", "content": "Say hello."}]}


class Lab(OpenAIProvider):
    local = True
    models = ("m1",)


@define
class Scene:
    up: Upstream
    router: Router
    time: float = 1000.0

    async def ask(self) -> str:
        """Who answered."""
        answer = await self.router.chat(ASK)
        assert answer["choices"][0]["message"]["content"]
        return str(answer["model"])

    async def cooldowns(self) -> list[dict[str, Any]]:
        status = await self.router.status()
        [told] = [plugin["status"] for plugin in status["plugins"] if plugin["name"] == "breaker"]
        return list(told["cooldowns"])

    def faults(self) -> int:
        return sum(instance.faults for instance in self.router.hooks.instances.values())


@asynccontextmanager
async def scene(
    names: Mapping[str, list[str]], breaker: Mapping[str, Any] | None = None, **config: Any
) -> AsyncIterator[Scene]:
    """A router over these providers and their models, in this order, asked one after the other."""
    async with Upstream() as up:
        made: list[Scene] = []

        class Clocked(Breaker):
            def __init__(self, config: BreakerConfig) -> None:
                super().__init__(config, clock=lambda: made[0].time)

        plugins: dict[str, Any] = {
            name: {"use": "lab", "base_url": up.base_url(name), "models": models} for name, models in names.items()
        }
        plugins["breaker"] = {"jitter": 0.0, **(breaker or {})}
        tree = {"plugins": plugins, "limits": {"max_attempts": 6}, **config}
        router = make_router(tree, plugins={"lab": Lab, "breaker": Clocked})
        made.append(Scene(up, router))
        async with router:
            yield made[0]
        assert made[0].faults() == 0


def run(body: Callable[[], Awaitable[None]]) -> None:
    async def whole() -> None:
        await body()

    asyncio.run(whole())


def test_a_stated_wait_is_kept_and_the_provider_comes_back_after_it() -> None:
    async def body() -> None:
        async with scene({"groq": ["m1"], "home": ["m2"]}) as house:
            house.up.script("groq", "ra:sec")
            assert await house.ask() == "m2"
            [entry] = await house.cooldowns()
            assert entry["source"] == "429 by header retry-after"
            assert [await house.ask() for _ in range(5)] == ["m2"] * 5
            assert house.up.seen("groq").chat == 1
            house.time += entry["seconds"]
            assert await house.ask() == "m1"
            assert await house.cooldowns() == []

    run(body)


def test_explain_tells_why_and_until_when_without_sending_anything() -> None:
    async def body() -> None:
        async with scene({"groq": ["m1"], "home": ["m2"]}) as house:
            house.up.script("groq", "http:401")
            await house.ask()
            sent = house.up.seen("groq").chat
            told = await house.router.explain(ASK)
            assert told["vetoes"] == [
                {
                    "candidate": "groq/m1",
                    "code": "cooldown",
                    "reason": "all of groq: 401 (auth) without a stated wait for another 10 min",
                }
            ]
            assert house.up.seen("groq").chat == sent

    run(body)


@pytest.mark.parametrize("label", ["http:500", "http:503", "empty", "truncjson", "html"])
def test_after_three_failures_a_sick_provider_is_left_alone_for_its_cooldown(label: str) -> None:
    async def body() -> None:
        async with scene({"sick": ["m1"], "well": ["m2"]}) as house:
            house.up.always("sick", label)
            assert [await house.ask() for _ in range(10)] == ["m2"] * 10
            assert house.up.seen("sick").chat == 3

    run(body)


@pytest.mark.parametrize("label", ["http:401", "http:402"])
def test_a_refused_key_is_tried_once_and_never_with_another_of_its_models(label: str) -> None:
    async def body() -> None:
        async with scene({"groq": ["m1", "m3"], "home": ["m2"]}) as house:
            house.up.always("groq", label)
            assert [await house.ask() for _ in range(5)] == ["m2"] * 5
            assert house.up.seen("groq").chat == 1

    run(body)


def test_a_missing_model_does_not_bench_its_sibling() -> None:
    async def body() -> None:
        async with scene({"groq": ["m1+http:404", "m3"]}) as house:
            assert [await house.ask() for _ in range(6)] == ["m3"] * 6
            models = [request.json["model"] for request in house.up.seen("groq").requests]
            assert models.count("m1+http:404") == 2

    run(body)


def test_the_clients_own_fault_benches_nobody() -> None:
    async def body() -> None:
        async with scene({"groq": ["m1"]}) as house:
            house.up.script("groq", *["http:400"] * 5)
            for _ in range(5):
                with pytest.raises(Exception, match="400"):
                    await house.ask()
            assert await house.cooldowns() == []
            assert await house.ask() == "m1"

    run(body)


def test_in_a_total_outage_somebody_is_still_asked_and_recovery_is_seen_at_once() -> None:
    async def body() -> None:
        async with scene({"a": ["m1"], "b": ["m2"]}, limits={"max_attempts": 2}) as house:
            house.up.always("a", "http:503")
            house.up.always("b", "http:503")
            for _ in range(6):
                with pytest.raises(RequestError) as caught:
                    await house.ask()
                assert caught.value.code == "attempts_exhausted"
            assert len(await house.cooldowns()) == 2
            house.up.always("a", "ok")
            house.up.always("b", "ok")
            assert await house.ask() in ("m1", "m2")

    run(body)


@pytest.mark.parametrize(
    ("labels", "told"),
    [(("ra:sec", "ra:sec"), "quota_exhausted"), (("ra:sec", "http:401"), ""), (("http:401", "http:401"), "")],
    ids=["rate limits", "a rate limit and a refused key", "refused keys"],
)
def test_the_same_cooldown_has_one_status_from_its_first_moment_on(labels: tuple[str, str], told: str) -> None:
    async def body() -> None:
        async with scene({"a": ["m1"], "b": ["m2"]}) as house:
            for provider, label in zip("ab", labels, strict=True):
                house.up.always(provider, label)
            seen = []
            for _ in range(4):
                with pytest.raises(RequestError) as caught:
                    await house.ask()
                seen.append(caught.value)
            assert {error.status for error in seen} == {429 if told else 503}
            assert all(error.retry_after for error in seen[1:])
            assert len(await house.cooldowns()) == 2

    run(body)


def test_where_all_keys_are_refused_the_client_is_told_why_and_when_to_come_back() -> None:
    async def body() -> None:
        async with scene({"a": ["m1"]}) as house:
            house.up.always("a", "http:401")
            with pytest.raises(RequestError):
                await house.ask()
            with pytest.raises(RequestError) as caught:
                await house.ask()
            assert caught.value.code == "no_candidate"
            assert caught.value.retry_after == 600
            assert caught.value.details["vetoes"][0]["code"] == "cooldown"
            assert house.up.seen("a").chat == 1

    run(body)


def test_when_a_cooldown_ends_under_load_one_request_tries_and_the_others_go_on_elsewhere() -> None:
    async def body() -> None:
        async with scene({"groq": ["m1"], "home": ["m2"]}) as house:
            house.up.script("groq", "http:429")
            await house.ask()
            house.time += 90
            house.up.always("groq", "hang")
            asked = [asyncio.ensure_future(house.ask()) for _ in range(20)]
            done, trying = await asyncio.wait(asked, return_when=asyncio.ALL_COMPLETED, timeout=2)
            assert {task.result() for task in done} == {"m2"}
            assert (len(done), len(trying)) == (19, 1)
            assert house.up.seen("groq").chat == 2
            [entry] = await house.cooldowns()
            assert (entry["state"], entry["trials"]) == ("half_open", 1)
            for task in trying:
                task.cancel()
            await asyncio.wait(trying)

    run(body)


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_during_its_trial_gives_the_permit_back(stream: bool) -> None:
    async def body() -> None:
        async with scene({"groq": ["m1"], "home": ["m2"]}) as house:
            house.up.script("groq", "http:429", "hang")
            await house.ask()
            house.time += 90

            async def ask() -> None:
                if stream:
                    async for _ in house.router.stream(ASK):
                        pass
                else:
                    await house.router.chat(ASK)

            trial = asyncio.ensure_future(ask())
            await house.up.wait_for("groq", chat=2)
            assert (await house.cooldowns())[0]["trials"] == 1
            trial.cancel()
            await asyncio.wait((trial,))
            [entry] = await house.cooldowns()
            assert (entry["state"], entry["trials"], entry["failures"]) == ("half_open", 0, 1)
            assert await house.ask() == "m1"
            assert await house.cooldowns() == []

    run(body)


def test_a_stream_that_breaks_off_three_times_is_benched_though_its_clients_saw_a_part() -> None:
    async def body() -> None:
        async with scene({"sick": ["m1"], "well": ["m2"]}) as house:
            house.up.always("sick", "midclose")
            for _ in range(3):
                with pytest.raises(RequestError, match="broke off"):
                    async for _ in house.router.stream(ASK):
                        pass
            [entry] = await house.cooldowns()
            assert entry["kind"] == "interrupted"
            chunks = [chunk async for chunk in house.router.stream(ASK)]
            assert chunks[0]["model"] == "m2"

    run(body)


def test_wrong_options_are_refused_at_the_start_with_their_path() -> None:
    with pytest.raises(ConfigError) as caught:
        make_router(
            {"plugins": {"breaker": {"trials": 0, "rate_limited": {"fist": 3}, "jitter": 2}}},
            plugins={"breaker": Breaker},
        )
    text = str(caught.value)
    assert "plugins.breaker.trials" in text
    assert "did you mean 'first'" in text
    assert "plugins.breaker.jitter" in text


def test_in_a_total_outage_clients_do_not_multiply_the_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """At most 1.2 calls for each request once the outage is known (facts of the field: an unbounded retry gives 3)."""
    monkeypatch.setattr("routerpool.planning.fallback.RETRY_BASE_SECONDS", 0.0)  # calls are counted here, not waits

    async def body() -> None:
        async with scene({"one": ["m1"], "two": ["m2"], "three": ["m3"]}) as house:
            for name in ("one", "two", "three"):
                house.up.always(name, "http:503")

            async def ask() -> RequestError:
                with pytest.raises(RequestError) as refused:
                    await house.router.chat(ASK)
                return refused.value

            def calls() -> int:
                return sum(house.up.seen(name).chat for name in ("one", "two", "three"))

            for _ in range(4):
                await ask()
            before, requests = calls(), 0
            while requests < 200:  # 200 s, in bursts of four
                house.time += 4
                errors = await asyncio.gather(*[ask() for _ in range(4)])
                requests += 4
                assert all(error.status in (429, 503) for error in errors)
            assert 0 < calls() - before <= 1.2 * requests, "they are probed, and not more"

    run(body)
