"""The page of the values that cross hooks: every class of `routerpool.types` with its fields."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from enum import Enum
from typing import Any, Literal, get_origin

import attrs
from markdown import anchor, bullets, paragraphs, prose, table

from routerpool import errors, protocols, types

__all__ = ["VALUES", "described", "linked", "values_page"]

OTHERS = (protocols.Rewriter, errors.Unavailable, errors.RequestError)
"""What a hook answers with, or raises on purpose, that is no value of `types`."""

VALUES: dict[str, type] = {name: getattr(types, name) for name in types.__all__} | {cls.__name__: cls for cls in OTHERS}
PAGE = "values.md"


def values_page() -> str:
    """The page."""
    index = " · ".join(f"[{name}]({anchor(name)})" for name in VALUES)
    parts = ["# Values", prose(inspect.getdoc(types) or ""), prose(index)]
    for name, cls in VALUES.items():
        parts += [f"## {name}", prose(inspect.getdoc(cls) or ""), _fields(cls), bullets(_methods(cls))]
    return "\n\n".join(part for part in parts if part) + "\n"


def described(thing: Any) -> str:
    """The first paragraph of a docstring: what the thing is."""
    return paragraphs(inspect.getdoc(thing) or "")[0]


def linked(annotation: str, page: str = PAGE) -> str:
    """A type as it is written in the code, with each value in it leading to its fields; `page` is where they stand."""
    names = list(dict.fromkeys(name for name in re.findall(r"\w+", annotation) if name in VALUES))
    if names == [annotation]:
        return f"[`{annotation}`]({page}{anchor(annotation)})"
    links = ", ".join(f"[{name}]({page}{anchor(name)})" for name in names)
    return f"`{annotation}` ({links})" if links else f"`{annotation}`"


def _fields(cls: type) -> str:
    if issubclass(cls, Enum):
        return table(("name", "value"), [(f"`{member.name}`", f"`{member.value}`") for member in cls])
    if not attrs.has(cls):
        return ""
    rows = []
    for field in attrs.fields(cls):
        if not field.init:
            continue
        name = field.alias or field.name
        annotation = str(inspect.get_annotations(cls)[field.name])  # as it is written, which `field.type` may not be
        if field.name != name:  # what is kept is not what is read: the property tells its type
            annotation = str(inspect.signature(getattr(cls, name).fget).return_annotation)
        if get_origin(alias := getattr(types, annotation, None)) is Literal:
            annotation = str(alias).removeprefix("typing.")
        rows.append((f"`{name}`", linked(annotation, ""), _default(field)))
    return table(("field", "type", "default"), rows)


def _default(field: attrs.Attribute[Any]) -> str:
    if field.default is attrs.NOTHING:
        return "required"
    if attrs.has(type(field.default)):
        return f"`{type(field.default).__name__}()`"
    if isinstance(field.default, attrs.Factory) and field.default.takes_self:
        return "made of the others"
    value = field.default.factory() if isinstance(field.default, attrs.Factory) else field.default
    if isinstance(value, Enum):
        return f"`{value.name}`"
    return f"`{value!r}`"


def _methods(cls: type) -> Iterator[str]:
    if issubclass(cls, Exception):
        yield f"`raise {cls.__name__}{_arguments(cls.__init__)}`"
    for name, member in vars(cls).items():
        if name.startswith("_"):
            continue
        if isinstance(member, property):
            yield f"`{name}`: {described(member)}"
        elif inspect.isfunction(member):
            yield f"`{name}{_arguments(member)}`: {described(member)}"


class _Bare(str):
    """An annotation that is shown without the quotes of the text that it is."""

    __slots__ = ()
    __repr__ = str.__str__


def _arguments(function: Callable[..., Any]) -> str:
    signature = inspect.signature(function)
    taken = [one.replace(annotation=_Bare(one.annotation)) for one in list(signature.parameters.values())[1:]]
    shown = signature.replace(parameters=taken, return_annotation=_Bare(signature.return_annotation))
    return str(shown).removesuffix(" -> None")
