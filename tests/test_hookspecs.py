"""The manual is true: its table is what the design says, and every example in it runs as it stands there."""

from __future__ import annotations

import asyncio
import inspect
import json
import re
import textwrap
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from typing import Any

import click
import pytest
from aiohttp import web
from attrs import evolve

from routerpool import (
    Answer,
    Attempt,
    Candidate,
    ChatRequest,
    Decision,
    Detected,
    Failure,
    FailureKind,
    Features,
    Level,
    Model,
    OpenAIProvider,
    Opening,
    Outcome,
    Plan,
    Privacy,
    Probe,
    Report,
    Score,
    Unavailable,
    Usage,
    UsageRecord,
    Veto,
    hookspecs,
)
from routerpool.hooks.calling import ACCEPTS, HOOKS, Hooks
from routerpool.hooks.loading import Instance

GOLDEN = {
    "register_providers": (),
    "register_routes": (),
    "register_commands": (),
    "lifespan": ("router",),
    "check": ("probe",),
    "status": (),
    "detect": ("probe",),
    "classify": ("request", "features"),
    "veto": ("request", "features", "candidates"),
    "score": ("request", "features", "candidates"),
    "intercept": ("request", "plan"),
    "begin": ("request", "plan"),
    "reserve": ("attempt",),
    "mutate": ("request", "attempt"),
    "judge": ("attempt", "opening"),
    "rewrite": ("attempt",),
    "on_failure": ("attempt", "failure"),
    "on_success": ("attempt", "usage"),
    "record_usage": ("record",),
}
"""The table of the design: every hook and its arguments, which plugins of others stand on."""


def spec(hook: str) -> Any:
    """The function that specifies a hook."""
    return getattr(hookspecs, hook)


def test_the_hooks_and_their_arguments_are_those_of_the_design() -> None:
    assert {name: tuple(inspect.signature(spec(name)).parameters) for name in HOOKS} == GOLDEN


@pytest.mark.parametrize("hook", GOLDEN)
def test_a_spec_asks_for_no_form_of_calling_that_cannot_be_awaited(hook: str) -> None:
    assert not spec(hook).routerpool_spec["firstresult"]
    assert not spec(hook).routerpool_spec["historic"]


@pytest.mark.parametrize("hook", GOLDEN)
def test_a_spec_names_its_types_and_says_what_it_is_for(hook: str) -> None:
    parameters = inspect.signature(spec(hook)).parameters.values()
    first, _, rest = inspect.cleandoc(spec(hook).__doc__).partition("\n")

    assert all(parameter.annotation is not inspect.Parameter.empty for parameter in parameters)
    assert inspect.signature(spec(hook)).return_annotation is not inspect.Signature.empty
    assert len(first.split()) > 4
    assert rest.count("Example::") == 1


def test_the_types_that_are_checked_are_those_that_the_specs_promise() -> None:
    for hook, kind in ACCEPTS.items():
        promised = str(inspect.signature(spec(hook)).return_annotation)
        assert re.match(rf"{kind.__name__}\b", promised), f"{hook} promises {promised}"


# The examples

LOCAL = Candidate(provider="lab", model=Model(id="m1", local=True, free=True, tags=frozenset({"thinks"})))
REMOTE = Candidate(provider="cloud", model=Model(id="m2"))
FALCON = [{"role": "user", "content": "What about Project Falcon?"}]
REQUEST = ChatRequest(id="r1", model="echo", messages=FALCON)
FEATURES = Features(prompt_tokens=12, session="s1")
ATTEMPT = Attempt(request=REQUEST, features=FEATURES, candidate=LOCAL, number=1, started=1.0)
PLAN = Plan(request=REQUEST, features=FEATURES, profile="auto", ranked=(LOCAL, REMOTE))
USAGE = Usage(input_uncached=12, output=7, source="reported")
RECORD = UsageRecord(
    request_id="r1",
    time=1.0,
    caller="anonymous",
    session="s1",
    profile="auto",
    model_asked="auto",
    provider="lab",
    model="m1",
    outcome=Outcome.ANSWERED,
    stream=False,
    tried=("lab/m1:answered",),
    task=None,
    privacy=Privacy.PUBLIC,
    prompt_tokens=12,
    usage=USAGE,
    cost=0.0,
    first_byte_ms=1.0,
    total_ms=2.0,
)


def example(hook: str) -> str:
    """The example in a spec's docstring, ready to run."""
    doc = inspect.cleandoc(spec(hook).__doc__)
    _, mark, code = doc.partition("Example::\n")
    assert mark, f"{hook} has no example"
    lines = code.splitlines()
    assert all(not line.strip() or line.startswith("    ") for line in lines), (
        f"something follows the example of {hook}"
    )
    return textwrap.dedent(code).strip()


class Shown:
    """The plugin of a hook's example, registered, and asked only through the core."""

    def __init__(self, hook: str) -> None:
        space: dict[str, Any] = {"__name__": f"example_{hook}"}
        exec(compile(example(hook), f"<example of {hook}>", "exec"), space)
        self.hook = hook
        self.plugin = space["Plugin"]()
        self.instance = Instance("shown", self.plugin, "shown")
        self.hooks = Hooks.of([self.instance])

    def ask(self, *args: Any) -> Any:
        """What the plugin answers; None is no answer."""
        answers = asyncio.run(self.hooks.collect(self.hook, *args))
        assert self.instance.faults == 0, self.instance.last_fault
        return answers[0][1] if answers else None

    def gather(self) -> list[Any]:
        """What the plugin registers."""
        return [item for _, item in self.hooks.gather(self.hook)]


def show_register_providers(shown: Shown) -> None:
    [provider] = shown.gather()
    assert isinstance(provider, OpenAIProvider)
    assert (provider.name, provider.local, provider.idle()) == ("lab", True, None)
    assert [model.id for model in provider.roster()] == ["m1"]


def show_register_routes(shown: Shown) -> None:
    [route] = shown.gather()
    assert isinstance(route, web.RouteDef)
    assert (route.method, route.path) == ("GET", "/v1/router/hello")
    response = asyncio.run(route.handler(None))  # type: ignore[arg-type, misc]  # the handler looks at no request
    assert json.loads(response.body) == {"hello": "there"}


def show_register_commands(shown: Shown) -> None:
    from click.testing import CliRunner

    [command] = shown.gather()
    assert isinstance(command, click.Command)
    assert CliRunner().invoke(command).output == "hello\n"


def show_lifespan(shown: Shown) -> None:
    async def main() -> None:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(shown.hooks.lifespan("the router"))
            assert shown.plugin.opened is True
        assert shown.plugin.opened is False

    asyncio.run(main())


def show_check(shown: Shown) -> None:
    [report] = shown.ask(Probe())
    assert isinstance(report, Report)
    assert (report.level, report.text) == (Level.WARNING, "LAB_KEY is not set")
    assert shown.ask(Probe(env={"LAB_KEY": "k"})) == []


def show_status(shown: Shown) -> None:
    told = shown.ask()
    assert isinstance(told, Mapping)
    assert json.loads(json.dumps(told)) == {"seen": 3}


def show_detect(shown: Shown) -> None:
    [found] = shown.ask(Probe(env={"LAB_KEY": "k"}))
    assert isinstance(found, Detected)
    assert (found.name, found.confidence) == ("lab", 1.0)
    assert shown.ask(Probe()) == []


def show_classify(shown: Shown) -> None:
    known = shown.ask(REQUEST, FEATURES)
    assert known == evolve(FEATURES, privacy=Privacy.SECRET)
    assert shown.ask(evolve(REQUEST, messages=[{"role": "user", "content": None}]), FEATURES) is None
    assert shown.plugin.required is True


def show_veto(shown: Shown) -> None:
    [veto] = shown.ask(REQUEST, FEATURES, (LOCAL, REMOTE))
    assert isinstance(veto, Veto)
    assert (veto.candidate, veto.code) == (REMOTE, "too_far")


def show_score(shown: Shown) -> None:
    scores = shown.ask(REQUEST, FEATURES, (LOCAL, REMOTE))
    assert scores == [Score(LOCAL, 1.0, {"free": 1.0}), Score(REMOTE, 0.0, {"free": 0.0})]


def show_intercept(shown: Shown) -> None:
    answer = shown.ask(REQUEST, PLAN)
    assert isinstance(answer, Answer)
    assert (answer.status, json.loads(answer.body)) == (200, {"choices": []})
    assert shown.ask(evolve(REQUEST, model="auto"), PLAN) is None


def show_begin(shown: Shown) -> None:
    assert shown.ask(REQUEST, PLAN) is None
    assert shown.ask(REQUEST, PLAN) is None
    assert shown.plugin.begun == 2


def show_reserve(shown: Shown) -> None:
    async def main() -> None:
        async with AsyncExitStack() as stack:
            for _ in range(2):
                [(_, slot)] = await shown.hooks.collect("reserve", ATTEMPT)
                await stack.enter_async_context(slot)
            [(_, slot)] = await shown.hooks.collect("reserve", ATTEMPT)
            with pytest.raises(Unavailable) as full:
                await stack.enter_async_context(slot)
            assert (full.value.reason, full.value.retry_after) == ("both slots are taken", 1)
            assert shown.plugin.free == 0
        assert shown.plugin.free == 2

    asyncio.run(main())


def show_mutate(shown: Shown) -> None:
    changed = shown.ask(REQUEST, ATTEMPT)
    assert changed == evolve(REQUEST, params={"reasoning_effort": "low"})
    assert REQUEST.params == {}
    assert shown.ask(REQUEST, evolve(ATTEMPT, candidate=REMOTE)) is None


def show_judge(shown: Shown) -> None:
    failure = shown.ask(ATTEMPT, Opening(text="I cannot help with that.", complete=True))
    assert failure == Failure(kind=FailureKind.EMPTY, message="the model refused")
    assert shown.ask(ATTEMPT, Opening(text="I cannot help with that.")) is None
    assert shown.ask(ATTEMPT, Opening(text="Hello.", complete=True)) is None


def show_rewrite(shown: Shown) -> None:
    rewriter = shown.ask(ATTEMPT)
    event = {"choices": [{"index": 0, "delta": {"content": "a", "reasoning": "hm"}}]}
    assert list(rewriter.event(event)) == [{"choices": [{"index": 0, "delta": {"content": "a"}}]}]
    assert list(rewriter.event({"usage": {}})) == [{"usage": {}}]
    assert list(rewriter.end()) == []
    assert rewriter.answer({"choices": []}) == {"choices": []}


def show_on_failure(shown: Shown) -> None:
    assert shown.ask(ATTEMPT, Failure(kind=FailureKind.EMPTY, message="nothing")) is Decision.ESCALATE
    assert shown.ask(ATTEMPT, Failure(kind=FailureKind.SERVER, message="500")) is None


def show_on_success(shown: Shown) -> None:
    assert shown.ask(ATTEMPT, USAGE) is None
    assert shown.plugin.tokens == 7


def show_record_usage(shown: Shown) -> None:
    assert shown.ask(RECORD) is None
    assert shown.plugin.records == [RECORD]


SHOWS: dict[str, Callable[[Shown], None]] = {
    name.removeprefix("show_"): value for name, value in globals().items() if name.startswith("show_")
}


def test_every_example_has_its_show_here() -> None:
    assert set(SHOWS) == set(HOOKS)


@pytest.mark.parametrize("hook", HOOKS)
def test_the_example_runs_as_it_stands_in_the_manual(hook: str) -> None:
    shown = Shown(hook)

    assert [impl.instance.name for impl in shown.hooks.impls[hook]] == ["shown"], "it implements the hook it is for"
    assert [name for name, impls in shown.hooks.impls.items() if impls] == [hook], "and no other"
    SHOWS[hook](shown)


@pytest.mark.parametrize("hook", HOOKS)
def test_an_example_is_short_and_imports_only_what_a_plugin_may(hook: str) -> None:
    code = example(hook)
    roots = set(re.findall(r"^(?:from|import) (\w+)", code, re.MULTILINE))

    assert len(code.splitlines()) <= 22
    assert roots <= {"routerpool", "attrs", "aiohttp", "click"}
    assert "routerpool." not in re.sub(r'".*?"', "", code), "what plugin authors need stands in the package itself"


def test_what_an_example_imports_of_us_is_what_the_package_offers() -> None:
    import routerpool

    for hook in HOOKS:
        for names in re.findall(r"^from routerpool import (.+)$", example(hook), re.MULTILINE):
            assert set(re.split(r",\s*", names)) <= set(routerpool.__all__)
