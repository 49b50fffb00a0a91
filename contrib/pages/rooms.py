"""The picture of the rooms in the README: what each is for, and which others it stands on, read from the imports.

A room is a folder or a module directly under `routerpool/`. Imports that only type checkers see count too. What follows
from other edges is left out: who imports `engine` also stands on `planning`.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from graphlib import TopologicalSorter
from pathlib import Path

from markdown import WIDTH, code

__all__ = ["FEWEST_LINES", "needed", "picture", "rooms"]

CORE = Path(__file__).resolve().parent.parent.parent / "routerpool"
FEWEST_LINES = 10
"""Modules with fewer lines than this, such as `version`, are left out of the picture."""

Rooms = Mapping[str, frozenset[str]]


def picture() -> str:
    """The rooms from the lowest to the highest, as text."""
    stands_on = needed(rooms())
    below = {name: ", ".join(sorted(found)) for name, found in stands_on.items()}
    first, second = (max(map(len, words)) + 2 for words in (below, below.values()))
    lines = [f"{'room':{first}}{'stands on':{second}}what it is for"]
    lines += [f"{name:{first}}{below[name]:{second}}{_purpose(name, WIDTH - first - second)}" for name in stands_on]
    return code("\n".join(lines), "text")


def rooms() -> Rooms:
    """Every room that is shown, with those that it imports, the lowest first; a circle is a CycleError."""
    found: dict[str, set[str]] = {}
    for path in sorted(CORE.rglob("*.py")):
        room = path.relative_to(CORE).parts[0].removesuffix(".py")
        if room != "__init__":  # the package itself, which only names what others hold
            found.setdefault(room, set()).update(_imported(path) - {room})
    small = {name for name in found if len(_face(name).read_text().splitlines()) < FEWEST_LINES}
    shown = {name: frozenset(below - small) for name, below in found.items() if name not in small}
    return {name: shown[name] for floor in _floors(shown) for name in floor}


def _floors(all_rooms: Rooms) -> Iterator[list[str]]:
    """The rooms that stand on nothing, then those that stand on these alone, and so on."""
    order = TopologicalSorter(all_rooms)
    order.prepare()
    while order.is_active():
        yield (floor := sorted(order.get_ready()))
        order.done(*floor)


def needed(all_rooms: Rooms) -> Rooms:
    """The same, in the same order, without the edges that follow from others."""
    beneath: dict[str, frozenset[str]] = {}
    for name, below in all_rooms.items():
        beneath[name] = below.union(*(beneath[other] for other in below))
    return {name: below.difference(*(beneath[other] for other in below)) for name, below in all_rooms.items()}


def _face(room: str) -> Path:
    """Where a room says what it is for."""
    return CORE / room / "__init__.py" if (CORE / room).is_dir() else CORE / f"{room}.py"


def _imported(path: Path) -> set[str]:
    """The rooms that a file imports, wherever in it."""
    names = (name.split(".") for node in ast.walk(ast.parse(path.read_text())) for name in _names(node))
    return {parts[1] for parts in names if parts[0] == CORE.name and len(parts) > 1 and _face(parts[1]).exists()}


def _names(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _purpose(room: str, width: int) -> str:
    """The first sentence of a room's docstring, without its full stop; what stands before a colon where it is long."""
    words = (ast.get_docstring(ast.parse(_face(room).read_text())) or "").partition("\n\n")[0]
    sentence = re.split(r"\.(?:\s|$)", " ".join(words.split()))[0]
    return sentence if len(sentence) <= width else sentence.partition(":")[0]
