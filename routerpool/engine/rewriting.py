"""An answer on its way to the client, transformed: by plugins' rewriters and by the two switches of the config."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from routerpool.hooks.calling import Hooks, Impl
from routerpool.hooks.isolation import locate, ours_to_end
from routerpool.protocols import Rewriter
from routerpool.wire.json import EVENT_VALUES, dumps, event_bytes, loads_answer
from routerpool.wire.sse import event_data, split_events

__all__ = ["Disclosure", "Rewriting"]

T = TypeVar("T")


class Disclosure:
    """`response_model: requested` and `transparency: body`: what the client is told inside the answer itself."""

    def __init__(self, model: str | None, router: Mapping[str, Any] | None) -> None:
        self.model = model
        self.router = router

    def event(self, event: dict[str, Any]) -> Iterable[dict[str, Any]]:
        """Name the model that was asked for; add the `router` object to the first event."""
        yield self.answer(event)
        self.router = None

    def end(self) -> Iterable[dict[str, Any]]:
        """Nothing is held back."""
        return ()

    def answer(self, body: dict[str, Any]) -> dict[str, Any]:
        """The same for a plain answer."""
        if self.model is not None:
            body["model"] = self.model
        if self.router is not None:
            body["router"] = dict(self.router)
        return body


class Rewriting:
    """The transformers of one attempt's answer, in order, each isolated from the others.

    Between two of them everything is bytes, so that one which fails, even in the middle of changing an event, has
    changed nothing. It is left out from there on; that of a required plugin ends the answer (a RequestError).
    """

    def __init__(self, hooks: Hooks, rewriters: Sequence[tuple[Impl | None, Rewriter]]) -> None:
        self._hooks = hooks
        self._rewriters: list[tuple[Impl | None, Rewriter] | None] = list(rewriters)

    def block(self, block: bytes) -> bytes:
        """A block of whole events, rewritten; comments stay where they are."""
        return b"".join(self._through(split_events(block), 0))

    def end(self) -> bytes:
        """What the transformers still held back."""
        out: list[bytes] = []
        for index in range(len(self._rewriters)):
            out += self._through(self._events(index, "end") or (), index + 1)
        return b"".join(out)

    def answer(self, body: bytes) -> bytes:
        """A plain answer, rewritten."""
        for index in range(len(self._rewriters)):
            made = self._made(index, partial(_answered, loads_answer(body)))
            body = body if made is None else made
        return body

    def _through(self, events: Iterable[bytes], first: int) -> Iterable[bytes]:
        for index in range(first, len(self._rewriters)):
            passed: list[bytes] = []
            for raw in events:
                data = event_data(raw)
                event = loads_answer(data, EVENT_VALUES) if data else None
                made = None
                if isinstance(event, dict) and "choices" in event:  # what a provider tells beside is left alone
                    made = self._events(index, "event", event)
                passed += [raw] if made is None else made
            events = passed
        return events

    def _events(self, index: int, name: str, *args: dict[str, Any]) -> list[bytes] | None:
        return self._made(
            index, lambda rewriter: [event_bytes(_mapping(event)) for event in getattr(rewriter, name)(*args)]
        )

    def _made(self, index: int, make: Callable[[Rewriter], T]) -> T | None:
        """What this transformer makes; None when it failed, now or before."""
        pair = self._rewriters[index]
        if pair is None:
            return None
        impl, rewriter = pair
        try:
            return make(rewriter)
        except BaseException as error:
            if impl is None or ours_to_end(error):
                raise
            self._rewriters[index] = None
            self._hooks.fault(impl, locate(error))
            return None


def _answered(body: dict[str, Any], rewriter: Rewriter) -> bytes:
    return dumps(_mapping(rewriter.answer(body)))


def _mapping(made: Any) -> dict[str, Any]:
    if not isinstance(made, dict):
        raise TypeError(f"{type(made).__name__} is no event and no answer")
    return made
