"""The pages that people read, and the examples in them."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
DOCS = ROOT / "contrib" / "docs"
PAGES = [README, ROOT / "CHANGELOG.md", *sorted((ROOT / "contrib").rglob("*.md"))]
"""All of them."""

EXAMPLES = [page for page in PAGES if page.parent != DOCS / "hooks"]
"""Those whose examples are whole; the hooks' pages show signatures, and their examples are run with the hooks."""

FILE = re.compile(r"# ([\w/]+\.(?:toml|yaml|yml|py))\n")
"""How an example says that it is a file of its own."""


def blocks(language: str, *pages: Path) -> list[str]:
    """The examples in a language, in order, on these pages or on all."""
    return [
        text
        for page in pages or EXAMPLES
        for text in re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
    ]


def files(page: Path) -> dict[str, str]:
    """The files that a page shows whole, by their names."""
    shown = [text for language in ("toml", "yaml", "yml", "python") for text in blocks(language, page)]
    return {named[1]: text.partition("\n")[2] for text in shown if (named := FILE.match(text))}


def prose(page: Path) -> str:
    """A page without its examples."""
    return re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)


def anchors(page: Path) -> list[str]:
    """The addresses of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]


def links(page: Path) -> list[str]:
    """The links of a page that stay in the repository."""
    return [link for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)) if "://" not in link]
