"""The laws that hold whatever plugins do: who may answer, in what order, and that what was taken is given back."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from math import isfinite, nan
from typing import Any

import pytest
from attrs import define, evolve, field
from hypothesis import given, settings
from hypothesis import strategies as st

from routerpool import (
    Attempt,
    Caller,
    Candidate,
    ChatRequest,
    Failure,
    FailureKind,
    Features,
    Hints,
    Model,
    OpenAIProvider,
    Outcome,
    Plan,
    PluginError,
    Pool,
    Privacy,
    RequestError,
    Router,
    RouterpoolError,
    Score,
    Tier,
    Unavailable,
    UsageRecord,
    Veto,
    hookimpl,
)
from routerpool.config.reading import from_mapping
from routerpool.engine.sinks import Served
from routerpool.hooks.loading import Instance
from routerpool.planning import fallback
from routerpool.planning.explanation import explain
from routerpool.testing.upstream import Upstream
from routerpool.types import Native
from routerpool.wire.request import new_id

law = settings(max_examples=50, deadline=None)
long_law = settings(max_examples=120, deadline=None)


@pytest.fixture(autouse=True, scope="module")
def no_waiting() -> Iterator[None]:
    """The same candidate is asked again at once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fallback, "RETRY_BASE_SECONDS", 0.0)
        yield


# A house without sockets


class Fake:
    """A provider in this process: `script` says for each request what comes of it."""

    refresh_seconds = None

    def __init__(self, name: str, models: Sequence[Model], *, local: bool = False) -> None:
        self.name, self.models, self.local = name, models, local
        self.script: list[str] = []
        self.sent: list[tuple[Attempt, ChatRequest]] = []

    @hookimpl
    def register_providers(self) -> tuple[Fake]:
        return (self,)

    def bind(self, env: Mapping[str, str]) -> None:
        pass

    def idle(self) -> str | None:
        return None

    def roster(self) -> Sequence[Model]:
        return self.models

    def pools(self) -> Mapping[str, Pool]:
        return {}

    async def discover(self, session: object) -> Sequence[Model]:
        return self.models

    async def send(self, attempt: Attempt, request: ChatRequest, session: object) -> Bytes:
        self.sent.append((attempt, request))
        outcome = self.script.pop(0) if self.script else "ok"
        if outcome == "raises":
            raise RuntimeError("a defect of this provider")
        if outcome == "refuses":
            return Bytes(404, b"{}")
        if outcome == "hangs":
            await asyncio.Event().wait()
        await asyncio.sleep(0)
        whole = STREAM if request.stream else PLAIN
        if outcome == "empty":
            return Bytes(200, b"data: [DONE]\n\n" if request.stream else b"{}")
        return Bytes(200, whole[: len(whole) // 2] if outcome == "breaks" else whole)

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> Failure:
        return Failure(kind=FailureKind.MISSING_MODEL, message=f"{self.name} answered {status}", status=status)


PLAIN = b'{"choices": [{"message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}]}'
STREAM = b"".join(
    b'data: {"choices": [{"delta": {"content": "%d "}, "finish_reason": null}]}\n\n' % number for number in range(6)
) + (b'data: {"choices": [{"delta": {}, "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n')


class Bytes:
    """An answer that is here already, given out in pieces."""

    def __init__(self, status: int, body: bytes) -> None:
        self.status, self.body, self.headers = status, body, dict[str, str]()

    async def chunk(self) -> bytes:
        await asyncio.sleep(0)
        piece, self.body = self.body[:200], self.body[200:]
        return piece

    def close(self) -> None:
        self.body = b""


class Kept:
    """A sink that keeps nothing but the function to leave by."""

    def __init__(self) -> None:
        self.leave: Callable[[str], None] = lambda why: None
        self.told: list[str] = []

    def watch(self, leave: Callable[[str], None]) -> None:
        self.leave = leave

    async def plain(self, answer: object, served: Served) -> None:
        self.told.append("plain")

    async def open(self, served: Served) -> None:
        self.told.append("open")

    async def write(self, block: bytes) -> None:
        await asyncio.sleep(0)

    async def fail(self, error: RequestError) -> None:
        self.told.append("fail")

    async def close(self, rest: bytes) -> None:
        self.told.append("close")


def router_of(providers: Sequence[Fake], plugins: Mapping[str, Any] | None = None, **config: Any) -> Router:
    """A router of these objects, not started: it plans and runs without sockets."""
    parsed, problems = from_mapping({"store": "sqlite://", **config}, env={})
    problems.raise_if_any()
    plugins = plugins or {}
    instances = [Instance(name, plugin, name) for name, plugin in plugins.items()]
    instances += [Instance(provider.name, provider, provider.name) for provider in providers]
    router = Router(parsed, instances)
    session: Any = None
    router.services = evolve(router.services, session=lambda: session)
    return router


def planned(router: Router, request: ChatRequest) -> Plan:
    """The plan for this request."""
    return asyncio.run(router.planner.plan(request))


def asked(**changes: Any) -> ChatRequest:
    """A plain request."""
    changes.setdefault("messages", [{"role": "user", "content": "Hello"}])
    return ChatRequest(id=new_id(), model=changes.pop("model", "auto"), **changes)


def plugin(**members: Any) -> Any:
    """A plugin of these hooks, and of these attributes where they are no functions."""
    named = {name: hookimpl(member) if callable(member) else member for name, member in members.items()}
    return type("Plugin", (), named)()


classes = st.sampled_from(Privacy)
models = st.builds(
    Model,
    id=st.just("m"),
    free=st.booleans(),
    local=st.booleans(),
    context=st.sampled_from([None, 1, 8000]),
    rank=st.none() | st.integers(0, 9),
    tier=st.none() | st.sampled_from(Tier),
    capabilities=st.dictionaries(st.sampled_from(["tools", "vision"]), st.booleans()),
)


@st.composite
def fakes(draw: st.DrawFn, most: int = 4) -> list[Fake]:
    """Some providers with models of every sort."""
    found = []
    for number in range(draw(st.integers(1, most))):
        kinds = draw(st.lists(models, min_size=1, max_size=3))
        roster = [evolve(model, id=f"m{index}") for index, model in enumerate(kinds)]
        found.append(Fake(f"p{number}", roster, local=draw(st.booleans())))
    return found


names = st.lists(st.sampled_from(["p0", "p1", "p2", "p0/m0", "p1/m1", "m2", "p*", "nobody"]), max_size=3).map(tuple)
requests = st.builds(
    lambda hints, tools, words: asked(
        hints=hints,
        params={"tools": [{"type": "function"}]} if tools else {},
        messages=[{"role": "user", "content": "word " * words}],
    ),
    st.builds(Hints, privacy=st.none() | classes, preferred=names, forbidden=names),
    st.booleans(),
    st.sampled_from([1, 50]),
)


# Privacy only rises


class Opinion:
    """Classifies as it is told to, in whatever way, and writes down what it was given."""

    def __init__(self, how: str, privacy: Privacy, seen: list[Privacy]) -> None:
        self.how, self.privacy, self.seen = how, privacy, seen

    @hookimpl
    def classify(self, features: Features) -> Any:
        self.seen.append(features.privacy)
        if self.how == "raises":
            raise ValueError("no opinion")
        answers: dict[str, Any] = {
            "raised": features.raised(self.privacy),
            "set": evolve(features, privacy=self.privacy),
            "fresh": Features(privacy=self.privacy),
            "none": None,
            "text": self.privacy.name,
        }
        return answers[self.how]


HEARD = ("raised", "set", "fresh")


@law
@given(
    opinions=st.lists(st.tuples(st.sampled_from([*HEARD, "none", "text", "raises"]), classes), max_size=6),
    hint=st.none() | classes,
    key=classes,
    default=classes,
)
def test_privacy_only_rises(
    opinions: list[tuple[str, Privacy]], hint: Privacy | None, key: Privacy, default: Privacy
) -> None:
    seen: list[Privacy] = []
    plugins = {f"c{number}": Opinion(*opinion, seen) for number, opinion in enumerate(opinions)}
    router = router_of([], plugins, privacy={"default": default.name.lower()})

    plan = planned(router, asked(hints=Hints(privacy=hint), caller=Caller(privacy=key)))

    floor = max(hint or Privacy.PUBLIC, key, default)
    assert [*seen, plan.features.privacy] == sorted([*seen, plan.features.privacy])
    assert plan.features.privacy == max([floor, *(privacy for how, privacy in opinions if how in HEARD)])
    assert [floor, *seen][: len(seen)] == [floor, *seen[:1], *seen[1:]][: len(seen)]
    assert all(privacy >= floor for privacy in seen)


@law
@given(providers=fakes(), request=requests, allowed=classes)
def test_nobody_is_planned_who_may_not_see_the_request(
    providers: list[Fake], request: ChatRequest, allowed: Privacy
) -> None:
    plan = planned(router_of(providers, privacy={"remote_allows": allowed.name.lower()}), request)

    at_home = {provider.name for provider in providers if provider.local}
    for candidate in plan.ranked:
        assert plan.features.privacy <= allowed or (candidate.provider in at_home and candidate.model.local)


# A veto cannot be undone

JUNK: list[Any] = [None, 3, "p0/m0", Veto(Candidate(provider="ghost", model=Model(id="m0")), "odd", "nobody has it")]


@st.composite
def objections(draw: st.DrawFn) -> Callable[[Sequence[Candidate]], Any]:
    """A veto hook: some of the candidates in some form, rubbish, nothing, or a fault."""
    picks = draw(st.lists(st.booleans(), min_size=12, max_size=12))
    junk = draw(st.lists(st.sampled_from(JUNK), max_size=2))
    form = draw(st.sampled_from([list, tuple, iter, set, "generator", "raises", "none"]))

    def veto(candidates: Sequence[Candidate]) -> Any:
        found = [Veto(c, "no", "not this one") for c, picked in zip(candidates, picks, strict=False) if picked]
        if form == "raises":
            raise OSError("no opinion")
        if form == "none":
            return None
        if form == "generator":
            return (item for item in [*found, *junk])
        if form is set:
            return {veto.candidate.key: veto for veto in found}.values()
        return form([*found, *junk])

    return veto


@law
@given(providers=fakes(), request=requests, vetoes=st.lists(objections(), max_size=3))
def test_a_veto_cannot_be_undone(
    providers: list[Fake], request: ChatRequest, vetoes: list[Callable[[Sequence[Candidate]], Any]]
) -> None:
    objected: set[str] = set()

    def remembering(veto: Callable[[Sequence[Candidate]], Any]) -> Any:
        def hook(self: object, candidates: Sequence[Candidate]) -> Any:
            answer = veto(candidates)
            answer = None if answer is None else list(answer)
            known = {candidate.key for candidate in candidates}
            objected.update(v.candidate.key for v in answer or () if isinstance(v, Veto) and v.candidate.key in known)
            return answer

        return plugin(veto=hook)

    def praise(self: object, candidates: Sequence[Candidate]) -> list[Score]:
        everybody = [Candidate(provider=p.name, model=model) for p in providers for model in p.models]
        return [Score(candidate, 1.0) for candidate in everybody]

    plugins = {f"v{number}": remembering(veto) for number, veto in enumerate(vetoes)}
    plugins["fan"] = plugin(score=praise, veto=lambda self: [])
    router = router_of(providers, plugins, profiles={"auto": {"weights": {"fan": 1}}})

    plan = planned(router, request)

    ranked = [candidate.key for candidate in plan.ranked]
    vetoed = {veto.candidate.key for veto in plan.vetoes}
    everybody = Counter(candidate.key for candidate in router.catalog.snapshot.candidates)
    assert objected <= vetoed
    assert Counter(ranked) + Counter(vetoed) == everybody, "each candidate is ranked once or vetoed, never both"


# Scores

WEIGHTS = st.dictionaries(st.sampled_from(["a", "b", "c", "d"]), st.sampled_from([0, 0.5, 1, 100]))


@law
@given(weights=WEIGHTS, own=WEIGHTS)
def test_a_strategy_counts_what_the_profile_says_else_its_class_else_one(
    weights: dict[str, float], own: dict[str, float]
) -> None:
    seen: list[str] = []

    def scoring(name: str) -> Any:
        def score(self: object, candidates: Sequence[Candidate]) -> list[Score]:
            seen.append(name)
            return [Score(candidate, 1.0) for candidate in candidates]

        return plugin(score=score, **({"weight": own[name]} if name in own else {}))

    names = ("a", "b", "c", "d")
    router = router_of(
        [Fake("p", [Model(id="m")])],
        {name: scoring(name) for name in names},
        profiles={"mine": {"weights": weights}},
    )
    plan = planned(router, asked(model="routerpool/mine"))

    counted = {name: weights.get(name, own.get(name, 1.0)) for name in names}
    assert seen == [name for name in names if counted[name]]
    assert {name: weight for name, weight, _ in plan.opinions} == {name: counted[name] for name in seen}
    assert router.profiles()["mine"]["weights"] == counted


@pytest.mark.parametrize("weight", [-1, nan, "10", True, None])
def test_a_weight_that_is_none_is_refused_in_the_plugins_name(weight: object) -> None:
    with pytest.raises(PluginError, match="weight"):
        router_of([], {"heavy": plugin(weight=weight)})


def test_a_candidate_is_pinned_by_a_term_of_that_name() -> None:
    def score(self: object, candidates: Sequence[Candidate]) -> list[Score]:
        return [Score(candidate, 0.1, {"pinned": float(candidate.key == "p/m2")}) for candidate in candidates]

    provider = Fake("p", [Model(id="m1"), Model(id="m2")])

    assert planned(router_of([provider], {"mine": plugin(score=score)}), asked()).pinned == "p/m2"
    assert planned(router_of([provider]), asked()).pinned is None


def test_nobody_is_asked_for_scores_where_there_is_nobody_to_score() -> None:
    def score(self: object) -> None:
        raise AssertionError("it was asked")

    router = router_of([], {"a": plugin(score=score)}, profiles={"mine": {"weights": {"a": 1}}})
    planned(router, asked(model="routerpool/mine"))

    assert router.hooks.instances["a"].faults == 0


points = st.floats(0, 1) | st.sampled_from([nan, float("inf"), -0.1, 1.0000001, -1e300, 2, True, 0])


@law
@given(
    providers=fakes(), request=requests, drawn=st.lists(points, min_size=12, max_size=12), strangers=st.integers(0, 2)
)
def test_bad_points_and_strangers_are_faults_and_change_nothing_for_anybody(
    providers: list[Fake], request: ChatRequest, drawn: list[float], strangers: int
) -> None:
    given_: list[float] = []

    def score(self: object, candidates: Sequence[Candidate]) -> list[Score]:
        given_.extend(drawn[: len(candidates)])
        known = [Score(candidate, value) for candidate, value in zip(candidates, drawn, strict=False)]
        return known + [Score(Candidate(provider="ghost", model=Model(id="m")), 1.0)] * strangers

    without = planned(router_of(providers, profiles={"auto": {"weights": {}}}), request)
    router = router_of(providers, {"s": plugin(score=score)}, profiles={"auto": {"weights": {"s": 2}}})
    plan = planned(router, request)

    assert {c.key for c in plan.ranked} == {c.key for c in without.ranked}
    assert plan.vetoes == without.vetoes
    assert all(isfinite(score.points) and 0 <= score.points <= 1 for score in plan.scores.values())
    sound = all(isfinite(value) and 0 <= value <= 1 for value in given_)
    assert (router.hooks.instances["s"].faults == 0) == (not plan.ranked or (sound and not strangers))
    explained = explain(plan)
    assert [entry["candidate"] for entry in explained["ranked"]] == [c.key for c in plan.ranked]


@law
@given(providers=fakes(), request=requests, drawn=st.lists(st.floats(0, 1), min_size=12, max_size=12))
def test_a_plan_is_deterministic(providers: list[Fake], request: ChatRequest, drawn: list[float]) -> None:
    def score(self: object, candidates: Sequence[Candidate]) -> list[Score]:
        return [Score(c, value, {"drawn": value}) for c, value in zip(candidates, drawn, strict=False)]

    def made() -> Router:
        return router_of(providers, {"s": plugin(score=score)}, profiles={"auto": {"weights": {"s": 1}}})

    router = made()
    first = planned(router, request)

    assert planned(router, request) == first
    assert planned(made(), request) == first


@law
@given(providers=fakes(), request=requests)
def test_a_static_strategy_gives_the_same_plan_from_its_kept_answer(
    providers: list[Fake], request: ChatRequest
) -> None:
    def once(answers: dict[int, list[Score]]) -> Any:
        def score(self: object, candidates: tuple[Candidate, ...]) -> list[Score]:
            fresh = [Score(c, 1.0 - index / 100) for index, c in enumerate(reversed(candidates))]
            return answers.setdefault(id(candidates), fresh)

        return plugin(score=score)

    keeping = router_of(providers, {"s": once({})}, profiles={"auto": {"weights": {"s": 1}}})
    plans = [planned(keeping, request) for _ in range(3)]

    assert plans[0] == plans[1] == plans[2]


# What is sent


@st.composite
def changes(draw: st.DrawFn) -> dict[str, Any]:
    """What a reckless mutator evolves."""
    fields = {
        "model": st.sampled_from(["p1/m0", "nobody", ""]),
        "stream": st.booleans(),
        "id": st.just("another"),
        "caller": st.just(Caller(id="somebody else")),
        "hints": st.just(Hints(profile="other", forbidden=("p0",))),
        "messages": st.just([{"role": "user", "content": "Changed"}]),
        "params": st.just({"temperature": 0.1, "stream": True}),
        "native": st.just(Native(dialect="odd", body={})),
    }
    chosen = draw(st.lists(st.sampled_from(sorted(fields)), unique=True, max_size=4))
    return {name: draw(fields[name]) for name in chosen}


@law
@given(
    mutators=st.lists(changes() | st.sampled_from(["raises", "none", "text"]), max_size=3),
    stream=st.booleans(),
    failing=st.integers(0, 3),
)
def test_a_mutator_changes_neither_who_answers_nor_how_nor_another_attempt(
    mutators: list[Any], stream: bool, failing: int
) -> None:
    given_: list[tuple[int, ChatRequest]] = []

    def mutating(number: int, change: Any) -> Any:
        def mutate(self: object, request: ChatRequest, attempt: Attempt) -> Any:
            if number == 0:
                given_.append((attempt.number, request))
            if change == "raises":
                raise KeyError("a defect")
            return (
                {"none": None, "text": "no request"}[change] if isinstance(change, str) else evolve(request, **change)
            )

        return plugin(mutate=mutate)

    providers = [Fake(f"p{number}", [Model(id="m0")]) for number in range(3)]
    for provider in providers[:failing]:
        provider.script = ["refuses"]
    router = router_of(providers, {f"m{n}": mutating(n, change) for n, change in enumerate(mutators)})
    request = asked(stream=stream)
    sink = Kept()
    with suppress(RequestError):
        asyncio.run(router.handle(request, sink))

    order = [attempt.candidate.provider for provider in providers for attempt, _ in provider.sent]
    assert order == ["p0", "p1", "p2"][: failing + 1]
    for attempt, sent in (entry for provider in providers for entry in provider.sent):
        assert sent.stream is stream
        assert attempt.request is request
        assert attempt.candidate.model.id == "m0"
    assert [number for number, _ in given_] == list(range(1, len(order) + 1 if mutators else 1))
    assert all(seen is request for _, seen in given_), "each attempt starts from the client's request"
    assert sink.told == ([] if failing == 3 else ["open", "close"] if stream else ["plain"])


def sent(params: Mapping[str, Any]) -> dict[str, Any]:
    """The body that reaches a provider when a mutator has set the model and these parameters."""

    def mutate(self: object, request: ChatRequest, attempt: Attempt) -> ChatRequest:
        return evolve(request, model="another", params=params)

    async def main() -> dict[str, Any]:
        async with Upstream() as up:
            parsed, _ = from_mapping({"store": "sqlite://"}, env={})
            provider = OpenAIProvider(OpenAIProvider.Config(base_url=up.base_url("lab"), models=("m1",)), name="lab")
            instances = [Instance("m", plugin(mutate=mutate), "m"), Instance("lab", provider, "lab")]
            async with Router(parsed, instances) as router:
                with suppress(RequestError):
                    await router.chat({"messages": [{"role": "user", "content": "Hello"}]})
            body: dict[str, Any] = up.seen("lab").requests[-1].json
            return body

    return asyncio.run(main())


def test_the_model_on_the_wire_is_the_candidates_whatever_a_mutator_says() -> None:
    body = sent({"model": "a third", "messages": [], "top_p": 1})

    assert body == {"model": "m1", "messages": [{"role": "user", "content": "Hello"}], "top_p": 1}


def test_a_mutator_cannot_ask_for_a_stream_by_the_parameters() -> None:
    assert sent({"stream": True}).get("stream") is not True


# What is taken is given back


@define(eq=False)
class Reservation:
    """Counts how often it was entered and left."""

    how: str
    entered: int = 0
    left: int = 0

    async def __aenter__(self) -> None:
        if self.how == "waits":
            await asyncio.sleep(0)
        if self.how == "full":
            raise Unavailable("it is full", retry_after=1)
        if self.how == "torn":
            raise OSError("it cannot be entered")
        self.entered += 1

    async def __aexit__(self, *exc: object) -> None:
        self.left += 1
        if self.how == "sticky":
            raise OSError("it cannot be left")


@define(eq=False)
class Slots:
    """A plugin whose reservations are of these kinds, one for each attempt in turn."""

    kinds: list[str]
    made: list[Reservation] = field(factory=list)
    asked: int = 0

    @hookimpl
    def reserve(self) -> Any:
        how = self.kinds[self.asked % len(self.kinds)] if self.kinds else "none"
        self.asked += 1
        if how == "busy":
            raise Unavailable("nothing is free")
        if how == "broken":
            raise ValueError("a defect")
        if how in ("none", "text"):
            return {"none": None, "text": "no reservation"}[how]
        self.made.append(Reservation(how))
        return self.made[-1]


@define(eq=False)
class Books:
    """Keeps the records."""

    records: list[UsageRecord] = field(factory=list)

    @hookimpl
    async def record_usage(self, record: UsageRecord) -> None:
        self.records.append(record)


KINDS = ["fine", "waits", "full", "torn", "sticky", "busy", "broken", "none", "text"]
OUTCOMES = ["ok", "refuses", "raises", "breaks", "empty", "hangs"]


@long_law
@given(
    plugins=st.lists(st.lists(st.sampled_from(KINDS), min_size=1, max_size=3), min_size=1, max_size=3),
    outcomes=st.lists(st.sampled_from(OUTCOMES), max_size=5),
    stream=st.booleans(),
    end=st.sampled_from(["stays", "cancelled", "leaves"]),
    after=st.integers(0, 25),
)
def test_what_is_reserved_is_given_back_exactly_once(
    plugins: list[list[str]], outcomes: list[str], stream: bool, end: str, after: int
) -> None:
    slots = {f"s{number}": Slots(kinds) for number, kinds in enumerate(plugins)}
    books = Books()
    providers = [Fake(f"p{number}", [Model(id="m0"), Model(id="m1")]) for number in range(2)]
    for index, outcome in enumerate(outcomes):
        providers[index // 2 % 2].script.append(outcome)
    limits = {"budget_seconds": 0.05, "first_event_seconds": 0.02, "idle_seconds": 0.02, "answer_seconds": 0.02}
    router = router_of(providers, {**slots, "books": books}, limits=limits)
    sink = Kept()

    async def main() -> None:
        task = asyncio.create_task(router.handle(asked(stream=stream), sink))
        if end != "stays":
            for _ in range(after):
                await asyncio.sleep(0)
            if end == "cancelled":
                task.cancel()
            else:
                sink.leave("client_gone")
        await asyncio.wait((task,))
        if not task.cancelled() and (error := task.exception()) is not None:
            assert isinstance(error, RouterpoolError), repr(error)

    asyncio.run(main())

    for reservation in (reservation for plugin in slots.values() for reservation in plugin.made):
        assert reservation.left == reservation.entered <= 1
    assert len(books.records) == (0 if end == "cancelled" and after == 0 else 1), "recorded once, if it began at all"
    status = router.admission.status()
    assert (status["running"], status["waiting"], status["streams"]) == (0, 0, 0)


def test_reservations_are_left_in_reverse_before_the_next_candidate_is_asked() -> None:
    log: list[str] = []

    class Slot:
        def __init__(self, name: str) -> None:
            self.name = name

        async def __aenter__(self) -> None:
            log.append(f"+{self.name}")

        async def __aexit__(self, *exc: object) -> None:
            log.append(f"-{self.name}")

    def reserving(name: str) -> Any:
        return plugin(reserve=lambda self, attempt: Slot(f"{name}{attempt.candidate.provider}"))

    providers = [Fake("1", [Model(id="m")]), Fake("2", [Model(id="m")])]
    providers[0].script = ["refuses"]
    asyncio.run(router_of(providers, {"a": reserving("a"), "b": reserving("b")}).handle(asked(), Kept()))

    assert log == ["+a1", "+b1", "-b1", "-a1", "+a2", "+b2", "-b2", "-a2"]


def test_a_cancellation_while_one_reservation_is_given_back_keeps_none_of_the_others() -> None:
    log: list[str] = []

    class Slot:
        def __init__(self, name: str, leaving: asyncio.Event | None = None) -> None:
            self.name, self.leaving = name, leaving

        async def __aenter__(self) -> None:
            log.append(f"+{self.name}")

        async def __aexit__(self, *exc: object) -> None:
            if self.leaving is not None:
                self.leaving.set()
                await asyncio.sleep(0.05)
            log.append(f"-{self.name}")

    async def main() -> None:
        leaving = asyncio.Event()
        first, second = (plugin(reserve=lambda self, slot=slot: slot) for slot in (Slot("a"), Slot("b", leaving)))
        router = router_of([Fake("p", [Model(id="m")])], {"a": first, "b": second})
        task = asyncio.create_task(router.handle(asked(), Kept()))
        await leaving.wait()
        task.cancel()
        await asyncio.wait((task,))

    asyncio.run(main())
    assert "-a" in log


def test_an_empty_plan_is_refused_with_its_vetoes_although_somebody_might_have_intercepted() -> None:
    router = router_of([Fake("p", [Model(id="m")])], {"cache": plugin(intercept=lambda self: None)})

    with pytest.raises(RequestError) as refused:
        asyncio.run(router.handle(asked(hints=Hints(privacy=Privacy.SECRET)), Kept()))
    assert refused.value.code == "privacy_blocked"
    assert [veto["candidate"] for veto in refused.value.details["vetoes"]] == ["p/m"]


def test_every_outcome_of_the_law_is_reached_by_its_script() -> None:
    """The law above would hold of a house where nothing happens; here is what happens in it."""
    told: dict[str, tuple[list[str], Outcome]] = {}
    for outcome in OUTCOMES:
        books = Books()
        provider = Fake("p", [Model(id="m")])
        provider.script = [outcome] * 3
        limits = {"budget_seconds": 0.2, "first_event_seconds": 0.02, "answer_seconds": 0.02}
        sink = Kept()
        with suppress(RequestError):
            asyncio.run(router_of([provider], {"books": books}, limits=limits).handle(asked(stream=True), sink))
        told[outcome] = (sink.told, books.records[0].outcome)

    assert told == {
        "ok": (["open", "close"], Outcome.ANSWERED),
        "refuses": ([], Outcome.FAILED),
        "raises": ([], Outcome.FAILED),
        "breaks": (["open", "fail"], Outcome.TRUNCATED),
        "empty": ([], Outcome.FAILED),
        "hangs": ([], Outcome.FAILED),
    }
