"""File paths in a text, and the patterns that they are held against.

A pattern is a glob whose `*` stays within one name and whose `**` spans any number of folders. It covers what it names
and all that lies below. One that begins with neither `/` nor `~` may begin in any folder. Upper and lower case are
the same, a backslash is a slash, and every user's home is `~`, since the machine of the client is often not ours.

Nothing is asked of a disk: a path that a shell would put together (`cd clients; cat x`) is not found.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import translate
from pathlib import Path
from posixpath import normpath

__all__ = ["PathPatterns"]

LONGEST = 4096
"""Characters of a path on the systems that we know; longer words are none."""

HOME_VARIABLES = re.compile(r"\$\{HOME\}|\$HOME\b|%USERPROFILE%|\$env:(?:USERPROFILE|HOME)\b", re.IGNORECASE)
HOMES = re.compile(r"(?:/home/[^/]+|/users/[^/]+|/root|(?:/mnt|/cygdrive)?/?[a-z]:?/users/[^/]+|~[^/]*)(?=/|$)")
DRIVE = re.compile(r"[A-Za-z]:[\\/]")
WORDS = re.compile(r"[^\s\"'`;|&<>(){}\[\],=]+")
WILD = re.compile(r"[*?]|\[[^]]*\]")
ENDS = ".!?:"


class PathPatterns:
    """A few patterns, ready to be held against many texts."""

    def __init__(self, patterns: Iterable[str]) -> None:
        self._own = own = str(Path("~").expanduser()).replace("\\", "/").casefold()
        named = [_Pattern(pattern, own) for pattern in patterns]
        self._patterns = named
        self._hint = re.compile("|".join(sorted({re.escape(pattern.literal) for pattern in named})), re.IGNORECASE)

    def found_in(self, text: str) -> bool:
        """Whether a text names a path that one of the patterns covers; in time linear in the text."""
        if self._hint.search(text) is None:  # nearly every text ends here
            return False
        text = HOME_VARIABLES.sub("~", text)
        if len(text) <= LONGEST and "\n" not in text and self._covers(text):  # a path with blanks in it
            return True
        return any(self._covers(path) for word in WORDS.findall(text) for path in _paths(word))

    def _covers(self, path: str) -> bool:
        if len(path) > LONGEST or self._hint.search(path) is None:
            return False
        forms = [form.split("/") for form in _forms(path, self._own)]
        return any(pattern.covers(parts) for pattern in self._patterns for parts in forms)


class _Pattern:
    """One pattern, cut at its slashes; None stands for `**`."""

    def __init__(self, pattern: str, own: str) -> None:
        plain = normpath(pattern.strip().replace("\\", "/")).casefold()
        parts = plain.split("/")
        anchored = parts[0] == "" or parts[0].startswith("~") or DRIVE.match(plain) is not None
        if not anchored:
            parts = ["**", *parts]
        self._parts = [None if part == "**" else re.compile(translate(part)) for part in parts]
        kept = parts[own.count("/") + 1 :] if _within(plain, own) else parts
        self.literal = max((piece for part in kept for piece in WILD.split(part) if piece != "~"), key=len, default="")

    def covers(self, parts: Sequence[str]) -> bool:
        """Whether the path of these parts is named by the pattern, or lies below; each `**` takes as little it can."""
        at = begin = place = 0
        spanning = -1
        while place < len(self._parts):
            wanted = self._parts[place]
            if wanted is None:
                spanning, begin, place = place, at, place + 1
            elif at < len(parts) and wanted.match(parts[at]):
                at, place = at + 1, place + 1
            elif spanning >= 0 and begin < len(parts):
                begin += 1
                at, place = begin, spanning + 1
            else:
                return False
        return True


def _paths(word: str) -> Iterator[str]:
    """What of a word may be a path: all of it, and what stands between colons (`host:/etc`, `notes.txt:12`)."""
    yield word
    if word[-1] in ENDS:
        yield word.rstrip(ENDS)
    if ":" in word:
        yield from word.split(":")


def _forms(path: str, own: str) -> Iterator[str]:
    """A path as it stands, from `~` where it is in somebody's home, and from our own home where it says `~`."""
    plain = normpath(path.strip().replace("\\", "/")).casefold()
    plain = "/" + plain.lstrip("/") if plain.startswith("//") else plain
    yield plain
    if _within(plain, own):
        yield "~" + plain[len(own) :]
    if _within(plain, "~"):
        yield own + plain[1:]
    home = HOMES.match(plain)
    if home is not None:
        yield "~" + plain[home.end() :]


def _within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder + "/")
