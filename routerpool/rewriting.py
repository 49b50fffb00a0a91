"""An answer on its way to the client, transformed: by plugins' rewriters and by the two switches of the config."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from routerpool.hooks import Hooks, Impl, locate
from routerpool.hookspecs import Rewriter
from routerpool.sse import event_data, split_events
from routerpool.wire import event_bytes, loads

__all__ = ["Disclosure", "Rewriting"]


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

    One that fails is left out from there on; that of a required plugin ends the answer instead (a RequestError).
    """

    def __init__(self, hooks: Hooks, rewriters: Sequence[tuple[Impl | None, Rewriter]]) -> None:
        self._hooks = hooks
        self._rewriters = list(rewriters)

    def block(self, block: bytes) -> bytes:
        """A block of whole events, rewritten; comments stay where they are."""
        out = []
        for raw in split_events(block):
            data = event_data(raw)
            if data is None:
                out.append(raw)
                continue
            out += [event_bytes(event) for event in self._through([loads(data)], 0)]
        return b"".join(out)

    def end(self) -> bytes:
        """What the transformers still held back."""
        out: list[dict[str, Any]] = []
        for index, (impl, rewriter) in enumerate(tuple(self._rewriters)):
            held = self._guarded(impl, rewriter, "end")
            out += self._through(held or [], index + 1)
        return b"".join(event_bytes(event) for event in out)

    def answer(self, body: dict[str, Any]) -> dict[str, Any]:
        """A plain answer, rewritten."""
        for impl, rewriter in tuple(self._rewriters):
            try:
                made = rewriter.answer(body)
                if not isinstance(made, dict):
                    raise TypeError("answer")
                body = made
            except Exception as error:
                self._drop(impl, rewriter, error)
        return body

    def _through(self, events: list[dict[str, Any]], first: int) -> list[dict[str, Any]]:
        for impl, rewriter in self._rewriters[first:]:
            passed: list[dict[str, Any]] = []
            for event in events:
                made = self._guarded(impl, rewriter, "event", event)
                passed += [event] if made is None else made
            events = passed
        return events

    def _guarded(
        self, impl: Impl | None, rewriter: Rewriter, name: str, *args: dict[str, Any]
    ) -> list[dict[str, Any]] | None:
        try:
            made = list(getattr(rewriter, name)(*args))
            if not all(isinstance(event, dict) for event in made):
                raise TypeError(name)
        except Exception as error:
            self._drop(impl, rewriter, error)
            return None
        return made

    def _drop(self, impl: Impl | None, rewriter: Rewriter, error: Exception) -> None:
        self._rewriters = [pair for pair in self._rewriters if pair[1] is not rewriter]
        if impl is None:
            raise error
        self._hooks.fault(impl, locate(error))
