"""What only Ollama's own API can do: how long a model stays loaded, with how much context, and its other options.

It can be said of the server and of a model in YAML, and by a request in its body; the narrower one wins.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from attrs import field, frozen

from routerpool import ModelData, ProviderConfig
from routerpool.config import Pattern, Range

__all__ = ["OllamaConfig", "OllamaModel", "Wishes"]

DURATION = Pattern(r"-?(?:[0-9]+(?:\.[0-9]+)?(?:ns|us|µs|ms|s|m|h))+", "a time such as 30m or 1h30m, or seconds")

KeepAlive = Annotated[str, DURATION] | int | float
NumCtx = Annotated[int, Range(least=1, most=1 << 30)]

KEEP_ALIVE = "how long a model stays loaded after an answer: 30m, or seconds; 0 is not at all, -1 for ever"
NUM_CTX = "tokens of context that a model is loaded with"
OPTIONS = "other options of Ollama's own for every request, such as num_gpu or repeat_penalty"


@frozen(kw_only=True)
class OllamaModel(ModelData):
    """A model as YAML tells it, and how it is loaded."""

    keep_alive: KeepAlive | None = field(default=None, metadata={"help": KEEP_ALIVE})
    num_ctx: NumCtx | None = field(default=None, metadata={"help": NUM_CTX})
    options: dict[str, Any] = field(factory=dict, metadata={"help": OPTIONS})


@frozen(kw_only=True)
class OllamaConfig(ProviderConfig):
    """The section of an Ollama server; `keep_alive`, `num_ctx` and `options` hold for models that say nothing else."""

    models: tuple[str | OllamaModel, ...] | None = field(
        default=None, metadata={"help": "only these models, by id or as mappings"}
    )
    keep_alive: KeepAlive | None = field(default=None, metadata={"help": KEEP_ALIVE})
    num_ctx: NumCtx | None = field(default=None, metadata={"help": NUM_CTX})
    options: dict[str, Any] = field(factory=dict, metadata={"help": OPTIONS})


@frozen(kw_only=True)
class Wishes:
    """`keep_alive` is a time or a number of seconds, None where nothing is wished; `options` are Ollama's own."""

    keep_alive: Any = None
    options: Mapping[str, Any] = field(factory=dict)

    def __bool__(self) -> bool:
        return self.keep_alive is not None or bool(self.options)

    @classmethod
    def of(cls, section: OllamaConfig | OllamaModel) -> Wishes:
        """Those of a section in YAML."""
        window = {} if section.num_ctx is None else {"num_ctx": section.num_ctx}
        return cls(keep_alive=section.keep_alive, options={**section.options, **window})

    @classmethod
    def asked_by(cls, params: Mapping[str, Any]) -> Wishes:
        """Those of a request, from fields that Ollama's OpenAI form does not know."""
        options, window = params.get("options"), params.get("num_ctx")
        options = dict(options) if isinstance(options, dict) else {}
        if window is not None:
            options["num_ctx"] = window
        return cls(keep_alive=params.get("keep_alive"), options=options)

    def over(self, wider: Wishes) -> Wishes:
        """These wishes, and where they say nothing those of what is around them."""
        kept = wider.keep_alive if self.keep_alive is None else self.keep_alive
        return Wishes(keep_alive=kept, options={**wider.options, **self.options})

    @property
    def window(self) -> int | None:
        """The context that a model is loaded with, where it is told."""
        window = self.options.get("num_ctx")
        return window if type(window) is int and window > 0 else None
