"""Prices for the models whose price nobody has written down.

They come from the package genai-prices, which ships its list and needs no network. Whatever the configuration or a
provider says of a price goes before it. See `lookup` for why a process of its own is asked.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from fnmatch import fnmatchcase
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Annotated, Any

from attrs import field, frozen

from routerpool import Candidate, Level, Prices, Probe, Report, hookimpl
from routerpool.config import Range
from routerpool_prices.inquiry import InquiryError, Known, Question, inquire, installed_version, read, write

if TYPE_CHECKING:
    from routerpool import Router

__all__ = ["PriceList", "PricesConfig"]

log = logging.getLogger("routerpool.prices")

RETRY_SECONDS = 600.0
"""A lookup that failed is not tried again before this."""

OLD_DAYS = 120
"""From this age on doctor warns of the list: prices change with every generation of models."""

CHECK_SECONDS = 4.0
"""How long doctor waits for a lookup; a hook must be done in five."""

FIRST_SECONDS = 3.0
"""How long a start waits for what is to be looked up; a lookup takes about a second, once a day."""

SHOWN = 5

CURE = "pip install -U genai-prices"


@frozen(kw_only=True)
class PricesConfig:
    """What you know of prices yourself, and how the others are looked up."""

    prices: dict[str, Prices] = field(
        factory=dict,
        metadata={"help": "US dollars per million tokens by candidate key or glob; these go before all others"},
    )
    lookup: bool = field(default=True, metadata={"help": "look up in genai-prices what nobody has told"})
    cache: Path | None = field(
        default=None, metadata={"help": "file for what was looked up (default: prices.json beside the SQLite store)"}
    )
    seconds: Annotated[float, Range(above=0, most=300)] = field(
        default=30.0, metadata={"help": "most seconds for a lookup"}
    )


class PriceList:
    """Gives prices to the catalog: yours, and for models that bring none, those of the package's list."""

    Config = PricesConfig
    default = 110

    def __init__(self, config: PricesConfig | None = None) -> None:
        self.config = config or PricesConfig()
        self.problem: str | None = None
        self._router: Router | None = None
        self._path: Path | None = self.config.cache
        self._known: Known | None = None
        self._listed: dict[str, Prices] = {}
        self._retry_at = 0.0
        self._changed = asyncio.Event()
        self._settled = asyncio.Event()

    @hookimpl
    async def lifespan(self, router: Router) -> AsyncIterator[None]:
        """Give what is known at once; ask for the rest, and again beside the requests when models join.

        The first answer is waited for a little: who asks first should meet the order of the second request, too.
        """
        self._router = router
        self._path = self.config.cache.expanduser() if self.config.cache else _beside(router.config.store)
        await self._recall()
        self._give(router)
        end = router.catalog.watch(self._changed.set)
        task = asyncio.create_task(self._keep(router))
        if self._unknown(router):
            with suppress(TimeoutError):
                await asyncio.wait_for(self._settled.wait(), FIRST_SECONDS)
        try:
            yield
        finally:
            end()
            task.cancel()
            await asyncio.wait((task,))
            self._router = None

    @hookimpl
    async def check(self, probe: Probe) -> Iterable[Report]:
        """How old the list is; while the router is open, also which candidates have no price."""
        reports = [await self._age()] if self.config.lookup else []
        if self._router is not None:
            if self.config.lookup:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._settled.wait(), CHECK_SECONDS)
            reports += self._gaps(self._router.catalog.snapshot.candidates)
        return reports

    @hookimpl
    def status(self) -> Mapping[str, Any]:
        """What is known, of which day, and what went wrong."""
        known = self._known
        return {
            "package": known.version if known else None,
            "newest": known.newest if known else None,
            "listed": len(self._listed),
            "unknown": len(_unpriced(self._router.catalog.snapshot.candidates)) if self._router else 0,
            "problem": self.problem,
        }

    # Looking up

    async def _keep(self, router: Router) -> None:
        while True:
            self._changed.clear()
            await self._look(router)
            self._settled.set()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._pause()):
                    await self._changed.wait()

    def _pause(self) -> float:
        """Seconds until something may be different though no model has joined: a new day, or another try."""
        now = datetime.now(UTC)
        midnight = datetime.combine(now.date() + timedelta(days=1), datetime.min.time(), UTC)
        left = (midnight - now).total_seconds() + 1.0
        return min(left, max(self._retry_at - monotonic(), 1.0)) if self.problem else left

    async def _look(self, router: Router) -> None:
        """Ask for what is not known yet, remember it and give it to the catalog."""
        await self._recall()
        known, new = self._known, self._unknown(router)
        if known is not None and new and monotonic() >= self._retry_at:
            await self._ask(known, new)
        self._give(router)

    def _unknown(self, router: Router) -> list[Question]:
        """What there is to look up."""
        if self._known is None:
            return []
        asked = {question.key: question for question in self._questions(router).values()}
        return [question for key, question in asked.items() if key not in self._known.prices]

    async def _recall(self) -> None:
        """Forget what was known of another day or release, and read what the file has of this one."""
        today, version = _today(), installed_version() if self.config.lookup else None
        if version is None:
            self._known = None
            self.problem = f"genai-prices is not installed ({CURE})" if self.config.lookup else None
            self._retry_at = monotonic() + RETRY_SECONDS
        elif self._known is None or (self._known.version, self._known.day) != (version, today):
            path = self._path
            self._known = await asyncio.to_thread(read, path, version, today) if path else Known(version, today)
            self.problem, self._retry_at = None, 0.0

    async def _ask(self, known: Known, questions: Sequence[Question]) -> None:
        try:
            self._known = await inquire(known, questions, self.config.seconds)
        except InquiryError as error:
            self.problem, self._retry_at = str(error), monotonic() + RETRY_SECONDS
            log.warning("%s", error)
            return
        self.problem = None
        if self._path is not None:
            try:
                await asyncio.to_thread(write, self._path, self._known)
            except OSError as error:
                log.warning("cannot keep what was looked up in %s: %s", self._path, error.strerror)

    def _questions(self, router: Router) -> dict[str, Question]:
        """What to ask for, by candidate: all that costs something, and of which nobody says what."""
        asked = {}
        for candidate in router.catalog.snapshot.candidates:
            told = candidate.model.prices != Prices() and candidate.key not in self._listed
            if told or candidate.model.free or candidate.model.local or self._stated(candidate.key) is not None:
                continue
            provider, owner = router.providers[candidate.provider], router.owners[candidate.provider]
            names = (getattr(provider, "prices_as", None), owner.use, candidate.provider)
            asked[candidate.key] = Question(
                str(getattr(provider, "base_url", None) or ""),
                tuple(dict.fromkeys(name for name in names if name)),
                candidate.model.id,
            )
        return asked

    def _give(self, router: Router) -> None:
        """Tell the catalog: what the configuration states, and what the list has."""
        known = self._known.prices if self._known else {}
        listed = {key: known.get(question.key) for key, question in self._questions(router).items()}
        self._listed = {key: prices for key, prices in listed.items() if prices is not None}
        keys = [candidate.key for candidate in router.catalog.snapshot.candidates]
        stated = {key: prices for key in keys if (prices := self._stated(key)) is not None}
        router.catalog.price(self._listed, stated=stated)

    def _stated(self, key: str) -> Prices | None:
        """What the configuration says of a candidate: by its key, else by the first glob that fits."""
        stated = self.config.prices
        return stated.get(key) or next((stated[glob] for glob in stated if fnmatchcase(key, glob)), None)

    # Telling

    async def _age(self) -> Report:
        """How old the package's list is, which it tells by the last change of a price in it."""
        version = installed_version()
        if version is None:
            text = "genai-prices is not installed: only prices that are written down are known"
            return Report(level=Level.NOTE, text=text, cure=CURE, subject="prices")
        known = self._known or Known(version, _today())
        if known.newest is None:
            try:
                known = await inquire(known, (), min(self.config.seconds, CHECK_SECONDS))
            except InquiryError as error:
                return Report(level=Level.NOTE, text=str(error), cure=CURE, subject="prices")
        days = (known.day - date.fromisoformat(known.newest)).days if known.newest else OLD_DAYS + 1
        text = f"genai-prices {version}: its newest change of a price is of {known.newest}, {days} days ago"
        old = days > OLD_DAYS
        return Report(level=Level.WARNING if old else Level.OK, text=text, cure=CURE if old else "", subject="prices")

    def _gaps(self, candidates: Sequence[Candidate]) -> Iterable[Report]:
        missing = _unpriced(candidates)
        if missing:
            text = f"no price is known of {_few(missing)}, so nobody knows what their answers cost"
            cure = "write it down: `plugins.prices.prices: {<candidate>: {input: …, output: …}}`"
            yield Report(level=Level.NOTE, text=text, cure=cure, subject="prices")
        idle = [glob for glob in self.config.prices if not any(fnmatchcase(c.key, glob) for c in candidates)]
        if idle:
            text = f"`prices` names what is no candidate: {_few(idle)}"
            yield Report(level=Level.NOTE, text=text, cure="see `routerpool models`", subject="prices")


def _unpriced(candidates: Iterable[Candidate]) -> list[str]:
    return [c.key for c in candidates if c.model.prices == Prices() and not (c.model.free or c.model.local)]


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _today() -> date:
    return datetime.now(UTC).date()


def _beside(store: str) -> Path | None:
    """The file beside an SQLite database; None where the store is none, or has no file."""
    scheme, _, rest = store.partition(":///")
    file = rest.partition("?")[0]
    return Path(file).with_name("prices.json") if scheme == "sqlite" and file not in ("", ":memory:") else None
