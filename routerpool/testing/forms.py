"""What one provider says in its own way, as data: answers that are none, and the failure that each must become.

They stand in a YAML file beside the tests, which `ProviderContract` walks: one test for each form, plain and streamed.

    source: lab.example/docs/errors
    date: 2026-11-20
    forms:
      the day is spent:
        status: 429
        headers: {x-lab-reset: "{now+3600s as epoch}"}
        body: {error: {message: Your daily allowance is used up., code: limit}}
        failure: {kind: quota_exhausted, retry_after: 3600, within: 10, pool: day}

`{now+3600s as epoch}` in a header or in the body is a moment from now when it is sent: as `epoch` (seconds), as
`milliseconds`, `iso` or `http`. `bodies` in place of `body` is a list of wordings of one error, and a test for each.
"""

from __future__ import annotations

import inspect
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import formatdate
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import pytest
from attrs import field, frozen

from routerpool.config import Pattern, Range
from routerpool.config.structure import structure
from routerpool.document import KeyPath, Problems, read
from routerpool.errors import ConfigError
from routerpool.refusals.resets import until_midnight, zone
from routerpool.types import FailureKind

__all__ = ["Form", "forms_of", "read_forms"]

_MOMENT: Final = re.compile(r"\{now\+(\d+)s as (\w+)\}")
_WRITTEN: Final[Mapping[str, Callable[[float], str]]] = {
    "epoch": lambda moment: str(int(moment)),
    "milliseconds": lambda moment: str(int(moment * 1000)),
    "iso": lambda moment: datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    "http": lambda moment: formatdate(moment, usegmt=True),
}
_MIDNIGHT: Final = "until midnight "


@frozen(kw_only=True)
class Form:
    """An error as a provider is known to send it, and the failure that it must become.

    `name` says what has happened, in words. `body` is JSON, a text (HTML) or bytes. `wait` is in seconds, or
    `until midnight ZONE`, None where nothing is said, and is compared to `within` seconds. `pool` is the name of the
    quota, as the data file calls it; `source` is where the form is known from, and `date` when it was seen there.
    """

    name: str
    status: int
    body: Any
    kind: FailureKind
    headers: Mapping[str, str] = field(factory=dict)
    wait: float | str | None = None
    within: float = 1.5
    pool: str | None = None
    lacks: str | None = None
    source: str = ""
    date: str = ""

    def sent(self) -> tuple[Any, Mapping[str, str]]:
        """Body and headers with their moments counted from now."""
        now = time.time()
        return _dated(self.body, now), _dated(self.headers, now)

    def seconds(self) -> float | None:
        """The wait that it states now."""
        if isinstance(self.wait, str):
            return until_midnight(time.time(), zone(self.wait.removeprefix(_MIDNIGHT)))
        return self.wait

    def near(self, told: float | None, wait: float | None) -> bool:
        """Whether a failure tells this wait, or none where there is none."""
        return told is wait if told is None or wait is None else abs(told - wait) <= self.within


@frozen(kw_only=True)
class _Failure:
    """What must become of it, in the words of `routerpool.Failure`."""

    kind: FailureKind
    retry_after: float | Annotated[str, Pattern(_MIDNIGHT + r"\S+", "`until midnight` and a time zone")] | None = None
    within: Annotated[float, Range(least=0)] = 1.5
    pool: str | None = None
    lacks: str | None = None


_Date = Annotated[str, Pattern(r"\d{4}-\d\d-\d\d", "a date such as 2026-11-20")]


@frozen(kw_only=True)
class _Entry:
    """One form as YAML tells it.

    `headers` may be a list of mappings, of which later ones win: so what several forms share can be an anchor. A text
    as the body goes out as a page of HTML, or, `sent_as: json`, as JSON that it is not.
    """

    status: Annotated[int, Range(100, 599)]
    failure: _Failure
    headers: dict[str, str] | tuple[dict[str, str], ...] = ()
    body: Any = ""
    bodies: tuple[Any, ...] = ()
    sent_as: Literal["html", "json"] = "html"
    source: str | None = None
    date: _Date = ""

    def forms(self, name: str, file: _File) -> Iterator[Form]:
        """The form of each of its bodies; without a source of its own it has the file's, with its date."""
        own, told = self.failure, self if self.source is not None else file
        parts = [self.headers] if isinstance(self.headers, dict) else self.headers
        headers = {key: value for part in parts for key, value in part.items()}
        for number, body in enumerate(self.bodies or (self.body,), 1):
            yield Form(
                name=f"{name}, {number} of {len(self.bodies)}" if self.bodies else name,
                status=self.status,
                body=body.encode() if isinstance(body, str) and self.sent_as == "json" else body,
                kind=own.kind,
                headers=headers,
                wait=own.retry_after,
                within=own.within,
                pool=own.pool,
                lacks=own.lacks,
                source=told.source or "",
                date=told.date,
            )


@frozen(kw_only=True)
class _File:
    """A whole file of them. What `parts` holds is only there to be anchored, and used in forms."""

    forms: dict[str, _Entry]
    source: str | None = None
    date: _Date = ""
    parts: Any = None


def read_forms(path: Path) -> tuple[Form, ...]:
    """The forms in this file, in its order; a ConfigError names every mistake in it with its line."""
    document = read(path)
    problems = Problems(document)
    file = structure(document.tree, _File, (), problems)
    if file is not None:
        if not file.forms:
            problems.add(("forms",), "holds no form; write at least one")
        for name, entry in file.forms.items():
            for place, message in _mistakes(entry, file):
                problems.add(("forms", name, *place), message)
    problems.raise_if_any()
    return tuple(form for name, entry in file.forms.items() for form in entry.forms(name, file)) if file else ()


def forms_of(contract: type) -> Sequence[Form]:
    """What a contract's `forms` names, or holds itself; a mistake in a file fails the collection, with its line."""
    owner = next(cls for cls in contract.__mro__ if "forms" in vars(cls))
    named: str | Sequence[str | Form] = vars(owner)["forms"]
    folder = Path(inspect.getfile(owner)).parent
    try:
        each = [named] if isinstance(named, str) else named
        parts = [(part,) if isinstance(part, Form) else read_forms(folder / part) for part in each]
    except ConfigError as error:
        pytest.fail(str(error), pytrace=False)
    return [form for part in parts for form in part]


def _mistakes(entry: _Entry, file: _File) -> Iterator[tuple[KeyPath, str]]:
    """What no type can say."""
    if entry.bodies and entry.body:
        yield ("bodies",), "stands beside `body`; keep one of them"
    if not (entry.source or file.source):
        yield ("source",), "is missing; say where this form is known from, here or for the whole file"
    if entry.date and entry.source is None:
        yield ("date",), "has no source of its own; give both, or neither"
    for key in ("headers", "body", "bodies"):
        for text in _texts(getattr(entry, key)):
            if any(form not in _WRITTEN for _, form in _MOMENT.findall(text)) or "{now" in _MOMENT.sub("", text):
                yield (key,), f"a moment is written {{now+3600s as epoch}}, or as one of {', '.join(_WRITTEN)}"
    wait = entry.failure.retry_after
    if isinstance(wait, str) and (name := wait.removeprefix(_MIDNIGHT)) != "UTC" and zone(name) is UTC:
        yield ("failure", "retry_after"), f"{name!r} is no time zone; write one such as UTC or America/Los_Angeles"


def _texts(tree: Any) -> Iterator[str]:
    if isinstance(tree, str):
        yield tree
    elif isinstance(tree, Mapping | list | tuple):
        for item in tree.values() if isinstance(tree, Mapping) else tree:
            yield from _texts(item)


def _dated(tree: Any, now: float) -> Any:
    """The same with its moments written out."""
    if isinstance(tree, str):
        return _MOMENT.sub(lambda found: _WRITTEN[found[2]](now + int(found[1])), tree)
    if isinstance(tree, Mapping):
        return {key: _dated(item, now) for key, item in tree.items()}
    return [_dated(item, now) for item in tree] if isinstance(tree, list | tuple) else tree
