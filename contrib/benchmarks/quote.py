"""Quotes the figures in the README: `python contrib/benchmarks/quote.py [FOLDER/figures.json | --check]`.

With a file that bench.py has written, its medians are kept beside this script as figures.json and the README's tables
are made of them; without one, of what was kept. The prose around the tables is nobody's but the author's.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
KEPT = HERE / "figures.json"
README = HERE.parent.parent / "README.md"
BEGIN = "<!-- figures:begin (made by contrib/benchmarks/quote.py, checked by a test) -->"
END = "<!-- figures:end -->"
MARKS = {None: "", True: "", False: ", **not reached**"}


def essential(measured: dict[str, Any]) -> dict[str, Any]:
    """What is quoted, without the single rounds."""
    return {
        "about": measured["about"],
        "figures": measured["figures"],
        "robustness": measured["robustness"]["figures"],
    }


def quoted(kept: dict[str, Any]) -> str:
    """The tables as Markdown."""
    about = kept["about"]
    lines = [
        (
            f"Measured {about['time'][:10]} on {about['cores']} shared cores: Python {about['python']}, "
            f"aiohttp {about['aiohttp']}, uvloop {about['uvloop']}, medians of {about['rounds']} rounds."
        ),
        "",
        "| figure | bare proxy, or what is named | routerpool | ratio | aim |",
        "|---|---:|---:|---:|---|",
    ]
    for figure in kept["figures"]:
        medians, ratio = figure["medians"], figure["ratios"].get("routerpool")
        cells = [_shown(medians.get(figure["beside"]), figure["unit"]), _shown(medians["routerpool"], figure["unit"])]
        cells += [f"{ratio:.2f} ×" if ratio else "", f"{figure['bound'] or ''}{MARKS[figure['kept']]}"]
        lines.append(f"| {figure['title']} | {' | '.join(cells)} |")
    lines += ["", "| promise | value | aim |", "|---|---:|---|"]
    for figure in kept["robustness"]:
        title, _, unit = figure["title"].rpartition(", ")
        known = unit in ("s", "ms", "MB", "kB", "bytes")
        value = _shown(figure["value"], unit if known else "")
        lines.append(
            f"| {title if known else figure['title']} | {value} | {figure['aim'] or ''}{MARKS[figure['kept']]} |"
        )
    return "\n".join(lines)


def _shown(value: float | None, unit: str) -> str:
    if value is None:
        return ""
    text = f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"
    return f"{text} {unit}".strip()


def main() -> int:
    """Keep, quote, or check what is quoted."""
    check, files = "--check" in sys.argv, [name for name in sys.argv[1:] if not name.startswith("-")]
    if files:
        kept = essential(json.loads(Path(files[0]).read_text()))
        KEPT.write_text(json.dumps(kept, indent=1) + "\n")
    text = README.read_text()
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        print(f"README.md has no {BEGIN} … {END}", file=sys.stderr)
        return 2
    made = f"{before}{BEGIN}\n{quoted(json.loads(KEPT.read_text()))}\n{END}{after}"
    if check:
        if made != text:
            print("README.md does not quote contrib/benchmarks/figures.json; run contrib/benchmarks/quote.py")
        return int(made != text)
    README.write_text(made)
    return 0


if __name__ == "__main__":
    sys.exit(main())
