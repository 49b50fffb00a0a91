"""Writes all that is made of the code: `python contrib/pages/write.py [--check]`.

The pages under `contrib/docs/`: one for each hook and their index, the values that cross hooks, all plugins with their
options, the providers, the configuration, the commands, HTTP, and what is tolerated. In the README: the list of plugins
and the picture of the rooms. On the safety page: the table of attacks. The other pages are written by hand. With
`--check` nothing is written; what is not as the code says is named, and the exit code is 1.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from attacks import attacks
from commands import commands_page
from hooks import hook_pages
from rooms import picture
from routes import http_page
from sections import configuration_page
from tolerances import compatibility_page
from values import values_page

from plugins import listed, plugins_page, providers_page

ROOT = Path(__file__).resolve().parent.parent.parent
DOCS, README = ROOT / "contrib" / "docs", ROOT / "README.md"
SAFETY = DOCS / "safety.md"
BEGIN, END = "<!-- {}:begin (made by contrib/pages/write.py, checked by a test) -->", "<!-- {}:end -->"


def made() -> Iterator[tuple[Path, str]]:
    """Every file that is made, wholly or in parts, and what it should hold."""
    for name, text in hook_pages():
        yield DOCS / "hooks" / name, text
    yield DOCS / "values.md", values_page()
    yield DOCS / "plugins.md", plugins_page()
    yield DOCS / "providers.md", providers_page()
    yield DOCS / "configuration.md", configuration_page()
    yield DOCS / "commands.md", commands_page()
    yield DOCS / "http.md", http_page()
    yield DOCS / "compatibility.md", compatibility_page()
    yield SAFETY, put(SAFETY.read_text(), "attacks", attacks())
    yield README, put(put(README.read_text(), "plugins", listed()), "rooms", picture())


def put(text: str, name: str, part: str) -> str:
    """The text with this part of it made anew; without the part's marks a ValueError."""
    begin, end = BEGIN.format(name), END.format(name)
    head, found, rest = text.partition(begin)
    _, closed, tail = rest.partition(end)
    if not (found and closed):
        raise ValueError(f"the page has no {begin} … {end}")
    return f"{head}{begin}\n{part}\n{end}{tail}"


def main() -> int:
    """Write the pages, or with --check say which are not as they should be."""
    pages = dict(made())
    stale = [path for path, text in pages.items() if not path.exists() or path.read_text() != text]
    left = sorted(set((DOCS / "hooks").glob("*.md")) - pages.keys())  # of hooks that are gone
    if "--check" in sys.argv:
        for path in [*stale, *left]:
            print(f"{path.relative_to(ROOT)} is not what the code says; run `python contrib/pages/write.py`")
        return int(bool(stale or left))
    for path in stale:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(pages[path])
    for path in left:
        path.unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main())
