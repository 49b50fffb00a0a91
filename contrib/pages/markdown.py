"""Small pieces of Markdown."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Sequence

__all__ = ["anchor", "bullets", "code", "paragraphs", "plainly", "prose", "table"]

WIDTH = 120


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; none at all without rows."""
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(["| " + " | ".join(head) + " |", "|" + "---|" * len(head), *lines]) if lines else ""


def code(text: str, language: str = "python") -> str:
    """A block of code."""
    return f"```{language}\n{text}\n```"


def plainly(words: str) -> str:
    """Words as they stand, whatever signs are in them; what is between backticks is plain already."""
    return re.sub(r"(`[^`]*`)|([*<])", lambda match: match[1] or f"\\{match[2]}", words)


def paragraphs(text: str) -> list[str]:
    """The paragraphs of a docstring, each in one line."""
    return [" ".join(part.split()) for part in re.split(r"\n\s*\n", text.strip())]


def prose(text: str) -> str:
    """Paragraphs, their lines broken anew."""
    return "\n\n".join(_filled(paragraph) for paragraph in paragraphs(text))


def bullets(items: Iterable[str]) -> str:
    """A list."""
    return "\n".join(_filled(f"- {item}", "  ") for item in items)


def _filled(text: str, indent: str = "") -> str:
    return textwrap.fill(text, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def anchor(heading: str) -> str:
    """The address of a heading within its page, as GitHub makes it."""
    return "#" + re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
