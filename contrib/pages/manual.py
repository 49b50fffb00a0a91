"""The manual, read: what each spec in `routerpool.hookspecs` says of its hook, in parts.

A docstring is a sentence, paragraphs, lines `When:`, `Order:`, perhaps `Fault:`, and `Budget:`, and an example.
"""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Mapping
from typing import Any

from attrs import frozen

from routerpool import hookspecs
from routerpool.hooks.calling import HOOKS

__all__ = ["MANUAL", "Argument", "Spec", "read"]

FACTS = ("When", "Order", "Fault", "Budget")
OPTIONAL = frozenset({"Fault"})
FACT = re.compile(rf"({'|'.join(FACTS)}): (.+)")


@frozen
class Argument:
    """One argument of a hook and its type, as the spec writes it."""

    name: str
    type: str


@frozen
class Spec:
    """One hook as the manual tells of it. `facts` are its lines by their first word, `form` how it may be written."""

    name: str
    purpose: str
    text: str
    facts: Mapping[str, str]
    example: str
    arguments: tuple[Argument, ...]
    answer: str
    form: str

    @property
    def signature(self) -> str:
        """The definition's first line, without the colon."""
        arguments = ", ".join(f"{argument.name}: {argument.type}" for argument in self.arguments)
        word = "async def" if self.answer.startswith("AsyncIterator") else "def"
        return f"{word} {self.name}({arguments}) -> {self.answer}"


def read(name: str, function: Any) -> Spec:
    """The spec of this function; a ValueError names what its docstring lacks."""
    prose, mark, example = inspect.cleandoc(function.__doc__ or "").partition("\nExample::\n")
    purpose, _, rest = prose.partition("\n")
    facts: dict[str, str] = {}
    text = []
    for line in rest.strip().splitlines():
        if match := FACT.fullmatch(line):
            facts[match[1]] = match[2]
        elif facts and line.strip():
            raise ValueError(f"{name}: {line!r} stands among the facts; each of them is one line")
        else:
            text.append(line)
    missing = [fact for fact in FACTS if fact not in facts and fact not in OPTIONAL]
    if missing or not mark:
        raise ValueError(f"{name} does not say its {', '.join([*missing, *(() if mark else ('Example',))])}")
    signature = inspect.signature(function)
    answer = str(signature.return_annotation)
    return Spec(
        name=name,
        purpose=purpose,
        text="\n".join(text).strip(),
        facts=facts,
        example=textwrap.dedent(example).strip(),
        arguments=tuple(Argument(one.name, str(one.annotation)) for one in signature.parameters.values()),
        answer=answer,
        form=_form(name, answer),
    )


def _form(name: str, answer: str) -> str:
    if name.startswith("register_"):
        return "`def`"
    return "`async def` with one `yield`" if answer.startswith("AsyncIterator") else "`def` or `async def`"


MANUAL: Mapping[str, Spec] = {name: read(name, getattr(hookspecs, name)) for name in HOOKS}
"""All hooks, in the order of their calls."""
