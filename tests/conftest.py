"""A test that is skipped in silence is a hole: what may be skipped stands in skips.yaml, and all else fails the run."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ALL_TESTS = "ROUTERPOOL_ALL_TESTS"
"""The variable that says that all is installed which tests can want."""

LIST = Path(__file__).with_name("skips.yaml")


def unlisted(reasons: Iterable[str], everything: bool) -> Iterator[str]:
    """The reasons for which no test may be skipped; `everything` says that all is here which tests can want."""
    entries = yaml.safe_load(LIST.read_text(encoding="utf-8"))
    allowed = [entry["reason"] for entry in entries if entry.get("everywhere") or not everything]
    for reason in reasons:
        if not any(re.fullmatch(pattern, reason, re.DOTALL) for pattern in allowed):
            yield reason


def reason_of(report: Any) -> str:
    """What a skipped test, or a file of tests, says."""
    told = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return str(told).removeprefix("Skipped: ")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the full sizes unless they are asked for."""
    if "nightly" in (config.getoption("markexpr") or ""):
        return
    large = [item for item in items if item.get_closest_marker("nightly")]
    if large:
        config.hook.pytest_deselected(items=large)
        items[:] = [item for item in items if not item.get_closest_marker("nightly")]


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail a run in which something is skipped for a reason that is not listed."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or hasattr(session.config, "workerinput"):  # a worker of xdist's tells its master
        return
    reports = [report for report in reporter.stats.get("skipped", ()) if not hasattr(report, "wasxfail")]
    wrong = sorted(set(unlisted(map(reason_of, reports), bool(os.environ.get(ALL_TESTS)))))
    if wrong:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        session.config.stash[UNLISTED] = wrong


UNLISTED = pytest.StashKey[list[str]]()


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Say which reasons these are."""
    for reason in config.stash.get(UNLISTED, []):
        terminalreporter.write_line(f"SKIPPED for a reason that tests/skips.yaml does not list: {reason}", red=True)
