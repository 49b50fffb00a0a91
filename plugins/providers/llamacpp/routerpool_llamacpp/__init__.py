"""A GGUF file, answered by llama.cpp in a process of its own, or by a llama-server that runs already.

    plugins:
      llamacpp: {model: ~/models/qwen3-4b-q4_k_m.gguf}
      box: {use: llamacpp, base_url: "http://192.168.1.20:8080/v1"}

A `model` needs the wheel of llama.cpp: pip install "routerpool-llamacpp[engine]". The engine starts with the router,
on a free port of 127.0.0.1 and behind a key that only this process knows, and ends with it. It runs in a process of
its own, since loading holds up all of Python and a crash must not end the router: an engine that dies is started again.

Without a configuration, `$ROUTERPOOL_GGUF` names the file; else one is looked for in the working directory and in
`~/models`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from attrs import evolve, field, frozen

from routerpool import Detected, Level, Model, OpenAIProvider, PluginError, Probe, ProviderConfig, Report, hookimpl
from routerpool.config import Range
from routerpool.providers import entries_of
from routerpool_llamacpp.engine import Engine

if TYPE_CHECKING:
    from routerpool import Router

__all__ = ["LlamaCpp", "LlamaCppConfig", "flaw_of"]

VARIABLE = "ROUTERPOOL_GGUF"
CURE = 'install it: pip install "routerpool-llamacpp[engine]"'


@frozen(kw_only=True)
class LlamaCppConfig(ProviderConfig):
    """The section of a llama.cpp provider: a `model` to run here, or the `base_url` of a llama-server."""

    model: Path | None = field(default=None, metadata={"help": "the GGUF file to run here"})
    context: Annotated[int, Range(least=0)] = field(
        default=8192, metadata={"help": "tokens of one request at most; 0 is what the model was trained for"}
    )
    parallel: Annotated[int, Range(least=1, most=64)] = field(
        default=1, metadata={"help": "requests answered at once; each takes memory for its context"}
    )
    threads: Annotated[int, Range(least=1, most=1024)] | None = field(
        default=None, metadata={"help": "processor threads; without it llama.cpp chooses"}
    )
    gpu_layers: Annotated[int, Range(least=0, most=10_000)] | None = field(
        default=None, metadata={"help": "layers kept on the GPU; without it as many as fit"}
    )


class LlamaCpp(OpenAIProvider):
    """One model in an engine of its own, or one llama-server on this machine or network."""

    Config: ClassVar[type[ProviderConfig]] = LlamaCppConfig
    config: LlamaCppConfig
    data: ClassVar[str | None] = "llamacpp.yaml"
    local = free = True  # at its usual address; each server has its own
    refresh_seconds: float | None = 60.0
    alias: ClassVar[str | None] = None
    """What the model is called, where that is not the file's name."""

    def __init__(self, config: LlamaCppConfig | None = None, *, name: str = "") -> None:
        config = config or LlamaCppConfig()
        if config.model is not None and config.base_url is not None:
            raise ValueError("`model` runs a file here, `base_url` names a server elsewhere; leave one of them out")
        if config.model is not None and not config.model.is_file():
            raise ValueError(f"`model`: there is no file {config.model}; give the path of a .gguf file")
        self._file = config.model
        self._engine: Engine | None = None
        self._trouble: str | None = None
        if self._file is not None and self.alias is None:
            self.models = (self._file.stem,)
        super().__init__(config, name=name)

    @property
    def single_process(self) -> str | None:
        """Why several workers cannot share it."""
        return "each would load the model into its own memory" if self._file is not None else None

    def bind(self, env: Mapping[str, str]) -> None:
        """Take the file from ROUTERPOOL_GGUF, unless the section names a file or a server, or `<NAME>_BASE_URL` one."""
        elsewhere = self.config.base_url or self.address_variable(env)
        if self.config.model is None and not elsewhere:
            named = env.get(VARIABLE)
            file = Path(named).expanduser() if named else None
            if file is None:
                self._trouble = f"no `model`, no `base_url`, and {VARIABLE} is not set"
            elif not file.is_file():
                self._trouble = f"{VARIABLE} names no file"
            else:
                self._file, self.models = file, (file.stem,)
        super().bind(env)

    def idle(self) -> str | None:
        """Idle without a model, and as long as its engine does not run."""
        if self._trouble is None and self._file is not None and self._engine is None:
            return "its engine does not run"
        return self._trouble or super().idle()

    def parse_models(self, payload: Any) -> list[Model]:
        """The models of llama-server's list, with the context that one request really gets."""
        told = {entry["id"]: entry for entry in entries_of(payload, "data")}
        return [_with_facts(model, told.get(model.id, {})) for model in super().parse_models(payload)]

    # The engine

    @hookimpl
    async def lifespan(self, router: Router) -> AsyncIterator[None]:
        """Run the engine while the router runs."""
        if self._file is None:
            yield
            return
        if find_spec("xllamacpp") is None:
            raise PluginError(f"{self.name} runs {self._file.name} with the wheel xllamacpp; {CURE}")
        engine = Engine(self.name, self._options(self._file))
        await engine.start()
        self._engine = engine
        self.use(evolve(self.settings, base_url=f"{engine.address}/v1", key=engine.key))
        try:
            yield
        finally:
            self._engine = None
            await engine.stop()

    def _options(self, file: Path) -> Mapping[str, Any]:
        config = self.config
        return {
            "model": str(file),
            "alias": self.alias or file.stem,
            "parallel": config.parallel,
            "context": config.context,
            "threads": config.threads,
            "gpu_layers": config.gpu_layers,
        }

    @hookimpl
    def status(self) -> Mapping[str, Any]:
        """The engine's process, and how often it had to be started again."""
        engine = self._engine
        return {} if engine is None else {"pid": engine.pid, "restarts": engine.restarts}

    # What is here

    @hookimpl
    def check(self, probe: Probe) -> Iterable[Report]:
        """Tell doctor what is run, or what it lacks."""
        if self._trouble is not None or self._file is None:
            yield from super().check(probe)
        elif find_spec("xllamacpp") is None:
            text = f"{self.name} cannot run {self._file.name} without the wheel xllamacpp"
            yield Report(level=Level.ERROR, text=text, cure=CURE, subject=self.name)
        elif (flaw := flaw_of(self._file)) is not None:
            text = f"{self.name} cannot run {self._file}: {flaw[0]}"
            yield Report(level=Level.ERROR, text=text, cure=flaw[1], subject=self.name)
        else:
            size = self._file.stat().st_size / 1e9
            yield Report(level=Level.OK, text=f"{self.name} runs {self._file} ({size:.1f} GB)", subject=self.name)

    @hookimpl
    def detect(self, probe: Probe) -> Iterable[Detected]:
        """Look for a GGUF file, where llama.cpp is installed; several files are a guess, and told as one."""
        engine = find_spec("xllamacpp") is not None
        named = probe.env.get(VARIABLE)
        files = [Path(named).expanduser()] if named else _files(Path(), Path(probe.env.get("HOME") or "/") / "models")
        if not files or not files[0].is_file():
            return
        others = f"; also there: {', '.join(file.name for file in files[1:4])}" if files[1:] else ""
        yield Detected(
            name=self.name,
            source=f"{VARIABLE} names {files[0].name}" if named else f"{files[0]} is a GGUF file",
            confidence=(1.0 if named else 0.6) if engine else 0.3,
            options={} if named else {"model": str(files[0].absolute())},
            environment=(VARIABLE,) if named else (),
            comment=("" if engine else f"it needs llama.cpp; {CURE}") + others,
        )


def flaw_of(file: Path) -> tuple[str, str] | None:
    """What is wrong with a file's header, and the cure; None where it begins as a model that llama.cpp reads.

    The header, by the GGUF specification: the magic, a version (2 or 3), and two counts of 8 bytes.
    """
    try:
        with file.open("rb") as opened:
            head = opened.read(HEADER_BYTES)
    except OSError as error:
        return f"it cannot be read ({error.strerror})", "let this user read it"
    if head.startswith(b"version https://git-lfs"):
        return "it is a pointer of Git LFS and not the model", "fetch the model with `git lfs pull`"
    if not head.startswith(b"GGUF"):
        return "it is no GGUF file", "download it again, or convert the model to GGUF"
    if len(head) < HEADER_BYTES:
        return "it is cut off", "download it again"
    version = int.from_bytes(head[4:8], "little")
    if version not in (2, 3):
        return f"it is GGUF of version {version}, which llama.cpp does not read", "convert the model anew"
    return None


HEADER_BYTES = 24


def _files(*folders: Path) -> list[Path]:
    """The models in these folders: no projectors of vision models, of a split model its first part."""
    found = [file for folder in folders for file in sorted(folder.glob("*.gguf"))]
    return [file for file in found if not file.name.startswith("mmproj") and _is_first(file.stem)]


def _is_first(stem: str) -> bool:
    part, of, _ = stem.rpartition("-of-")
    return not of or part.endswith("00001")


def _with_facts(model: Model, entry: Mapping[str, Any]) -> Model:
    meta, architecture = entry.get("meta"), entry.get("architecture")
    window = meta.get("n_ctx") if isinstance(meta, dict) else None
    senses = architecture.get("input_modalities") if isinstance(architecture, dict) else None
    if type(window) is int and window > 0:
        model = evolve(model, context=window)
    if isinstance(senses, list):
        told = {"vision": "image" in senses, "audio": "audio" in senses}
        model = evolve(model, capabilities={**told, **model.capabilities})
    return model
