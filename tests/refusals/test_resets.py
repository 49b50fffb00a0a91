from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from email.utils import formatdate
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict, CIMultiDictProxy

from routerpool.refusals import resets
from routerpool.refusals.resets import (
    DEFAULT_SPECS,
    HeaderSpec,
    Reset,
    TimeFormat,
    parse,
    pool_marker,
    read_reset,
    until_midnight,
)
from routerpool.testing.retry_after import RETRY_AFTER_FORMS, google_error

NOW = 1795181082.25  # Fri, 20 Nov 2026 13:24:42.25 GMT
CAP = 24 * 3600.0


def proxy(*headers: tuple[str, str]) -> CIMultiDictProxy[str]:
    return CIMultiDictProxy(CIMultiDict(headers))


def state(*headers: tuple[str, str], body: Any = b"", **options: Any) -> Reset:
    """The reset that an answer states, which must be one."""
    raw = body if isinstance(body, bytes) else orjson.dumps(body)
    reset = read_reset(proxy(*headers), raw, now=NOW, **options)
    assert reset is not None
    return reset


def seconds(value: str, kind: TimeFormat = TimeFormat.AUTO, server_date: float | None = None) -> float:
    read = parse(value, kind, now=NOW, server_date=server_date)
    assert read is not None
    return read[0]


# FR-B1: the defects of the parser we take the place of, one by one


def test_frb1_seconds_with_a_unit() -> None:
    assert parse("7.66s", now=NOW) == (7.66, TimeFormat.DURATION_GO)


def test_frb1_minutes_and_seconds() -> None:
    assert parse("2m59.56s", now=NOW) == (pytest.approx(179.56), TimeFormat.DURATION_GO)


def test_frb1_milliseconds_are_not_minutes() -> None:
    assert parse("6ms", now=NOW) == (pytest.approx(0.006), TimeFormat.DURATION_GO)


def test_frb1_hours_minutes_and_seconds() -> None:
    assert parse("1h2m3s", now=NOW) == (3723.0, TimeFormat.DURATION_GO)


def test_frb1_bare_float_seconds() -> None:
    assert parse("11.382867097854614", now=NOW) == (pytest.approx(11.382867), TimeFormat.FLOAT_SECONDS)


def test_frb1_epoch_seconds_are_a_point_in_time_and_not_a_wait_of_57_years() -> None:
    assert parse("1795181089", now=NOW) == (6.75, TimeFormat.EPOCH_S)


def test_frb1_epoch_milliseconds_are_a_point_in_time() -> None:
    assert parse("1795181089250", now=NOW) == (pytest.approx(7.0), TimeFormat.EPOCH_MS)


def test_frb1_an_http_date_in_retry_after_is_read() -> None:
    assert state(("Retry-After", formatdate(NOW + 7, usegmt=True))).seconds == pytest.approx(7, abs=1)


def test_frb1_fractions_of_a_second_are_kept() -> None:
    assert state(("retry-after", "2.5")).seconds == 2.5


# the forms that the scriptable upstream speaks


@pytest.mark.parametrize("name", RETRY_AFTER_FORMS)
@pytest.mark.parametrize("container", [proxy, lambda *headers: dict(reversed(headers))], ids=["multidict", "dict"])
def test_every_known_form_means_what_its_provider_meant(name: str, container: Callable[..., Any]) -> None:
    form = RETRY_AFTER_FORMS[name]
    headers, body = form.build(NOW)
    if name == "dup" and container is not proxy:
        headers = [("retry-after", ", ".join(value for _, value in headers))]
    reset = read_reset(container(*headers), body, now=NOW)
    if form.seconds is None:
        assert reset is None
    else:
        assert reset is not None
        assert reset.seconds == pytest.approx(min(form.seconds, CAP), abs=0.5)
        assert reset.capped == (form.seconds > CAP)


@pytest.mark.parametrize(
    ("value", "wait", "kind"),
    [
        ("0", 0.0, TimeFormat.FLOAT_SECONDS),
        ("0s", 0.0, TimeFormat.DURATION_GO),
        ("6m0s", 360.0, TimeFormat.DURATION_GO),
        ("1d2h", 93600.0, TimeFormat.DURATION_GO),
        ("1.5h", 5400.0, TimeFormat.DURATION_GO),
        ("250us", 0.00025, TimeFormat.DURATION_GO),
        ("250\u00b5s", 0.00025, TimeFormat.DURATION_GO),
        ("30 seconds", 30.0, TimeFormat.DURATION_GO),
        (" 30 ", 30.0, TimeFormat.FLOAT_SECONDS),
        ('"30"', 30.0, TimeFormat.FLOAT_SECONDS),
        ("2026-11-20T13:24:49.250Z", 7.0, TimeFormat.RFC3339),
        ("2026-11-20T13:24:49.250123456Z", 7.0, TimeFormat.RFC3339),
        ("2026-11-20t14:24:49.25+01:00", 7.0, TimeFormat.RFC3339),
        ("Fri, 20 Nov 2026 13:24:49 GMT", 6.75, TimeFormat.HTTP_DATE),
        ("Friday, 20-Nov-26 13:24:49 GMT", 6.75, TimeFormat.HTTP_DATE),
        ("Fri Nov 20 13:24:49 2026", 6.75, TimeFormat.HTTP_DATE),
        ("Fri, 20 Nov 2026 13:24:41 GMT", 0.0, TimeFormat.HTTP_DATE),
        ("1795181080", 0.0, TimeFormat.EPOCH_S),
    ],
)
def test_a_value_tells_its_kind_by_its_shape(value: str, wait: float, kind: TimeFormat) -> None:
    assert parse(value, now=NOW) == (pytest.approx(wait, abs=1e-3), kind)


@pytest.mark.parametrize(
    "value",
    [
        *("", " ", "soon", "-5", "-2m", "nan", "inf", "1e999", "1e3", "1_000", "0x10", "\u0663\u0660", "\x00"),
        *("5 5", "s", "5parsecs", "--5", "5s5", "9" * 5000, "Fri,", "2026-11-20", "2026-13-45T99:99:99Z", "\ud800"),
        *("1970-01-01T00:00:00Z", "0001-01-01T00:00:00Z", "Thu, 01 Jan 1970 00:00:00 GMT"),
        *("Fri, 32 Nov 99999 99:24:42 GMT", "Fri, 20 Nov 99999999999999999999 13:24:42 GMT", "5\u017f"),
    ],
)
def test_rubbish_is_no_statement(value: str) -> None:
    assert parse(value, now=NOW) is None
    assert read_reset({"retry-after": value, "x-ratelimit-reset": value}, now=NOW) is None


@pytest.mark.parametrize(
    ("value", "kind", "wait"),
    [
        ("1500", TimeFormat.MILLISECONDS, 1.5),
        ("1795181089250", TimeFormat.FLOAT_SECONDS, 1795181089250.0),
        ("1795181089.25", TimeFormat.EPOCH_S, 7.0),
        ("1795181089250", TimeFormat.EPOCH_MS, 7.0),
        ("12", TimeFormat.DURATION_GO, 12.0),
    ],
)
def test_a_stated_kind_beats_the_guess(value: str, kind: TimeFormat, wait: float) -> None:
    assert parse(value, kind, now=NOW) == (pytest.approx(wait), kind)


@pytest.mark.parametrize("kind", [kind for kind in TimeFormat if kind not in (TimeFormat.AUTO, TimeFormat.DURATION_GO)])
def test_a_value_of_another_kind_than_stated_is_rubbish(kind: TimeFormat) -> None:
    assert parse("2m59.56s", kind, now=NOW) is None


# clocks


def test_dates_are_measured_on_the_clock_of_the_server() -> None:
    skewed = NOW + 3600
    dates = (("Date", formatdate(skewed, usegmt=True)), ("X-RateLimit-Remaining", "0"))
    for reset in (formatdate(skewed + 7, usegmt=True), str(int(skewed + 7)), str(int((skewed + 7) * 1000))):
        assert state(*dates, ("X-RateLimit-Reset", reset)).seconds == pytest.approx(7, abs=0.5)


def test_where_the_clocks_agree_the_whole_seconds_of_the_date_header_cost_nothing() -> None:
    date = float(int(NOW))
    assert seconds("1795181089250", server_date=date) == pytest.approx(7.0)
    assert seconds("1795181089250", server_date=date - 60) == pytest.approx(67.25)


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="the zone of a process cannot be changed here")
def test_a_date_without_a_zone_is_in_utc_wherever_we_are(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "America/New_York")
        time.tzset()
        waits = seconds("Fri Nov 20 13:24:49 2026"), seconds("2026-11-20T13:24:49")
    time.tzset()
    assert waits == (6.75, 6.75)


def test_a_broken_date_header_is_left_alone() -> None:
    assert state(("date", "yesterday"), ("retry-after", "Fri, 20 Nov 2026 13:24:49 GMT")).seconds == 6.75


def test_the_clock_is_read_where_none_is_given() -> None:
    reset = read_reset({"Retry-After": formatdate(time.time() + 100, usegmt=True)})
    assert reset is not None
    assert 90 < reset.seconds <= 100


# which of several statements counts


def test_retry_after_beats_everything() -> None:
    headers = (("retry-after", "3"), ("retry-after-ms", "9000"), ("x-ratelimit-reset-tokens", "1h"))
    assert state(*headers, body=b"try again in 50s") == Reset(
        seconds=3.0, kind=TimeFormat.FLOAT_SECONDS, source="retry-after"
    )


def test_a_retry_after_of_zero_is_obeyed_and_one_of_rubbish_is_passed_over() -> None:
    assert state(("retry-after", "0"), ("x-ratelimit-reset", "50")).seconds == 0.0
    for rubbish in ("-1", "later", "nan"):
        assert state(("retry-after", rubbish), ("retry-after-ms", "2500")).source == "retry-after-ms"
        assert state(("retry-after", rubbish), ("x-retry-after", "4")).seconds == 4.0


@pytest.mark.parametrize("values", [["30, 30"], ["30", "30"], ["junk, 30"], ["30, -4"], [" 30 ,,"]])
def test_a_header_sent_twice_counts_where_it_is_valid(values: list[str]) -> None:
    assert state(*(("Retry-After", value) for value in values)).seconds == 30.0


def test_two_http_dates_joined_by_a_comma_are_two() -> None:
    dates = ", ".join(formatdate(int(NOW) + wait, usegmt=True) for wait in (3, 7))
    assert state(("retry-after", dates), ("date", formatdate(NOW, usegmt=True))).seconds == 7.0


def test_of_several_spent_windows_the_longest_wait_counts() -> None:
    spent = (("x-ratelimit-remaining-requests", "0"), ("x-ratelimit-reset-requests", "2h0m0s"))
    also_spent = (("x-ratelimit-remaining-tokens", "-17"), ("x-ratelimit-reset-tokens", "7.66s"))
    reset = state(*also_spent, *spent)
    assert (reset.seconds, reset.source, reset.window) == (7200.0, "x-ratelimit-reset-requests", "requests")
    assert not reset.guessed


def test_a_window_with_something_left_does_not_count_beside_a_spent_one() -> None:
    left = (("x-ratelimit-remaining-requests-day", "14000"), ("x-ratelimit-reset-requests-day", "33011.382867"))
    spent = (("x-ratelimit-remaining-tokens-minute", "0"), ("x-ratelimit-reset-tokens-minute", "11.382867"))
    reset = state(*left, *spent)
    assert (reset.seconds, reset.window) == (pytest.approx(11.382867), "tokens/minute")


def test_where_no_counter_is_spent_the_shortest_wait_that_is_one_counts_and_is_called_a_guess() -> None:
    left = [(f"x-ratelimit-remaining-{what}", "5") for what in ("requests", "tokens", "requests-day")]
    resets = [("x-ratelimit-reset-requests", "2m"), ("x-ratelimit-reset-tokens", "9s")]
    full = ("x-ratelimit-reset-requests-day", "0s")
    reset = state(*left, *resets, full)
    assert (reset.seconds, reset.guessed) == (9.0, True)
    assert state(*left, full).seconds == 0.0


def test_a_reset_without_a_counter_counts_before_one_whose_window_has_something_left() -> None:
    left = (("x-ratelimit-remaining-tokens", "5"), ("x-ratelimit-reset-tokens", "9s"))
    reset = state(*left, ("x-ratelimit-reset-requests", "40s"))
    assert (reset.seconds, reset.guessed) == (40.0, True)


def test_a_sentence_in_the_body_beats_a_window_that_has_something_left() -> None:
    left = (("x-ratelimit-remaining-tokens", "5"), ("x-ratelimit-reset-tokens", "9s"))
    reset = state(*left, body=b'{"error":{"message":"Please try again in 41.724s."}}')
    assert (reset.seconds, reset.source, reset.guessed) == (41.724, "body:text", False)


def test_a_counter_of_minus_one_is_no_counter() -> None:
    reset = state(("x-ratelimit-remaining-tokens", "-1"), ("x-ratelimit-reset-tokens", "9"))
    assert reset.guessed


def test_of_two_counters_the_lower_one_counts() -> None:
    reset = state(("ratelimit-remaining", "80, 0;w=60"), ("ratelimit-reset", "9"))
    assert (reset.seconds, reset.guessed) == (9.0, False)


def test_a_spent_window_that_renews_at_once_gives_way_to_what_says_more() -> None:
    spent = (("x-ratelimit-remaining-tokens", "0"), ("x-ratelimit-reset-tokens", "0"))
    assert state(*spent, body=b"try again in 5s").seconds == 5.0
    assert state(*spent).seconds == 0.0


def test_a_subscription_says_by_its_status_which_window_is_spent() -> None:
    prefix = "anthropic-ratelimit-unified"
    five = ((f"{prefix}-5h-status", "rejected"), (f"{prefix}-5h-reset", "1795188282"))
    seven = ((f"{prefix}-7d-status", "allowed_warning"), (f"{prefix}-7d-reset", "1795500000"))
    reset = state(*five, *seven)
    assert (reset.seconds, reset.window) == (pytest.approx(7199.75), "5h")


@pytest.mark.parametrize(
    ("value", "wait"),
    [
        ('"default";r=0;t=30', 30.0),
        ('"burst";r=0;t=5, "daily";r=0;t=4000', 4000.0),
        ('"burst";r=0;t=5, "daily";r=12;t=4000', 5.0),
        ("limit=100, remaining=0, reset=30", 30.0),
    ],
)
def test_the_ratelimit_field_of_the_ietf_drafts(value: str, wait: float) -> None:
    reset = state(("RateLimit", value))
    assert (reset.seconds, reset.source, reset.guessed) == (wait, "ratelimit", False)


def test_a_provider_brings_its_own_headers() -> None:
    spec = HeaderSpec("X-Acme-Back", TimeFormat.EPOCH_MS, remaining="X-Acme-Left", window="requests/hour")
    headers = (("x-acme-left", "0"), ("x-acme-back", "1795181089250"), ("x-ratelimit-reset", "1"))
    reset = state(*headers, specs=[spec])
    assert (reset.seconds, reset.kind, reset.window) == (pytest.approx(7.0), TimeFormat.EPOCH_MS, "requests/hour")
    assert not reset.guessed


def test_a_wait_longer_than_the_cap_is_cut_and_says_so() -> None:
    assert state(("retry-after", "999999999"), cap=60) == Reset(
        seconds=60, kind=TimeFormat.FLOAT_SECONDS, source="retry-after", capped=True
    )
    assert not state(("retry-after", "60"), cap=60).capped


def test_an_answer_that_says_nothing_states_nothing() -> None:
    assert read_reset({}, b"", now=NOW) is None
    assert read_reset({"content-type": "text/html"}, b"<h1>Too many requests</h1>", now=NOW) is None


# the body


RETRY_INFO = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.074824224s"}


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"code": 429, "details": [RETRY_INFO]}},
        [{"error": {"code": 429, "details": [RETRY_INFO]}}],
        {"error": {"message": orjson.dumps({"error": {"details": [RETRY_INFO]}}).decode()}},
        orjson.dumps({"error": {"details": [RETRY_INFO]}})[:-3],
    ],
    ids=["object", "list", "json in a string", "cut off"],
)
def test_google_retry_info_is_found_however_it_is_wrapped(body: Any) -> None:
    reset = state(body=body)
    assert (reset.seconds, reset.source) == (pytest.approx(34.0748, abs=1e-3), "body:RetryInfo")


def test_a_quota_per_day_waits_for_midnight_in_california_and_not_for_the_retry_info() -> None:
    reset = state(body=google_error("Day", "34.4s"))
    assert (reset.source, reset.window) == ("body:QuotaFailure", "day")
    assert reset.seconds == datetime(2026, 11, 21, 8, tzinfo=UTC).timestamp() - NOW


def test_without_a_time_zone_database_a_day_of_google_ends_in_winter_time(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(key: str) -> None:
        raise ZoneInfoNotFoundError(key)

    july = datetime(2026, 7, 1, 12, tzinfo=UTC).timestamp()
    waits = []
    for zone in (ZoneInfo, missing):
        monkeypatch.setattr(resets, "ZoneInfo", zone)
        resets.zone.cache_clear()
        reset = read_reset({}, orjson.dumps(google_error("Day", "34.4s")), now=july)
        waits.append(reset and reset.seconds / 3600)
    resets.zone.cache_clear()
    assert waits == [19.0, 20.0]


def test_midnight_is_that_of_the_zone() -> None:
    assert until_midnight(NOW) == datetime(2026, 11, 21, tzinfo=UTC).timestamp() - NOW
    assert (
        until_midnight(NOW, timezone(timedelta(hours=14))) == datetime(2026, 11, 21, 10, tzinfo=UTC).timestamp() - NOW
    )


def test_the_headers_that_openrouter_repeats_in_its_body() -> None:
    headers = {"X-RateLimit-Limit": "50", "X-RateLimit-Remaining": 0, "X-RateLimit-Reset": "1795181382250"}
    reset = state(body={"error": {"code": 429, "metadata": {"headers": headers}}})
    assert (reset.seconds, reset.source) == (pytest.approx(300), "body:x-ratelimit-reset")
    assert state(body=[{"error": {"metadata": {"headers": headers}}}]) == reset
    assert (
        read_reset({}, orjson.dumps({"pad": " " * 2**20, "error": {"metadata": {"headers": headers}}}), now=NOW) is None
    )


@pytest.mark.parametrize(
    ("text", "wait"),
    [
        ("Rate limit reached for gpt-4o. Please try again in 41.724s. Visit the docs.", 41.724),
        ("Please try again in 7m12s.", 432.0),
        ("Please try again in 850ms.", 0.85),
        ("Please retry in 34.074824224s.", 34.074824224),
        ("Requests have exceeded call rate limit. Please retry after 6 seconds.", 6.0),
        ("Please wait 5 minutes before you ask again", 300.0),
        ("Try again in about 1 hour and 30 minutes", 5400.0),
        ("Your quota will reset after 2h3m4s.", 7384.0),
        ("The limit resets at 2026-11-20T13:25:42.25Z", 60.0),
    ],
)
def test_a_wait_in_a_sentence(text: str, wait: float) -> None:
    reset = state(body={"error": {"message": text}})
    assert (reset.seconds, reset.source) == (pytest.approx(wait), "body:text")


@pytest.mark.parametrize("text", ["Try again later", "try again in 5 parsecs", "used 5s of 60s", "retry with 3 keys"])
def test_a_sentence_without_a_wait(text: str) -> None:
    assert read_reset({}, text.encode(), now=NOW) is None


@pytest.mark.parametrize(
    ("body", "window"),
    [
        (google_error("Day", "34.4s"), "day"),
        (google_error("Minute", "34.4s"), "minute"),
        ([*google_error("Minute", "34.4s"), *google_error("Day", "34.4s")], "day"),
        ("Rate limit exceeded: free-models-per-day. Add 10 credits to unlock 1000 requests per day", "day"),
        ("Rate limit exceeded: free-models-per-min.", "minute"),
        ({"errors": [{"code": 3036, "message": "account limited"}]}, "day"),
        ("you have used up your daily free allocation of 10,000 neurons", "day"),
        ({"errors": [{"code": 3040, "message": "no more data centers to forward the request to"}]}, None),
        ("You've used up your free requests for today", "day"),
        ("Today's quota is gone", "day"),
        ("on tokens per day (TPD): Limit 100000, Used 99999. Need more tokens? Upgrade to Dev Tier today", "day"),
        ("on tokens per minute (TPM): Limit 6000, Used 5900. Please upgrade to Dev Tier today", "minute"),
        ("Limit reached on TPM, upgrade today", "minute"),
        ("you have reached your weekly usage limit, upgrade for higher limits", "week"),
        ("you have reached your session usage limit", "session"),
        ("5-hour limit reached", "session"),
        ("Rate limited. Try again in 5 hours", None),
        ("Upgrade today!", None),
        ("Too Many Requests", None),
        ("", None),
    ],
)
def test_the_window_that_an_error_names(body: Any, window: str | None) -> None:
    raw = body if isinstance(body, str) else orjson.dumps(body)
    assert pool_marker(raw) == window
    assert pool_marker(raw.encode() if isinstance(raw, str) else raw) == window


# hostile input

ODD = st.one_of(
    st.text(max_size=80),
    st.text("0123456789.-+eEsmhµ :;,TZ\"'", max_size=80),
    st.from_regex(r"-?[0-9]{1,80}(\.[0-9]{1,9})?(ms|s|m|h|d)?", fullmatch=True),
    st.floats().map(str),
    st.integers().map(str),
    st.datetimes().map(datetime.isoformat),
    st.floats(-1e10, 1e11).map(lambda at: formatdate(at, usegmt=True)),
    st.sampled_from(
        ["1e999", "nan", "-inf", "9" * 5000, "\x00", "\ud800", "Fri,", '"default";r=0;t=9', "0;w=1", "r=,t=9"]
    ),
)
NAMES = ["retry-after", "Retry-After-Ms", "x-retry-after", "RateLimit", "Date"]
NAMES += [name for spec in DEFAULT_SPECS for name in (spec.name, spec.remaining) if name]
JSON = st.recursive(
    st.none() | st.floats() | st.integers() | ODD,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["error", "metadata", "headers", "details", "retryDelay", "quotaId"]), inner)
    ),
    max_leaves=12,
)
BODIES = st.binary(max_size=200) | ODD.map(lambda text: f"try again in {text}".encode("utf-8", "replace"))
BODIES |= JSON.map(lambda value: orjson.dumps(value, default=str) if _sendable(value) else b"[")


def _sendable(value: Any) -> bool:
    try:
        orjson.dumps(value)
    except TypeError:
        return False
    return True


@given(ODD, st.sampled_from(list(TimeFormat)), st.none() | st.floats(0, 4e9))
def test_no_value_raises_or_means_a_negative_wait(value: str, kind: TimeFormat, server_date: float | None) -> None:
    read = parse(value, kind, now=NOW, server_date=server_date)
    assert read is None or (0 <= read[0] < float("inf") and read[1] is not TimeFormat.AUTO)


@given(st.lists(st.tuples(st.sampled_from(NAMES), ODD), max_size=8), BODIES, st.floats(0, 1e6))
def test_no_answer_raises_or_leaves_the_bounds(headers: list[tuple[str, str]], body: bytes, cap: float) -> None:
    for fields in (proxy(*headers), dict(headers)):
        reset = read_reset(fields, body, now=NOW, cap=cap)
        assert reset is None or 0 <= reset.seconds <= cap
    assert pool_marker(body) in ("day", "week", "session", "minute", None)


@given(st.floats(0.001, 86000))
def test_every_way_of_writing_a_wait_is_read_back(wait: float) -> None:
    minutes, rest = divmod(wait, 60)
    forms = [
        f"{wait:.3f}",
        f"{wait:.3f}s",
        f"{int(minutes)}m{rest:.3f}s",
        f"{wait * 1000:.3f}ms",
        f"{(NOW + wait) * 1000:.0f}",
    ]
    forms += [f"{NOW + wait:.3f}", datetime.fromtimestamp(NOW + wait, UTC).isoformat()]
    assert [seconds(form) for form in forms] == pytest.approx([wait] * len(forms), abs=0.002)


@given(st.floats(1e9, 3e9))
def test_midnight_is_never_further_than_a_day(now: float) -> None:
    assert 0 < until_midnight(now) <= CAP


GROWTH = [
    "9",
    "9,",
    "1s",
    "1.",
    "try again in ",
    "wait 1s",
    'quotaId":"',
    'retryDelay":"9',
    "limit ",
    "daily ",
    "r=0;t=9,",
]
GROWTH += ['"headers":', "[", "\\", " ", "Fri, ", '{"error":', "per", "7-day "]


@pytest.mark.parametrize("unit", GROWTH)
def test_a_megabyte_of_anything_is_read_in_no_time(unit: str) -> None:
    hostile = (unit * (1_000_000 // len(unit) + 1))[:1_000_000]
    headers = dict.fromkeys(("retry-after", "ratelimit", "x-ratelimit-reset", "x-ratelimit-remaining", "date"), hostile)
    started = time.process_time()
    read_reset(headers, hostile.encode(), now=NOW)
    pool_marker(hostile.encode())
    parse(hostile, now=NOW)
    assert time.process_time() - started < 0.25


def test_headers_in_a_body_that_are_no_headers() -> None:
    deep = b"[" * 1000 + b"]" * 1000
    for headers in (deep, b'{"retry-after":%b}' % deep, b'{"retry-after":null}', b"null", b"7", b"[]", b"1e999"):
        assert read_reset({}, b'[{"error":{"metadata":{"headers":%b}}}]' % headers, now=NOW) is None
    for value in ([], [[]], {"error": []}, {"error": {"metadata": "headers"}}):
        assert read_reset({}, orjson.dumps([value, {"headers": 1}]), now=NOW) is None


# Fields of a body, whatever they are called

SOON = NOW + 170


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"retry_after": 170}},
        {"error": {"retry_after": "170"}},
        {"error": {"retryAfter": 170.0}},
        {"retry_after_seconds": 170},
        {"error": {"metadata": {"retryAfterMs": 170000}}},
        {"error": {"retry_after_ms": "170000"}},
        {"error": {"resets_in_seconds": 170}},
        {"error": {"resets_at": SOON}},
        {"error": {"reset_at": int(SOON * 1000)}},
        {"error": {"resetsAt": datetime.fromtimestamp(SOON, UTC).isoformat()}},
        {"error": {"next_available_at": SOON}},
        {"error": {"details": [{"metadata": {"quotaResetDelay": "2m50s"}}]}},
        {"error": {"details": [{"metadata": {"quotaResetTimeStamp": datetime.fromtimestamp(SOON, UTC).isoformat()}}]}},
        {"error": {"details": [{"retryDelay": {"seconds": 170}}]}},
        {"error": {"details": [{"retryDelay": {"seconds": "169", "nanos": 1000000000}}]}},
        [{"error": {"retry_after": 170}}],
        {"error": {"wait_seconds": 170}},
        {"error": {"cooldown_seconds": 170}},
        {"error": {"retry_in_minutes": 170 / 60}},
        {"error": {"retry_after": 170, "limits": {"day": {"resets_at": NOW + 9000}}}},  # when to ask goes first
        {"error": {"retry_after": 170, "reset_after": 20}},
        {"error": {"limits": [{"resets_in": 20}, {"resets_in": 170}]}},
    ],
)
def test_a_field_of_the_body_tells_the_wait(body: Any) -> None:
    reset = state(body=body)
    assert reset.seconds == pytest.approx(170, abs=0.01)
    assert reset.source.startswith("body:")


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"retry_after": None}},
        {"error": {"retry_after": True, "retry": False, "retries": 170, "retry_count": 170}},
        {"error": {"retry_after": -5, "resets_at": "soon"}},
        {"error": {"limits": {"remaining": 4, "reset_in": 170}}},
        {"error": {"retry_after": {"seconds": True}}},
        {"a" * 1000: 170, "error": {"message": "no word of it", "context_window": 170, "timeout": 170}},
        {"error": {"presets": 170, "timeout_seconds": 170, "retry_policy": "170"}},
    ],
)
def test_other_fields_and_other_values_tell_none(body: Any) -> None:
    assert read_reset({}, orjson.dumps(body), now=NOW) is None


@pytest.mark.parametrize(
    "headers",
    [
        {"x-ratelimit-reset-after": "170"},
        {"x-ms-retry-after-ms": "170000"},
        {"retry-after-seconds": "170"},
        {"x-retry-after-ms": "170000"},
        {"x-rate-limit-retry-after-seconds": "170"},
        {"ratelimitbysize-reset": "170", "ratelimitbysize-remaining": "0"},
        {"x-ratelimitbysize-reset-month": "170", "x-ratelimitbysize-remaining-month": "0"},
        {"x-ratelimit-reset-input-tokens": "2m50s", "x-ratelimit-remaining-input-tokens": "0"},
        {"x-ratelimit-reset-images": "170s"},
        {"x-lab-ratelimit-requests-reset": "170"},
    ],
)
def test_a_header_of_any_name_tells_the_wait(headers: dict[str, str]) -> None:
    reset = state(*headers.items())
    assert reset.seconds == pytest.approx(170, abs=0.01)
    assert not reset.guessed or "remaining" not in str(headers)


def test_a_body_of_many_fields_takes_time_in_proportion() -> None:
    def cost(count: int) -> float:
        body = orjson.dumps({f"retry_after_{i}": {"resets_at": [{"x": i}]} for i in range(count)})
        best = 1e9
        for _ in range(3):
            began = time.thread_time()
            read_reset({}, body, now=NOW)
            best = min(best, time.thread_time() - began)
        return best

    assert cost(16_000) < 60 * max(cost(1000), 1e-4)
