"""The pages under contrib/docs are true: made of the code as it is, and every link in them leads somewhere."""

from __future__ import annotations

import asyncio
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

from routerpool import hookimpl, hookspecs
from routerpool.errors import PluginError
from routerpool.hooks.calling import HOOKS, Hooks
from routerpool.hooks.loading import Instance

ROOT = Path(__file__).resolve().parents[2]
WRITE = ROOT / "contrib" / "pages" / "write.py"
DOCS = ROOT / "contrib" / "docs"


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


# Links


def _prose(page: Path) -> str:
    return re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)


def _anchors(page: Path) -> list[str]:
    headings = re.findall(r"^#+ (.+)$", _prose(page), re.MULTILINE)
    return [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]


def _links() -> Iterator[tuple[Path, str]]:
    for page in [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]:
        yield from ((page, link) for link in re.findall(r"\]\(([^)\s]+)\)", _prose(page)) if "://" not in link)


def test_every_link_leads_somewhere() -> None:
    links = set(_links())
    assert len(links) > 200
    for page, link in links:
        path, _, anchor = link.partition("#")
        aim = (page.parent / path).resolve() if path else page
        assert aim.exists(), f"{page.name} links to {link}"
        assert not anchor or anchor in _anchors(aim), f"{page.name} links to {link}"


def test_no_two_headings_of_a_page_have_one_address() -> None:
    for page in DOCS.rglob("*.md"):
        assert sorted(_anchors(page)) == sorted(set(_anchors(page))), page
