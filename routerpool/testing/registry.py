"""The register of what the scriptable upstream can do: label to fault, each with its class.

The class of a fault says what a router owes its client, for a plain answer and for a stream:

R  another candidate must answer        F  the client's own fault: passed on as it is
S  terminate visibly, never a faked end  O  nothing is wrong: the answer must arrive as it was sent
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from attrs import evolve, frozen

from routerpool.testing.call import UpstreamCall

__all__ = ["FAULTS", "Fault", "fault", "fault_of", "faults_of_class"]

Play = Callable[[UpstreamCall], Awaitable[None]]


def _nothing(text: str) -> None:
    if text:
        raise ValueError(text)


def _same(text: str, _: Any) -> str:
    return text


@frozen
class Fault:
    """One way to answer, under its label; `plain` and `stream` are its classes, None where it is nothing of its own."""

    label: str
    plain: str | None
    stream: str | None
    play: Play
    takes: Callable[[str], Any]
    """Parses what stands behind the colon of the label; raises ValueError or LookupError for what it does not know."""
    text: Callable[[str, Any], str]
    """The text a right client ends up with, from the provider's text and the parsed argument."""

    @property
    def arg(self) -> Any:
        """What stands behind the colon of the label, parsed."""
        return self.takes(self.label.partition(":")[2])

    @property
    def what(self) -> str:
        """What it does, in a sentence or two."""
        return self.play.__doc__ or ""


FAULTS: dict[str, Fault] = {}
"""Label to fault. A label with a colon stands for a family: `http:418` plays too, though only `http:401` is listed."""

_FAMILIES: dict[str, Fault] = {}


def fault_of(label: str) -> Fault:
    """The fault with this label, listed or of a listed family; ValueError for a label that means nothing."""
    family = _FAMILIES.get(label.partition(":")[0])
    if family is None:
        raise ValueError(f"no such fault: {label!r}")
    fault = FAULTS.get(label) or evolve(family, label=label)
    try:
        _ = fault.arg
    except (ValueError, LookupError):
        raise ValueError(f"no such fault: {label!r}") from None
    return fault


def faults_of_class(letter: str) -> dict[str, tuple[str, ...]]:
    """The listed labels of class R, F, S or O, each with the kinds of request it is that for: plain, stream or both."""
    found: dict[str, tuple[str, ...]] = {}
    for label, fault in FAULTS.items():
        modes = tuple(mode for mode in ("plain", "stream") if getattr(fault, mode) == letter)
        if modes:
            found[label] = modes
    return found


def fault(
    *labels: str,
    both: str | None = None,
    plain: str | None = None,
    stream: str | None = None,
    takes: Callable[[str], Any] = _nothing,
    text: Callable[[str, Any], str] = _same,
) -> Callable[[Play], Play]:
    """Register a play under these labels, or under its own name, with its class for each kind of request."""

    def register(play: Play) -> Play:
        for label in labels or (play.__name__,):
            fault = Fault(label, plain or both, stream or both, play, takes, text)
            FAULTS[label] = fault
            _FAMILIES.setdefault(label.partition(":")[0], fault)
        return play

    return register
