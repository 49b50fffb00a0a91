"""Postal addresses by Microsoft's Presidio: a place that a language model sees, with a number in the same line.

Nothing here asks the network: of Presidio only the recogniser that reads the model's own entities is made, the list of
public suffixes that tldextract would fetch is the one it ships, and a model that is not here is not downloaded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from attrs import define, field

from routerpool import Match

__all__ = ["Reader"]

RULE = "address"
CURE = "pip install 'routerpool-pii[presidio]', and install the spaCy model that `addresses` names"
PIECE, OVERLAP = 50_000, 500
"""Characters that the model reads at once, and how many of them twice: spaCy refuses texts that are too long."""

NUMBER = re.compile(r"(?<![\w.,:/-])\d{1,5}(?:-\d{3,4})?[a-zA-Z]?(?![\w/:]|[.,]\d)")
"""A house number or a postal code."""
NEAR = 40
"""Characters between a place and its number."""


@define
class Reader:
    """Presidio with one model, to be loaded before anything is asked of it; `idle` says why it is not."""

    model: str
    idle: str = "not loaded yet"
    _analyzer: Any = field(default=None, init=False, repr=False)

    def installed(self) -> bool:
        """Whether Presidio is there, as far as that can be told without importing it; if not, `idle` says so."""
        if find_spec("presidio_analyzer") is None or find_spec("spacy") is None:
            self.idle = f"postal addresses cannot be looked for: presidio-analyzer is not installed; {CURE}"
            return False
        return True

    def load(self) -> None:
        """Import Presidio and the model, which takes seconds; what is missing is told in `idle`."""
        if not self.installed():
            return
        spacy: Any = import_module("spacy")
        if not (spacy.util.is_package(self.model) or Path(self.model).is_dir()):
            self.idle = f"postal addresses cannot be looked for: there is no spaCy model {self.model!r}; {CURE}"
            return
        suffixes: Any = import_module("tldextract")
        suffixes.tldextract.TLD_EXTRACTOR = suffixes.TLDExtract(suffix_list_urls=(), cache_dir=None)
        presidio: Any = import_module("presidio_analyzer")
        engines: Any = import_module("presidio_analyzer.nlp_engine")
        recognizers: Any = import_module("presidio_analyzer.predefined_recognizers")
        places = recognizers.SpacyRecognizer(supported_entities=["LOCATION"])
        engine = engines.SpacyNlpEngine(models=[{"lang_code": "en", "model_name": self.model}])
        registry = presidio.RecognizerRegistry(recognizers=[places])
        self._analyzer = presidio.AnalyzerEngine(registry=registry, nlp_engine=engine, supported_languages=["en"])
        self.idle = ""

    def find(self, text: str) -> Iterator[Match]:
        """Places with a number near them in the same line, from the first to the last character of both."""
        if self._analyzer is None:  # to find nothing would say that there is nothing
            raise RuntimeError("the language model is not loaded")
        seen = 0
        for at in range(0, len(text), PIECE):
            piece = text[at : at + PIECE + OVERLAP]
            places = self._analyzer.analyze(text=piece, language="en", entities=["LOCATION"])
            for start, end in sorted(span for place in places for span in _with_number(piece, place.start, place.end)):
                if at + end > seen:
                    yield Match(RULE, max(seen, at + start), at + end)
                    seen = at + end


def _with_number(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """The place and its nearest number, unless there is none in the line."""
    first = max(text.rfind("\n", 0, start) + 1, start - NEAR)
    stop = text.find("\n", end)
    last = min(len(text) if stop < 0 else stop, end + NEAR)
    numbers = [match.span() for match in NUMBER.finditer(text, first, last)]
    if numbers:
        yield min(start, *(number[0] for number in numbers)), max(end, *(number[1] for number in numbers))
