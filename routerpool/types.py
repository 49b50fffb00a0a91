"""The values that cross a hook: frozen, keyword-only, slotted.

A plugin receives these, and answers with them. None of them holds a credential; only `ChatRequest` and `Opening`
hold text of the client or the provider, and neither is ever stored or logged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import IntEnum, StrEnum
from fnmatch import fnmatchcase
from math import inf, isfinite
from typing import Any, Literal

from attrs import Attribute, evolve, field, frozen
from attrs.validators import ge, instance_of, le

__all__ = [
    "Answer",
    "Attempt",
    "Caller",
    "Candidate",
    "ChatRequest",
    "Decision",
    "Detected",
    "Failure",
    "FailureKind",
    "Features",
    "Finding",
    "Hints",
    "Level",
    "Limit",
    "Model",
    "Native",
    "Opening",
    "Outcome",
    "Plan",
    "Pool",
    "Prices",
    "Privacy",
    "Probe",
    "Report",
    "Score",
    "Tier",
    "Usage",
    "UsageRecord",
    "Veto",
]

RequestKind = Literal["chat", "embedding"]


def _mapping(_: object, attribute: Attribute[Any], value: Mapping[str, Any]) -> None:
    if not isinstance(value, Mapping):
        raise TypeError(f"{attribute.name} must be a mapping, not {type(value).__name__}")


def _seconds(_: object, attribute: Attribute[Any], value: float | None) -> None:
    """A wait is a number of seconds, or unknown; a plugin that makes one of NaN hears of it at that line."""
    if value is not None and not isfinite(value):
        raise ValueError(f"{attribute.name} must be finite, not {value}")


class Privacy(IntEnum):
    """How far a request may travel. A class only ever rises."""

    PUBLIC = 0
    PRIVATE = 1
    SENSITIVE = 2
    SECRET = 3


class Tier(IntEnum):
    """A model's strength class: what ESCALATE climbs and what a profile may prefer."""

    FAST = 1
    BALANCED = 2
    CAPABLE = 3


class Decision(IntEnum):
    """What to do after a failure; the gravest one asked for wins.

    NEXT tries the next candidate. RETRY asks for the same candidate again: it is honoured when no other is left, or
    for a pinned one whose provider states a wait under 2 s; otherwise it is a NEXT. ESCALATE goes on with higher
    tiers only. STOP ends the request with this failure.
    """

    NEXT = 0
    RETRY = 1
    ESCALATE = 2
    STOP = 3


class FailureKind(StrEnum):
    """Why an attempt brought no answer. The kind decides what is benched, for how long, and whether to go on."""

    RATE_LIMITED = "rate_limited"
    QUOTA_EXHAUSTED = "quota_exhausted"
    CREDIT = "credit"
    AUTH = "auth"
    FORBIDDEN = "forbidden"
    MISSING_MODEL = "missing_model"
    TIMEOUT = "timeout"
    CONNECT = "connect"
    SERVER = "server"
    TOO_LARGE = "too_large"
    BAD_REQUEST = "bad_request"
    CONTENT_FILTER = "content_filter"
    EMPTY = "empty"
    INTERRUPTED = "interrupted"
    UNAVAILABLE = "unavailable"
    OVERLOADED = "overloaded"
    """This machine has no descriptor, memory or port left to ask anybody: nobody's failure, and no hook is told."""
    CLIENT_GONE = "client_gone"


class Outcome(StrEnum):
    """How a request ended, as the usage record tells it."""

    ANSWERED = "answered"
    TRUNCATED = "truncated"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Level(IntEnum):
    """How grave a finding of `doctor` is."""

    OK = 0
    NOTE = 1
    WARNING = 2
    ERROR = 3


@frozen(kw_only=True, slots=True)
class Caller:
    """Who asks: the id of the API key (never the key), the plane it opens, and the policy bound to it."""

    id: str = "anonymous"
    plane: Literal["user", "host", "admin"] = "user"
    profile: str | None = None
    privacy: Privacy = Privacy.PUBLIC


@frozen(kw_only=True, slots=True)
class Hints:
    """What the client asked of the router itself: the body's `router` object and the `X-Router-*` headers.

    They are taken out before anything is forwarded. `preferred` and `forbidden` name candidates, models or providers
    as they are, never by patterns; the `max_*` fields are seconds; `session` is the client's own session id, from
    whichever header it uses; `more` holds those that plugins have declared. A name has at most 256 characters, a list
    of names 64 of them.
    """

    privacy: Privacy | None = None
    profile: str | None = None
    task: str | None = None
    preferred: tuple[str, ...] = ()
    forbidden: tuple[str, ...] = ()
    priority: Literal["low", "normal", "high"] = "normal"
    mode: Literal["auto", "sync", "async"] = "auto"
    allow_async: bool = False
    max_queue_seconds: float | None = None
    max_seconds: float | None = None
    require_gpu_only: bool = False
    session: str | None = None
    more: Mapping[str, Any] = field(factory=dict)


NO_HINTS = Hints()
"""The hints of most requests, so that these are told by one look."""


@frozen(kw_only=True, slots=True)
class Native:
    """The client's own dialect and its parsed body, for a candidate that speaks it without translation."""

    dialect: str
    body: Mapping[str, Any] = field(repr=False)


@frozen(kw_only=True, slots=True)
class ChatRequest:
    """One request, parsed once; what is sent upstream is serialised from it, never the client's raw bytes.

    `messages` and `params` are shared with every plugin and must not be changed in place: a mutator answers with
    `attrs.evolve(request, …)`. `params` holds every other field of the body, known or not. `heavy` says that it holds
    so much that whoever goes through all of it does so in a thread: the loop is every request's; `huge`, that this
    holds even for what takes a microsecond a thousand characters.
    """

    id: str
    model: str
    messages: Sequence[Mapping[str, Any]] = field(repr=False)
    kind: RequestKind = "chat"
    stream: bool = False
    params: Mapping[str, Any] = field(factory=dict, repr=False)
    hints: Hints = NO_HINTS
    caller: Caller = Caller()
    native: Native | None = None
    heavy: bool = False
    huge: bool = False


@frozen(kw_only=True, slots=True)
class Finding:
    """Something a scanner saw: which rule, in which part of the request, and a redacted excerpt, never the thing.

    `line` and `column` count from 1, within the part.
    """

    rule: str
    part: str
    redacted: str
    line: int = 1
    column: int = 1


@frozen(kw_only=True, slots=True)
class Features:
    """What is known of a request before anybody answers it.

    `needs` are capability names (vision, tools, json_schema, web_search, …); `prompt_tokens` is an estimate, `session`
    a hash that groups the turns of one conversation; `labels` is where plugins leave words for others.
    """

    task: str | None = None
    difficulty: float | None = None
    language: str | None = None
    prompt_tokens: int = 0
    needs: frozenset[str] = frozenset()
    privacy: Privacy = Privacy.PUBLIC
    session: str = ""
    labels: Mapping[str, Any] = field(factory=dict)
    findings: tuple[Finding, ...] = ()

    def in_session_of(self, other: Features) -> Features:
        """These features, in the same conversation as others if a plugin has lost it."""
        return self if self.session else evolve(self, session=other.session)

    def sound(self) -> bool:
        """Whether a plugin has left these of the types that they are."""
        known = isinstance(self.prompt_tokens, int) and isinstance(self.session, str)
        return known and isinstance(self.privacy, Privacy)

    def raised(self, privacy: Privacy, findings: Sequence[Finding] = ()) -> Features:
        """These features at no less than `privacy`, with the findings that say why."""
        return evolve(self, privacy=max(self.privacy, privacy), findings=(*self.findings, *findings))

    def labelled(self, **labels: Any) -> Features:
        """These features with more labels."""
        return evolve(self, labels={**self.labels, **labels})


def _price(_: object, attribute: Attribute[Any], value: float | None) -> None:
    if value is not None and not 0 <= value < inf:
        raise ValueError(f"{attribute.name} must be a price of 0 or more, not {value}")


@frozen(kw_only=True, slots=True)
class Prices:
    """US dollars per million tokens. A price that is None is unknown, which is not the same as free.

    `cache_write` is for tokens kept five minutes, `cache_write_1h` for an hour. A request whose whole prompt is longer
    than `over` tokens costs what `long` says instead, from its first token on.
    """

    input: float | None = field(default=None, validator=_price)
    cached: float | None = field(default=None, validator=_price)
    cache_write: float | None = field(default=None, validator=_price)
    cache_write_1h: float | None = field(default=None, validator=_price)
    output: float | None = field(default=None, validator=_price)
    over: int | None = None
    long: Prices | None = None

    def __attrs_post_init__(self) -> None:
        if (self.over is None) is not (self.long is None):
            raise ValueError("`over` (tokens) and `long` (prices) go together; give both or none")


@frozen(kw_only=True, slots=True)
class Limit:
    """A window of a pool: so much of something, per so long. `resets` says when: a time zone's midnight, or rolling."""

    amount: float
    of: Literal["requests", "tokens", "input_tokens", "output_tokens", "neurons", "usd", "gpu_seconds", "concurrent"]
    per: Literal["second", "minute", "hour", "5h", "day", "week", "month", "always"]
    resets: str = "rolling"


@frozen(kw_only=True, slots=True)
class Pool:
    """A quota that several models share: what is spent on one of them is spent on all.

    `models` are ids or globs. `scope` says who shares it: a second key of the same account does not get another one.
    """

    name: str
    models: tuple[str, ...] = ("*",)
    scope: Literal["key", "account", "organisation", "project", "ip"] = "account"
    limits: tuple[Limit, ...] = ()
    note: str = ""
    date: str = ""
    source: str = ""

    def holds(self, model_id: str) -> bool:
        """Whether a model draws on it."""
        return any(fnmatchcase(model_id, glob) for glob in self.models)


@frozen(kw_only=True, slots=True)
class Model:
    """What one provider says of one model.

    `context` and `max_output` are tokens, None when unknown. `capabilities` holds claims: True and False are known,
    a name that is missing is unknown. `rank` orders models by strength, lower first; `pools` names the quotas that it
    shares with others, which `Provider.pools` tells; `settings` holds the sections of plugins by plugin name,
    validated by that plugin.
    """

    id: str
    display_name: str | None = None
    context: int | None = None
    max_output: int | None = None
    prices: Prices = Prices()
    tier: Tier | None = None
    rank: int | None = None
    tags: frozenset[str] = frozenset()
    capabilities: Mapping[str, bool] = field(factory=dict)
    free: bool = False
    local: bool = False
    data_policy: Literal["unknown", "may_train", "no_training"] = "unknown"
    pools: frozenset[str] = frozenset()
    settings: Mapping[str, Mapping[str, Any]] = field(factory=dict)


@frozen(kw_only=True, slots=True)
class Candidate:
    """A provider instance and one of its models: what can answer a request. `key` is `provider/model`."""

    provider: str
    model: Model
    key: str = field(init=False)

    @key.default
    def _key(self) -> str:
        return f"{self.provider}/{self.model.id}"


@frozen(slots=True)
class Veto:
    """Who must not answer, and why: a stable code and a sentence; in how many seconds it ends, where that is known.

    `kind` is the failure for which it is out, if it is for one: so clients are told the same while it lasts as then.
    """

    candidate: Candidate
    code: str = field(validator=instance_of(str))
    reason: str = field(validator=instance_of(str))
    retry_after: float | None = field(default=None, validator=_seconds)
    kind: FailureKind | None = None


@frozen(slots=True)
class Score:
    """How well a candidate suits: points in [0, 1] and the named terms they came from."""

    candidate: Candidate
    points: float
    terms: Mapping[str, float] = field(factory=dict)


@frozen(kw_only=True, slots=True)
class Plan:
    """The decision before anything is sent: who is asked, in order, and why the others are not.

    `scores` are the weighted sums by candidate key; `opinions` what each strategy said: its name, weight and scores.
    `settings` are the profile's, by plugin name: for each plugin with a `ProfileConfig` an instance of it, of which all
    is as by default where the profile says nothing.
    """

    request: ChatRequest
    features: Features
    profile: str
    ranked: tuple[Candidate, ...]
    vetoes: tuple[Veto, ...] = ()
    scores: Mapping[str, Score] = field(factory=dict)
    opinions: tuple[tuple[str, float, Sequence[Score]], ...] = ()
    pinned: str | None = None
    settings: Mapping[str, Any] = field(factory=dict, repr=False)


@frozen(kw_only=True, slots=True)
class Attempt:
    """One upstream request. `number` counts from 1; `started` is `time.perf_counter()` seconds.

    `plan` is the decision that it comes from. `claimed` is true where another process sends it and tells how it goes:
    its word may be wrong, so nothing that lasts is to be learned from it. `notes` is where a plugin keeps, under its
    own name, what it wants to find again in a later hook of the same attempt; nobody else reads it.
    """

    request: ChatRequest
    features: Features
    candidate: Candidate
    number: int
    started: float
    plan: Plan = field(repr=False)
    claimed: bool = False
    notes: dict[str, Any] = field(factory=dict, eq=False, repr=False)

    @plan.default
    def _plan(self) -> Plan:
        """That of an attempt made by hand, as tests do: to this candidate alone."""
        return Plan(request=self.request, features=self.features, profile="", ranked=(self.candidate,))


@frozen(kw_only=True, slots=True)
class Answer:
    """A provider's own words, kept to be passed on as they are: an error that is the client's to read."""

    status: int
    content_type: str
    body: bytes = field(repr=False)


@frozen(kw_only=True, slots=True)
class Failure:
    """Why an attempt brought no answer.

    `message` is redacted and short; `retry_after` is the provider's own word in seconds, None when it said nothing,
    and `source` tells where that word stood. `first_byte_sent` is true when the client has already seen part of it;
    `lacks` names the capability that the candidate turned out not to have, `pool` the shared quota that is spent.
    `wide` is true of what says nothing of the model: where two models of a provider fail so, its others will too.
    `again` is true where the same candidate will take the request now, without what it refused.
    """

    kind: FailureKind = field(validator=instance_of(FailureKind))
    message: str
    status: int | None = None
    retry_after: float | None = field(default=None, validator=_seconds)
    source: str | None = None
    first_byte_sent: bool = False
    lacks: str | None = None
    pool: str | None = None
    answer: Answer | None = field(default=None, repr=False)
    again: bool = False
    wide: bool = field()

    @wide.default
    def _wide(self) -> bool:
        return self.kind in (FailureKind.CONNECT, FailureKind.SERVER, FailureKind.TIMEOUT)


@frozen(kw_only=True, slots=True)
class Opening:
    """What is known of an answer at the gate, before the client sees any of it.

    `text` and `reasoning` are what has come so far, `tool_calls` the calls in OpenAI's form; `complete` is true when
    this is all of it (a plain answer, or a profile that buffers). `body` is the parsed plain answer.
    """

    text: str = field(default="", repr=False)
    reasoning: str = field(default="", repr=False)
    tool_calls: tuple[Mapping[str, Any], ...] = field(default=(), repr=False)
    finish_reason: str | None = None
    complete: bool = False
    body: Mapping[str, Any] | None = field(default=None, repr=False)


@frozen(kw_only=True, slots=True)
class Usage:
    """Tokens of one answer, each counted in one place only, so that the four kinds of input are the whole prompt.

    `cache_write` was written to a cache for five minutes or for a time that nobody states, `cache_write_1h` for an
    hour. `reasoning` is the part of `output` that nobody sees. `cost` is what the provider itself says it takes for
    this answer, in US dollars: where it is given it goes before any price list, and marks the cost as the provider's.
    """

    input_uncached: int = 0
    input_cached: int = 0
    cache_write: int = 0
    cache_write_1h: int = 0
    output: int = 0
    reasoning: int = 0
    cost: float | None = None
    source: Literal["reported", "estimated"] = "estimated"

    @property
    def input(self) -> int:
        """The whole prompt in tokens, however it was billed."""
        return self.input_uncached + self.input_cached + self.cache_write + self.cache_write_1h

    def joined(self, later: Usage) -> Usage:
        """One usage of two that are told of the same answer, one after the other: the larger of each count.

        Anthropic's streams tell the prompt at their beginning and the output, which grows, towards their end.
        """
        return Usage(
            input_uncached=max(self.input_uncached, later.input_uncached),
            input_cached=max(self.input_cached, later.input_cached),
            cache_write=max(self.cache_write, later.cache_write),
            cache_write_1h=max(self.cache_write_1h, later.cache_write_1h),
            output=max(self.output, later.output),
            reasoning=max(self.reasoning, later.reasoning),
            cost=later.cost if later.cost is not None else self.cost,
            source="reported" if "reported" in (self.source, later.source) else "estimated",
        )


@frozen(kw_only=True, slots=True)
class UsageRecord:
    """What is remembered of a request. It has no field that could hold a prompt, an answer, a header or a key.

    `tried` is one `candidate:outcome` an attempt; `cost` is US dollars, None when a price is unknown; times are
    milliseconds; `terms` are the score terms of the candidate that answered; `time` is seconds since the epoch.
    """

    request_id: str
    time: float
    caller: str
    session: str
    profile: str
    model_asked: str
    provider: str | None
    model: str | None
    outcome: Outcome
    stream: bool
    tried: tuple[str, ...]
    task: str | None
    privacy: Privacy
    prompt_tokens: int
    usage: Usage
    cost: float | None
    first_byte_ms: float | None
    total_ms: float
    terms: Mapping[str, float] = field(factory=dict)


@frozen(kw_only=True, slots=True)
class Probe:
    """How far `check` and `detect` may look.

    `env` is the environment with the `.env` file beside the config merged in; loopback may always be asked, other
    machines only where `network` is true; no single look may take longer than `timeout` seconds.
    """

    env: Mapping[str, str] = field(factory=dict, repr=False)
    network: bool = False
    timeout: float = 1.0


@frozen(kw_only=True, slots=True)
class Report:
    """One finding of `doctor`: how grave, what, and the cure."""

    level: Level = field(validator=instance_of(Level))
    text: str
    cure: str = ""
    subject: str = ""


@frozen(kw_only=True, slots=True)
class Detected:
    """Something found on this machine: where it was seen, how sure that is (0 to 1), and the YAML it proposes.

    `options` becomes the section `plugins.<name>`; `environment` names the variables a user would set for it.
    """

    name: str
    source: str
    confidence: float = field(validator=[ge(0), le(1)])
    options: Mapping[str, Any] = field(factory=dict, validator=_mapping)
    environment: tuple[str, ...] = ()
    comment: str = ""
