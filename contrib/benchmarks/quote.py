"""Quotes the figures: all of them in the README beside this script, six in the project's README.

`python contrib/benchmarks/quote.py [FOLDER/figures.json | --check]`. With a file that bench.py has written, its medians
are kept beside this script as figures.json and the tables are made of them; without one, of what was kept. The prose
around the tables is nobody's but the author's.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from textwrap import fill
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
KEPT = HERE / "figures.json"
BEGIN = "<!-- figures:begin (made by contrib/benchmarks/quote.py, checked by a test) -->"
END = "<!-- figures:end -->"
MARKS = {None: "", True: "", False: ", **not reached**"}
WIDTH = 120
UNITS = ("s", "ms", "MB", "kB", "bytes")
MAIN = ("cpu_2k", "cpu_event_0", "p99_2k", "first_5", "rss_idle", "crowd_memory")
"""The figures that stand in the project's README."""


def essential(measured: dict[str, Any]) -> dict[str, Any]:
    """What is quoted, without the single rounds."""
    return {
        "about": measured["about"],
        "figures": [figure for figure in measured["figures"] if figure["beside"] != "before"],  # those are a change's
        "robustness": measured["robustness"]["figures"],
    }


def main_figures(kept: dict[str, Any]) -> str:
    """Six figures, and every aim that is not reached."""
    by_key = {figure["key"]: figure for figure in kept["figures"]}
    aims = [figure for figure in (*kept["figures"], *kept["robustness"]) if figure["kept"] is not None]
    missed = [_named(figure)[0] for figure in aims if not figure["kept"]]
    told = f"Of {len(aims)} aims {len(missed) or 'all'} are {'not ' * bool(missed)}reached"
    told = fill(f"{told}{': ' * bool(missed)}{'; '.join(missed)}.", WIDTH)
    return f"{_speed(kept['about'], map(by_key.__getitem__, MAIN))}\n\n{told}"


def all_figures(kept: dict[str, Any]) -> str:
    """Every figure of speed, then every one of what is promised."""
    lines = [_speed(kept["about"], kept["figures"]), "", "| promise | value | aim |", "|---|---:|---|"]
    for figure in kept["robustness"]:
        title, unit = _named(figure)
        lines.append(f"| {title} | {_shown(figure['value'], unit)} | {figure['aim'] or ''}{MARKS[figure['kept']]} |")
    return "\n".join(lines)


QUOTING: dict[Path, Callable[[dict[str, Any]], str]] = {
    ROOT / "README.md": main_figures,
    HERE / "README.md": all_figures,
}


def _speed(about: dict[str, Any], figures: Iterable[dict[str, Any]]) -> str:
    lines = [
        (
            f"Measured {about['time'][:10]} on {about['cores']} shared cores: Python {about['python']}, "
            f"aiohttp {about['aiohttp']}, uvloop {about['uvloop']}, medians of {about['rounds']} rounds."
        ),
        "",
        "| figure | bare proxy, or what is named | routerpool | ratio | aim |",
        "|---|---:|---:|---:|---|",
    ]
    for figure in figures:
        medians, ratio = figure["medians"], figure["ratios"].get("routerpool")
        cells = [_shown(medians.get(figure["beside"]), figure["unit"]), _shown(medians["routerpool"], figure["unit"])]
        cells += [f"{ratio:.2f} ×" if ratio else "", f"{figure['bound'] or ''}{MARKS[figure['kept']]}"]
        lines.append(f"| {figure['title']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _named(figure: dict[str, Any]) -> tuple[str, str]:
    """A figure's title and its unit, which stands at the end of the titles of what is promised."""
    title, _, unit = figure["title"].rpartition(", ")
    return (title, unit) if unit in UNITS else (figure["title"], "")


def _shown(value: float | None, unit: str) -> str:
    if value is None:
        return ""
    text = f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"
    return f"{text} {unit}".strip()


def quoted(page: Path, part: str) -> str:
    """The text of a page with this part between its marks; without the marks a ValueError."""
    before, begin, rest = page.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{page.relative_to(ROOT)} has no {BEGIN} … {END}")
    return f"{before}{BEGIN}\n{part}\n{END}{after}"


def main() -> int:
    """Keep, quote, or check what is quoted."""
    files = [name for name in sys.argv[1:] if not name.startswith("-")]
    if files:
        KEPT.write_text(json.dumps(essential(json.loads(Path(files[0]).read_text())), indent=1) + "\n")
    kept = json.loads(KEPT.read_text())
    made = {page: quoted(page, part(kept)) for page, part in QUOTING.items()}
    stale = [page for page, text in made.items() if text != page.read_text()]
    for page in stale:
        if "--check" in sys.argv:
            print(f"{page.relative_to(ROOT)} does not quote figures.json; run contrib/benchmarks/quote.py")
        else:
            page.write_text(made[page])
    return int("--check" in sys.argv and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
