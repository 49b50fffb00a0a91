"""What every provider owes, as a class of tests that a provider's own tests inherit.

It looks at the plugin from outside, through a running router; the plugin may do its work in any way it likes.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from copy import deepcopy
from typing import Any, ClassVar

import pytest

from routerpool.errors import ConfigError, RequestError
from routerpool.protocols import Provider
from routerpool.router import Router
from routerpool.testing.forms import Form, forms_of
from routerpool.testing.live import LiveContract, modes
from routerpool.testing.retry_after import RETRY_AFTER_FORMS
from routerpool.testing.rig import TOOL, Got, Rig
from routerpool.testing.routers import Witness, make_router
from routerpool.testing.upstream import Upstream
from routerpool.types import FailureKind, Model, Outcome, Pool, Usage

__all__ = ["TOOL", "Got", "ProviderContract", "Rig"]

REFUSALS: Mapping[str, FailureKind] = {
    "http:401": FailureKind.AUTH,
    "http:402": FailureKind.CREDIT,
    "http:403": FailureKind.FORBIDDEN,
    "http:404": FailureKind.MISSING_MODEL,
    "http:429": FailureKind.RATE_LIMITED,
    "http:500": FailureKind.SERVER,
    "http:503": FailureKind.SERVER,
    "http:504": FailureKind.TIMEOUT,
    "http:529": FailureKind.SERVER,
    "http:400": FailureKind.BAD_REQUEST,
    "overflow": FailureKind.TOO_LARGE,
    "contentfilter": FailureKind.CONTENT_FILTER,
}
NO_ANSWERS = ("html", "truncjson", "json:null", "nochoices", "empty", "nullcontent", "err200", "close", "cllong")
BREAKS = ("midclose", "midrst", "nodone", "miderr", "midjunk")
WAITS = ("sec", "float", "zero", "ms", "date", "dup")
FOREIGN_KEYS = ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GROQ_API_KEY", "OPENROUTER_API_KEY", "GEMINI_API_KEY")
PUBLIC_URL = "https://api.provider.example/v1"

OPENAI_USAGES: Sequence[tuple[Mapping[str, Any], Usage]] = (
    (
        {
            "prompt_tokens": 100,
            "completion_tokens": 20,
            "total_tokens": 120,
            "prompt_tokens_details": {"cached_tokens": 64},
            "completion_tokens_details": {"reasoning_tokens": 12},
        },
        Usage(input_uncached=36, input_cached=64, output=20, reasoning=12, source="reported"),
    ),
)
"""OpenAI's own form, in which cached tokens are a part of the prompt's; most others have taken it over."""


class ProviderContract(LiveContract):
    """What every provider owes. Set `plugin`, and where it needs them `options`, its section of the YAML file.

    `refusals` says where this provider means another thing by a status than the others do; `forms` names the file (or
    files) beside the tests that holds its own errors, as `routerpool.testing.forms` says; `usages` are the reports of
    usage that it is known to send, and what they mean. `name` is the key in `plugins:`; override `section` for a plugin
    that takes its address in another way than by `base_url`, and `models_route`, `listing` and `entry` for one that
    lists its models in another way than OpenAI does.
    """

    plugin: ClassVar[type]
    options: ClassVar[Mapping[str, Any]] = {}
    env: ClassVar[Mapping[str, str]] = {}
    name: ClassVar[str] = "contract"
    refusals: ClassVar[Mapping[str, FailureKind]] = {}
    forms: ClassVar[str | Sequence[str | Form]] = ()
    models_route: ClassVar[str] = "GET /v1/models"
    usages: ClassVar[Sequence[tuple[Mapping[str, Any], Usage]]] = OPENAI_USAGES

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """One test for each of the plugin's own forms and usages."""
        if "own_form" in metafunc.fixturenames:
            forms = forms_of(type(self))
            metafunc.parametrize("own_form", forms, ids=[form.name for form in forms])
        if "reported" in metafunc.fixturenames:
            metafunc.parametrize(("reported", "usage"), self.usages)

    def listing(self, models: Sequence[Any]) -> Any:
        """Its list of models as JSON, of entries as `entry` makes them and of rubbish."""
        return {"object": "list", "data": list(models)}

    def entry(self, model_id: str) -> Any:
        """One model in its list."""
        return {"id": model_id, "object": "model", "owned_by": "lab"}

    def section(self, base_url: str) -> dict[str, Any]:
        """The plugin's section, pointed at this address of the scriptable upstream."""
        return {"base_url": base_url, **self.options}

    def make(self, section: Mapping[str, Any], env: Mapping[str, str], witness: Witness | None = None) -> Router:
        """A router of this one plugin, which asks nobody twice."""
        config = {"plugins": {self.name: section}, "limits": {"max_attempts": 1}}
        return make_router(config, plugins={self.name: self.plugin}, env={**self.env, **env}, witness=witness)

    @asynccontextmanager
    async def rig(self, *, with_keys: bool = True) -> AsyncIterator[Rig]:
        """The plugin at work against an upstream of its own; its key variables hold canaries."""
        async with Upstream() as up:
            section = self.section(up.base_url(self.name))
            variables = getattr(self.make(section, {}).providers[self.name], "key_variables", ())
            keys = {variable: f"canary-{number}-of-{variable}" for number, variable in enumerate(variables)}
            foreign = {variable: f"foreign-{variable}" for variable in FOREIGN_KEYS}
            witness = Witness()
            router = self.make(section, foreign | keys if with_keys else {}, witness)
            roster = router.providers[self.name].roster()
            if roster and self.models_route != ProviderContract.models_route:
                up.route(self.name, self.models_route, self.listing([self.entry(model.id) for model in roster]))
            async with router:
                await router.catalog.refresh(router.session, all_of_them=True)  # a start may not wait for it
                yield Rig(self.name, up, router, witness, keys)
            await up.wait_for(self.name, open=0)  # whatever happened, no connection is left behind

    def run(self, body: Callable[[Rig], Awaitable[None]], *, with_keys: bool = True) -> None:
        """Run a test's body with a rig, on a loop of its own."""

        async def whole() -> None:
            async with self.rig(with_keys=with_keys) as rig:
                await body(rig)

        asyncio.run(whole())

    # Answers

    @modes
    def test_an_answer_arrives_as_it_was_sent(self, stream: bool) -> None:
        async def body(rig: Rig) -> None:
            got = await rig.ask(stream=stream)
            assert got.error is None
            assert got.text == rig.up.expected_text(self.name)
            assert got.finish == "stop"
            sent = rig.up.seen(self.name).last.json
            assert sent["model"] == rig.candidate.model.id
            assert sent["messages"][-1]["content"] == "Say hello."
            assert bool(sent.get("stream")) is stream

        self.run(body)

    @modes
    def test_usage_is_recorded_though_the_client_did_not_ask_for_it(self, stream: bool) -> None:
        async def body(rig: Rig) -> None:
            rig.up.usage(self.name, {"prompt_tokens": 37, "completion_tokens": 11, "total_tokens": 48})
            got = await rig.ask(stream=stream)
            assert all(chunk["choices"] for chunk in got.chunks), "the client got a chunk it did not ask for"
            [record] = rig.witness.records
            assert record.outcome is Outcome.ANSWERED
            assert (record.usage.source, record.usage.input, record.usage.output) == ("reported", 37, 11)

        self.run(body)

    def test_usage_arrives_where_the_client_asks_for_it(self) -> None:
        async def body(rig: Rig) -> None:
            got = await rig.ask(stream=True, stream_options={"include_usage": True})
            assert got.chunks[-1]["choices"] == []
            assert got.chunks[-1]["usage"]["prompt_tokens"] == 12

        self.run(body)

    @modes
    def test_a_tool_call_arrives(self, stream: bool) -> None:
        async def body(rig: Rig) -> None:
            able = [c for c in rig.router.catalog.snapshot.candidates if c.model.capabilities.get("tools", True)]
            if not able:
                pytest.skip("none of its models calls tools")
            got = await rig.ask(stream=stream, tools=[deepcopy(TOOL)], tool_choice="required", model=able[0].key)
            assert got.error is None
            assert (got.calls, got.finish) == (("forecast", '{"city": "text"}'), "tool_calls")
            assert rig.up.seen(self.name).last.json["tools"] == [TOOL]

        self.run(body)

    @modes
    def test_the_clients_own_request_is_not_changed(self, stream: bool) -> None:
        async def body(rig: Rig) -> None:
            more = {"tools": [deepcopy(TOOL)], "tool_choice": "auto", "max_tokens": 50, "temperature": 0.5}
            if rig.candidate.model.capabilities.get("tools") is False:
                more = {"max_tokens": 50, "temperature": 0.5, "metadata": {"list": [1, 2]}}
            before = deepcopy(more)
            await rig.ask(stream=stream, router={"task": "greeting"}, **more)
            assert more == before
            assert "router" not in rig.up.seen(self.name).last.json

        self.run(body)

    # Failures

    @pytest.mark.parametrize("label", REFUSALS)
    @modes
    def test_a_refusal_is_of_its_kind(self, label: str, stream: bool) -> None:
        async def body(rig: Rig) -> None:
            got = await rig.ask(label, stream=stream)
            [failure] = rig.witness.failures
            assert failure.kind is self.refusals.get(label, REFUSALS[label])
            assert got.error is not None
            assert not got.chunks

        self.run(body)

    @pytest.mark.parametrize("form", WAITS)
    def test_a_stated_wait_is_understood(self, form: str) -> None:
        async def body(rig: Rig) -> None:
            await rig.ask(f"ra:{form}")
            [failure] = rig.witness.failures
            assert failure.kind is FailureKind.RATE_LIMITED
            assert failure.retry_after == pytest.approx(RETRY_AFTER_FORMS[form].seconds, abs=1.1 * (form == "date"))

        self.run(body)

    @pytest.mark.parametrize("label", NO_ANSWERS)
    @modes
    def test_what_is_no_answer_is_a_failure(self, label: str, stream: bool) -> None:
        async def body(rig: Rig) -> None:
            rig.up.always(self.name, label)
            got = await rig.ask(stream=stream)
            assert isinstance(got.error, RequestError)
            assert not got.chunks
            [failure] = rig.witness.failures
            assert failure.kind in (FailureKind.SERVER, FailureKind.EMPTY, FailureKind.INTERRUPTED)
            assert rig.witness.records[0].outcome is Outcome.FAILED

        self.run(body)

    @pytest.mark.parametrize("label", BREAKS)
    def test_a_stream_that_breaks_off_does_not_end_well(self, label: str) -> None:
        async def body(rig: Rig) -> None:
            got = await rig.ask(label, stream=True)
            assert isinstance(got.error, RequestError)
            assert got.error.code == "upstream_interrupted"
            assert got.finish is None
            assert rig.up.expected_text(self.name).startswith(got.text)
            assert [failure.kind for failure in rig.witness.failures] == [FailureKind.INTERRUPTED]
            assert rig.witness.records[0].outcome is Outcome.TRUNCATED

        self.run(body)

    def test_an_error_as_the_first_event_is_a_failure(self) -> None:
        async def body(rig: Rig) -> None:
            got = await rig.ask("err1st", stream=True)
            assert isinstance(got.error, RequestError)
            assert not got.chunks
            assert len(rig.witness.failures) == 1

        self.run(body)

    def test_a_refused_connection_is_one_that_could_not_be_made(self) -> None:
        async def body(rig: Rig) -> None:
            candidate = rig.candidate
            await rig.up.stop()
            assert rig.candidate == candidate
            assert isinstance((await rig.ask()).error, RequestError)
            [failure] = rig.witness.failures
            assert failure.kind is FailureKind.CONNECT

        self.run(body)

    @pytest.mark.parametrize("label", ["redirect", "redirect:302", "redirect:308"])
    def test_a_redirect_is_not_followed(self, label: str) -> None:
        async def body(rig: Rig) -> None:
            got = await rig.ask(label)
            assert not rig.up.seen("evil").requests, "the request went where the provider's answer sent it"
            assert got.error is not None

        self.run(body)

    @modes
    def test_an_error_of_its_own_is_understood(self, own_form: Form, stream: bool) -> None:
        async def body(rig: Rig) -> None:
            rig.up.reply(self.name, own_form.status, *own_form.sent())
            before = own_form.seconds()
            got = await rig.ask(stream=stream)
            assert got.error is not None
            assert not got.chunks
            failure, *more = rig.witness.failures
            assert bool(more) == failure.again, "it is asked again only without what it has refused"
            assert failure.kind is own_form.kind
            assert failure.lacks == own_form.lacks
            waits = (before, own_form.seconds())  # two, since a midnight may lie between them
            assert any(own_form.near(failure.retry_after, wait) for wait in waits), (failure.retry_after, waits)
            pool = None if failure.pool is None else failure.pool.partition("::")[2]
            assert pool == own_form.pool
            if failure.pool is not None:
                assert failure.pool in rig.candidate.model.pools, "the model that was asked does not share this quota"

        self.run(body)

    def test_after_a_limit_no_other_key_is_tried(self) -> None:
        async def body(rig: Rig) -> None:
            for label in ("http:429", "http:402", "http:401", "ra:zero"):
                await rig.ask(label)
            sent = {value for request in rig.up.seen(self.name).requests for value in request.headers.values()}
            used = [key for key in rig.keys.values() if any(key in value for value in sent)]
            assert len(used) <= 1, "a second key was used"

        self.run(body)

    # Usage

    @modes
    def test_what_it_reports_of_usage_is_understood(
        self, reported: Mapping[str, Any], usage: Usage, stream: bool
    ) -> None:
        async def body(rig: Rig) -> None:
            rig.up.usage(self.name, reported)
            got = await rig.ask(stream=stream)
            assert got.error is None
            assert rig.witness.records[0].usage == usage

        self.run(body)

    # Models

    def test_its_models_are_well_formed(self) -> None:
        async def body(rig: Rig) -> None:
            discovered = await rig.provider.discover(rig.router.session)
            for models in (
                rig.provider.roster(),
                discovered,
                [c.model for c in rig.router.catalog.snapshot.candidates],
            ):
                assert len({model.id for model in models}) == len(models)
                for model in models:
                    _check_model(model, rig.provider)
            assert rig.router.catalog.snapshot.candidates, "it has no model to answer with"

        self.run(body)

    def test_it_tells_of_every_quota_that_its_models_share(self) -> None:
        async def body(rig: Rig) -> None:
            pools = rig.provider.pools()
            assert all(isinstance(name, str) and isinstance(pool, Pool) for name, pool in pools.items())
            shared = {name for c in rig.router.catalog.snapshot.candidates for name in c.model.pools}
            assert shared <= set(pools), "its models draw on a quota of which nobody can learn the limits"

        self.run(body)

    def test_rubbish_among_the_listed_models_is_left_out(self) -> None:
        async def body(rig: Rig) -> None:
            good = self.entry(rig.candidate.model.id)
            rubbish = [None, 7, {}, {"id": 3}, {"name": 3}, {"id": None}]
            rig.up.route(self.name, self.models_route, self.listing([*rubbish, good]))
            models = await rig.provider.discover(rig.router.session)
            assert all(isinstance(model, Model) and isinstance(model.id, str) for model in models)
            assert rig.candidate.model.id in {model.id for model in models}

        self.run(body)

    # Keys and privacy

    def test_without_its_key_it_is_idle_and_sends_nothing(self) -> None:
        async def body(rig: Rig) -> None:
            idle = rig.provider.idle()
            if not rig.keys or rig.provider.local:
                assert idle is None
                return
            assert idle is not None
            assert any(variable in idle for variable in rig.keys), "it does not say which variable to set"
            for model in rig.provider.roster():
                with pytest.raises(RequestError):
                    await rig.router.chat({"model": f"{self.name}/{model.id}", "messages": [{"role": "user"}]})
            assert not rig.up.seen(self.name).requests

        self.run(body, with_keys=False)

    def test_its_key_is_sent_as_a_header_and_no_other_key_is(self) -> None:
        async def body(rig: Rig) -> None:
            await rig.provider.discover(rig.router.session)
            await rig.ask()
            await rig.ask(stream=True)
            key = next(iter(rig.keys.values()), None)
            for request in rig.up.seen(self.name).requests:
                assert b"foreign-" not in request.head + request.body, "a key that is not its own was sent"
                if key is not None:
                    assert any(key in value for value in request.headers.values())
                    assert key not in request.path
                    assert key.encode() not in request.body

        self.run(body)

    def test_its_key_is_never_told(self, caplog: pytest.LogCaptureFixture) -> None:
        async def body(rig: Rig) -> None:
            told: list[Any] = [rig.provider, rig.router.providers, rig.router.hooks, rig.router.config.plugins]
            for label in ("ok", "http:401", "http:400", "http:500", "err200", "close", "midclose", "redirect"):
                for stream in (False, True):
                    got = await rig.ask(label, stream=stream)
                    told += [got, got.error.body() if isinstance(got.error, RequestError) else got.error]
            for key in rig.keys.values():
                echo = {"error": {"message": f"Incorrect API key provided: {key}", "code": "invalid_api_key"}}
                told.append(rig.provider.failure(401, {}, json.dumps(echo).encode()))
            told += [rig.witness, await rig.router.status(), await rig.router.check(network=True)]
            told.append(await rig.router.explain({"model": "auto", "messages": [{"role": "user", "content": "Hi"}]}))
            text = repr(told) + caplog.text
            for variable, key in rig.keys.items():
                assert key not in text, f"the value of {variable} was told"

        with caplog.at_level(logging.DEBUG):
            self.run(body)

    def test_a_private_request_reaches_it_only_where_it_is_local(self) -> None:
        async def body(rig: Rig) -> None:
            before = rig.up.seen(self.name).chat
            got = await rig.ask(router={"privacy": "private"})
            if rig.provider.local and rig.candidate.model.local:
                assert got.error is None
                return
            assert isinstance(got.error, RequestError)
            assert got.error.code == "privacy_blocked"
            assert rig.up.seen(self.name).chat == before

        self.run(body)

    def test_it_is_not_local_at_a_public_address(self) -> None:
        try:
            router = self.make({**self.section(PUBLIC_URL), "base_url": PUBLIC_URL}, {})
        except ConfigError as error:
            assert "local" in str(error)  # the options claim it, and the claim is refused
            return
        provider = router.providers[self.name]
        assert not provider.local
        assert not any(model.local for model in provider.roster())


def _check_model(model: Any, provider: Provider) -> None:
    assert isinstance(model, Model)
    assert model.id
    assert model.id == model.id.strip()
    assert model.context is None or model.context > 0
    assert model.max_output is None or model.max_output > 0
    prices = (model.prices.input, model.prices.cached, model.prices.cache_write, model.prices.output)
    assert all(price is None or (math.isfinite(price) and price >= 0) for price in prices)
    assert all(isinstance(claim, bool) for claim in model.capabilities.values())
    assert provider.local or not model.local, "a model cannot be local at a provider that is not"
