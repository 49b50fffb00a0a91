"""Routerpool beside the limit of its framework (CPU, latency, memory) and beside what it promises (robustness).

    uv run --all-packages python contrib/benchmarks/bench.py [--quick] [--only speed|robustness] [--out FOLDER]
        [--with litellm,portkey] [--beside WORKTREE]

`--beside` runs another worktree of this repository in the same rounds, and says how this one compares to it.
Writes figures.json and, where matplotlib is there (`uv run --all-packages --with matplotlib …`), figures.png to the
folder, and prints tables. Exit code 1 when an answer but a peer's was wrong; a figure beyond its bound is only marked.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import robustness
from attrs import Factory, define, frozen
from load import Load, percentile, run
from report import Figure, Finding, Report, chart, findings_table, table, write
from targets import PEERS, NotHere, Target, bare_proxy, before, hosts, routerpool, upstream

HERE = Path(__file__).resolve().parent
CONNECTIONS = 16
STREAMS, EVENTS = 32, 64
CROWD, CROWD_EVENTS, CROWD_PAUSE_MS = 1000, 200, 25


@frozen
class Settings:
    """How long and how often."""

    rounds: int
    seconds: float
    lives: int


QUICK = Settings(rounds=3, seconds=0.5, lives=1)
FULL = Settings(rounds=9, seconds=1.5, lives=3)


@define
class Measured:
    """Every value of every round, by figure and by target, and what went wrong by target."""

    values: dict[str, dict[str, list[float]]] = Factory(lambda: defaultdict(lambda: defaultdict(list)))
    errors: dict[str, Counter[str]] = Factory(lambda: defaultdict(Counter))
    answers: Counter[str] = Factory(Counter)

    def add(self, figure: str, target: Target, value: float) -> None:
        """Keep one round's value."""
        self.values[figure][target.name].append(value)

    def count(self, target: Target, load: Load, scenario: str) -> None:
        """Keep what went wrong."""
        self.answers[target.name] += len(load.took)
        self.errors[target.name].update({f"{scenario}: {what}": times for what, times in load.errors.items()})


Scenario = Callable[[Target, float, Measured], None]


def plain(name: str, size: int, *, tools: bool = False, accents: bool = False) -> Scenario:
    """CPU per plain request with a body of this size, and the latencies, at 16 connections."""

    def measure(target: Target, seconds: float, measured: Measured) -> None:
        request = target.request(size, tools=tools, accents=accents)
        before = target.cpu()
        load = run(target.port, request, connections=CONNECTIONS, seconds=seconds)
        measured.count(target, load, name)
        if load.took:
            measured.add(f"cpu_{name}", target, (target.cpu() - before) / len(load.took) * 1e6)
            measured.add(f"rate_{name}", target, len(load.took) / load.seconds)
            measured.add(f"p99_{name}", target, percentile(load.took, 99) * 1e3)

    return measure


def alone(target: Target, seconds: float, measured: Measured) -> None:
    """The latency of a plain request at one connection."""
    load = run(target.port, target.request(), connections=1, seconds=seconds)
    measured.count(target, load, "1 connection")
    measured.add("p50_alone", target, percentile(load.took, 50) * 1e6)


def streams(pause_ms: int) -> Scenario:
    """CPU per event and the time to the first event with text, at 32 streams, which begin evenly spread over time."""

    def measure(target: Target, seconds: float, measured: Measured) -> None:
        request = target.request(script=f"{EVENTS}x{pause_ms}")
        before = target.cpu()
        apart = EVENTS * pause_ms / 1e3 / STREAMS  # as clients do; all at once would measure their queue
        load = run(target.port, request, connections=STREAMS, seconds=seconds, streaming=True, apart=apart)
        used = target.cpu() - before
        load.check_streams(EVENTS)
        measured.count(target, load, f"streams, {pause_ms} ms")
        if load.events:
            measured.add(f"cpu_event_{pause_ms}", target, used / load.events * 1e6)
            measured.add(f"first_{pause_ms}", target, percentile(load.first, 50) * 1e3)
            measured.add(f"events_{pause_ms}", target, load.events / load.seconds)

    return measure


def crowd(target: Target, measured: Measured) -> None:
    """1,000 streams at once in a process that has just started: memory for each, and whether all are complete."""
    time.sleep(0.3)
    idle = target.rss()
    measured.add("rss_idle", target, idle / 1e6)
    measured.add("pss_idle", target, target.pss() / 1e6)
    request = target.request(script=f"{CROWD_EVENTS}x{CROWD_PAUSE_MS}")
    peak = [idle]
    before = target.cpu()
    load = run(
        target.port,
        request,
        connections=CROWD,
        seconds=0,
        streaming=True,
        watch=lambda: peak.append(target.rss()),
    )
    used = target.cpu() - before
    load.check_streams(CROWD_EVENTS)
    measured.count(target, load, f"{CROWD} streams")
    measured.add("crowd_memory", target, (max(peak) - idle) / CROWD / 1e3)
    measured.add("crowd_first_p50", target, percentile(load.first, 50))
    measured.add("crowd_first_p99", target, percentile(load.first, 99))
    measured.add("crowd_complete", target, load.events / CROWD_EVENTS)
    measured.add("crowd_seconds", target, load.seconds)
    if load.events:
        measured.add("crowd_cpu", target, used / load.events * 1e6)


def lives(targets: Sequence[Target], settings: Settings, measured: Measured) -> None:
    """Start each one afresh some times: how long it takes, what it holds idle, and the crowd."""
    for life in range(settings.lives):
        for target in _turn(targets, life):
            fresh = target.again()
            measured.add("start", target, fresh.start())
            try:
                if target.name in ("bare", "routerpool", "before"):
                    crowd(fresh, measured)
                else:
                    time.sleep(0.3)
                    measured.add("rss_idle", target, fresh.rss() / 1e6)
                    measured.add("pss_idle", target, fresh.pss() / 1e6)
            finally:
                fresh.stop()
            tell(".")


def rounds(targets: Sequence[Target], passing: Target, settings: Settings, measured: Measured) -> None:
    """Every scenario on every target, in turn, so that what disturbs the machine disturbs all of them."""
    scenarios: list[tuple[Scenario, Sequence[Target]]] = [
        (plain("2k", 2_000), targets),
        (alone, targets),
        (plain("tools", 2_000, tools=True), targets),
        (plain("20k", 20_000), targets),
        (plain("200k", 200_000), [*targets, passing]),
        (plain("accents", 200_000, accents=True), targets),
        (streams(0), targets),
        (streams(5), targets),
    ]
    unused = Measured()
    for number in range(-1, settings.rounds):  # the first one warms up
        for measure, chosen in scenarios:
            for target in _turn(chosen, number):
                measure(target, settings.seconds if number >= 0 else 0.2, measured if number >= 0 else unused)
            tell(".")
    for name, errors in unused.errors.items():
        measured.errors[name].update(errors)


def in_hosts(ours: Target, others: Sequence[Target], settings: Settings, measured: Measured, config: Path) -> None:
    """CPU per plain request of 2 KB in somebody's application, beside ours alone in the same moments."""
    for number in range(-1, settings.rounds):
        for target in _turn([ours, *others], number):
            once, seconds = Measured(), settings.seconds if number >= 0 else 0.2
            plain("2k", 2_000)(target, seconds, once)
            if number >= 0:
                measured.errors[target.name].update(once.errors[target.name])
                measured.values[f"cpu_{target.name}"]["routerpool"] += once.values["cpu_2k"][target.name]
        tell(".")
    command = [sys.executable, str(HERE / "host.py"), "--config", str(config), "deciding"]
    command += ["--seconds", str(settings.seconds)]
    for _ in range(settings.rounds):
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        measured.values["cpu_plan"]["routerpool"].append(float(done.stdout))
    for name in ("plan", *(target.name for target in others)):
        measured.values[f"cpu_{name}"]["alone"] = measured.values["cpu_routerpool"]["routerpool"]


def importing(rounds: int, measured: Measured) -> None:
    """How long `import routerpool` takes in a fresh interpreter, beyond one that imports nothing."""
    for _ in range(rounds):
        took = {}
        for name, code in (("nothing", "pass"), ("routerpool", "import routerpool")):
            began = time.perf_counter()
            subprocess.run([sys.executable, "-c", code], check=True)
            took[name] = time.perf_counter() - began
        measured.values["import"]["routerpool"].append(took["routerpool"] - took["nothing"])


def _turn(targets: Sequence[Target], number: int) -> list[Target]:
    start = number % len(targets)
    return [*targets[start:], *targets[:start]]


def figures() -> list[Figure]:
    """What is shown, with the bounds that the project has set itself."""
    return [
        Figure("cpu_2k", "CPU, plain request, 2 KB, 16 connections", "µs", most_ratio=1.6),
        Figure("cpu_tools", "CPU, the same with tools in the body", "µs"),
        Figure("cpu_20k", "CPU, plain request, 20 KB", "µs"),
        Figure("cpu_200k", "CPU, plain request, 200 KB", "µs"),
        Figure("cpu_200k", "CPU, 200 KB, beside passing bytes through", "µs", most_ratio=2.0, beside="pass"),
        Figure("cpu_accents", "CPU, 200 KB, characters beyond ASCII", "µs"),
        Figure("p50_alone", "added latency p50, 1 connection", "µs", over="direct"),
        Figure("p99_2k", "latency p99, 16 connections", "ms", most_ratio=4.0),
        Figure("first_5", "added time to the first text, 32 streams", "ms", over="direct", most=2.0),
        Figure("cpu_event_0", "CPU, stream event, no pause, 32 streams", "µs", most_ratio=1.5),
        Figure("cpu_event_5", "CPU, stream event, 5 ms apart, 32 streams", "µs"),
        Figure(
            "cpu_mounted", "CPU, 2 KB, mounted in an application, beside alone", "µs", most_ratio=1.05, beside="alone"
        ),
        Figure("cpu_guided", "CPU, 2 KB, guiding a host's own handler, beside alone", "µs", beside="alone"),
        Figure("cpu_plan", "CPU, deciding in the process, report included", "µs", most_ratio=0.6, beside="alone"),
        Figure("cpu_decide", "CPU, 2 KB, deciding over HTTP, beside proxying", "µs", most_ratio=0.6, beside="alone"),
        Figure("import", "`import routerpool`", "s", most=0.2),
        Figure("start", "start to first answer", "s", most=1.0),
        Figure("rss_idle", "memory idle, RSS", "MB", most=75.0),
        Figure("pss_idle", "memory idle, PSS", "MB"),
        Figure("crowd_memory", f"memory, each of {CROWD:,} streams", "kB", most=150.0),
        Figure("crowd_first_p50", f"first text p50, {CROWD:,} streams", "s"),
        Figure("crowd_first_p99", f"first text p99, {CROWD:,} streams", "s", most=10.0),
        Figure("crowd_cpu", f"CPU, stream event, {CROWD:,} streams", "µs"),
        Figure("crowd_complete", f"complete streams of {CROWD:,}", "", least=float(CROWD)),
    ]


@contextmanager
def running(targets: Sequence[Target]) -> Iterator[None]:
    """All of them started; ended in the end, whatever happens."""
    try:
        for target in targets:
            target.start()
        yield
    finally:
        for target in targets:
            target.stop()


def measure(
    settings: Settings, peers: Sequence[str], folder: Path, beside: Path | None
) -> tuple[Measured, list[str], dict[str, str]]:
    """Run everything; also the names of the columns, and which peers are missing and why."""
    measured, missing = Measured(), {}
    behind = upstream()
    with running([behind]):
        targets = [bare_proxy(behind), routerpool(behind, folder)]
        if beside is not None:
            targets.append(before(targets[1], beside, folder))
        for name in peers:
            try:
                peer = PEERS[name](behind, folder)
                peer.start()
                peer.stop()
                targets.append(peer)
            except NotHere as reason:
                missing[name] = str(reason)
        tell("starting and crowding")
        lives(targets, settings, measured)
        passing = bare_proxy(behind, pass_through=True)
        tell("\nmeasuring in rounds")
        with running([*targets, passing]):
            rounds([behind, *targets], passing, settings, measured)
            for target in targets:
                measured.add("rss_after", target, target.rss() / 1e6)
        tell("\nin hosts")
        others, ours = hosts(folder), routerpool(behind, folder)
        with running([ours, *others]):
            in_hosts(ours, others, settings, measured, folder / "bench.yaml")
        importing(settings.rounds, measured)
        tell("\n")
    return measured, [target.name for target in targets], missing


def machine() -> dict[str, object]:
    """What it ran on."""
    packages = ("aiohttp", "uvloop", "orjson", "routerpool")
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": len(os.sched_getaffinity(0)),
        "load_before": [round(value, 2) for value in os.getloadavg()],
        **{name: version(name) for name in packages},
    }


def tell(text: str) -> None:
    """Progress, on stderr."""
    print(text, end="", file=sys.stderr, flush=True)


def compared() -> list[Figure]:
    """What a change may cost: the figures of speed beside those of another worktree, round by round."""
    bounds = {"cpu_2k": 1.05}
    chosen = [
        figure for figure in figures() if figure.beside == "bare" and figure.over is None and figure.key != "import"
    ]
    return [
        Figure(figure.key, f"{figure.title}, beside the worktree", figure.unit, bounds.get(figure.key), beside="before")
        for figure in chosen
    ]


def measure_speed(
    settings: Settings, peers: Sequence[str], about: dict[str, object], folder: Path, beside: Path | None
) -> Report:
    """The figures of speed, printed."""
    measured, names, missing = measure(settings, peers, folder, beside)
    about |= {"rounds": settings.rounds, "seconds": settings.seconds, "lives": settings.lives}
    errors = {name: dict(found) for name, found in measured.errors.items() if found}
    shown = [*figures(), *(compared() if beside is not None else ())]
    report = Report(about, shown, measured.values, dict(measured.answers), errors, names, missing)
    print(table(report))
    return report


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="three short rounds, about two minutes; good for a look")
    parser.add_argument("--only", choices=("speed", "robustness"), help="measure one of the two")
    parser.add_argument("--rounds", type=int, metavar="N", help="how many rounds of each scenario of speed")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="where figures.json and figures.png go")
    parser.add_argument("--with", dest="peers", default="", metavar="NAMES", help=f"add {', '.join(PEERS)}")
    parser.add_argument("--beside", type=Path, metavar="WORKTREE", help="another worktree, with its own .venv")
    options = parser.parse_args()
    peers = [name for name in options.peers.split(",") if name]
    if unknown := set(peers) - PEERS.keys():
        parser.error(f"--with knows {', '.join(PEERS)}, not {', '.join(unknown)}")
    settings = QUICK if options.quick else FULL
    if options.rounds:
        settings = Settings(rounds=max(options.rounds, 1), seconds=settings.seconds, lives=settings.lives)
    about, report = machine(), None
    findings: list[Finding] = []
    details: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="routerpool-bench-") as folder:
        if options.only != "robustness":
            report = measure_speed(settings, peers, about, Path(folder), options.beside and options.beside.resolve())
        if options.only != "speed":
            tell("what it promises")
            scale = robustness.QUICK if options.quick else robustness.FULL
            findings, details = robustness.measure(scale, Path(folder), tell)
            tell("\n")
            print(findings_table(findings))
    about["load_after"] = [round(value, 2) for value in os.getloadavg()]
    out = options.out or Path("benchmark-figures")
    out.mkdir(parents=True, exist_ok=True)
    write(out / "figures.json", about, report, findings, details)
    print(f"\nwritten: {out / 'figures.json'}", f"; {chart(report, out / 'figures.png')}" if report else "", sep="")
    wrong = any(finding.grave and finding.kept() is False for finding in findings)
    return 1 if wrong or (report is not None and report.errors.keys() - PEERS.keys()) else 0


if __name__ == "__main__":
    sys.exit(main())
