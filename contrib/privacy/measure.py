"""How well and how fast secrets are found: our rules beside gitleaks' in the same engine, on a corpus made here.

    uv run --all-packages --extra … python contrib/privacy/measure.py [--gitleaks FILE] [--seed N] [--out FILE]

Prints tables and writes JSON. What the figures mean stands in the README beside this file.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import statistics
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from time import thread_time
from typing import Any, Literal

from attrs import Factory, define, frozen
from carriers import Case, cases
from clean import Clean, clean_texts
from evasions import hidden
from generator import secrets
from routerpool_secrets import Secrets, SecretsConfig

__all__ = ["Corpus", "Tally", "corpus", "evaded", "main", "scanners", "shared_rules", "speed", "tally"]

Span = tuple[int, int]
Find = Callable[[str], Iterable[Any]]
SEED = 20261120
HEADLINES = (
    "recall",
    "precision",
    "precision_without_names",
    "covered",
    "clean_texts_with_a_finding",
    "unknown_recall",
)
NAMED = "names like those of keys"
SIZES = {"2 KB": 2_000, "100 KB": 100_000}
BOUNDS_MS = {"2 KB": 0.1, "100 KB": 3.0}
"""What the project has set itself for a clean prompt with google-re2 on one core."""


@frozen
class Corpus:
    """Texts with a secret, and texts without one."""

    seed: int
    cases: Sequence[Case]
    clean: Sequence[Clean]

    def sizes(self) -> dict[str, int]:
        """How many of everything there are."""
        kinds = {case.secret.kind.name: case.secret.kind.known for case in self.cases}
        return {
            "secrets": len(self.cases),
            "kinds": sum(kinds.values()),
            "unknown_kinds": len(kinds) - sum(kinds.values()),
            "carriers": len({(case.snippet, case.wrapping) for case in self.cases}),
            "clean_texts": len(self.clean),
            "clean_characters": sum(len(clean.text) for clean in self.clean),
        }


def corpus(seed: int = SEED, each: int = 4) -> Corpus:
    """The corpus of a seed. Real clean texts are of this machine, so that figures of two machines differ a little."""
    return Corpus(seed, list(cases(seed, secrets(seed, each))), list(clean_texts(seed)))


@define
class Tally:
    """What a scanner found, missed and made up."""

    found: Counter[str] = Factory(Counter)
    whole: Counter[str] = Factory(Counter)
    asked: Counter[str] = Factory(Counter)
    known: dict[str, bool] = Factory(dict)
    false: list[dict[str, Any]] = Factory(list)
    missed: list[Case] = Factory(list)
    clean_wrong: int = 0
    clean_texts: int = 0

    def _sum(self, counts: Mapping[str, int], *, known: bool) -> int:
        return sum(count for kind, count in counts.items() if self.known[kind] is known)

    @property
    def recall(self) -> float:
        """Secrets of known kinds that a match overlaps, of all of them."""
        return self._sum(self.found, known=True) / self._sum(self.asked, known=True)

    @property
    def covered(self) -> float:
        """Secrets of known kinds of which the matches leave no character: what redaction needs."""
        return self._sum(self.whole, known=True) / self._sum(self.asked, known=True)

    @property
    def unknown(self) -> float:
        """Secrets found, of kinds that no rule is expected to know."""
        return self._sum(self.found, known=False) / self._sum(self.asked, known=False)

    @property
    def precision(self) -> float:
        """Secrets of known kinds found, of these and all places that are none; overlapping matches are one place."""
        true = self._sum(self.found, known=True)
        return true / (true + len(self.false)) if true else 0.0

    @property
    def precision_without_names(self) -> float:
        """Precision without the texts whose names sound like those of secrets, which the corpus got last."""
        true = self._sum(self.found, known=True)
        false = sum(place["source"] != NAMED for place in self.false)
        return true / (true + false) if true else 0.0

    def figures(self) -> dict[str, Any]:
        """Everything as plain values."""
        return {
            "recall": self.recall,
            "precision": self.precision,
            "precision_without_names": self.precision_without_names,
            "covered": self.covered,
            "unknown_recall": self.unknown,
            "false_places": len(self.false),
            "clean_texts_with_a_finding": self.clean_wrong / self.clean_texts,
            "false_by_rule": dict(Counter(place["rule"] for place in self.false).most_common()),
            "false_by_source": dict(Counter(place["source"] for place in self.false).most_common()),
            "by_kind": {
                kind: {"known": self.known[kind], "asked": asked, "found": self.found[kind], "whole": self.whole[kind]}
                for kind, asked in self.asked.items()
            },
        }


def _overlap(one: Span, other: Span) -> bool:
    return one[0] < other[1] and other[0] < one[1]


def _joined(spans: Iterable[Span]) -> list[Span]:
    joined: list[Span] = []
    for start, end in sorted(spans):
        if joined and start <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(end, joined[-1][1])
        else:
            joined.append((start, end))
    return joined


def _covers(spans: Sequence[Span], span: Span) -> bool:
    return any(start <= span[0] and span[1] <= end for start, end in spans)


def tally(find: Find, corpus: Corpus) -> Tally:
    """Ask a scanner for everything in the corpus."""
    told = Tally()
    for case in corpus.cases:
        kind = case.secret.kind
        told.known[kind.name] = kind.known
        told.asked[kind.name] += 1
        matches = list(find(case.text))
        spans = _joined((match.start, match.end) for match in matches)
        if any(_overlap(span, case.span) for span in spans):
            told.found[kind.name] += 1
            told.whole[kind.name] += _covers(spans, case.span)
        else:
            told.missed.append(case)
        beside = [match for match in matches if not _overlap((match.start, match.end), case.zone)]
        told.false += _places(f"{case.snippet} in {case.wrapping}", case.text, beside)
    for clean in corpus.clean:
        matches = list(find(clean.text))
        told.clean_texts += 1
        told.clean_wrong += bool(matches)
        told.false += _places(clean.source, clean.text, matches)
    return told


def _places(source: str, text: str, matches: Iterable[Any]) -> list[dict[str, Any]]:
    """One entry for each place of a text that no secret stands at."""
    named = [((match.start, match.end), match.rule) for match in matches]
    places = []
    for start, end in _joined(span for span, _ in named):
        rule = next(rule for span, rule in named if _overlap(span, (start, end)))
        places.append({"source": source, "rule": rule, "line": _line_of(text, start), "text": text[start:end][:120]})
    return places


def _line_of(text: str, at: int) -> str:
    return text[text.rfind("\n", 0, at) + 1 :].partition("\n")[0][:160]


def evaded(find: Find, seed: int = SEED, each: int = 1) -> dict[str, float]:
    """By evasion: the share of hidden secrets for which something is found in one of the messages."""
    asked: Counter[str] = Counter()
    seen: Counter[str] = Counter()
    for name, messages in hidden(seed, secrets(seed, each)):
        asked[name] += 1
        seen[name] += any(True for message in messages for _ in find(message))
    return {name: seen[name] / asked[name] for name in asked}


def prompts(seed: int) -> dict[str, list[str]]:
    """By size: clean prompts cut of other texts than the corpus of this seed has, no two of them alike."""
    texts = [clean.text for clean in clean_texts(seed + 1)]
    random.Random(seed).shuffle(texts)
    whole = "\n\n".join(texts)
    return {
        name: [whole[at : at + size] for at in range(0, len(whole) - size, size)][:400] for name, size in SIZES.items()
    }


def speed(find: Find, seed: int = SEED) -> dict[str, dict[str, float]]:
    """By size of a clean prompt: milliseconds of CPU of one scan, of texts never seen and of the same again.

    Engines that build their automaton as they read are slower on what is new, and what is sent to a model is new.
    """
    told = {}
    for name, texts in prompts(seed).items():
        new, again = ([_timed(find, text) for text in texts] for _ in range(2))
        worst = statistics.quantiles(new, n=20)[-1]
        told[name] = {"new_ms": statistics.median(new), "new_p95_ms": worst, "again_ms": statistics.median(again)}
    return told


def _timed(find: Find, text: str) -> float:
    started = thread_time()
    list(find(text))
    return 1000 * (thread_time() - started)


def shared_rules() -> Path:
    """Where gitleaks' rule file is looked for when nobody names it."""
    data = os.environ.get("ROUTERPOOL_SHARED_DATA")
    return (Path(data) if data else Path(__file__).parents[3] / "shared" / "data") / "gitleaks" / "gitleaks.toml"


def scanners(rules: Path | None, looking: Literal["auto", "re2", "re"] = "auto") -> dict[str, Find]:
    """Our rules, and where the file is here gitleaks' rules in the same engine, which is `auto`, `re2` or `re`."""
    found: dict[str, Find] = {"routerpool": Secrets(SecretsConfig(engine=looking)).find}
    if rules is not None and rules.is_file():
        found["gitleaks"] = Secrets(SecretsConfig(engine=looking, builtin=False, rules=(rules,))).find
    return found


def _measured(name: str, find: Find, corpus: Corpus) -> tuple[dict[str, Any], Tally]:
    print(f"{name} …", file=sys.stderr, flush=True)
    told = tally(find, corpus)
    return {**told.figures(), "evasions": evaded(find, corpus.seed), "speed": speed(find, corpus.seed)}, told


def _row(title: str, values: Iterable[Any]) -> str:
    shown = (f"{value:.4f}" if isinstance(value, float) else str(value) for value in values)
    return f"| {title} | {' | '.join(shown)} |"


def _tables(figures: Mapping[str, Mapping[str, Any]]) -> str:
    names = list(figures)
    lines = [_row("", names), _row("---", ["---:"] * len(names))]
    lines += [_row(key.replace("_", " "), (figures[name][key] for name in names)) for key in HEADLINES]
    for size in SIZES:
        for key, title in (("new_ms", "new text"), ("new_p95_ms", "new text, 95 %"), ("again_ms", "seen before")):
            lines += [_row(f"{size}, {title}, ms", (figures[name]["speed"][size][key] for name in names))]
    lines += ["", _row("evasion", names), _row("---", ["---:"] * len(names))]
    first = figures[names[0]]
    lines += [_row(way, (figures[name]["evasions"][way] for name in names)) for way in first["evasions"]]
    for known, title in ((True, "kind, found of all"), (False, "kind without a rule")):
        lines += ["", _row(title, names), _row("---", ["---:"] * len(names))]
        for kind, told in first["by_kind"].items():
            if told["known"] is known:
                cells = (figures[name]["by_kind"][kind] for name in names)
                lines.append(_row(kind, (f"{cell['found']} of {cell['asked']}" for cell in cells)))
    return "\n".join(lines)


def _details(told: Tally, most: int = 200) -> str:
    missed = [case for case in told.missed if case.secret.kind.known]
    lines = [f"  {case.secret.kind.name} ({case.secret.name}) as {case.snippet} in {case.wrapping}" for case in missed]
    places = [f"  {place['source']}: {place['rule']}: {place['line']}" for place in told.false[:most]]
    return "\n".join(["", "Missed:", *lines, "", "False:", *places])


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--gitleaks", type=Path, default=shared_rules(), help="gitleaks' rule file, to compare with")
    parser.add_argument("--engine", choices=("auto", "re2", "re"), default="auto")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--each", type=int, default=4, help="secrets of each kind")
    parser.add_argument("--out", type=Path, help="a file for the figures as JSON")
    parser.add_argument("--details", action="store_true", help="tell what was missed and what was wrong")
    options = parser.parse_args()
    made = corpus(options.seed, options.each)
    print(" · ".join(f"{count} {name.replace('_', ' ')}" for name, count in made.sizes().items()))
    figures: dict[str, dict[str, Any]] = {}
    details = ""
    for name, find in scanners(options.gitleaks, options.engine).items():
        figures[name], told = _measured(name, find, made)
        details += f"\n{name}{_details(told)}\n" if options.details else ""
    print(_tables(figures) + details)
    if options.out:
        about = {
            "seed": options.seed,
            "python": platform.python_version(),
            "engine": options.engine,
            "corpus": made.sizes(),
        }
        options.out.write_text(json.dumps({**about, "bounds_ms": BOUNDS_MS, "scanners": figures}, indent=1), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
