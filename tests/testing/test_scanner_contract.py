"""The contract for scanners lets a sound one through, and each of its tests stops a scanner that breaks its rule."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import pytest

from routerpool.privacy.scanning import Match, TextScanner
from routerpool.testing import ScannerContract

SECRET = "falcon-q1w2e3r4t5y6u7i8o9p0a1s2d3f4"


class Sound(TextScanner):
    def find(self, text: str) -> Iterable[Match]:
        return [Match("falcon", *match.span()) for match in re.finditer("falcon-[a-z0-9]{28}", text)]


class TestASoundScanner(ScannerContract):
    plugin = Sound
    secrets = ((SECRET, SECRET), (f"it is {SECRET}.", SECRET))


class Talks(Sound):
    def prefix_of(self, rule: str) -> str:
        return SECRET


class Keeps(Sound):
    last = ""

    def find(self, text: str) -> Iterable[Match]:
        self.last = text
        return super().find(text)


class Optional(Sound):
    required = False


class Blind(Sound):
    def find(self, text: str) -> Iterable[Match]:
        return super().find(text) if "\n" in text else ()


class Sleepy(Sound):
    def find(self, text: str) -> Iterable[Match]:
        return super().find(text[:100_000])


class Half(Sound):
    def find(self, text: str) -> Iterable[Match]:
        return [Match("falcon", start, start + 7) for _, start, _ in super().find(text)]


class Eager(Sound):
    def find(self, text: str) -> Iterable[Match]:
        return [Match("all", 0, len(text))]


BREAKS = {
    "test_a_finding_tells_line_and_column_and_never_the_secret": Talks,
    "test_what_it_must_find_it_finds_and_nothing_in_clean_text": Eager,
    "test_it_is_found_in_every_place_of_a_request": Blind,
    "test_the_last_character_of_a_large_text_is_scanned": Sleepy,
    "test_redacting_leaves_none_of_it_in_what_is_sent": Half,
    "test_a_placeholder_is_sent_and_the_original_comes_back": Blind,
    "test_a_blocked_request_says_where_and_never_what": Blind,
}


@pytest.mark.parametrize("name", BREAKS)
def test_a_broken_scanner_is_stopped(name: str) -> None:
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        getattr(contract(BREAKS[name]), name)()


def test_one_that_keeps_texts_is_stopped() -> None:
    with pytest.raises(AssertionError):
        contract(Keeps).test_a_finding_tells_line_and_column_and_never_the_secret()


def test_one_that_is_not_required_is_stopped() -> None:
    with pytest.raises(AssertionError, match="a scanner is required"):
        contract(Optional).test_what_it_must_find_it_finds_and_nothing_in_clean_text()


def test_one_that_takes_the_square_of_the_time_is_stopped() -> None:
    class Slow(Sound):
        def find(self, text: str) -> Iterable[Match]:
            for start in range(0, len(text), 32):
                re.match("[a-z]*!", text[start:])
            return super().find(text)

    with pytest.raises(pytest.fail.Exception, match="takes"):
        contract(Slow).test_twice_the_text_takes_twice_the_time(0)


def contract(scanner: Any) -> Any:
    return type("Contract", (ScannerContract,), {"plugin": scanner, "secrets": ((SECRET, SECRET),)})()
