"""What the benchmark found: a table for people, JSON for machines, a picture for the README beside this file."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from statistics import median
from typing import Any

import orjson
from attrs import frozen

__all__ = ["Figure", "Finding", "Report", "chart", "findings_table", "table", "write"]

OURS = "routerpool"
BARE = "bare"


@frozen
class Figure:
    """One line of the table.

    `over` names the target whose value is taken off first, round by round ("added"); `beside` the one that ratios are
    made to. `most` and `least` bound routerpool's own value, `most_ratio` its ratio.
    """

    key: str
    title: str
    unit: str
    most_ratio: float | None = None
    most: float | None = None
    least: float | None = None
    over: str | None = None
    beside: str = BARE

    def bound(self) -> str:
        """The bound in words."""
        if self.most_ratio is not None:
            return f"≤ {self.most_ratio:g} ×"
        if self.most is not None:
            return f"≤ {self.most:g} {self.unit}"
        return f"≥ {self.least:g}" if self.least is not None else ""


@frozen
class Report:
    """All rounds of all figures by target, and the circumstances."""

    about: Mapping[str, object]
    figures: Sequence[Figure]
    values: Mapping[str, Mapping[str, Sequence[float]]]
    answers: Mapping[str, int]
    errors: Mapping[str, Mapping[str, int]]
    names: Sequence[str]
    missing: Mapping[str, str]

    def rounds(self, figure: Figure, name: str) -> list[float]:
        """The values of one target, with `over` taken off."""
        values = self.values.get(figure.key, {})
        own = values.get(name, ())
        if figure.over is None:
            return list(own)
        return [value - less for value, less in zip(own, values.get(figure.over, ()), strict=False)]

    def value(self, figure: Figure, name: str) -> float | None:
        """The median of one target."""
        rounds = self.rounds(figure, name)
        return median(rounds) if rounds else None

    def ratio(self, figure: Figure, name: str = OURS) -> float | None:
        """The median of the ratios that the rounds had; a round is the same moments of the same machine."""
        own, beside = self.rounds(figure, name), self.rounds(figure, figure.beside)
        ratios = [value / other for value, other in zip(own, beside, strict=False) if other > 0]
        return median(ratios) if ratios else None

    def best(self, figure: Figure, name: str = OURS) -> float | None:
        """The ratio of the least disturbed rounds of each: what is left when others use the machine too."""
        own, beside = self.rounds(figure, name), self.rounds(figure, figure.beside)
        return min(own) / min(beside) if own and beside and min(beside) > 0 else None

    def kept(self, figure: Figure) -> bool | None:
        """Whether routerpool keeps the bound; None where there is none or nothing was measured."""
        if figure.most_ratio is not None:
            ratio = self.ratio(figure)
            return None if ratio is None else ratio <= figure.most_ratio
        value = self.value(figure, OURS)
        if value is None or (figure.most is None and figure.least is None):
            return None
        return value >= figure.least if figure.least is not None else value <= (figure.most or math.inf)

    def document(self) -> dict[str, object]:
        """All of it as JSON values, every round among it."""
        told = [
            {
                "key": figure.key,
                "title": figure.title,
                "unit": figure.unit,
                "medians": {
                    name: self.value(figure, name)
                    for name in dict.fromkeys(("direct", "pass", *self.names, figure.beside))
                },
                "beside": figure.beside,
                "ratios": {name: self.ratio(figure, name) for name in self.names if name != figure.beside},
                "best": {name: self.best(figure, name) for name in self.names if name != figure.beside},
                "bound": figure.bound() or None,
                "kept": self.kept(figure),
            }
            for figure in self.figures
        ]
        return {
            "figures": told,
            "answers": self.answers,
            "errors": self.errors,
            "missing": self.missing,
            "rounds": self.values,
        }


@frozen
class Finding:
    """One figure of robustness: its key and title name the unit; `most` and `least` are the aim.

    `grave` is what makes the benchmark fail when the aim is missed: an answer that was wrong or missing.
    """

    key: str
    title: str
    value: float = math.nan
    most: float | None = None
    least: float | None = None
    grave: bool = False

    def aim(self) -> str:
        """The aim in words."""
        if self.most is not None and self.most in (0, self.least):
            return f"{self.most:g}"
        return f"≤ {self.most:g}" if self.most is not None else f"≥ {self.least:g}" if self.least is not None else ""

    def kept(self) -> bool | None:
        """Whether the aim is kept; None where there is none."""
        if self.most is None and self.least is None:
            return None
        return (self.least or -math.inf) <= self.value <= (math.inf if self.most is None else self.most)

    def document(self) -> dict[str, object]:
        """As JSON values."""
        return {
            "key": self.key,
            "title": self.title,
            "value": self.value,
            "aim": self.aim() or None,
            "kept": self.kept(),
        }


def write(
    path: Path,
    about: Mapping[str, object],
    report: Report | None,
    findings: Sequence[Finding],
    details: Mapping[str, object],
) -> None:
    """What was measured, as JSON."""
    document: dict[str, object] = {"about": about}
    if report is not None:
        document |= report.document()
    if findings:
        document["robustness"] = {"figures": [finding.document() for finding in findings], "details": details}
    path.write_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS))


def findings_table(findings: Sequence[Finding]) -> str:
    """The figures of robustness, each beside its aim."""
    marks = {None: "", True: "yes", False: "NO"}
    rows = [("figure", "value", "aim", "kept")]
    rows += [(one.title, _shown(one.value), one.aim(), marks[one.kept()]) for one in findings]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = [
        f"{title.ljust(widths[0])}  {value.rjust(widths[1])}  {aim.rjust(widths[2])}  {kept}".rstrip()
        for title, value, aim, kept in rows
    ]
    lines.insert(1, "-" * len(lines[0]))
    return "\n".join(lines)


def table(report: Report) -> str:
    """The figures side by side."""
    names = list(report.names)
    rows = [["figure", "unit", *names, "ratio", "of minima", "bound", ""]]
    for figure in report.figures:
        cells = [_shown(report.value(figure, figure.beside if name == BARE else name)) for name in names]
        kept = report.kept(figure)
        ratios = [_times(report.ratio(figure)), _times(report.best(figure))]
        mark = "" if kept is None else "kept" if kept else "BEYOND"
        rows.append([figure.title, figure.unit, *cells, *ratios, figure.bound(), mark])
    wrong = [str(sum(report.errors.get(name, {}).values())) for name in names]
    rows.append(["wrong or missing answers", "", *wrong, "", "", "0", "BEYOND" if report.errors.get(OURS) else "kept"])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [_line(row, widths) for row in rows]
    lines.insert(1, "-" * len(lines[0]))
    lines.append("")
    lines.append(
        f"ratio: routerpool to the bare proxy, median of {report.about['rounds']} rounds, or best to best round"
    )
    lines.append(_machine(report))
    lines += [f"{name}: {dict(errors)}" for name, errors in report.errors.items()]
    lines += [f"left out: {reason}" for reason in report.missing.values()]
    return "\n".join(lines)


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    first, unit, *cells = row
    shown = [first.ljust(widths[0]), unit.ljust(widths[1])]
    shown += [cell.rjust(width) for cell, width in zip(cells, widths[2:], strict=True)]
    return "  ".join(shown).rstrip()


def _shown(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _times(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.2f} ×"


def _machine(report: Report) -> str:
    about = report.about
    return f"Python {about['python']}, aiohttp {about['aiohttp']}, {about['cores']} cores, load {about['load_before']}"


def chart(report: Report, path: Path) -> str:
    """Draw the ratios; what was done, in words."""
    try:
        import_module("matplotlib").use("Agg")
    except ImportError:
        return "no picture, it needs matplotlib: `uv run --all-packages --with matplotlib python …`"
    plt = import_module("matplotlib.pyplot")
    shown = [(figure, ratio) for figure in report.figures if (ratio := report.ratio(figure)) is not None]
    shown = [(figure, ratio) for figure, ratio in shown if figure.least is None]
    shown.reverse()
    size = (9.0, 0.34 * len(shown) * max(len(report.names) - 1, 1) ** 0.4 + 1.2)
    drawn, axes = plt.subplots(figsize=size, layout="constrained")
    _bars(axes, report, shown)
    axes.set_yticks(range(len(shown)), [figure.title for figure, _ in shown])
    axes.set_ylim(-0.6, len(shown) - 0.4)
    axes.axvline(1.0, color="0.25", linewidth=1)
    if len(report.names) > len((BARE, OURS)):
        axes.set_xscale("log")
    axes.set_xlabel(f"times the bare aiohttp proxy (Python {report.about['python']}, medians; less is better)")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="lower right", frameon=False)
    drawn.savefig(path, dpi=150)
    plt.close(drawn)
    return f"{path}"


def _bars(axes: Any, report: Report, shown: Sequence[tuple[Figure, float]]) -> None:
    names = [name for name in report.names if name != BARE]
    height = 0.8 / len(names)
    for number, name in enumerate(names):
        places = [place + 0.4 - height * (number + 0.5) for place in range(len(shown))]
        ratios = [report.ratio(figure, name) or math.nan for figure, _ in shown]
        bars = axes.barh(places, ratios, height, label=name)
        axes.bar_label(bars, ["" if math.isnan(ratio) else f"{ratio:.2f}" for ratio in ratios], padding=3, fontsize=8)
    bounds = [(figure.most_ratio, place) for place, (figure, _) in enumerate(shown) if figure.most_ratio]
    axes.vlines(
        [bound for bound, _ in bounds],
        [place - 0.45 for _, place in bounds],
        [place + 0.45 for _, place in bounds],
        color="crimson",
        label="bound",
    )
