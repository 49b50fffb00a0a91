"""Fit the weights of routerpool.planning.tokens to o200k, and show what they are worth on texts they have not seen.

    uv run --with rs-bpe --with numpy python contrib/benchmarks/tokens.py FOLDER ...

Reads what is text in the folders (sources, documents, JSON, logs, gettext catalogs), never writes, and prints the
error by kind of text, the error on long requests that are sampled, the time an estimate takes, and the weights to
put into routerpool/planning/tokens.py. Half of the files, chosen by a hash of the path, is only ever used to test.
"""

from __future__ import annotations

import argparse
import gettext
import hashlib
import json
import random
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from operator import mul
from pathlib import Path

from attrs import frozen

from routerpool.planning.tokens import MESSAGE_TOKENS, WEIGHTS, WHOLE, count_classes, estimate_tokens

KINDS = {
    ".py": "python",
    ".c": "c, c++",
    ".h": "c, c++",
    ".js": "javascript",
    ".ts": "javascript",
    ".css": "css",
    ".md": "markdown",
    ".rst": "rst",
    ".json": "json",
    ".yaml": "yaml",
    ".html": "html",
    ".xml": "xml",
    ".sh": "shell",
    ".log": "log",
    ".txt": "prose",
    ".mo": "catalog",
}
LANGUAGES = frozenset("ar cs de el es fa fr he hi hu id it ja ka ko nl pl pt ru sv th tr uk vi zh".split())  # noqa: SIM905 -- read as a line
SIZES = (300, 600, 1200, 2400, 4000)


@frozen
class Piece:
    """A text of one kind, whether it is kept for the test, and how many tokens it truly is."""

    kind: str
    text: str
    held_out: bool
    tokens: int


def catalog_text(path: Path) -> tuple[str, str] | None:
    """The language of a compiled gettext catalog and the sentences in it; none when it is not one of `LANGUAGES`."""
    language = path.parts[-3].partition("_")[0].partition("@")[0] if len(path.parts) > 3 else ""
    if language not in LANGUAGES:
        return None
    with path.open("rb") as file:
        catalog = gettext.GNUTranslations(file)._catalog  # type: ignore[attr-defined] # there is no other way in
    said = [text for asked, text in catalog.items() if asked and isinstance(text, str)]
    return language, " ".join(text for text in said if len(text) > 30 and not set(text) & set("%{}<>="))


def texts_of(path: Path) -> Iterator[tuple[str, str]]:
    """The texts in a file, each with its kind; none when it cannot be read, or is no English where that is the rule."""
    kind = KINDS[path.suffix]
    try:
        if kind == "catalog":
            if found := catalog_text(path):
                yield found[0], found[1][:60_000]
            return
        text = path.read_text("utf-8")[:60_000]
    except (OSError, ValueError, LookupError):
        return
    if len(text.encode()) > 1.02 * len(text):
        return
    if kind in {"css", "javascript"} and len(text) > 200 * (text.count("\n") + 1):
        kind = "minified"
    yield kind, text
    if kind in {"prose", "markdown"}:  # as people type it into a chat
        yield "prose, unwrapped", " ".join(word for word in text.split() if word.isalpha() or word[:-1].isalpha())
    if kind == "json":
        try:
            yield "json, minified", json.dumps(json.loads(text), separators=(",", ":"), ensure_ascii=False)
        except ValueError:
            return


def gather(folders: list[Path], count: Callable[[str], int], most: int) -> list[Piece]:
    """Pieces of up to `most` texts a kind, a few from each, found in an order that is always the same."""
    paths = sorted(path for folder in folders for path in folder.rglob("*") if path.suffix in KINDS and path.is_file())
    chance = random.Random(0)
    chance.shuffle(paths)
    taken: dict[str, int] = defaultdict(int)
    found: list[Piece] = []
    for path in paths:
        held_out = bool(hashlib.sha256(str(path).encode()).digest()[0] % 2)
        for kind, text in texts_of(path):
            if len(text) < SIZES[0] or taken[kind] >= most:
                continue
            taken[kind] += 1
            for _ in range(5):
                size = chance.choice(SIZES)
                start = chance.randrange(max(1, len(text) - size))
                piece = text[start : start + size]
                found.append(Piece(kind, piece, held_out, max(1, count(piece))))
    return found


def fit(pieces: list[Piece]) -> dict[str, float]:
    """The weights with the least squared relative error, each kind counting alike and none below zero.

    What hardly occurs in these pieces (emoji, as a rule) keeps the weight it has.
    """
    import numpy as np

    sizes: dict[str, int] = defaultdict(int)
    for piece in pieces:
        sizes[piece.kind] += 1
    share = np.array([1 / max(100, sizes[piece.kind]) ** 0.5 / piece.tokens for piece in pieces])
    counts = np.array([padded(count_classes(piece.text)) for piece in pieces], dtype=float)
    rows, target = counts * share[:, None], np.array([piece.tokens for piece in pieces]) * share
    weights = np.array(list(WEIGHTS.values()))
    fitted = [column for column in range(len(weights)) if (counts[:, column] > 20).mean() > 0.005]
    while True:
        known = np.delete(np.arange(len(weights)), fitted)
        solved = np.linalg.lstsq(rows[:, fitted], target - rows[:, known] @ weights[known], rcond=None)[0]
        if (solved >= 0).all():
            weights[fitted] = solved
            return dict(zip(WEIGHTS, map(float, weights), strict=True))
        worst = fitted.pop(int(np.argmin(solved)))
        weights[worst] = 0.0


def padded(counts: tuple[int, ...]) -> tuple[int, ...]:
    """The counts, with a zero for each script of a text that is all ASCII."""
    return counts + (0,) * (len(WEIGHTS) - len(counts))


def table(title: str, rows: dict[str, list[tuple[float, float, float]]]) -> None:
    """Print mean error and bias in percent by kind, for (true, estimated, characters) triples."""
    print(f"\n{title:32} {'pieces':>7} {'MAE %':>7} {'bias %':>7}   {'chars/4 MAE':>11} {'bias':>6}")
    for kind in [*sorted(rows), "all"]:
        triples = rows[kind] if kind in rows else [triple for triples in rows.values() for triple in triples]
        errors = [100 * (guess - true) / true for true, guess, _ in triples]
        quarter = [100 * (length / 4 - true) / true for true, _, length in triples]
        print(
            f"{kind:32} {len(triples):7} {mean(map(abs, errors)):7.1f} {mean(errors):7.1f}   "
            f"{mean(map(abs, quarter)):11.1f} {mean(quarter):6.1f}"
        )


def mean(numbers: Iterable[float]) -> float:
    """The arithmetic mean."""
    listed = list(numbers)
    return sum(listed) / len(listed)


def show_errors(pieces: list[Piece], weights: dict[str, float]) -> None:
    rows: dict[str, list[tuple[float, float, float]]] = defaultdict(list)
    for piece in pieces:
        guess = sum(map(mul, weights.values(), count_classes(piece.text)))
        rows[piece.kind].append((piece.tokens, guess, len(piece.text)))
    table("read whole, held-out files", rows)


def show_sampling(pieces: list[Piece], length: int = 200_000) -> None:
    """Long requests, mixed of all kinds and of one kind, with the weights that routerpool.planning.tokens has now."""
    chance = random.Random(1)
    by_kind: dict[str, list[Piece]] = defaultdict(list)
    for piece in pieces:
        by_kind[piece.kind].append(piece)
    rows: dict[str, list[tuple[float, float, float]]] = defaultdict(list)
    for _ in range(60):
        for kind, own in (("one kind", chance.choice(list(by_kind.values()))), ("all kinds", pieces)):
            chosen: list[Piece] = []
            while sum(len(piece.text) for piece in chosen) < length:
                chosen.append(chance.choice(own))
            guess = estimate_tokens([{"role": "user", "content": piece.text} for piece in chosen])
            total = sum(piece.tokens for piece in chosen)
            guess -= MESSAGE_TOKENS * len(chosen)
            rows[f"{length // 1000} KB of {kind}"].append((total, guess, sum(len(piece.text) for piece in chosen)))
    table("sampled, as routerpool.planning.tokens is", rows)


def show_times(pieces: list[Piece]) -> None:
    """The processor time of one estimate, the best of many: what a request pays on a quiet machine."""
    print(f"\n{'one estimate':32} {'µs':>7} {'ns/char':>8}")
    source = "".join(piece.text for piece in pieces if piece.text.isascii())
    for messages, size in ((1, 40), (4, 500), (1, WHOLE), (1, 200_000), (50, 4_000), (133, 1_500)):
        body = [{"role": "user", "content": source[size * at : size * (at + 1)]} for at in range(messages)]
        best = float("inf")
        for _ in range(300):
            began = time.perf_counter()
            for _ in range(10):
                estimate_tokens(body)
            best = min(best, (time.perf_counter() - began) / 10)
        label = f"{messages} × {size:,} characters"
        print(f"{label:32} {best * 1e6:7.1f} {best * 1e9 / messages / size:8.2f}")


def main() -> int:
    """Gather, fit, show; 2 when what it needs is not installed or there is nothing to read."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--most", type=int, default=150, help="texts a kind (%(default)s)")
    options = parser.parse_args()
    try:
        import numpy as np  # noqa: F401 -- asked for here, so that the cure is told before the work
        from rs_bpe.bpe import openai
    except ImportError as missing:
        print(f"{missing.name} is missing: uv run --with rs-bpe --with numpy python {sys.argv[0]} …", file=sys.stderr)
        return 2
    pieces = gather(options.folders, openai.o200k_base().count, options.most)
    train, test = ([piece for piece in pieces if piece.held_out is half] for half in (False, True))
    if not train or not test:
        print("no texts found in these folders", file=sys.stderr)
        return 2
    weights = fit(train)
    show_errors(test, weights)
    show_sampling(test)
    show_times(test)
    print("\nweights: " + json.dumps({name: round(weight, 3) for name, weight in weights.items()}, indent=4))
    return 0


if __name__ == "__main__":
    sys.exit(main())
