"""The pages are true: made of the code as it is, whole in their index, and every link and test they name is there."""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from routerpool import hookimpl, hookspecs
from routerpool.errors import PluginError
from routerpool.hooks.calling import HOOKS, Hooks
from routerpool.hooks.loading import Instance

from ..support.pages import DOCS, PAGES, README, ROOT, anchors, links

WRITE = ROOT / "contrib" / "pages" / "write.py"


def _manual() -> ModuleType:
    spec = importlib.util.spec_from_file_location("manual", WRITE.parent / "manual.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


MANUAL = _manual()


def test_the_pages_and_the_readmes_lists_are_what_the_code_says() -> None:
    done = subprocess.run([sys.executable, str(WRITE), "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_hook_has_its_page() -> None:
    assert {path.stem for path in (DOCS / "hooks").glob("*.md")} == {"README", *HOOKS}


@pytest.mark.parametrize("hook", HOOKS)
def test_a_page_holds_all_that_the_spec_says(hook: str) -> None:
    page, spec = (DOCS / "hooks" / f"{hook}.md").read_text(), MANUAL.MANUAL[hook]
    assert f"```python\n{spec.signature}\n```" in page
    assert f"```python\n{spec.example}\n```" in page
    assert all(f"| `{name}` |" in page for name in inspect.signature(getattr(hookspecs, hook)).parameters)
    for fact, words in spec.facts.items():
        assert words[1:] in page, fact


@pytest.mark.parametrize("hook", HOOKS)
def test_a_budget_is_a_number_with_a_unit(hook: str) -> None:
    assert re.match(r"\d+ (ns|µs|ms|s)\b", MANUAL.MANUAL[hook].facts["Budget"])


@pytest.mark.parametrize("fact", ["When", "Order", "Budget", "Example"])
def test_a_spec_that_lacks_one_of_its_facts_is_named(fact: str) -> None:
    doc = inspect.cleandoc(hookspecs.veto.__doc__ or "")

    def veto() -> None: ...

    veto.__doc__ = doc
    assert MANUAL.read("veto", veto).purpose
    less = re.sub(rf"^{fact}: .*\n", "", doc, flags=re.MULTILINE)
    veto.__doc__ = doc.partition("Example::")[0] if fact == "Example" else less
    with pytest.raises(ValueError, match=f"veto does not say its {fact}"):
        MANUAL.read("veto", veto)


def test_a_fact_of_two_lines_is_named() -> None:
    def veto() -> None: ...

    veto.__doc__ = (hookspecs.veto.__doc__ or "").replace("Order: ", "Order: one after the other,\n    ")
    with pytest.raises(ValueError, match="each of them is one line"):
        MANUAL.read("veto", veto)


def _asked(hook: str, method: Any) -> tuple[list[Any], Instance]:
    """What the core gets of a plugin with this one hook, and how the plugin fared."""
    plugin = type("Plugin", (), {hook: hookimpl(method)})()
    instance = Instance("p", plugin, "p")
    hooks = Hooks.of([instance])
    if MANUAL.MANUAL[hook].form == "`def`":
        return hooks.gather(hook), instance
    arguments = [None] * len(MANUAL.MANUAL[hook].arguments)
    return asyncio.run(hooks.collect(hook, *arguments)), instance


@pytest.mark.parametrize("hook", [hook for hook in HOOKS if MANUAL.MANUAL[hook].form == "`def` or `async def`"])
def test_a_hook_that_may_be_async_is_awaited(hook: str) -> None:
    awaited = []

    async def method(self: object) -> None:
        await asyncio.sleep(0)
        awaited.append(hook)

    _, instance = _asked(hook, method)
    assert awaited == [hook]
    assert instance.faults == 0


@pytest.mark.parametrize("hook", [hook for hook in HOOKS if MANUAL.MANUAL[hook].form == "`def`"])
def test_a_hook_that_may_not_be_async_says_so(hook: str) -> None:
    async def method(self: object) -> None:
        """Never awaited: the warning of that is the test's own."""

    with pytest.raises(PluginError, match=f"fails in {hook}"), pytest.warns(RuntimeWarning, match="never awaited"):
        _asked(hook, method)


# The picture of the rooms


def test_the_picture_has_every_room_above_those_that_it_stands_on(rooms: ModuleType) -> None:
    seen: set[str] = set()
    for name, below in rooms.rooms().items():
        assert below <= seen
        seen.add(name)
    folders = {path.parent.name for path in (ROOT / "routerpool").glob("*/__init__.py")}
    assert folders | {"types", "errors", "hookspecs", "router"} <= seen


def test_the_picture_leaves_out_what_follows_from_others(rooms: ModuleType) -> None:
    def edges(**below: str) -> dict[str, frozenset[str]]:
        return {name: frozenset(letters) for name, letters in below.items()}

    assert rooms.needed(edges(a="", b="a", c="ab", d="abc", e="a")) == edges(a="", b="a", c="b", d="c", e="a")


@pytest.fixture
def rooms(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(WRITE.parent))
    yield importlib.import_module("rooms")
    for name in ("rooms", "markdown"):
        del sys.modules[name]


# What pages lead to


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in links(page):
        path, _, anchor = link.partition("#")
        aim = (page.parent / path).resolve() if path else page
        assert aim.exists(), link
        assert not anchor or anchor in anchors(aim), link


def test_the_links_are_seen() -> None:
    assert sum(len(links(page)) for page in PAGES) > 200
    assert len(links(README)) > 20


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_two_headings_of_a_page_have_one_address(page: Path) -> None:
    assert sorted(anchors(page)) == sorted(set(anchors(page)))


def test_every_page_is_in_the_index() -> None:
    index = links(DOCS / "README.md")
    assert {page.name for page in DOCS.glob("*.md")} - {"README.md"} <= set(index)
    assert "hooks/README.md" in index
    lines = [line for line in (DOCS / "README.md").read_text().splitlines() if line.startswith("- ")]
    assert len(lines) == len([link for link in index if link]), "one line each"


def test_every_test_that_a_page_names_is_there() -> None:
    folders = (ROOT / name for name in ("tests", "plugins", "contrib"))
    tests = {path.name: path.read_text() for folder in folders for path in folder.rglob("test_*.py")}
    named = {name for page in PAGES for name in re.findall(r"\b(test_\w+\.py(?:::test_\w+)?)", page.read_text())}
    assert len(named) > 30
    for name in named - {"test_shortest.py", "test_terse.py"}:  # the tutorial's own
        file, _, function = name.partition("::")
        assert f"def {function}(" in tests[file] if function else file in tests, name


# What is tolerated


TOLERANCES = yaml.safe_load((ROOT / "tests" / "whole" / "tolerances.yaml").read_text())


def test_every_tolerance_is_told_once_and_by_whom() -> None:
    kinds = [row["kind"] for row in TOLERANCES]
    assert sorted(kinds) == sorted(set(kinds))
    for row in TOLERANCES:
        assert set(row) == {"kind", "from", "tolerated", "test"}, row
        assert row["from"] in ("provider", "client", "operator"), row["kind"]
        assert row["tolerated"].endswith("."), row["kind"]


@pytest.mark.parametrize("row", TOLERANCES, ids=lambda row: row["kind"])
def test_the_test_of_a_tolerance_is_there(row: dict[str, str]) -> None:
    path, _, name = row["test"].partition("::")
    assert re.search(rf"^(?:async )?def {name}\(", (ROOT / path).read_text(), re.MULTILINE), row["test"]
