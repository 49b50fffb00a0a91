"""A scanner is one method; whatever follows from what it finds is the core's, and fails closed."""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Any, ClassVar

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from routerpool import ConfigError, OpenAIProvider, Privacy, RequestError, hookimpl
from routerpool.privacy.parts import parts_of
from routerpool.privacy.placeholders import Restorer
from routerpool.privacy.scanning import Match, TextScanner
from routerpool.privacy.verdicts import MOST_MATCHES, MOST_THREADS
from routerpool.testing import make_router
from routerpool.testing.fixtures import serving
from routerpool.testing.upstream import Upstream
from routerpool.types import Attempt, Candidate, ChatRequest, Features, Model
from routerpool.wire.request import MOST_LIGHT_CHARACTERS as LARGE
from routerpool.wire.request import parse_chat

SECRET = "falcon-12345678"
OTHER = "falcon-87654321"


class Falcon(TextScanner):
    calls: ClassVar[list[str]] = []

    def find(self, text: str) -> Iterable[Match]:
        self.calls.append(text)
        for match in re.finditer(r"falcon-[0-9]{8}|heron(?:\\.|[^\"\\]){0,9}end", text):
            yield Match(match[0].partition("-")[0][:6].rstrip('"'), *match.span())

    def class_of(self, rule: str) -> str:
        return "birds"

    def prefix_of(self, rule: str) -> str:
        return "falcon-"


def falcon(**options: Any) -> Falcon:
    Falcon.calls = []
    return Falcon(Falcon.Config(**options), name="falcon")


def request(content: Any = f"It is {SECRET}.", **more: Any) -> ChatRequest:
    return parse_chat({"messages": [{"role": "user", "content": content}], **more}, request_id="r")


def classified(scanner: TextScanner, asked: ChatRequest) -> Features:
    features = Features()
    return asyncio.run(scanner.classify(asked, features)) or features


def attempt(scanner: TextScanner, asked: ChatRequest) -> Attempt:
    candidate = Candidate(provider="p", model=Model(id="m"))
    return Attempt(request=asked, features=classified(scanner, asked), candidate=candidate, number=1, started=0.0)


def sent(scanner: TextScanner, asked: ChatRequest, of: Attempt | None = None) -> ChatRequest:
    return scanner.mutate(asked, of or attempt(scanner, asked)) or asked


# What follows


def test_a_finding_raises_the_class_and_tells_where_but_never_what() -> None:
    features = classified(falcon(), request(f"one\ntwo {SECRET}"))

    [finding] = features.findings
    assert features.privacy is Privacy.SECRET
    assert (finding.rule, finding.part, finding.line, finding.column) == ("falcon", "messages[0].content", 2, 5)
    assert finding.redacted == "falcon-… (15 characters)"
    assert "12345678" not in repr(features)


def test_nothing_found_changes_nothing() -> None:
    scanner = falcon()

    assert asyncio.run(scanner.classify(request("clean"), Features())) is None
    assert scanner.mutate(request("clean"), attempt(scanner, request("clean"))) is None
    assert scanner.rewrite(attempt(scanner, request("clean"))) is None


def test_the_level_is_the_sections() -> None:
    assert classified(falcon(level=Privacy.PRIVATE), request()).privacy is Privacy.PRIVATE


def test_block_refuses_and_says_where() -> None:
    with pytest.raises(RequestError) as caught:
        classified(falcon(action="block"), request())

    error = caught.value
    assert error.code == "privacy_blocked"
    assert error.details["findings"][0]["part"] == "messages[0].content"
    assert SECRET not in json.dumps(error.body())


def test_redact_takes_it_out_of_what_is_sent_and_leaves_the_class() -> None:
    scanner, asked = falcon(action="redact"), request()

    assert classified(scanner, asked).privacy is Privacy.PUBLIC
    assert sent(scanner, asked).messages[0]["content"] == "It is [REDACTED:falcon]."
    assert asked.messages[0]["content"] == f"It is {SECRET}."


@pytest.mark.parametrize("name", ["falcon", "birds"])
def test_an_action_may_be_named_by_rule_or_by_class(name: str) -> None:
    scanner = falcon(action="block", actions={name: "redact"})

    assert "[REDACTED:falcon]" in sent(scanner, request()).messages[0]["content"]


def test_an_action_for_a_rule_that_is_none_is_refused_at_the_start() -> None:
    class Ruled(Falcon):
        def rules(self) -> Iterable[str]:
            return ["falcon"]

    with pytest.raises(ConfigError, match=r"names 'falkon', which is no rule and no class; did you mean 'falcon'"):
        make_router({"plugins": {"r": {"actions": {"falkon": "block"}}}}, plugins={"r": Ruled})
    make_router({"plugins": {"r": {"actions": {"birds": "block"}}}}, plugins={"r": Ruled})


def test_overlapping_matches_are_taken_out_whole() -> None:
    class Twice(TextScanner):
        def find(self, text: str) -> Iterable[Match]:
            return [Match("a", 2, 6), Match("b", 4, 9), Match("c", 5, 6)] if len(text) == 10 else []

    scanner = Twice(Twice.Config(action="redact"))

    assert sent(scanner, request("0123456789")).messages[0]["content"] == "01[REDACTED:a][REDACTED:b]9"


def test_what_another_plugin_brings_in_is_redacted_whatever_the_action() -> None:
    scanner, asked = falcon(), request("clean")
    brought = evolve(asked, messages=[{"role": "system", "content": SECRET}, *asked.messages])

    changed = sent(scanner, brought, attempt(scanner, asked))

    assert changed.messages[0]["content"] == "[REDACTED:falcon]"
    assert sent(scanner, evolve(asked, params={"user": "u"}), attempt(scanner, asked)).params == {"user": "u"}


def test_a_candidate_that_may_see_the_class_gets_the_text() -> None:
    scanner, asked = falcon(), request()

    assert scanner.mutate(evolve(asked, params={"user": SECRET}), attempt(scanner, asked)) is None


def test_a_secret_in_what_cannot_be_redacted_blocks() -> None:
    with pytest.raises(RequestError, match="falcon in model"):
        classified(falcon(action="redact"), request("x", model=SECRET))


# Once for each text


def test_a_text_is_scanned_once_and_again_only_when_it_is_new() -> None:
    scanner = falcon()
    first = request("turn one", tools=[{"function": {"description": "a tool"}}])
    classified(scanner, first)
    seen = len(Falcon.calls)
    classified(scanner, first)
    assert len(Falcon.calls) == seen

    second = evolve(first, messages=[*first.messages, {"role": "assistant", "content": "turn two"}])
    classified(scanner, second)

    assert Falcon.calls[seen:] == ["turn two"] or set(Falcon.calls[seen:]) == {"turn two", "assistant"}


def test_a_usual_request_whose_texts_are_known_waits_for_nothing_and_every_other_one_is_looked_at() -> None:
    scanner = falcon()
    known: dict[str, Any] = {"content": "turn one", "user": "ann", "temperature": 0.2, "reasoning_effort": "low"}
    assert classified(scanner, request(**known)).privacy is Privacy.PUBLIC

    assert scanner.ask(request(**known), Features()) is None
    for news in ({"content": SECRET}, {"user": SECRET}, {"reasoning_effort": SECRET}, {"model": SECRET}, {SECRET: 1}):
        waited = scanner.ask(request(**{**known, **news}), Features())
        assert waited is not None
        features = asyncio.run(waited)  # type: ignore[arg-type]  # a coroutine, as every awaitable of ours
        assert features is not None
        assert features.privacy is Privacy.SECRET


def test_a_finding_is_remembered_as_well() -> None:
    scanner = falcon()
    first, again = classified(scanner, request()), classified(scanner, request())

    assert first.findings == again.findings
    assert Falcon.calls.count(f"It is {SECRET}.") == 1


def test_what_is_remembered_holds_no_text_and_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("routerpool.privacy.verdicts.MOST_KEPT", 8)
    scanner = falcon()
    for number in range(50):
        classified(scanner, request(f"{number} {SECRET}", user=f"user {number}"))

    assert len(scanner._verdicts) <= 8
    assert len(scanner._clean) <= 8
    assert SECRET not in repr(vars(scanner))
    assert scanner.status()["found"] == {"falcon": 50}


def test_a_text_may_be_found_by_the_key_it_stands_under() -> None:
    class Named(TextScanner):
        named = True

        def find(self, text: str) -> Iterable[Match]:
            return [Match("assigned", *m.span(1)) for m in re.finditer(r'api_key="([a-z]+)"', text)]

    scanner = Named(Named.Config(action="redact"))
    asked = request("hello", metadata={"api_key": "abcdef", "note": "abcdef"})

    assert sent(scanner, asked).params["metadata"] == {"api_key": "[REDACTED:assigned]", "note": "abcdef"}


# Failing closed


def refused(scanner: type[TextScanner], text: str = "hello", seconds: float = 5.0) -> RequestError:
    async def whole() -> RequestError:
        async with make_router({"plugins": {"s": {}}}, plugins={"s": scanner}) as router:
            router.hooks.seconds = seconds
            with pytest.raises(RequestError) as caught:
                await router.chat({"messages": [{"role": "user", "content": text}]})
            return caught.value

    return asyncio.run(whole())


class Crashes(TextScanner):
    def find(self, text: str) -> Iterable[Match]:
        raise RuntimeError(f"this quotes {text}")


ANSWERS = [None, 7, ["x"], [Match("r", -1, 2)], [Match("r", 0, 99)], [Match("r", 2, 2)], [Match(None, 0, 1)], [(0, 1)]]


@pytest.mark.parametrize("answer", ANSWERS, ids=str)
def test_a_scanner_that_answers_rubbish_refuses_the_request(answer: Any) -> None:
    class Rubbish(TextScanner):
        def find(self, text: str) -> Iterable[Match]:
            return answer

    assert refused(Rubbish).code == "plugin_required"


def test_a_scanner_that_crashes_refuses_the_request_and_quotes_nothing() -> None:
    error = refused(Crashes, SECRET)

    assert error.code == "plugin_required"
    assert SECRET not in str(error.body())


def test_a_scanner_that_crashes_in_its_thread_refuses_the_request() -> None:
    assert refused(Crashes, "x" * (LARGE + 1)).code == "plugin_required"


def test_a_scanner_that_hangs_in_its_thread_refuses_the_request() -> None:
    release = threading.Event()

    class Hangs(TextScanner):
        threaded = True

        def find(self, text: str) -> Iterable[Match]:
            release.wait(30)
            return []

    try:
        assert refused(Hangs, seconds=0.1).code == "plugin_required"
    finally:
        release.set()


def test_a_few_scan_at_once_and_the_others_wait_for_their_turn() -> None:
    release = threading.Event()

    class Hangs(TextScanner):
        threaded = True

        def find(self, text: str) -> Iterable[Match]:
            release.wait(30)
            return []

    async def whole() -> None:
        scanner = Hangs()
        asked = [request(f"text {n}") for n in range(6)]
        first = [asyncio.ensure_future(scanner.classify(each, Features())) for each in asked[:MOST_THREADS]]
        waiting = [asyncio.ensure_future(scanner.classify(each, Features())) for each in asked[MOST_THREADS:]]
        await asyncio.sleep(0)
        assert sum(thread.name == "scan-hangs" for thread in threading.enumerate()) == MOST_THREADS
        waiting[0].cancel()  # who is given up leaves the queue
        release.set()
        assert await asyncio.gather(*first, waiting[1]) == [None] * 5

    asyncio.run(whole())


def test_a_scan_of_a_request_that_is_given_up_ends_at_its_next_match() -> None:
    found, go_on, ended = threading.Event(), threading.Event(), threading.Event()

    class Endless(TextScanner):
        threaded = True

        def find(self, text: str) -> Iterable[Match]:
            try:
                for place in range(len(text)):
                    yield Match("letter", place, place + 1)
                    found.set()
                    go_on.wait(30)
            finally:
                ended.set()

    async def whole() -> None:
        scan = asyncio.ensure_future(Endless().classify(request("many letters"), Features()))
        await asyncio.to_thread(found.wait, 30)
        scan.cancel()
        with pytest.raises(asyncio.CancelledError):
            await scan
        go_on.set()
        assert await asyncio.to_thread(ended.wait, 30)

    asyncio.run(whole())


@pytest.mark.parametrize(
    ("content", "more"), [("x " * LARGE, {}), ("x", {"metadata": {f"k{n}": "v" for n in range(2001)}})]
)
def test_a_heavy_request_is_scanned_and_changed_in_a_thread(content: str, more: dict[str, Any]) -> None:
    threads: list[str] = []

    class Watched(Falcon):
        def find(self, text: str) -> Iterable[Match]:
            threads.append(threading.current_thread().name)
            return super().find(text)

    async def whole() -> ChatRequest | None:
        scanner = Watched(Watched.Config(action="redact"), name="w")
        asked = request(content + SECRET, **more)
        features = await scanner.ask(asked, Features())  # type: ignore[misc]  # a heavy request is always awaited
        assert features is not None
        candidate = Candidate(provider="p", model=Model(id="m"))
        tried = Attempt(request=asked, features=features, candidate=candidate, number=1, started=0.0)
        scanner._verdicts._kept.clear()
        return await scanner.change(asked, tried)  # type: ignore[misc]

    changed = asyncio.run(whole())
    assert changed is not None
    assert changed.messages[0]["content"] == content + "[REDACTED:falcon]"
    assert set(threads) == {"scan-w"}


def test_a_text_with_more_matches_than_are_told_apart_is_one_match_from_end_to_end() -> None:
    scanner = falcon(action="redact")
    text = f"a {SECRET} " * (MOST_MATCHES + 1)
    changed = sent(scanner, request(text))

    assert changed.messages[0]["content"] == "[REDACTED:falcon]"
    assert len(scanner.matches_of(text[: text.rindex("a ")])) == MOST_MATCHES


def test_matches_are_remembered_as_long_as_there_is_room_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("routerpool.privacy.verdicts.MOST_KEPT_MATCHES", 10)
    scanner = falcon()
    for number in range(20):
        scanner.matches_of(f"{number} {SECRET} {SECRET} {SECRET}")
    assert sum(map(len, scanner._verdicts._kept.values())) <= 12
    assert len(scanner.matches_of(f"one more {SECRET}")) == 1


def test_a_finding_tells_its_line_and_column_however_many_there_are() -> None:
    text = f"{SECRET} {SECRET}\n\n {SECRET}\n{SECRET} {SECRET}"
    places = [(finding.line, finding.column) for finding in falcon().scan(text)]
    assert places == [(1, 1), (1, 17), (3, 2), (4, 1), (4, 17)]


def test_a_scan_that_held_the_loop_for_longer_than_a_hook_may_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("routerpool.privacy.verdicts.HOOK_SECONDS", -1.0)

    assert refused(Falcon).code == "plugin_required"


def test_a_large_text_is_scanned_in_a_thread_to_its_last_character() -> None:
    threads: list[str] = []

    class Watched(Falcon):
        def find(self, text: str) -> Iterable[Match]:
            threads.append(threading.current_thread().name)
            return super().find(text)

    features = classified(Watched(name="w"), request("x " * LARGE + SECRET))

    assert features.privacy is Privacy.SECRET
    assert set(threads) == {"scan-w"}


# Placeholders


def test_placeholders_are_stable_and_one_for_each_secret() -> None:
    scanner = falcon(action="placeholder")
    asked = request(f"{SECRET} {OTHER} {SECRET}", user=OTHER)

    once, again = sent(scanner, asked), sent(scanner, asked)

    assert once.messages[0]["content"] == "[falcon#2] [falcon#1] [falcon#2]"
    assert once.params["user"] == "[falcon#1]"
    assert once == again


def test_a_placeholder_that_the_client_has_written_itself_is_not_used() -> None:
    scanner = falcon(action="placeholder")

    assert sent(scanner, request(f"[falcon#1] {SECRET}")).messages[0]["content"] == "[falcon#1] [falcon#2]"


def restored(scanner: TextScanner, asked: ChatRequest) -> Any:
    return scanner.rewrite(attempt(scanner, asked))


def test_a_plain_answer_gets_the_originals_back_in_json_with_escapes() -> None:
    secret = 'heron"\n\\end'
    scanner = falcon(action="placeholder")
    call = {"id": "c", "function": {"name": "f", "arguments": json.dumps({"a": secret})}}
    asked = request("x", messages=[{"role": "assistant", "tool_calls": [call]}])
    standin = json.loads(sent(scanner, asked).messages[0]["tool_calls"][0]["function"]["arguments"])["a"]
    answer = {
        "choices": [
            {
                "message": {
                    "content": f"use {standin}",
                    "tool_calls": [{"function": {"name": "f", "arguments": json.dumps({"b": standin})}}],
                }
            }
        ]
    }

    message = restored(scanner, asked).answer(answer)["choices"][0]["message"]

    assert standin.startswith("[heron")
    assert message["content"] == f"use {secret}"
    assert json.loads(message["tool_calls"][0]["function"]["arguments"]) == {"b": secret}


TEXT = "a [falcon#1] b [ [falcon#2][falcon# [falcon#3] [falcon"
WHOLE = f"a {SECRET} b [ {OTHER}[falcon# [falcon#3] [falcon"


@given(cuts=st.sets(st.integers(1, len(TEXT) - 1)), finish=st.booleans(), field=st.sampled_from(["content", "call"]))
def test_a_streamed_answer_gets_them_back_wherever_it_is_cut(cuts: set[int], finish: bool, field: str) -> None:
    rewriter = Restorer({"[falcon#1]": SECRET, "[falcon#2]": OTHER})
    edges = [0, *sorted(cuts), len(TEXT)]
    events: list[dict[str, Any]] = []
    for start, end in pairwise(edges):
        delta = piece(field, TEXT[start:end])
        events += rewriter.event({"id": "e", "choices": [{"index": 0, "delta": delta, "finish_reason": None}]})
    if finish:
        events += rewriter.event({"id": "e", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        assert list(rewriter.end()) == []
    events += rewriter.end()

    assert "".join(texts(field, events)) == WHOLE
    assert all(event["id"] == "e" for event in events)


def piece(field: str, text: str) -> dict[str, Any]:
    if field == "content":
        return {"content": text}
    return {"tool_calls": [{"index": 0, "function": {"arguments": text}}]}


def texts(field: str, events: Iterable[dict[str, Any]]) -> Iterator[str]:
    for event in events:
        for choice in event["choices"]:
            delta = choice["delta"]
            yield from [delta.get("content") or ""] if field == "content" else []
            for call in delta.get("tool_calls", ()) if field == "call" else ():
                yield call["function"]["arguments"]


def test_choices_and_calls_do_not_mix_their_pieces() -> None:
    rewriter = Restorer({"[falcon#1]": SECRET})

    def event(choice: int, index: int, text: str) -> Any:
        calls = [{"index": index, "function": {"arguments": text}}]
        [made] = rewriter.event({"choices": [{"index": choice, "delta": {"tool_calls": calls}}]})
        return made["choices"][0]["delta"]["tool_calls"][0]["function"]["arguments"]

    assert [event(0, 0, "[fal"), event(0, 1, "x"), event(1, 0, "con#1]"), event(0, 0, "con#1]")] == [
        *("", "x", "con#1]", SECRET)
    ]


@pytest.mark.parametrize("odd", [{}, {"choices": None}, {"choices": [None, {}, {"delta": None}]}, {"usage": {}}])
def test_odd_events_pass_as_they_are(odd: dict[str, Any]) -> None:
    assert list(Restorer({"[a#1]": "s"}).event(json.loads(json.dumps(odd)))) == [odd]


# Over real sockets


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with serving(Upstream()) as served:
        yield served


def pool(upstream: Upstream, **scanner: Any) -> dict[str, Any]:
    remote = {"use": "p", "base_url": upstream.base_url("r"), "models": ["m1"]}
    return {"plugins": {"falcon": scanner, "r": remote}}


def ask(config: dict[str, Any], stream: bool = False, **more: type) -> str:
    async def whole() -> str:
        plugins = {"falcon": Falcon, "p": OpenAIProvider, **more}
        async with make_router(config, plugins=plugins) as router:
            body = {"model": "auto", "messages": [{"role": "user", "content": f"say {SECRET}"}]}
            if not stream:
                return json.dumps(await router.chat(body))
            return json.dumps([event async for event in router.stream(body)])

    return asyncio.run(whole())


@pytest.mark.parametrize("stream", [False, True])
def test_a_placeholder_goes_out_and_the_original_comes_back(upstream: Upstream, stream: bool) -> None:
    upstream.text("r", "you said [falcon#1], [falcon#2]")
    before = upstream.seen("r").count("[falcon#1]")

    answer = ask(pool(upstream, action="placeholder"), stream)

    assert upstream.seen("r").count(SECRET) == 0
    assert upstream.seen("r").count("[falcon#1]") == before + 1
    joined = "".join(texts("content", json.loads(answer))) if stream else answer
    assert f"you said {SECRET}, [falcon#2]" in joined


def test_a_local_finding_reaches_no_remote_provider(upstream: Upstream) -> None:
    before = upstream.seen("r").chat
    with pytest.raises(RequestError, match="privacy class") as caught:
        ask(pool(upstream))

    assert upstream.seen("r").chat == before
    assert SECRET not in json.dumps(caught.value.body())


def test_a_later_mutator_sees_what_was_redacted(upstream: Upstream) -> None:
    seen: list[str] = []

    class Spy:
        @hookimpl
        def mutate(self, request: ChatRequest) -> None:
            seen.extend(part.text for part in parts_of(request))

    config = pool(upstream, action="redact")
    config["plugins"]["spy"] = {}
    ask(config, spy=Spy)

    assert "say [REDACTED:falcon]" in seen
    assert upstream.seen("r").count(SECRET) == 0
