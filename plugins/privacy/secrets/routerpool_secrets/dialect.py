r"""Patterns in RE2's dialect, rewritten so that Python's `re` reads them alike over bytes.

The two differ where it matters here: flags in the middle of a pattern, `\z`, `$`, POSIX classes, Unicode classes and
what `\s` holds.
"""

from __future__ import annotations

import re

__all__ = ["to_python"]

SPACE = r"\t\n\f\r "
POSIX = {
    "alnum": "0-9A-Za-z",
    "alpha": "A-Za-z",
    "ascii": r"\x00-\x7f",
    "blank": r"\t ",
    "cntrl": r"\x00-\x1f\x7f",
    "digit": "0-9",
    "graph": "!-~",
    "lower": "a-z",
    "print": " -~",
    "punct": r"!-/:-@\[-`{-~",
    "space": r"\t\n\v\f\r ",
    "upper": "A-Z",
    "word": "0-9A-Za-z_",
    "xdigit": "0-9A-Fa-f",
}
UNICODE = {"L": "A-Za-z", "Lu": "A-Z", "Ll": "a-z", "N": "0-9", "Nd": "0-9"}
"""The ASCII part of a Unicode class: RE2, which is told to read bytes, takes no others either for what tokens hold."""

FLAGS = re.compile(r"\(\?([imsU]*)(?:-([imsU]+))?\)")
GROUP = re.compile(r"\(\?([imsU]*)(?:-([imsU]+))?:")
CLASS_NAME = re.compile(r"\[:(\^?)([a-z]+):\]")
UNICODE_NAME = re.compile(r"\\([pP])(?:\{(\w+)\}|(\w))")


def to_python(pattern: str) -> str:
    """The pattern in Python's dialect; ValueError for what has no counterpart there."""
    return _Rewriter(pattern).whole()


class _Rewriter:
    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self.at = 0
        self.out: list[str] = []
        self.scopes: list[tuple[list[str], bool]] = []
        """For every open group what held around it: the flag groups to close with it, and whether `$` ends lines."""
        self.flags: list[str] = []
        self.multiline = False

    def whole(self) -> str:
        while self.at < len(self.pattern):
            self.step()
        return "".join(self.out) + ")" * len(self.flags)

    def step(self) -> None:
        pattern, at = self.pattern, self.at
        sign = pattern[at]
        if sign == "\\":
            self.escape()
        elif sign == "[":
            self.character_class()
        elif sign == "(":
            self.open()
        elif sign == ")":
            if not self.scopes:
                raise ValueError("a group is closed that was not opened")
            self.out.append(")" * (len(self.flags) + 1))
            self.flags, self.multiline = self.scopes.pop()
            self.at += 1
        elif sign == "|":  # flags hold for the branches that follow, too: they are opened again in each of them
            self.out.append(")" * len(self.flags) + "|" + "".join(self.flags))
            self.at += 1
        else:
            self.out.append(r"\Z" if sign == "$" and not self.multiline else sign)
            self.at += 1

    def open(self) -> None:
        flags = FLAGS.match(self.pattern, self.at)
        if flags is not None:
            self.flags.append(_flagged(flags[1], flags[2]))
            self.out.append(self.flags[-1])
            self.multiline = ("m" in flags[1] or self.multiline) and "m" not in (flags[2] or "")
            self.at = flags.end()
            return
        group = GROUP.match(self.pattern, self.at)
        self.scopes.append((self.flags, self.multiline))
        self.flags = []
        if group is None:
            self.out.append("(")
            self.at += 1
            if self.pattern.startswith("?", self.at):
                end = next((i for i in range(self.at, len(self.pattern)) if self.pattern[i] in ":>"), self.at)
                self.out.append(self.pattern[self.at : end + 1])
                self.at = end + 1
            return
        self.multiline = ("m" in group[1] or self.multiline) and "m" not in (group[2] or "")
        self.out.append(_flagged(group[1], group[2]))
        self.at = group.end()

    def escape(self) -> None:
        pattern, at = self.pattern, self.at
        unicode = UNICODE_NAME.match(pattern, at)
        if unicode is not None:
            held = UNICODE.get(unicode[2] or unicode[3])
            if held is None:
                raise ValueError(f"no counterpart of {unicode[0]}")
            self.out.append(f"[{'^' if unicode[1] == 'P' else ''}{held}]")
            self.at = unicode.end()
            return
        following = pattern[at + 1 : at + 2]
        self.out.append({"z": r"\Z", "s": f"[{SPACE}]", "S": f"[^{SPACE}]"}.get(following, "\\" + following))
        self.at += 2

    def character_class(self) -> None:
        pattern = self.pattern
        at = self.at + 1
        out = ["["]
        if pattern.startswith("^", at):
            out.append("^")
            at += 1
        first = True
        while at < len(pattern) and (first or pattern[at] != "]"):
            first = False
            name = CLASS_NAME.match(pattern, at)
            unicode = UNICODE_NAME.match(pattern, at)
            if name is not None:
                if name[1] or name[2] not in POSIX:
                    raise ValueError(f"no counterpart of {name[0]}")
                out.append(POSIX[name[2]])
                at = name.end()
            elif unicode is not None:
                held = UNICODE.get(unicode[2] or unicode[3]) if unicode[1] == "p" else None
                if held is None:
                    raise ValueError(f"no counterpart of {unicode[0]}")
                out.append(held)
                at = unicode.end()
            elif pattern[at] == "\\":
                out.append(SPACE if pattern[at + 1] == "s" else pattern[at : at + 2])
                at += 2
            else:
                out.append("\\" + pattern[at] if pattern[at] in "[&~|" else pattern[at])
                at += 1
        self.out.append("".join(out) + "]")
        self.at = at + 1


def _flagged(on: str, off: str | None) -> str:
    """The beginning of a group with these flags."""
    if "U" in on + (off or ""):
        raise ValueError("ungreedy patterns have no counterpart")
    return f"(?{on}{'-' + off if off else ''}:"
