"""The corpus of contrib/privacy, and what the scanner of secrets must reach on it."""

from __future__ import annotations

import ast
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from ..support.house import shared

FOLDER = Path(__file__).resolve().parents[2] / "contrib" / "privacy"
MODULES = ("carriers", "clean", "evasions", "formats", "generator", "material", "measure", "words")
RECALL, PRECISION = 0.97, 0.98


@pytest.fixture(scope="module")
def measure() -> Iterator[ModuleType]:
    """The modules of the folder, imported as its commands import each other, and forgotten again."""
    pytest.importorskip("routerpool_secrets")
    sys.path.insert(0, str(FOLDER))
    try:
        import measure  # type: ignore[import-not-found, unused-ignore]  # found by the path above

        yield measure
    finally:
        sys.path.remove(str(FOLDER))
        for name in MODULES:
            sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def corpus(measure: ModuleType) -> object:
    return measure.corpus()


def test_the_corpus_is_as_large_as_promised(measure: ModuleType, corpus: object) -> None:
    sizes = corpus.sizes()
    assert sizes["secrets"] >= 300
    assert sizes["kinds"] >= 60
    assert sizes["unknown_kinds"] >= 10
    assert sizes["carriers"] >= 300
    assert sizes["clean_texts"] >= 1000
    assert len({clean.text for clean in corpus.clean}) > 0.99 * len(corpus.clean)


def test_the_same_seed_makes_the_same_secrets_and_another_seed_makes_others(measure: ModuleType) -> None:
    def values(seed: int) -> list[str]:
        return [secret.value for secret in measure.secrets(seed, 2)]

    assert values(1) == values(1)
    assert not set(values(1)) & set(values(2))


def test_every_secret_stands_in_its_carrier_where_the_corpus_says(corpus: object) -> None:
    marks = {"\ue000", "\ue001", "\ue002", "\ue003"}
    for case in corpus.cases:
        (start, end), (begin, stop) = case.span, case.zone
        assert 0 <= begin <= start < end <= stop <= len(case.text)
        assert not marks & set(case.text)
        if case.secret.kind.form == "named":
            assert case.text[begin:stop] == case.text[start:end]


def test_what_makes_the_corpus_imports_nothing_of_a_scanner_or_of_the_router() -> None:
    for name in MODULES:
        if name == "measure":
            continue
        tree = ast.parse((FOLDER / f"{name}.py").read_text(encoding="utf-8"))
        imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        assert not {module for module in imported if module.startswith("routerpool")}, name


def test_a_scanner_is_judged_by_what_it_finds_misses_and_makes_up(measure: ModuleType, corpus: object) -> None:
    from routerpool.privacy.scanning import Match

    spans = {case.text: case.span for case in corpus.cases}
    told = measure.tally(lambda text: [Match("all", *spans[text])] if text in spans else [], corpus)
    assert (told.recall, told.covered, told.unknown, told.precision) == (1.0, 1.0, 1.0, 1.0)

    told = measure.tally(lambda text: [], corpus)
    assert (told.recall, told.precision, told.false) == (0.0, 0.0, [])

    told = measure.tally(lambda text: [Match("all", 0, len(text))], corpus)
    assert told.recall == 1.0
    assert len(told.false) == len(corpus.clean) == told.clean_wrong

    halves = {text: (start, (start + end + 1) // 2) for text, (start, end) in spans.items()}
    told = measure.tally(lambda text: [Match("half", *halves[text])] if text in halves else [], corpus)
    assert (told.recall, told.covered) == (1.0, 0.0)


def test_the_scanner_finds_what_it_must_and_little_else(measure: ModuleType, corpus: object) -> None:
    told = measure.tally(measure.scanners(None)["routerpool"], corpus)
    missed = sorted({f"{case.secret.kind.name} as {case.snippet}" for case in told.missed if case.secret.kind.known})
    assert told.recall >= RECALL, missed
    assert told.precision >= PRECISION, told.false
    assert told.precision_without_names >= PRECISION, told.false


def test_the_scanner_is_better_than_gitleaks_rules_in_the_same_engine(measure: ModuleType, corpus: object) -> None:
    rules = shared("gitleaks", "gitleaks.toml")
    scanners = measure.scanners(rules, "re")  # finds what re2 does, and does not build an automaton of 200 patterns
    ours, theirs = (measure.tally(scanners[name], corpus) for name in ("routerpool", "gitleaks"))
    assert theirs.recall > 0.5  # their rules are really asked
    assert ours.recall > theirs.recall
    assert ours.precision > theirs.precision


def test_both_engines_find_the_same(measure: ModuleType, corpus: object) -> None:
    pytest.importorskip("re2", reason="google-re2 is not installed: there is one engine only")
    one, other = (measure.scanners(None, engine)["routerpool"] for engine in ("re2", "re"))
    texts = [case.text for case in corpus.cases] + [clean.text for clean in corpus.clean]
    for text in random.Random(1).sample(texts, 400):
        assert list(one(text)) == list(other(text))
