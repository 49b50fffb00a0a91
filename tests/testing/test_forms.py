"""A provider's own errors as data: what is read, what is sent, what is refused, and that the contract walks it all."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from textwrap import dedent

import pytest

from routerpool import ConfigError, FailureKind
from routerpool.providers import until_midnight
from routerpool.testing import Form, read_forms

pytest_plugins = ["pytester"]

WHOLE = """
    source: lab.example/docs/errors
    date: 2026-11-20
    parts: &counters {x-left: "5", x-limit: "9"}
    forms:
      the day is spent:
        status: 429
        headers: [*counters, {x-left: "0"}]
        body: {error: {message: Your daily allowance is used up.}}
        failure: {kind: quota_exhausted, retry_after: until midnight UTC, within: 3, pool: day, lacks: tools}
      busy:
        source: a friend
        status: 503
        headers: {x: y}
        bodies: [{error: Busy.}, "<p>Busy.", null]
        failure: {kind: unavailable, retry_after: 2.5}
      no page: {status: 404, body: gone, failure: {kind: missing_model}}
      no JSON: {status: 500, body: gone, sent_as: json, failure: {kind: server}}
      nothing at all: {status: 502, failure: {kind: server}}
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "forms.yaml"
    path.write_text(dedent(text).lstrip())
    return path


def test_every_form_of_a_file_is_read_whole(tmp_path: Path) -> None:
    told = {"source": "lab.example/docs/errors", "date": "2026-11-20"}
    busy = {"status": 503, "headers": {"x": "y"}, "kind": FailureKind.UNAVAILABLE, "wait": 2.5, "source": "a friend"}
    assert read_forms(written(tmp_path, WHOLE)) == (
        Form(
            name="the day is spent",
            status=429,
            headers={"x-left": "0", "x-limit": "9"},
            body={"error": {"message": "Your daily allowance is used up."}},
            kind=FailureKind.QUOTA_EXHAUSTED,
            wait="until midnight UTC",
            within=3,
            pool="day",
            lacks="tools",
            **told,
        ),
        Form(name="busy, 1 of 3", body={"error": "Busy."}, **busy),  # type: ignore[arg-type]
        Form(name="busy, 2 of 3", body="<p>Busy.", **busy),  # type: ignore[arg-type]
        Form(name="busy, 3 of 3", body=None, **busy),  # type: ignore[arg-type]
        Form(name="no page", status=404, body="gone", kind=FailureKind.MISSING_MODEL, **told),
        Form(name="no JSON", status=500, body=b"gone", kind=FailureKind.SERVER, **told),
        Form(name="nothing at all", status=502, body="", kind=FailureKind.SERVER, **told),
    )


def test_moments_are_counted_from_when_a_form_is_sent(tmp_path: Path) -> None:
    text = """
        source: s
        forms:
          a:
            status: 429
            headers: {epoch: "{now+60s as epoch}", ms: "{now+60s as milliseconds}", http: "{now+60s as http}"}
            body: {list: ["until {now+60s as iso}, {then}"], number: 7}
            failure: {kind: rate_limited}
    """
    [form] = read_forms(written(tmp_path, text))
    before = time.time()
    body, headers = form.sent()
    iso = re.fullmatch(r"until (\S+), \{then\}", body["list"][0])
    assert iso
    moments = [
        float(headers["epoch"]),
        float(headers["ms"]) / 1000,
        parsedate_to_datetime(headers["http"]).timestamp(),
        datetime.fromisoformat(iso[1]).timestamp(),
    ]
    assert all(before + 59 <= moment <= time.time() + 60 for moment in moments)
    assert body["number"] == 7


def test_a_wait_may_end_at_a_midnight_and_is_compared_within_its_bounds() -> None:
    form = Form(name="a", status=429, body=None, kind=FailureKind.RATE_LIMITED, wait="until midnight UTC", within=2)
    seconds = form.seconds()
    assert seconds == pytest.approx(until_midnight(time.time(), UTC), abs=1)
    assert form.near(10, 12)
    assert not form.near(10, 12.1)
    assert form.near(None, None)
    assert not form.near(None, 0)
    assert not form.near(0, None)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("    status: 400", "    stat: 400"), "4: forms.a.stat: unknown key; did you mean 'status'?"),
        (
            ("    status: 400", "    status: 99"),
            "4: forms.a.status: must be at least 100 and at most 599, got the number",
        ),
        (("kind: server", "kind: sever"), "6: forms.a.failure.kind: expected one of rate_limited, "),
        (("x: y", "x: 8"), "5: forms.a.headers.x: expected a text, got the number 8"),
        (
            ("kind: server", "kind: server, retry_after: soon"),
            "6: forms.a.failure.retry_after: expected `until midnight",
        ),
        (
            ("kind: server", "kind: server, retry_after: until midnight Mars"),
            "6: forms.a.failure.retry_after: 'Mars' is no time zone; write one such as UTC or America/Los_Angeles",
        ),
        (("source: s", ""), "forms.a.source: is missing; say where this form is known from"),
        (("source: s", "source: s\ndate: last week"), "2: date: expected a date such as 2026-11-20"),
        (("    status: 400", "    date: 2026-11-20\n    status: 400"), "forms.a.date: has no source of its own"),
        (("    status: 400", "    body: {a: 1}\n    bodies: [1]\n    status: 400"), "5: forms.a.bodies: stands beside"),
        (("x: y", 'x: "{now+7s as ms}"'), "5: forms.a.headers: a moment is written {now+3600s as epoch}, or as one"),
        (("x: y", 'x: "{now +7s as iso}"'), "5: forms.a.headers: a moment is written {now+3600s as epoch}"),
    ],
)
def test_a_mistake_is_told_with_its_line_and_the_cure(change: tuple[str, str], told: str, tmp_path: Path) -> None:
    text = """
        source: s
        forms:
          a:
            status: 400
            headers: {x: y}
            failure: {kind: server}
    """
    path = written(tmp_path, dedent(text).replace(*change))
    with pytest.raises(ConfigError) as caught:
        read_forms(path)
    assert told in str(caught.value)


@pytest.mark.parametrize(("text", "told"), [("forms: {}\nsource: s\n", "1: forms: holds no form"), ("", "empty")])
def test_a_file_without_a_form_is_a_mistake(text: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=told):
        read_forms(written(tmp_path, text))


# What the contract makes of them

LAB = """
from routerpool import FailureKind, OpenAIProvider
from routerpool.testing import Form, ProviderContract

class Lab(OpenAIProvider):
    base_url = "https://api.lab.example/v1"
    models = ("m1",)

class TestLab(ProviderContract):
    plugin = Lab
    forms = {forms}

class TestHeir(TestLab):
    options = {{"models": ["m2"]}}
"""
FORMS = """
    source: s
    forms:
      slow down:
        status: 429
        headers: {retry-after: "7"}
        body: {error: {message: Slow down.}}
        failure: {kind: KIND, retry_after: 7}
      broken: {status: 500, bodies: [Oops., {error: Oops.}], failure: {kind: server}}
"""
OWN = 'Form(name="gone", status=404, body={"error": "No such model."}, kind=FailureKind.MISSING_MODEL)'


def walked(pytester: pytest.Pytester, forms: str, kind: str = "rate_limited") -> tuple[list[str], str]:
    """The names of the forms that were asked for and what came of each, and what was printed."""
    path = pytester.makepyfile(LAB.format(forms=forms))
    (path.parent / "forms.yaml").write_text(dedent(FORMS).lstrip().replace("KIND", kind))
    only = "test_an_error_of_its_own_is_understood"
    result = pytester.runpytest_inprocess("-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-k", only, str(path))
    reports = result.reprec.getreports("pytest_runtest_logreport")  # type: ignore[attr-defined]  # set in process
    ended = [
        f"{r.nodeid.partition('::')[2].partition('::')[0]} {r.nodeid[r.nodeid.index('[') :]} {r.outcome}"
        for r in reports
        if r.when == "call"
    ]
    return ended, result.stdout.str()


def test_each_form_of_a_file_is_a_test_of_a_plain_answer_and_of_a_stream(pytester: pytest.Pytester) -> None:
    ended, _ = walked(pytester, f'("forms.yaml", {OWN})')
    names = ("slow down", "broken, 1 of 2", "broken, 2 of 2", "gone")
    assert sorted(ended) == sorted(
        f"{contract} [{name}-{mode}] passed"
        for contract in ("TestLab", "TestHeir")
        for name in names
        for mode in ("plain", "stream")
    )


def test_a_form_that_becomes_another_failure_fails(pytester: pytest.Pytester) -> None:
    ended, printed = walked(pytester, '"forms.yaml"', "credit")
    failed = [line for line in ended if line.endswith("failed")]
    assert len(failed) == 4
    assert all("slow down" in line for line in failed)
    assert "FailureKind.CREDIT" in printed


def test_a_wait_that_is_not_the_stated_one_fails_and_both_are_told(pytester: pytest.Pytester) -> None:
    wrong = OWN.replace("kind=", 'wait=9, headers={"retry-after": "3"}, kind=')
    ended, printed = walked(pytester, f"({wrong},)")
    assert {line.split()[-1] for line in ended} == {"failed"}
    assert "(3.0, (9, 9))" in printed


def test_a_mistake_in_the_file_fails_the_collection_with_its_line(pytester: pytest.Pytester) -> None:
    ended, printed = walked(pytester, '"forms.yaml"', "cradit")
    assert ended == []
    assert "forms.yaml:7: forms['slow down'].failure.kind: expected one of" in printed
    assert "Traceback" not in printed
    ended, printed = walked(pytester, '"form.yaml"')
    assert ended == []
    assert "form.yaml: cannot be read (No such file or directory)" in printed
