"""A stranger's plugin: a folder outside the repository, installed, named in YAML, answering."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path

import pytest

from routerpool.testing.process import served

from ..support.shelf import install

PYPROJECT = """
[build-system]
requires = ["flit_core>=3.11,<4"]
build-backend = "flit_core.buildapi"

[project]
name = "stranger-parrot"
version = "1.2.3"
description = "Repeats what it is told"
dependencies = ["routerpool"]

[project.entry-points.routerpool]
parrot = "stranger_parrot:Parrot"
"""

MODULE = '''
"""A provider of three lines, over the address that the user gives."""

from routerpool import Model, OpenAIProvider


class Parrot(OpenAIProvider):
    title = "Parrot"
    local = True
    models = (Model(id="grey", local=True, free=True),)
'''


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder with the plugin installed in it, as pip would install it."""
    source, site = tmp_path / "stranger-parrot", tmp_path / "site"
    source.mkdir()
    (source / "pyproject.toml").write_text(PYPROJECT)
    (source / "stranger_parrot.py").write_text(MODULE)
    install(source, site)
    return site


def test_a_plugin_from_outside_is_installed_enabled_and_answers(
    site: Path, tmp_path: Path, upstream: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    base_url = upstream.base_url("parrot")  # type: ignore[attr-defined]
    (tmp_path / "routerpool.yaml").write_text(f'plugins:\n  parrot: {{base_url: "{base_url}"}}\n')
    monkeypatch.setenv("PYTHONPATH", str(site))
    with served(folder=tmp_path) as url:
        body = {"model": "parrot/grey", "messages": [{"role": "user", "content": "Hello"}]}
        request = urllib.request.Request(
            f"{url}/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=10) as response:
            answer = json.load(response)
            assert response.headers["X-Router-Provider"] == "parrot"
        assert answer["choices"][0]["message"]["content"] == "Hello from parrot: one two three."
        with urllib.request.urlopen(f"{url}/v1/router/plugins", timeout=10) as response:
            (plugin,) = json.load(response)["plugins"]
    assert (plugin["name"], plugin["distribution"], plugin["version"]) == ("parrot", "stranger-parrot", "1.2.3")
    assert "register_providers" in plugin["hooks"]
