"""Hints: what a client asks of the router itself, in the body and in headers, the core's own and those of plugins."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Any, Literal

import pytest
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st

from routerpool import Attempt, ChatRequest, PluginError, hookimpl
from routerpool.errors import RequestError
from routerpool.testing import Upstream, make_router
from routerpool.types import Hints, Privacy
from routerpool.wire.hints import SESSION_HEADERS, hint_readers, read_hints
from routerpool.wire.request import parse_chat, sent_body

HELLO: dict[str, Any] = {"role": "user", "content": "Hello"}
BODY: dict[str, Any] = {"model": "auto", "messages": [HELLO]}

law = settings(max_examples=100, deadline=None)
leaves = st.none() | st.booleans() | st.integers(-5, 5) | st.floats(allow_nan=False) | st.text(max_size=5)


def parse(body: Any, *headers: tuple[str, str]) -> ChatRequest:
    """The request of a body."""
    return parse_chat(body, request_id="r1", headers=headers)


def refused(body: Any, *headers: tuple[str, str]) -> RequestError:
    """The error of a body that is wrong."""
    with pytest.raises(RequestError) as caught:
        parse(body, *headers)
    return caught.value


FULL = {
    "privacy": "sensitive",
    "profile": "fast",
    "task": "code_review",
    "preferred": ["groq", "ollama/m1"],
    "forbidden": ["openai"],
    "priority": "high",
    "mode": "async",
    "allow_async": True,
    "max_queue_seconds": 5,
    "max_seconds": 60,
    "require_gpu_only": True,
    "session": "abc",
}
MEANT = Hints(
    privacy=Privacy.SENSITIVE,
    profile="fast",
    task="code_review",
    preferred=("groq", "ollama/m1"),
    forbidden=("openai",),
    priority="high",
    mode="async",
    allow_async=True,
    max_queue_seconds=5.0,
    max_seconds=60.0,
    require_gpu_only=True,
    session="abc",
)
CAMEL = {
    "taskType": "code_review",
    "preferredModels": ["groq", "ollama/m1"],
    "forbiddenModels": ["openai"],
    "allowAsync": True,
    "maxQueueTimeMs": 5000,
    "maxExecutionTimeMs": 60_000,
    "requireGpuOnly": True,
    **{name: FULL[name] for name in ("privacy", "profile", "priority", "mode", "session")},
}
HEADERS = [
    ("X-Router-Privacy", "sensitive"),
    ("x-router-profile", "fast"),
    ("X-ROUTER-TASK", "code_review"),
    ("X-Router-Preferred", "groq, ollama/m1"),
    ("X-Router-Forbidden", "openai,"),
    ("X-Router-Priority", "high"),
    ("X-Router-Mode", "async"),
    ("X-Router-Allow-Async", "true"),
    ("X-Router-Max-Queue-Seconds", "5"),
    ("X-Router-Max-Seconds", "60.0"),
    ("X-Router-Require-Gpu-Only", "1"),
    ("X-Router-Session", "abc"),
]


def test_hints_mean_the_same_in_snake_case_camel_case_and_headers() -> None:
    assert parse({**BODY, "router": FULL}).hints == MEANT
    assert parse({**BODY, "router": CAMEL}).hints == MEANT
    assert parse(BODY, *HEADERS).hints == MEANT


def test_hints_are_taken_out_before_anything_is_sent() -> None:
    assert sent_body(parse({**BODY, "router": FULL}, *HEADERS), "m1") == {"model": "m1", "messages": [HELLO]}


def test_the_body_wins_over_headers_except_that_privacy_takes_the_higher() -> None:
    headers = (("X-Router-Task", "chat"), ("X-Router-Profile", "fast"), ("X-Router-Privacy", "private"))

    hints = parse({**BODY, "router": {"task": "code", "privacy": "public"}}, *headers).hints
    assert (hints.task, hints.profile, hints.privacy) == ("code", "fast", Privacy.PRIVATE)
    assert parse({**BODY, "router": {"privacy": "secret"}}, *headers).hints.privacy is Privacy.SECRET
    assert parse({**BODY, "router": {"privacy": None}}, *headers).hints.privacy is Privacy.PRIVATE


def test_of_two_privacy_headers_the_higher_one_counts() -> None:
    headers = (("X-Router-Privacy", "secret"), ("X-Router-Privacy", "public"))

    assert read_hints(None, headers).privacy is Privacy.SECRET


@pytest.mark.parametrize("text", ["PRIVATE", "Private", "private"])
def test_a_privacy_class_may_be_written_in_any_case(text: str) -> None:
    assert read_hints({"privacy": text}).privacy is Privacy.PRIVATE


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("privacy", "hidden", "must be public, private, sensitive or secret"),
        ("privacy", "", "must be public, private, sensitive or secret"),
        ("profile", 3, "must be a text"),
        ("task", ["a"], "must be a text"),
        ("preferred", 3, "must be a list of at most 64 names"),
        ("preferred", ["a", 3], "must be a list of at most 64 names"),
        ("forbiddenModels", {"a": 1}, "must be a list of at most 64 names"),
        (
            "preferred",
            ["groq/*"],
            "must be a list of at most 64 names of providers, models or candidates, and no patterns",
        ),
        ("forbidden", ["a"] * 65, "must be a list of at most 64 names"),
        ("forbidden", "a," * 65, "must be a list of at most 64 names"),
        ("forbidden", ["a" * 257], "must be a list of at most 64 names"),
        ("profile", "a" * 257, "must be a text of at most 256 characters"),
        ("task", "a" * 257, "must be a text of at most 256 characters"),
        ("session", "a" * 257, "must be a text of at most 256 characters"),
        ("priority", "urgent", "must be low, normal or high"),
        ("mode", None, "must be auto, sync or async"),
        ("mode", [], "must be auto, sync or async"),
        ("allow_async", "yes", "must be true or false"),
        ("allowAsync", None, "must be true or false"),
        ("max_seconds", -1, "must be a number of seconds"),
        ("max_seconds", "soon", "must be a number of seconds"),
        ("max_seconds", "nan", "must be a number of seconds"),
        ("max_seconds", True, "must be a number of seconds"),
        ("max_seconds", 1e9, "must be a number of seconds"),
        ("maxQueueTimeMs", [1], "must be a number of seconds"),
        ("session", 3, "must be a text"),
        ("privcay", "secret", "is no hint we know; did you mean 'privacy'?"),
        ("xyzzy", 1, "is no hint we know; known are privacy, "),
    ],
)
def test_a_hint_that_cannot_be_meant_is_refused_with_its_place(name: str, value: Any, told: str) -> None:
    error = refused({**BODY, "router": {name: value}})

    assert (error.code, error.param) == ("invalid_request", f"router.{name}")
    assert error.message.startswith(f"`router.{name}` {told}")


def test_names_of_the_longest_length_and_number_are_taken() -> None:
    names = [str(number) * 256 for number in range(10)] * 6
    hints = read_hints({"forbidden": names, "profile": "a" * 256, "session": "a" * 256})
    assert (len(hints.forbidden), hints.profile, hints.session) == (60, "a" * 256, "a" * 256)


@pytest.mark.parametrize("header", ["X-Session-Id", "Thread-Id", "X-Router-Session"])
def test_a_session_that_is_too_long_is_refused_in_whichever_header(header: str) -> None:
    with pytest.raises(RequestError, match=f"`{header}` must be a text of at most 256 characters"):
        read_hints(None, [(header, "a" * 257)])


def test_a_hint_with_an_endless_name_is_not_repeated() -> None:
    error = refused({**BODY, "router": {"a" * 100_000: 1}})
    assert (error.code, error.param) == ("invalid_request", "router")
    assert len(error.message) < 100


@pytest.mark.parametrize(
    ("name", "value"),
    [("privacy", 3), ("privacy", ["secret"]), ("max_seconds", 10**400), ("maxQueueTimeMs", 10**400)],
    ids=["a number", "a list", "a huge number", "a huge number of milliseconds"],
)
def test_a_hint_of_a_very_odd_type_is_refused_like_any_other(name: str, value: Any) -> None:
    assert refused({**BODY, "router": {name: value}}).param == f"router.{name}"


def test_milliseconds_in_a_text_are_milliseconds_or_refused() -> None:
    with suppress(RequestError):
        assert read_hints({"maxQueueTimeMs": "5000"}).max_queue_seconds == 5.0


def test_a_header_that_cannot_be_meant_is_refused_with_its_name() -> None:
    assert refused(BODY, ("x-router-privacy", "hidden")).param == "X-Router-Privacy"
    assert refused(BODY, ("X-Router-Max-Secnods", "3")).param == "X-Router-Max-Secnods"


def test_without_hints_all_requests_share_one_value() -> None:
    assert parse(BODY, ("User-Agent", "curl")).hints is parse(BODY).hints
    assert parse(BODY).hints == Hints()


@law
@given(router=st.dictionaries(st.sampled_from([*FULL, *CAMEL]), leaves | st.lists(st.text(max_size=3), max_size=2)))
def test_any_hints_are_read_or_refused(router: dict[str, Any]) -> None:
    if isinstance(router.get("privacy"), int | float | list):
        del router["privacy"]  # see the test of very odd types
    with suppress(RequestError):
        hints = read_hints(router)
        assert isinstance(hints.preferred, tuple)
        assert hints.privacy is None or isinstance(hints.privacy, Privacy)
        assert hints.max_seconds is None or 0 <= hints.max_seconds < 1e7


@pytest.mark.parametrize("name", SESSION_HEADERS)
def test_clients_name_their_session_in_many_headers(name: str) -> None:
    assert read_hints(None, [(name.title(), "s1")]).session == "s1"


def test_of_several_session_names_the_most_telling_wins() -> None:
    headers = [(name, name) for name in reversed(SESSION_HEADERS)]

    assert read_hints(None, headers).session == "x-session-id"
    assert read_hints(None, [*headers, ("X-Router-Session", "mine")]).session == "mine"
    assert read_hints({"session": "body"}, [*headers, ("X-Router-Session", "mine")]).session == "body"


@pytest.mark.parametrize("name", [*SESSION_HEADERS, "x-router-session"])
def test_a_session_that_is_named_twice_is_named_alike(name: str) -> None:
    assert read_hints(None, [(name, "a"), (name.title(), "a")]).session == "a"
    for headers in ([(name, "a"), (name.upper(), "b")], [(name, "a"), (name, "a"), (name, "b")]):
        with pytest.raises(RequestError, match="names two different sessions") as refused:
            read_hints(None, headers)
        assert (refused.value.status, refused.value.param) == (400, name.title())


# Of plugins

MORE = hint_readers(
    {
        "terse": bool,
        "depth": int,
        "heat": float,
        "tone": str,
        "tags": tuple[str, ...],
        "size": Literal["small", "large"],
    }
)


def more(router: Any, headers: Iterable[tuple[str, str]] = ()) -> dict[str, Any]:
    return dict(read_hints(router, headers, MORE).more)


def test_a_plugins_hints_mean_the_same_in_the_body_and_in_headers() -> None:
    told = {"terse": True, "depth": 3, "heat": 0.5, "tone": "dry", "tags": ["a", "b"], "size": "small"}
    meant = {**told, "tags": ("a", "b")}
    headers = [
        *(("X-Router-Terse", "true"), ("x-router-depth", "3"), ("X-Router-Heat", "0.5"), ("X-Router-Tone", "dry")),
        *(("X-Router-Tags", "a, b"), ("X-Router-Size", "small")),
    ]

    assert more(told) == meant
    assert more(None, headers) == meant
    assert more({"depth": 4}, headers)["depth"] == 4
    assert read_hints({"task": "chat"}, (), MORE).more == {}


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("terse", "yes", "must be true or false"),
        ("depth", 3.5, "must be a whole number"),
        ("depth", True, "must be a whole number"),
        ("depth", "9" * 400, "must be a whole number"),
        ("heat", "nan", "must be a number"),
        ("tone", ["dry"], "must be a text"),
        ("tags", [1], "must be a list of at most 64 names"),
        ("size", "huge", "must be one of small, large"),
        ("size", ["small"], "must be one of small, large"),
        ("tersse", True, "is no hint we know; did you mean 'terse'?"),
        ("xyzzy", 1, "is no hint we know; known are privacy, "),
    ],
)
def test_a_plugins_hint_that_cannot_be_meant_is_refused_like_the_cores_own(name: str, value: Any, told: str) -> None:
    with pytest.raises(RequestError) as caught:
        more({name: value})
    assert caught.value.param == f"router.{name}"
    assert caught.value.message.startswith(f"`router.{name}` {told}")


@pytest.mark.parametrize(
    ("declared", "told"),
    [({"terse": dict}, "not <class 'dict'>"), ({"Terse": bool}, "small letters"), ({"privacy": str}, "router's own")],
)
def test_what_a_plugin_cannot_declare_stops_the_start_in_its_name(declared: dict[str, Any], told: str) -> None:
    class Odd:
        hints = declared

    with pytest.raises(PluginError, match=rf"odd.*{told}"):
        make_router({"plugins": {"odd": {}}}, plugins={"odd": Odd})


def test_two_plugins_that_declare_one_hint_are_told_both() -> None:
    class One:
        hints = {"terse": bool}  # noqa: RUF012 - as a plugin's author writes it

    class Two:
        hints = {"terse": str}  # noqa: RUF012

    with pytest.raises(PluginError, match=r"one.*two.*declare a hint 'terse'"):
        make_router({"plugins": {"one": {}, "two": {}}}, plugins={"one": One, "two": Two})


class Terse:
    """A mutator with a switch for each request."""

    hints = {"terse": bool}  # noqa: RUF012

    @hookimpl
    def mutate(self, request: ChatRequest, attempt: Attempt) -> ChatRequest | None:
        if not request.hints.more.get("terse"):
            return None
        return evolve(request, params={**request.params, "max_tokens": 50})


@pytest.mark.anyio
@pytest.mark.parametrize("way", ["body", "header"])
async def test_a_plugins_switch_works_from_outside_and_is_never_sent_on(way: str) -> None:
    async with Upstream() as up:
        lab = {"use": "openai_compatible", "base_url": up.base_url("lab"), "models": ["m1"], "local": True}
        async with make_router({"plugins": {"lab": lab, "terse": {}}}, plugins={"terse": Terse}) as router:
            body = {**BODY, "router": {"terse": True}} if way == "body" else BODY
            await router.chat(body, headers=[("X-Router-Terse", "true")] if way == "header" else [])
            assert up.seen("lab").last.json["max_tokens"] == 50
            await router.chat(BODY)
            assert "max_tokens" not in up.seen("lab").last.json
            assert "router" not in up.seen("lab").last.json


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
