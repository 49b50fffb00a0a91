"""Plugins made for a test: distributions in a folder of their own, found as pip's are."""

from __future__ import annotations

import shutil
import subprocess
import sys
import textwrap
import uuid
from importlib import metadata
from pathlib import Path

import pytest
from attrs import define

from routerpool.hooks.loading import installed

ROOT = Path(__file__).resolve().parents[2]
HEAD = "from attrs import frozen, field\nfrom routerpool import *\nimport asyncio, threading, click\n"


@define
class Shelf:
    """A folder on sys.path that takes plugins."""

    folder: Path

    @classmethod
    def alone(cls, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Shelf:
        """A shelf whose plugins are the only ones installed."""
        folder.mkdir(parents=True, exist_ok=True)
        monkeypatch.syspath_prepend(str(folder))
        monkeypatch.setattr(
            "routerpool.hooks.loading.distributions", lambda: metadata.distributions(path=[str(folder)])
        )
        return cls(folder)

    def put(self, name: str, source: str, *, summary: str = "", distribution: str | None = None) -> None:
        """Install a plugin: the body of its class, or with `class Plugin` in it, its module."""
        module = f"plugin_{uuid.uuid4().hex}"
        body = textwrap.dedent(source).strip()
        if "class Plugin" not in body:
            body = "class Plugin:\n" + textwrap.indent(body, "    ")
        (self.folder / f"{module}.py").write_text(HEAD + body + "\n", encoding="utf-8")
        distribution = distribution or f"routerpool-{name.replace('_', '-')}"
        info = self.folder / f"{distribution.replace('-', '_')}-1.0.dist-info"
        info.mkdir()
        text = f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\nSummary: {summary}\n"
        (info / "METADATA").write_text(text, encoding="utf-8")
        (info / "entry_points.txt").write_text(f"[routerpool]\n{name} = {module}:Plugin\n", encoding="utf-8")
        for kept in list(sys.path_importer_cache):
            if kept == str(self.folder):
                del sys.path_importer_cache[kept]


PROVIDER = """
class Plugin(OpenAIProvider):
    title = "{title}"
    base_url = "https://{name}.example/v1"
    api_key_env = "{variable}"
    models = ("m1",)
"""


def provider(name: str, variable: str, title: str = "") -> str:
    """The source of a provider that wants a key."""
    return PROVIDER.format(name=name, variable=variable, title=title or name)


def install(source: Path, site: Path) -> None:
    """Install a package's folder into another one, as pip would."""
    target = ["install", "--quiet", "--no-deps", "--no-build-isolation", "--target", str(site), str(source)]
    uv = shutil.which("uv")
    installer = [uv, "pip", *target, "--python", sys.executable] if uv else [sys.executable, "-m", "pip", *target]
    subprocess.run(installer, check=True, cwd=source.parent)


def ours(family: str) -> dict[str, type]:
    """The plugin classes of a family of this repository, by name."""
    folders = {path.parent.name for path in (ROOT / "plugins" / family).glob("*/pyproject.toml")}
    return {
        name: offer.load()
        for name, offer in sorted(installed().items())
        if offer.distribution.removeprefix("routerpool-").replace("-", "_") in folders
    }
