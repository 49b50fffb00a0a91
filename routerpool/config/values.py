"""Values as JSON, and back: for what stores a record, a request or a plan, and for what tells of one.

`converter.unstructure(value)` makes dicts, lists, texts and numbers of any value of `routerpool.types`, and
`converter.structure(data, cls)` makes it again, as strictly as a configuration is read. Enums are the words that YAML
has for them, sets are sorted, what a class derives is left out (`Candidate.key`), an `Answer`'s bytes are base64. What
JSON has no form for is a TypeError that names its type: a plugin may have left it in `Features.labels`.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Callable
from enum import Enum
from types import NoneType
from typing import Any, Literal, get_origin

import attrs
from cattrs import Converter, override
from cattrs.gen import make_dict_structure_fn, make_dict_unstructure_fn

from routerpool.config.scalars import is_enum
from routerpool.config.structure import Hook, converter, unwritten
from routerpool.config.words import word_of
from routerpool.types import Answer

__all__ = ["converter"]

Writer = Callable[[Any], Any]


def _plain(value: Any) -> Any:
    return word_of(value) if isinstance(value, Enum) else value


def _number(value: Any) -> Any:
    """Where a number is meant a truth value is one too (a term `free: True`), but it would not be read as one."""
    return float(value) if isinstance(value, bool) else value


def _listed(value: Any) -> list[Any]:
    """A tuple whose items nobody declares; a named one, too, which cattrs leaves as it is."""
    return [converter.unstructure(item) for item in value]


@converter.register_unstructure_hook_factory(attrs.has)
def _section(cls: Any, converter: Converter) -> Writer:
    body: dict[str, Any] = {"body": override(unstruct_hook=_base64)} if cls is Answer else {}
    return make_dict_unstructure_fn(cls, converter, _cattrs_use_alias=True, _cattrs_use_linecache=False, **body)


@converter.register_structure_hook_factory(lambda hint: hint is Answer)
def _answer(cls: Any, converter: Converter) -> Hook:
    return make_dict_structure_fn(cls, converter, _cattrs_use_linecache=False, body=override(struct_hook=_bytes))


def _base64(body: bytes) -> str:
    return b64encode(body).decode()


def _bytes(text: Any, _: Any) -> bytes:
    return b64decode(converter.structure(text, str), validate=True)


def _is_literal(hint: Any) -> bool:
    return get_origin(hint) is Literal


def _is(*kinds: type) -> Callable[[Any], bool]:
    return lambda hint: isinstance(hint, type) and issubclass(hint, kinds)


converter.register_unstructure_hook_func(_is(tuple), _listed)
converter.register_unstructure_hook_func(_is_literal, _plain)
converter.register_unstructure_hook_func(_is(int, NoneType), _plain)
converter.register_unstructure_hook_func(_is(float), _number)
converter.register_unstructure_hook_func(is_enum, word_of)
converter.register_unstructure_hook(str, _plain)  # of which a StrEnum is one, to cattrs
converter.register_unstructure_hook(bytes, unwritten(bytes))
