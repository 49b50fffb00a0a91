"""All provider plugins together: each holds its own error forms, and what is known of it has a date and a source."""

from __future__ import annotations

import ast
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from routerpool import ProviderConfig
from routerpool.providers.data import ProviderData, load_data
from routerpool.providers.openai import OpenAIProvider
from routerpool.testing import read_forms

from ..support.shelf import ours

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = sorted(path.parent for path in ROOT.glob("plugins/providers/*/pyproject.toml"))
WITHOUT_A_WIRE = {"sandbox", "smollm"}
"""The one has none, the other that of llamacpp: neither has errors of its own."""

WIRED = [folder for folder in FOLDERS if folder.name not in WITHOUT_A_WIRE]
FORMS = [path for folder in WIRED for path in sorted(folder.glob("tests/*forms.yaml"))]

CLASSES = {name: plugin for name, plugin in ours("providers").items() if issubclass(plugin, OpenAIProvider)}
LAB = OpenAIProvider(ProviderConfig(base_url="https://lab.example/v1"), name="lab")
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


def named(contract: ast.ClassDef) -> set[str]:
    """The files that hold a contract's forms, as far as it names them itself."""
    for node in contract.body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "forms" for t in node.targets):
            return {n.value for n in ast.walk(node.value) if isinstance(n, ast.Constant) and isinstance(n.value, str)}
    return set()


def mentioned(folder: Path) -> set[str]:
    """Every file of forms that a plugin's tests read."""
    constants = (node for path in folder.glob("tests/test_*.py") for node in ast.walk(ast.parse(path.read_text())))
    return {n.value for n in constants if isinstance(n, ast.Constant) and str(n.value).endswith("forms.yaml")}


def test_there_are_as_many_as_promised() -> None:
    promised = (
        "anthropic cerebras cloudflare deepseek fireworks github google groq huggingface kilo litellm_sdk llamacpp "
        "lmstudio mistral nvidia ollama ollama_cloud openai openai_compatible opencode openrouter sambanova sandbox "
        "smollm together vercel vllm"
    )
    assert [folder.name for folder in FOLDERS] == promised.split()


@pytest.mark.parametrize("folder", WIRED, ids=lambda folder: folder.name)
def test_each_takes_the_contract_on_with_forms_of_its_own(folder: Path) -> None:
    assert contracts(folder), "no class of its tests derives from ProviderContract"
    there = {path.name for path in folder.glob("tests/*.yaml")}
    assert "forms.yaml" in there, "its own errors stand in tests/forms.yaml"
    assert there == mentioned(folder), "a file of forms is there, or named, in vain"
    by_contracts = set().union(*(named(contract) for contract in contracts(folder)))
    assert "forms.yaml" in by_contracts, "no contract of its tests walks them"


@pytest.mark.parametrize("path", FORMS, ids=lambda path: f"{path.parts[-3]}-{path.name}")
def test_each_form_says_where_it_is_known_from_and_no_day_that_is_still_to_come(path: Path) -> None:
    for form in read_forms(path):
        assert len(form.source) > 4, form.name
        assert not form.date or date.fromisoformat(form.date) <= datetime.now(UTC).date(), form.name


@pytest.mark.parametrize("name", CLASSES)
def test_each_stands_on_what_the_class_above_it_offers_and_on_nothing_inside(name: str) -> None:
    folder = ROOT / "plugins" / "providers" / name
    trees = [ast.parse(path.read_text()) for path in folder.rglob("*.py") if "tests" not in path.parts]
    inner = {word for word in {*vars(OpenAIProvider), *vars(LAB)} if word.startswith("_") and not word.endswith("__")}
    reached = {node.attr for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    defined = {node.name for tree in trees for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}

    assert {"_roster", "_chat"} < inner
    assert inner.isdisjoint(reached | defined)


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
