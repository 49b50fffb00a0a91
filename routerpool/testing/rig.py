"""A running router around one provider plugin, as the contract's tests use it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import define, field

from routerpool.errors import AnswerError, RequestError
from routerpool.protocols import Provider
from routerpool.router import Router
from routerpool.testing.routers import Witness
from routerpool.testing.upstream import Upstream
from routerpool.types import Candidate

__all__ = ["TOOL", "Got", "Rig"]

TOOL = {
    "type": "function",
    "function": {
        "name": "forecast",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


@define
class Got:
    """What a client got: the whole answer or the chunks of one, and the error that ended it, if one did."""

    answer: dict[str, Any] | None = None
    chunks: list[dict[str, Any]] = field(factory=list)
    error: Exception | None = None

    @property
    def choices(self) -> list[dict[str, Any]]:
        """Every choice of the answer or of its chunks, with its `message` under the name of a chunk's `delta`."""
        plain = [{**choice, "delta": choice["message"]} for choice in (self.answer or {}).get("choices", ())]
        return plain + [choice for chunk in self.chunks for choice in chunk["choices"]]

    @property
    def text(self) -> str:
        """The assistant's text."""
        return "".join(choice["delta"].get("content") or "" for choice in self.choices)

    @property
    def finish(self) -> str | None:
        """Why it ended, as the answer says."""
        return next((c["finish_reason"] for c in reversed(self.choices) if c.get("finish_reason")), None)

    @property
    def calls(self) -> tuple[str, str]:
        """The name and the arguments of the one tool call, its fragments put together."""
        parts = [call["function"] for choice in self.choices for call in choice["delta"].get("tool_calls") or ()]
        return "".join(p.get("name") or "" for p in parts), "".join(p.get("arguments") or "" for p in parts)


@define
class Rig:
    """A running router whose one provider is the plugin, and the upstream that the plugin talks to."""

    name: str
    up: Upstream
    router: Router
    witness: Witness
    keys: Mapping[str, str]

    @property
    def provider(self) -> Provider:
        """The plugin."""
        return self.router.providers[self.name]

    @property
    def candidate(self) -> Candidate:
        """Its first model."""
        return self.router.catalog.snapshot.candidates[0]

    async def ask(self, *faults: str, stream: bool = False, **more: Any) -> Got:
        """Send a chat request for the plugin's first model; the upstream answers with these faults."""
        self.up.script(self.name, *faults)
        body = {"model": self.candidate.key, "messages": [{"role": "user", "content": "Say hello."}], **more}
        return await self._got(body, stream=stream)

    async def ask_real(self, messages: list[dict[str, Any]], *, stream: bool = False, **more: Any) -> Got:
        """Send these messages to the plugin's first model that can do what they need."""
        needs = "tools" if "tools" in more else "text"
        able = [c for c in self.router.catalog.snapshot.candidates if c.model.capabilities.get(needs, True)]
        body = {"model": able[0].key, "messages": messages, "max_tokens": 500, **more}
        return await self._got(body, stream=stream)

    async def _got(self, body: dict[str, Any], *, stream: bool) -> Got:
        got = Got()
        try:
            if stream:
                async for chunk in self.router.stream(body):
                    got.chunks.append(chunk)
            else:
                got.answer = await self.router.chat(body)
        except (RequestError, AnswerError) as error:
            got.error = error
        return got
