"""What every scanner owes, as a class of tests that a scanner's own tests inherit."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from time import thread_time
from typing import Any, ClassVar

import pytest

from routerpool.errors import RequestError
from routerpool.privacy.parts import parts_of
from routerpool.privacy.scanning import Match, TextScanner
from routerpool.testing.routers import make_router
from routerpool.types import Attempt, Candidate, ChatRequest, Features, Model, Privacy
from routerpool.wire.request import MOST_LIGHT_CHARACTERS, parse_chat

__all__ = ["GROWTH", "ScannerContract", "carried"]

RATIO = 2.6
"""How much longer twice the text may take."""

NOISE_SECONDS = 0.004
"""Times below this are too short to be compared."""


class ScannerContract:
    """What every scanner owes. Set `plugin`, `secrets` (what it must find, by the text around it), and `options`.

    Each of `secrets` is a text and, within it, what nobody else may see: `("password: hunter2hunter2", "hunter2…")`.
    """

    plugin: ClassVar[type[TextScanner]]
    secrets: ClassVar[Sequence[tuple[str, str]]]
    options: ClassVar[Mapping[str, Any]] = {}
    clean: ClassVar[str] = "Why does quicksort fail on sorted input, and what would you do about it?"

    def made(self, **options: Any) -> TextScanner:
        """A fresh scanner with these options over the contract's."""
        return self.of(self.plugin, **options)

    def of(self, plugin: type[TextScanner], **options: Any) -> TextScanner:
        """The same of another class."""
        config = {"plugins": {"contract": {**self.options, **options}}}
        made = make_router(config, plugins={"contract": plugin}).hooks.instances["contract"]
        assert made.required, "a scanner is required: without it no request is sent"
        scanner: TextScanner = made.plugin
        return scanner

    # Failing closed

    def refusal(self, find: Callable[[str], Any], text: str = "hello", **attributes: Any) -> RequestError:
        """The error with which a request ends whose scanner is this one, but finds like that."""
        broken = type("Broken", (self.plugin,), {"find": lambda _, text: find(text), **attributes})

        async def whole() -> RequestError:
            config = {"plugins": {"contract": dict(self.options)}}
            async with make_router(config, plugins={"contract": broken}) as router:
                router.hooks.seconds = 0.2
                with pytest.raises(RequestError) as caught:
                    await router.chat({"messages": [{"role": "user", "content": f"{self.clean} {text}"}]})
                return caught.value

        return asyncio.run(whole())

    def test_a_crash_refuses_the_request_and_quotes_nothing(self) -> None:
        def crash(text: str) -> Any:
            raise RuntimeError(text)

        for text, secret in self.secrets:
            error = self.refusal(crash, text)
            assert error.code == "plugin_required"
            assert secret not in json.dumps(error.body())

    def test_rubbish_refuses_the_request(self) -> None:
        for rubbish in (None, 7, ["x"], [Match("r", 5, 3)], [Match("r", 0, 1 << 40)]):
            assert self.refusal(lambda _, answer=rubbish: answer).code == "plugin_required", rubbish  # type: ignore[misc]  # mypy knows no defaults in lambdas

    def test_a_hang_refuses_the_request(self) -> None:
        release = threading.Event()
        try:
            assert self.refusal(lambda _: release.wait(30) and (), threaded=True).code == "plugin_required"
        finally:
            release.set()

    # Finding

    def test_what_it_must_find_it_finds_and_nothing_in_clean_text(self) -> None:
        scanner = self.made()
        assert scanner.scan(self.clean) == []
        for text, _ in self.secrets:
            assert scanner.scan(f"{self.clean}\n{text}\n{self.clean}"), f"nothing was found in a text like {text[:6]}…"

    def test_a_finding_tells_line_and_column_and_never_the_secret(self) -> None:
        for text, secret in self.secrets:
            scanner = self.made()
            findings = scanner.scan(f"one\n{text}")
            told = repr(findings) + repr(vars(scanner)) + json.dumps(dict(scanner.status()))
            assert secret not in told
            assert all(piece not in told for piece in _pieces(secret))
            assert [finding.line for finding in findings][:1] == [2]
            assert all(1 <= finding.column <= len(text) for finding in findings)

    def test_it_is_found_in_every_place_of_a_request(self) -> None:
        for text, secret in self.secrets:
            for place, body in carried(text).items():
                features = _classified(self.made(level="private"), _request(body))
                assert features.privacy is Privacy.PRIVATE, f"nothing was found in {place}"
                assert secret not in repr(features)

    def test_a_blocked_request_says_where_and_never_what(self) -> None:
        for text, secret in self.secrets:
            with pytest.raises(RequestError) as caught:
                _classified(self.made(action="block"), _request({"user": text}))
            assert caught.value.code == "privacy_blocked"
            assert caught.value.details["findings"][0]["part"] == "user"
            assert secret not in json.dumps(caught.value.body())

    def test_the_last_character_of_a_large_text_is_scanned(self) -> None:
        text, _ = self.secrets[0]
        filling = (self.clean + "\n") * (2 * MOST_LIGHT_CHARACTERS // len(self.clean) + 1)
        asked = _request({"messages": [{"role": "user", "content": filling + text}]})

        assert _classified(self.made(), asked).findings

    # Changing

    def test_redacting_leaves_none_of_it_in_what_is_sent(self) -> None:
        for text, secret in self.secrets:
            for place, body in carried(text).items():
                scanner, asked = self.made(action="redact"), _request(body)
                sent = scanner.mutate(asked, _attempt(scanner, asked)) or asked
                seen = (secret, *_pieces(secret))
                left = [part.place for part in parts_of(sent) if any(piece in part.text for piece in seen)]
                assert left == [], f"{place} still holds it"

    def test_a_placeholder_is_sent_and_the_original_comes_back(self) -> None:
        for text, secret in self.secrets:
            scanner, asked = self.made(action="placeholder"), _request({"messages": [_user(f"say {text}")]})
            attempt = _attempt(scanner, asked)
            sent = (scanner.mutate(asked, attempt) or asked).messages[0]["content"]
            rewriter = scanner.rewrite(attempt)
            assert secret not in sent
            assert rewriter is not None
            plain = rewriter.answer({"choices": [{"message": {"content": sent}}]})
            assert plain["choices"][0]["message"]["content"] == f"say {text}"
            pieces: list[Any] = [event for sign in sent for event in rewriter.event(_event(sign))]
            streamed = [*pieces, *rewriter.end()]
            assert "".join(event["choices"][0]["delta"]["content"] for event in streamed) == f"say {text}"

    # Time

    @pytest.mark.parametrize("shape", [*range(24)])
    def test_twice_the_text_takes_twice_the_time(self, shape: int) -> None:
        scanner = self.made()
        grown = [*GROWTH, *(lambda n, text=text: (text + " ") * (n // 8) for text, _ in self.secrets)]
        if shape >= len(grown):
            pytest.skip("there are no more texts to try")
        for _ in range(3):
            ratios = _ratios(scanner.find, grown[shape])
            if min(ratios) <= RATIO:
                return
        pytest.fail(f"twice the text takes {ratios} times as long: {grown[shape](3)!r}")


GROWTH: Sequence[Callable[[int], str]] = (
    lambda n: "a" * n,
    lambda n: "0" * n,
    lambda n: "-" * n,
    lambda n: " " * n + "x",
    lambda n: "@" * n,
    lambda n: "a@" * n,
    lambda n: "\n" * n,
    lambda n: "/" * n,
    lambda n: "(" * n,
    lambda n: "x " * n,
    lambda n: "A=" * n,
    lambda n: '{"a":' * n,
    lambda n: "+49 " * n,
    lambda n: "1.2-" * n,
    lambda n: "aA1_" * n,
    lambda n: "password" * n,
    lambda n: "key=" * n,
    lambda n: "\u200b" * n,
    lambda n: "é" * n,
)
"""Texts that grow with a number, each of a kind on which careless patterns take the square of the time."""


def carried(text: str) -> dict[str, dict[str, Any]]:
    """Bodies that hold a text, by the place where they do: all that a request has."""
    data = base64.b64encode(text.encode()).decode()
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": json.dumps({"a": text})}}
    parts = [{"type": "text", "text": text}]
    return {
        "a message": {"messages": [_user(text)]},
        "a system message": {"messages": [{"role": "system", "content": text}, _user("x")]},
        "a part of a message": {"messages": [_user(parts)]},
        "a tool result": {"messages": [_user("x"), {"role": "tool", "tool_call_id": "c", "content": text}]},
        "a tool call's arguments": {"messages": [{"role": "assistant", "content": None, "tool_calls": [call]}]},
        "a name": {"messages": [_user("x") | {"name": text}]},
        "a reasoning field": {"messages": [{"role": "assistant", "content": "x", "reasoning_content": text}]},
        "an unknown field": {"messages": [_user("x") | {"unheard_of": {"deep": [text]}}]},
        "an image's alt text": {"messages": [_user([{"type": "image_url", "image_url": {"url": "u", "alt": text}}])]},
        "a data URL": {"messages": [_user([{"type": "file", "file": {"file_data": f"data:x/y;base64,{data}"}}])]},
        "a tool's description": {"tools": [{"type": "function", "function": {"name": "f", "description": text}}]},
        "metadata": {"metadata": {"k": text}},
        "a key of metadata": {"metadata": {text: "v"}},
        "user": {"user": text},
        "stop": {"stop": [text]},
        "a prediction": {"prediction": {"type": "content", "content": text}},
    }


def _user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def _event(text: str) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]}


def _request(body: Mapping[str, Any]) -> ChatRequest:
    return parse_chat({"messages": [_user("Hello")], **body}, request_id="contract")


def _classified(scanner: TextScanner, request: ChatRequest) -> Features:
    features = Features()
    return asyncio.run(scanner.classify(request, features)) or features


def _attempt(scanner: TextScanner, request: ChatRequest) -> Attempt:
    candidate = Candidate(provider="contract", model=Model(id="m"))
    return Attempt(request=request, features=_classified(scanner, request), candidate=candidate, number=1, started=0.0)


def _pieces(secret: str) -> list[str]:
    """Stretches of a secret that no finding may show: all but its first few characters, which may be public."""
    return [secret[at : at + 12] for at in range(16, len(secret) - 12, 6)]


def _ratios(find: Callable[[str], Iterable[Match]], grown: Callable[[int], str]) -> list[float]:
    """How much more CPU each doubling takes, from 16,000 characters on; nothing is compared below the noise.

    The sizes take turns, so that what slows the machine down for a while slows all of them down.
    """
    size = 16_000 // max(1, len(grown(8)) // 8)
    texts = [grown(size * factor) for factor in (1, 2, 4)]
    times = [60.0] * len(texts)
    for _ in range(4):
        for index, text in enumerate(texts):
            began = thread_time()
            list(find(text))
            times[index] = min(times[index], thread_time() - began)
    return [later / sooner for sooner, later in pairwise(max(time, NOISE_SECONDS) for time in times)]
