"""Personal data in requests: mail addresses, telephone numbers, IBANs, payment cards, national ids of 24 countries.

Numbers count only with the checksums that their issuers publish; where a form alone says too little, a word for it
must stand nearby. Postal addresses need a language model: `addresses` names one of spaCy's, which Presidio reads.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from typing import Any

from attrs import field, frozen

from routerpool import Level, Match, PluginError, Privacy, Probe, Report, Router, ScannerConfig, TextScanner, hookimpl
from routerpool_pii.addresses import CURE, Reader
from routerpool_pii.rules import FORMS, RULES, lowered, regions, surroundings

__all__ = ["PII"]

CLASSES = ("contact", "finance", "id", "address")
COUNTRIES = tuple(sorted({rule.country for rule in RULES if rule.country}))


def _listed(known: Iterable[str], what: str) -> Any:
    def check(_: object, __: object, value: list[str]) -> None:
        strange = [name for name in value if name not in known]
        if strange:
            raise ValueError(f"{strange[0]!r} is no {what}; there are: {', '.join(known)}")

    return check


class PII(TextScanner):
    """Raises, blocks, redacts or replaces requests with personal data in them, as its section says."""

    @frozen(kw_only=True)
    class Config(ScannerConfig):
        """The section of the configuration."""

        level: Privacy = field(
            default=Privacy.SENSITIVE, metadata={"help": "The class that a request with findings rises to"}
        )
        classes: list[str] = field(
            factory=lambda: list(CLASSES),
            validator=_listed(CLASSES, "class of personal data"),
            metadata={"help": "What is looked for: contact, finance, id, address"},
        )
        countries: list[str] = field(
            factory=lambda: list(COUNTRIES),
            validator=_listed(COUNTRIES, "country with ids that are known here"),
            metadata={"help": "Whose national ids are looked for, by two letters; all unless given"},
        )
        addresses: str = field(
            default="",
            metadata={"help": "A spaCy model by name or folder, for postal addresses; needs routerpool-pii[presidio]"},
        )

    def __init__(self, config: Config | None = None, *, name: str = "pii") -> None:
        config = config or self.Config()
        self._rules = [
            rule
            for rule in RULES
            if rule.kind in config.classes and (not rule.country or rule.country in config.countries)
        ]
        self._kinds = {rule.name: rule.kind for rule in self._rules}
        self._reader: Reader | None = None
        if config.addresses and "address" in config.classes:
            self._reader = Reader(config.addresses)
            if not self._reader.installed():
                raise ValueError(self._reader.idle)
            self._kinds["address"] = "address"
            self.threaded = True  # type: ignore[misc]  # only where a model reads; the base asks the instance
        super().__init__(config, name=name)

    def find(self, text: str) -> Iterator[Match]:
        """Personal data in this text."""
        places = regions(text)
        if places:
            small = lowered(text)
            near = surroundings(small, places)
            formed = [place for place in places if FORMS.search(text, *place)]
            for rule in self._rules:
                yield from rule.matches(text, small, formed if rule.by_form else places, near)
        if self._reader is not None:
            yield from self._reader.find(text)

    def rules(self) -> Iterable[str]:
        """The rules that are switched on."""
        return self._kinds

    def class_of(self, rule: str) -> str:
        """contact, finance, id or address."""
        return self._kinds[rule]

    @hookimpl
    async def lifespan(self, router: Router) -> AsyncIterator[None]:
        """Load the language model, where one is asked for, in a thread: it takes seconds.

        Without it the start fails: a scanner that does not look would let everything through.
        """
        if self._reader is not None:
            await asyncio.to_thread(self._reader.load)
            if self._reader.idle:
                raise PluginError(self._reader.idle)
        yield

    @hookimpl
    def status(self) -> Mapping[str, Any]:
        """What every scanner tells, and whether addresses are looked for."""
        told = dict(super().status())
        return told if self._reader is None else {**told, "addresses": self._reader.idle or self._reader.model}

    @hookimpl
    def check(self, probe: Probe) -> Iterable[Report]:
        """What every scanner tells, and what is missing for addresses."""
        if self._reader is not None and self._reader.idle:
            self._reader.load()
            if self._reader.idle:
                yield Report(level=Level.ERROR, text=self._reader.idle.partition(";")[0], cure=CURE)
                return
        yield from super().check(probe)
