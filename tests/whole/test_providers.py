"""All provider plugins together: each holds its own error forms, and what is known of it has a date and a source."""

from __future__ import annotations

import ast
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from routerpool.providers.data import ProviderData, load_data
from routerpool.providers.openai import OpenAIProvider

from ..support.shelf import ours

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = sorted(path.parent for path in ROOT.glob("plugins/providers/*/pyproject.toml"))
SIMULATED = {"sandbox"}
"""Has no wire, and so no errors of its own."""

CLASSES = {name: plugin for name, plugin in ours("providers").items() if issubclass(plugin, OpenAIProvider)}
WITH_DATA = [name for name, plugin in CLASSES.items() if plugin.data]


def data_of(name: str) -> ProviderData:
    plugin = CLASSES[name]
    return load_data(plugin, plugin.data or "")


def contracts(folder: Path) -> list[ast.ClassDef]:
    """The classes of a plugin's tests that take the contract on."""
    trees = [ast.parse(path.read_text()) for path in folder.glob("tests/test_*.py")]
    classes = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    known = {"ProviderContract"}
    for _ in classes:  # one may derive from another
        known |= {c.name for c in classes if any(isinstance(b, ast.Name) and b.id in known for b in c.bases)}
    return [c for c in classes if c.name in known]


def forms(contract: ast.ClassDef) -> bool:
    """Whether it holds a form of its own."""
    return any(
        isinstance(node, (ast.Assign, ast.AnnAssign))
        and any(isinstance(t, ast.Name) and t.id == "forms" for t in ast.walk(node))
        and not (isinstance(node.value, ast.Tuple) and not node.value.elts)
        for node in contract.body
    )


def test_there_are_as_many_as_promised() -> None:
    promised = (
        "anthropic cerebras cloudflare deepseek fireworks github google groq huggingface kilo litellm_sdk llamacpp "
        "lmstudio mistral nvidia ollama ollama_cloud openai openai_compatible opencode openrouter sambanova sandbox "
        "together vercel vllm"
    )
    assert [folder.name for folder in FOLDERS] == promised.split()


@pytest.mark.parametrize("folder", [f for f in FOLDERS if f.name not in SIMULATED], ids=lambda folder: folder.name)
def test_each_takes_the_contract_on_with_forms_of_its_own(folder: Path) -> None:
    found = contracts(folder)
    assert found, "no class of its tests derives from ProviderContract"
    assert any(forms(contract) for contract in found), "no contract of its tests has `forms`"


@pytest.mark.parametrize("name", WITH_DATA)
def test_what_is_known_of_each_has_a_date_a_source_and_where_to_ask(name: str) -> None:
    data = data_of(name)
    assert date.fromisoformat(data.date) <= datetime.now(UTC).date()
    assert data.source.strip()
    assert data.title
    assert data.base_url
    if data.api_key_env and not data.local:
        assert data.key_page.startswith("https://")
    for pool in data.pools:
        assert pool.limits or pool.note, f"pool {pool.name} says nothing"


@pytest.mark.parametrize("name", WITH_DATA)
def test_no_roster_names_a_model_twice_or_a_pool_that_holds_none(name: str) -> None:
    data = data_of(name)
    ids = [model.id for model in data.models]
    assert len(set(ids)) == len(ids)
    assert all(pattern.pool in {pool.name for pool in data.pools} for pattern in data.errors if pattern.pool)
    for pool in data.pools:
        assert not ids or any(pool.holds(model) for model in ids) or "*" in "".join(pool.models), pool.name


@pytest.mark.parametrize("name", WITH_DATA)
def test_a_free_model_is_free_by_what_is_told_of_the_free_tier(name: str) -> None:
    data = data_of(name)
    if data.free or any(model.free for model in data.models):
        assert data.free_tier, "it has free models and no word on how far they go"
