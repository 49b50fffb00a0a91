"""How prices are asked for: a short-lived process answers, and a file remembers until the next day or release."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterable, Mapping
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from attrs import asdict, field, frozen

from routerpool import Prices, RouterpoolError
from routerpool.wire import dumps, loads

__all__ = ["InquiryError", "Known", "Question", "inquire", "installed_version", "prices_of", "read", "write"]

ENVIRONMENT = ("PATH", "HOME", "LANG", "LC_ALL", "PYTHONPATH", "PYTHONHOME", "PYTHONUSERBASE", "SYSTEMROOT", "TMPDIR")
"""What the process gets of the environment: enough to find Python's packages, and no key."""


class InquiryError(RouterpoolError):
    """The prices could not be looked up, and why."""


@frozen
class Question:
    """Who is asked for, by address and names, and which of its models."""

    url: str
    names: tuple[str, ...]
    model: str

    @property
    def key(self) -> str:
        """The question as one text, for the file."""
        return dumps([self.url, *self.names, self.model]).decode()


@frozen
class Known:
    """What was answered for one release of the package and one day; a price that the package does not know is None."""

    version: str
    day: date
    newest: str | None = None
    prices: Mapping[str, Prices | None] = field(factory=dict)


def installed_version() -> str | None:
    """The release of genai-prices that is installed, without importing it."""
    try:
        return version("genai-prices") if find_spec("genai_prices") is not None else None
    except PackageNotFoundError:
        return None


async def inquire(known: Known, questions: Iterable[Question], seconds: float) -> Known:
    """Ask a process for these prices too; InquiryError when it fails or takes longer than `seconds`."""
    asked = {question.key: question for question in questions}
    document = {"day": known.day.isoformat(), "questions": [asdict(question) for question in asked.values()]}
    told = await _told(dumps(document), seconds)
    try:
        newest, listed = told["newest"], [prices_of(raw) for raw in told["prices"]]
        if not (newest is None or isinstance(newest, str)) or len(listed) != len(asked):
            raise ValueError("another number of prices than asked for")
    except (ValueError, LookupError, TypeError) as error:
        raise InquiryError(f"the lookup of prices answered with something else: {error}") from error
    prices = {**known.prices, **dict(zip(asked, listed, strict=True))}
    return Known(known.version, known.day, newest, prices)


async def _told(document: bytes, seconds: float) -> Any:
    pipe = asyncio.subprocess.PIPE
    environment = {name: os.environ[name] for name in ENVIRONMENT if name in os.environ}
    command = (sys.executable, "-P", "-m", f"{__package__}.lookup")  # -P: nothing is imported from where we stand
    try:
        process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, stderr=pipe, env=environment)
    except OSError as error:
        raise InquiryError(f"the lookup of prices cannot be started: {error.strerror}") from error
    try:
        async with asyncio.timeout(seconds):
            out, complaint = await process.communicate(document)
    except TimeoutError:
        raise InquiryError(f"the lookup of prices took longer than {seconds:g} seconds") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()
    if process.returncode:
        last = complaint.decode("utf-8", "replace").strip().splitlines()[-1:] or ["no word"]
        raise InquiryError(f"the lookup of prices failed ({process.returncode}): {last[0][:200]}")
    try:
        return loads(out)
    except ValueError as error:
        raise InquiryError("the lookup of prices answered with no JSON") from error


def prices_of(raw: Any, depth: int = 0) -> Prices | None:
    """Prices from their plain form; None for what is none, whatever it is instead."""
    if not isinstance(raw, dict) or depth > 8:
        return None
    over, long = raw.get("over"), prices_of(raw.get("long"), depth + 1)
    named: dict[str, Any] = {
        name: raw.get(name) for name in ("input", "cached", "cache_write", "cache_write_1h", "output")
    }
    if type(over) is not int or long is None:
        over = long = None
    try:
        prices = Prices(**named, over=over, long=long)
    except (TypeError, ValueError):
        return None
    return prices if prices != Prices() else None


def read(path: Path, version: str, day: date) -> Known:
    """What the file holds for this release and day; nothing where it holds another's, or rubbish, or is not there."""
    empty = Known(version, day)
    try:
        held = loads(path.read_bytes())
    except (OSError, ValueError):
        return empty
    if not isinstance(held, dict) or (held.get("version"), held.get("day")) != (version, day.isoformat()):
        return empty
    newest, prices = held.get("newest"), held.get("prices")
    if not isinstance(newest, str) or not isinstance(prices, dict):
        return empty
    sound: dict[str, Prices | None] = {}
    for key, raw in prices.items():
        found = prices_of(raw)
        if raw is None or found is not None:
            sound[key] = found
    return Known(version, day, newest, sound)


def write(path: Path, known: Known) -> None:
    """Put it into the file, whole or not at all, for its owner's eyes only; may raise OSError."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    whole = {
        "version": known.version,
        "day": known.day.isoformat(),
        "newest": known.newest,
        "prices": {key: _told_of(prices) for key, prices in known.prices.items()},
    }
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(dumps(whole))
    draft.replace(path)


def _told_of(prices: Prices | None) -> Mapping[str, Any] | None:
    return None if prices is None else asdict(prices, filter=lambda _, value: value is not None)
