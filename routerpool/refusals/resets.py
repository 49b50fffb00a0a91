"""How long to wait before asking again: the one reader of every form in which providers say it.

Pure functions of what an answer said. They never raise on what a provider sends, and take time linear in it. A form
that is not understood is no reset (None), so that the caller's own default applies; every wait is capped and says so.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from email.utils import parsedate_to_datetime
from enum import StrEnum
from functools import cache
from typing import Any, Literal, TypeAlias
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from attrs import evolve, field, frozen

from routerpool.refusals.fields import document_of, is_reset, retry_unit, waits_in

__all__ = [
    "DEFAULT_SPECS",
    "HeaderSpec",
    "Reset",
    "TimeFormat",
    "Window",
    "parse",
    "pool_marker",
    "read_reset",
    "until_midnight",
    "zone",
]

PACIFIC = "America/Los_Angeles"
"""Where Google's days of quota end."""

Window: TypeAlias = Literal["day", "week", "session", "minute"]

_DAY = 86400.0
_VALUE_CHARS = 64  # no date, number or duration that means something is longer
_HEADER_CHARS = 1024  # a header may be a list
_TEXT_BYTES = 32 * 1024  # an error says what it is at its beginning
_EPOCH = 1e9  # a number above it is a point in time, whatever unit its field's name has
_CLOCKS_AGREE = 2.0  # a Date header is cut to whole seconds and some milliseconds old

_UNITS: Mapping[str, float] = {
    **dict.fromkeys(("d", "day", "days"), _DAY),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), 3600.0),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), 60.0),
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), 1.0),
    **dict.fromkeys(("ms", "millisecond", "milliseconds"), 1e-3),
    **dict.fromkeys(("us", "\u00b5s", "\u03bcs"), 1e-6),
    "ns": 1e-9,
}
_NUMBER = r"[0-9]{1,20}(?:\.[0-9]{0,20})?"
_UNIT = "|".join(sorted(_UNITS, key=len, reverse=True))
_SPAN = rf"{_NUMBER} ?(?:{_UNIT})(?![a-z])"
_DURATION = rf"{_SPAN}(?:,? ?(?:and )?{_SPAN}){{0,7}}"
_INSTANT = r"[0-9]{4}-[0-9]{2}-[0-9]{2}[t ][0-9:.]{5,18}(?:z|[+-][0-9:]{4,6})?"

_is_number = re.compile(_NUMBER).fullmatch
_is_signed = re.compile(rf"-?{_NUMBER}").fullmatch
_is_duration = re.compile(_DURATION).fullmatch
_is_instant = re.compile(_INSTANT).fullmatch
_spans = re.compile(rf"({_NUMBER}) ?({_UNIT})(?![a-z])").findall
_commas = re.compile(r"(?<!mon|tue|wed|thu|fri|sat|sun|day),", re.IGNORECASE)  # but not the one inside an HTTP date
_parameters = re.compile(r"(?:^|[;,\s])(r|t|remaining|reset)=(-?[0-9]{1,20})").findall
_find_retry_delay = re.compile(rf'retrydelay\\{{0,8}}"\s{{0,8}}:\s{{0,8}}\\{{0,8}}"({_DURATION})').search
_find_phrase = re.compile(
    r"(?:try|retry(?:ing)?|wait|resets?|available)(?: your request| this request)?(?: again)?"
    rf"(?: in| after| for| at| on)?(?: about)? ({_DURATION}|{_INSTANT})"
).search
_quota_ids = re.compile(r'quotaid\\{0,8}"\s{0,8}:\s{0,8}\\{0,8}"([a-z0-9_-]{1,200})').findall
_find_pool = re.compile(
    r"(?P<week>\bweekly\b|per[-_ ]?week|this week|(?<![0-9])7[- ]day (?:usage )?limit)"
    r"|(?P<session>session (?:usage )?limit|(?<![0-9])5-hour\b|\bfive[- ]hour\b"
    r"|(?<![0-9])5 ?h(?:our)? (?:usage )?limit)"
    r"|(?P<day>per[-_ ]?day|(?<![a-z])[rt]pd(?![a-z])|\"code\"\s{0,4}:\s{0,4}\"?3036\b"
    r"|\bdaily\b[^.?!]{0,40}(?:quota|limit|allocation|allowance|cap\b|usage|credit|token|request))"
    r"|(?P<minute>per[-_ ]?min(?:ute)?|(?<![a-z])[rt]pm(?![a-z]))"
).search
# Asked last: limits per minute, too, advertise "upgrade today".
_find_today = re.compile(
    r"\btoday'?s\b[^.?!]{0,40}(?:quota|limit|allocation|allowance)"
    r"|(?:quota|limit|allocation|allowance|used up|exhausted|spent)\b[^.?!]{0,40}\btoday\b"
).search


class TimeFormat(StrEnum):
    """How a value tells time. AUTO guesses: a number above 10¹² is epoch milliseconds, above 10⁹ epoch seconds."""

    DURATION_GO = "duration_go"  # 2m59.56s, 6ms, 1h2m3s, 6m0s
    FLOAT_SECONDS = "float_seconds"
    MILLISECONDS = "milliseconds"
    EPOCH_S = "epoch_s"
    EPOCH_MS = "epoch_ms"
    RFC3339 = "rfc3339"
    HTTP_DATE = "http_date"
    AUTO = "auto"


@frozen(kw_only=True, slots=True)
class Reset:
    """A wait that an answer states.

    `seconds` counts from now, at least 0; `capped` says that the provider asked for more. `source` is the header's
    name, or begins with `body:`. `window` is what the header's spec calls its window. `guessed` is True where neither
    a counter at zero nor an explicit "wait" pointed at this reset: good enough after a 429, no news after a success.
    """

    seconds: float
    kind: TimeFormat
    source: str
    capped: bool = False
    window: str | None = None
    guessed: bool = False


def _lowered(name: str) -> str:
    return name.lower()


@frozen(slots=True)
class HeaderSpec:
    """A header that tells when a limit renews.

    `remaining` names the header that counts what is left (or says `rejected`); the reset counts only when that is
    spent, or is not told. `window` is free text for people and logs, such as `requests/day`.
    """

    name: str = field(converter=_lowered)
    kind: TimeFormat = TimeFormat.AUTO
    remaining: str | None = None
    window: str | None = None


def _default_specs() -> Iterator[HeaderSpec]:
    for prefix in ("x-ratelimit", "x-rate-limit", "x-tokenlimit", "ratelimit"):
        yield HeaderSpec(f"{prefix}-reset", remaining=f"{prefix}-remaining")
    for what in ("requests", "tokens"):
        yield HeaderSpec(f"x-ratelimit-reset-{what}", remaining=f"x-ratelimit-remaining-{what}", window=what)
        for per in ("minute", "hour", "day"):
            remaining = f"x-ratelimit-remaining-{what}-{per}"
            yield HeaderSpec(f"x-ratelimit-reset-{what}-{per}", remaining=remaining, window=f"{what}/{per}")
    for what in ("requests", "tokens", "input-tokens", "output-tokens"):
        name = f"anthropic-ratelimit-{what}"
        yield HeaderSpec(f"{name}-reset", remaining=f"{name}-remaining", window=what)
    for window in ("5h", "7d"):
        name = f"anthropic-ratelimit-unified-{window}"
        yield HeaderSpec(f"{name}-reset", remaining=f"{name}-status", window=window)


DEFAULT_SPECS: Sequence[HeaderSpec] = tuple(_default_specs())
"""The spellings in common use. A provider that says more (its windows, a kind of its own) brings its own specs."""

_RETRY = "retry-after"
_LEFT_BY_WORD: Mapping[str, float] = {"rejected": 0.0, "allowed": 1.0, "allowed_warning": 1.0}


def parse(
    value: str, kind: TimeFormat = TimeFormat.AUTO, *, now: float, server_date: float | None = None
) -> tuple[float, TimeFormat] | None:
    """Seconds from now that `value` means, and how it was read; None where it means nothing, as `-5`, `nan` or `soon`.

    `now` and `server_date` (the answer's Date header) are seconds since the epoch. A point in time is measured on the
    server's clock where the two disagree. One that passed within the last day is 0; an older one is no statement.
    """
    text = value.strip().strip('"').lower() if len(value) <= _VALUE_CHARS else ""
    if kind is TimeFormat.AUTO:
        kind = _guess(text)
    if kind in (TimeFormat.DURATION_GO, TimeFormat.FLOAT_SECONDS, TimeFormat.MILLISECONDS):
        wait = _wait(text, kind)
        return None if wait is None else (wait, kind)
    instant = _instant(text, kind)
    if instant is None:
        return None
    wait = instant - _clock(now, server_date, kind)
    return None if wait < -_DAY else (max(wait, 0.0), kind)


def _guess(text: str) -> TimeFormat:
    if _is_number(text):
        number = float(text)
        return (
            TimeFormat.EPOCH_MS if number > 1e12 else TimeFormat.EPOCH_S if number > 1e9 else TimeFormat.FLOAT_SECONDS
        )
    if _is_duration(text):
        return TimeFormat.DURATION_GO
    return TimeFormat.RFC3339 if text[:1].isdigit() else TimeFormat.HTTP_DATE


def _wait(text: str, kind: TimeFormat) -> float | None:
    if _is_number(text):
        return float(text) / 1000 if kind is TimeFormat.MILLISECONDS else float(text)
    if kind is TimeFormat.DURATION_GO and _is_duration(text):
        return sum(float(number) * _UNITS[unit] for number, unit in _spans(text))
    return None


def _instant(text: str, kind: TimeFormat) -> float | None:
    """The point in time that `text` names, in seconds since the epoch."""
    if kind in (TimeFormat.EPOCH_S, TimeFormat.EPOCH_MS):
        if not _is_number(text):
            return None
        return float(text) / 1000 if kind is TimeFormat.EPOCH_MS else float(text)
    try:
        if kind is TimeFormat.HTTP_DATE:
            moment = parsedate_to_datetime(text)
        elif _is_instant(text):
            moment = datetime.fromisoformat(text.upper())
        else:
            return None
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):  # all that the parser of e-mail dates is known to raise
        return None


def _clock(now: float, server_date: float | None, kind: TimeFormat) -> float:
    """The clock that a point in time was read from: the server's, but ours where it is the same and finer."""
    if server_date is None:
        return now
    return server_date if kind is TimeFormat.HTTP_DATE or abs(server_date - now) >= _CLOCKS_AGREE else now


def until_midnight(now: float, zone: tzinfo = UTC) -> float:
    """Seconds from `now` (since the epoch) to the next midnight in `zone`, where a new day of quota begins."""
    today = datetime.fromtimestamp(now, zone).replace(hour=0, minute=0, second=0, microsecond=0)
    return (today + timedelta(days=1)).timestamp() - now


@cache
def zone(name: str) -> tzinfo:
    """A time zone. Without a database of them Pacific winter time has to do, an hour late in summer, else UTC."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        return timezone(timedelta(hours=-8)) if name == PACIFIC else UTC


def _text(body: bytes | str) -> str:
    return (body[:_TEXT_BYTES] if isinstance(body, str) else body[:_TEXT_BYTES].decode("utf-8", "replace")).lower()


def pool_marker(body: bytes | str) -> Window | None:
    """Which window of a quota an error body says is exhausted, None where it names none.

    This tells a quota that is gone (`day`, `week`, `session`) from a rate that will soon recover (`minute`, None).
    Google's quota ids list all that is violated, so there the day wins; in prose the window that is named first does.
    """
    text = _text(body)
    if ids := _quota_ids(text):
        joined = " ".join(ids)
        return "day" if "perday" in joined else "minute" if "perminute" in joined else None
    if match := _find_pool(text):
        groups = match.groupdict()
        return "week" if groups["week"] else "session" if groups["session"] else "day" if groups["day"] else "minute"
    return "day" if _find_today(text) else None


def read_reset(
    headers: Mapping[str, str],
    body: bytes = b"",
    *,
    specs: Sequence[HeaderSpec] = DEFAULT_SPECS,
    now: float | None = None,
    cap: float = _DAY,
) -> Reset | None:
    """The wait that a provider's answer states, None where it states none.

    Asked in this order: Retry-After and its kin; windows whose counter is spent, the longest; windows without a
    counter, the shortest; the body; windows that have something left, the shortest. A zero counts where Retry-After
    says it, elsewhere only if nothing says more. `headers` may be in any case and hold a name several times (a
    multidict); of several values the longest wait counts. `now` is seconds since the epoch, `cap` is seconds.
    """
    now = time.time() if now is None else now
    fields = _fields(headers.items())
    dates = [_instant(text.strip().lower(), TimeFormat.HTTP_DATE) for text in fields.get("date", ())[:1]]
    states = list(_states(fields, body, specs, now, dates[0] if dates else None))
    if not states:
        return None
    asked = states[0] if retry_unit(states[0].source) is not None else None
    reset = asked or next((state for state in states if state.seconds > 0), states[0])
    return evolve(reset, seconds=cap, capped=True) if reset.seconds > cap else reset


_Fields: TypeAlias = Mapping[str, list[str]]


def _fields(items: Iterable[tuple[str, Any]]) -> _Fields:
    fields: dict[str, list[str]] = {}
    for name, value in items:
        if isinstance(value, (str, int, float)):  # a body may repeat a header as a number
            fields.setdefault(name.lower(), []).append(str(value)[:_HEADER_CHARS])
    return fields


def _pieces(values: Iterable[str]) -> Iterator[str]:
    """The single values of a header that was sent several times, as lines or joined by commas."""
    for value in values:
        yield from _commas.split(value)


def _states(
    fields: _Fields, body: bytes, specs: Sequence[HeaderSpec], now: float, date: float | None
) -> Iterator[Reset]:
    """All that an answer states, the most telling first."""
    for name in sorted(fields, key=lambda name: (name != _RETRY, len(name))):
        if (unit := retry_unit(name)) is not None:
            kind = TimeFormat.MILLISECONDS if unit < 1 else TimeFormat.AUTO
            if reset := _longest(fields, HeaderSpec(name, kind), now, date):
                yield reset
    named = {spec.name for spec in specs}
    others = [HeaderSpec(name, remaining=_counter(name)) for name in fields if name not in named and is_reset(name)]
    windows = list(_windows(fields, (*specs, *others), now, date))
    yield from sorted((reset for left, reset in windows if left is not None and left <= 0), key=_wait_of, reverse=True)
    yield from sorted((evolve(reset, guessed=True) for left, reset in windows if left is None), key=_wait_of)
    yield from _body_states(body, specs, now, date)
    yield from sorted((evolve(reset, guessed=True) for left, reset in windows if left and left > 0), key=_wait_of)


def _counter(reset: str) -> str:
    """The header that counts what is left in the window whose end this one tells."""
    return re.sub(r"-reset(?:-(?:after|at|in|ms))?(?=-|$)", "-remaining", reset)


def _wait_of(reset: Reset) -> float:
    return reset.seconds


def _longest(fields: _Fields, spec: HeaderSpec, now: float, date: float | None) -> Reset | None:
    readings = [parse(piece, spec.kind, now=now, server_date=date) for piece in _pieces(fields.get(spec.name, ()))]
    seconds, kind = max((reading for reading in readings if reading), default=(None, spec.kind))
    return None if seconds is None else Reset(seconds=seconds, kind=kind, source=spec.name, window=spec.window)


def _windows(
    fields: _Fields, specs: Sequence[HeaderSpec], now: float, date: float | None
) -> Iterator[tuple[float | None, Reset]]:
    """What is left in each window that the headers tell of, None where they do not say, and when it renews."""
    for spec in specs:
        if reset := _longest(fields, spec, now, date):
            yield _left(fields.get((spec.remaining or "").lower(), ())), reset
    # The field of the IETF drafts: `"a";r=0;t=30, "b";r=9;t=7`, in earlier ones `limit=9, remaining=0, reset=30`.
    for value in fields.get("ratelimit", ()):
        for item in [value] if "reset=" in value else _pieces([value]):
            counters = {name: float(number) for name, number in _parameters(item)}
            wait = counters.get("t", counters.get("reset", -1.0))
            if wait >= 0:
                reset = Reset(seconds=wait, kind=TimeFormat.FLOAT_SECONDS, source="ratelimit")
                yield counters.get("r", counters.get("remaining")), reset


def _left(counters: Iterable[str]) -> float | None:
    counts = []
    for piece in _pieces(counters):
        word = piece.partition(";")[0].strip().lower()
        if _is_signed(word):
            counts.append(float(word))
        elif word in _LEFT_BY_WORD:
            counts.append(_LEFT_BY_WORD[word])
    return min((count for count in counts if count != -1), default=None)  # Azure says -1 where it does not count


def _body_states(body: bytes, specs: Sequence[HeaderSpec], now: float, date: float | None) -> Iterator[Reset]:
    """What an error body states: a day's quota, Google's RetryInfo, headers that OpenRouter repeats, a sentence."""
    text = _text(body)
    if any("perday" in quota for quota in _quota_ids(text)):  # and a RetryInfo beside it is no new day
        wait = until_midnight(now, zone(PACIFIC))
        yield Reset(seconds=wait, kind=TimeFormat.FLOAT_SECONDS, source="body:QuotaFailure", window="day")
    if (info := _find_retry_delay(text)) and (read := parse(info[1], TimeFormat.DURATION_GO, now=now)):
        yield Reset(seconds=read[0], kind=read[1], source="body:RetryInfo")
    document = document_of(body)
    yield from _told_by_fields(document, now, date)
    if repeated := _repeated_headers(document):
        yield from (evolve(reset, source=f"body:{reset.source}") for reset in _states(repeated, b"", specs, now, date))
    if (phrase := _find_phrase(text)) and (read := parse(phrase[1], now=now, server_date=date)):
        yield Reset(seconds=read[0], kind=read[1], source="body:text")


def _told_by_fields(document: Any, now: float, date: float | None) -> Iterator[Reset]:
    """What the fields of a body tell: when to ask again before when a window ends, of each the longest."""
    found = []
    for told in waits_in(document):
        if told.scale is not None and _is_number(told.text) and float(told.text) < _EPOCH:
            found.append((told.retry, float(told.text) * told.scale, TimeFormat.FLOAT_SECONDS, told.name))
        elif read := parse(told.text, now=now, server_date=date):
            found.append((told.retry, *read, told.name))
    for retry, seconds, kind, name in sorted(found, key=lambda told: told[:2], reverse=True):
        yield Reset(seconds=seconds, kind=kind, source=f"body:{_RETRY if retry else name}")


def _repeated_headers(value: Any) -> _Fields:
    """`error.metadata.headers`, where a gateway repeats the headers of the provider behind it."""
    if isinstance(value, list) and value:
        value = value[0]
    for key in ("error", "metadata", "headers"):
        value = value.get(key) if isinstance(value, dict) else None
    return _fields(value.items()) if isinstance(value, dict) else {}
