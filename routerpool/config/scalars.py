"""How a single value is read: the scalars of YAML, sizes and paths, and the choices of a Literal or an enum.

Nothing is coerced, but for what `${NAME}` brought: an environment holds nothing but text, so its texts may be numbers.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar
from enum import Enum
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Final, get_args

from routerpool.config.words import Size, Unheld, hidden, mismatch, word_of
from routerpool.document import EnvText, KeyPath, scalar
from routerpool.errors import nearest

__all__ = ["SCALARS", "choice", "is_enum", "read_scalar"]

_UNITS: Final = {"": 1, "B": 1, "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9} | {
    "KiB": 1 << 10,
    "MiB": 1 << 20,
    "GiB": 1 << 30,
}
_SIZE: Final = re.compile(r"([0-9]{1,15}) ?([kKMG]i?B|B|)")


def is_enum(hint: Any) -> bool:
    """Whether this type is an enum, of whatever it may also descend from."""
    return isinstance(hint, type) and issubclass(hint, Enum)


def choice(value: Any, hint: Any) -> Any:
    """A member of an enum or a Literal, by what it is called."""
    options = _options(hint)
    typed = scalar(value) if isinstance(value, EnvText) else value
    for name, option in options.items():
        named = isinstance(option, str | Enum) and isinstance(value, str) and value == name
        if named or (type(option) is type(typed) and option == typed):
            return option

    def cure(path: KeyPath) -> str:
        if not isinstance(value, str) or hidden(value, path):
            return ""
        return "; write it without quotes" if value in options else nearest(value, options)

    raise mismatch(value, hint, cure)


@lru_cache(maxsize=256)
def _options(hint: Any) -> dict[str, Any]:
    if is_enum(hint):
        return {word_of(member): member for member in hint}
    return {str(option): option for option in get_args(hint)}


def read_scalar(value: Any, hint: Any) -> Any:
    """A value that is no more than itself; cattrs brings us all the descendants of these types too."""
    read = SCALARS.get(hint)
    if read is None:
        if is_enum(hint):
            return choice(value, hint)
        raise Unheld(hint)
    try:
        return read(value)
    except ValueError:
        raise mismatch(value, hint, lambda _: _cure(value, hint)) from None


def _cure(value: Any, hint: Any) -> str:
    if hint in (str, Path) and isinstance(value, bool | int | float):
        return "; put it in quotes"
    if isinstance(value, str) and not isinstance(value, EnvText):
        with suppress(ValueError):
            SCALARS[hint](scalar(value))
            return "; write it without quotes"
    return ""


def _number(kind: type, value: Any) -> Any:
    read = scalar(value) if isinstance(value, EnvText) else value
    if kind is float and type(read) is int and abs(read) < 10**300:
        read = float(read)
    if type(read) is not kind or (isinstance(read, float) and not math.isfinite(read)):
        raise ValueError
    return read


def _text(value: Any) -> str:
    if isinstance(value, str):
        return str(value)
    raise ValueError


FOLDER: Final[ContextVar[Path | None]] = ContextVar("folder", default=None)
"""What relative paths are relative to while a document is structured."""


def _path(value: Any) -> Path:
    try:
        return (FOLDER.get() or Path()) / Path(_text(value)).expanduser()
    except RuntimeError as error:  # `~somebody` who does not exist here
        raise ValueError from error


def _size(value: Any) -> int:
    if type(value) is int and value >= 0:
        return value
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if match is None or (not match[2] and not isinstance(value, EnvText)) or match[2] not in _UNITS:
        raise ValueError
    return int(match[1]) * _UNITS[match[2]]


def _nothing(value: Any) -> None:
    if value is not None:
        raise ValueError


SCALARS: Final[dict[Any, Callable[[Any], Any]]] = {
    bool: partial(_number, bool),
    int: partial(_number, int),
    float: partial(_number, float),
    str: _text,
    Path: _path,
    Size: _size,
    type(None): _nothing,
}
