"""Everything that sees foreign bytes, and what is sent to it in growing sizes: the time must grow as the bytes do.

`READERS` is the list: a function by its name, and what grows. A test holds the package's modules against it, and every
regular expression that a module compiles is measured without standing in it.
"""

from __future__ import annotations

import ast
import gc
import importlib
import pkgutil
import re
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from time import thread_time
from types import ModuleType
from typing import Any

import orjson
from attrs import frozen
from routerpool_anthropic.answer import Translation
from routerpool_anthropic.answer import completion as completion_of_message
from routerpool_anthropic.question import question
from routerpool_anthropic.schema import closed
from routerpool_google.tool_schema import Narrowing
from routerpool_ollama.address import address_of
from routerpool_ollama.native import chat_body
from routerpool_ollama.wishes import Wishes
from routerpool_pii import PII
from routerpool_policy.paths import PathPatterns
from routerpool_policy.rules import Rule, Rules
from routerpool_secrets import Secrets

import routerpool
from routerpool import ChatRequest, Model, RouterpoolError
from routerpool.config.reading import from_mapping
from routerpool.config.sections import Config
from routerpool.document import Problems, expand, parse, scalar
from routerpool.engine.rewriting import Disclosure
from routerpool.errors import nearest
from routerpool.planning.tokens import estimate_tokens, text_tokens
from routerpool.privacy.packed import packed_text
from routerpool.privacy.parts import parts_of, rewritten
from routerpool.privacy.placeholders import Restorer, standins_in, unescaped
from routerpool.providers.data import Params
from routerpool.providers.failures import failure_of_answer
from routerpool.providers.forms import form_of, unwrapped
from routerpool.providers.roster import listed
from routerpool.refusals.fields import document_of, waits_in
from routerpool.refusals.overflow import says_too_long
from routerpool.refusals.resets import pool_marker, read_reset
from routerpool.wire.answers import answer_of, delta_of
from routerpool.wire.bodies import gathered
from routerpool.wire.calls import Numbering
from routerpool.wire.choices import Choices, arguments_size, fragments_size
from routerpool.wire.errors import read_error
from routerpool.wire.hints import read_hints
from routerpool.wire.json import loads
from routerpool.wire.mask import Mask
from routerpool.wire.request import is_heavy, needs_of, parse_chat, sent_body, serialised, session_of
from routerpool.wire.sse import Cutter, event_data, split_events
from routerpool.wire.stream import Stream
from routerpool.wire.template import Template
from routerpool.wire.usage import read_usage

Make = Callable[[int], Any]
"""Makes an input of about so many bytes."""

EXPECTED_ERRORS = (ValueError, TypeError, LookupError, RouterpoolError)
"""What rubbish may be answered with; that it is answered so is other tests' business."""


@frozen
class Reader:
    """A function that sees foreign bytes, and what grows."""

    call: Callable[[Any], object]
    grown: Mapping[str, Make]


# What grows

UNITS = (
    *("a", "A ", "é", "１", "\u200b", "0", "9.", "1-", "a.b", "_", "\n", "\r\n", " \t", "-", "=", ",", ";", ":", "/"),
    *("\\", '"', "'", '\\"', "\\\\", "\\u0041", "{", "[", "(", "<", "[]", "{}", '{"a":', "[1,", '"a",', "}", "]", "%"),
    *("&", "#", "*", "?", "[a", "$", "${", "${A}", "$HOME/", "~/", "../", "/home/a/", "a@a.", "@a.aa ", "key=", "sk-a"),
    *("password: ", "ghp_", "eyJ", "-----BEGIN PRIVATE KEY-----\n", "data:", "data: {}\n\n", "data:a;base64,", "r=1;"),
    *("data:;base64,YWFh ", "[a#1]", "[a#", "retry in 1s ", "try again in ", "1h2m", "Mon, ", '"retryDelay":"'),
    *("quotaId\\\\", "http://a:"),
)
"""What hostile texts are made of: each alone, behind a quote, and with another end."""

SHAPES: Mapping[str, tuple[str, str]] = {"": ("", ""), "opened": ('"', ""), "ended": ("", "!"), "within": ("x ", ' "x')}


def texts() -> dict[str, Make]:
    """Texts of every unit in every shape."""

    def maker(unit: str, shape: tuple[str, str]) -> Make:
        return lambda size: shape[0] + unit * (size // len(unit)) + shape[1]

    return {f"{unit!r} {name}": maker(unit, shape) for unit in UNITS for name, shape in SHAPES.items()}


def encoded(makers: Mapping[str, Make]) -> dict[str, Make]:
    """The same as bytes."""

    def maker(make: Make) -> Make:
        return lambda size: make(size).encode()

    return {name: maker(make) for name, make in makers.items()}


def nested(size: int, most: int = 100) -> Any:
    """Lists in lists, as often as the size needs."""
    deep: Any = "x"
    for _ in range(most):
        deep = [deep]
    return [deep] * max(size // (2 * most), 1)


VALUES: dict[str, Make] = {
    "a long text": lambda size: {"a": "x" * size},
    "many texts": lambda size: ["x"] * (size // 4),
    "many keys": lambda size: {f"k{number}": 1 for number in range(size // 10)},
    "many empty lists": lambda size: [[]] * (size // 3),
    "many objects": lambda size: [{"type": "text", "text": "x"}] * (size // 28),
    "nested": nested,
    "escapes": lambda size: {"a": '\\"' * (size // 4)},
    "data URLs": lambda size: ["data:text/plain;base64,YWFhYWFh "] * (size // 36),
}
"""JSON values of every shape."""


def within(wrap: Callable[[Any], Any], more: Mapping[str, Make] | None = None) -> dict[str, Make]:
    """These values, wrapped."""

    def maker(make: Make) -> Make:
        return lambda size: wrap(make(size))

    return {name: maker(make) for name, make in {**VALUES, **(more or {})}.items()}


def written(makers: Mapping[str, Make]) -> dict[str, Make]:
    """Values as JSON: whole, cut in the middle, and with a closing quote too few."""
    made: dict[str, Make] = {}
    for name, make in makers.items():
        made[f"{name}, valid"] = lambda size, make=make: orjson.dumps(make(size))
        made[f"{name}, cut"] = lambda size, make=make: orjson.dumps(make(size))[: size // 2]
        made[f"{name}, unterminated"] = lambda size, make=make: b'"' + orjson.dumps(make(size))
    return made


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def chat(**body: Any) -> dict[str, Any]:
    return {"model": "auto", "messages": [user("Hello")], **body}


def call(arguments: str, index: int = 0) -> dict[str, Any]:
    return {"index": index, "id": "c", "type": "function", "function": {"name": "f", "arguments": arguments}}


def called(*calls: Any) -> dict[str, Any]:
    return {"role": "assistant", "tool_calls": [*calls]}


BODIES: dict[str, Make] = {
    **{f"content: {name}": make for name, make in within(lambda value: chat(messages=[user(value)])).items()},
    **{f"a field: {name}": make for name, make in within(lambda value: chat(metadata=value)).items()},
    **{f"tools: {name}": make for name, make in within(lambda value: chat(tools=[value])).items()},
    "many fields": lambda size: {**chat(), **{f"k{number}": "v" for number in range(size // 14)}},
    "many messages": lambda size: chat(messages=[user("")] * (size // 30)),
    "many different messages": lambda size: chat(messages=[user(f"{number}") for number in range(size // 36)]),
    "many parts": lambda size: chat(messages=[user([{"type": "text", "text": "x"}] * (size // 28))]),
    "many calls": lambda size: chat(messages=[user(""), called(*[call("{}")] * (size // 90))]),
    "many results": lambda size: chat(
        messages=[{"role": "tool", "tool_call_id": f"c{number}", "content": "x"} for number in range(size // 60)]
    ),
    "many tools": lambda size: chat(
        tools=[{"type": "function", "function": {"name": f"f{n}", "parameters": {}}} for n in range(size // 70)]
    ),
}
"""Chat bodies of every shape."""


def chunk(*deltas: Any, **more: Any) -> dict[str, Any]:
    choices = [{"index": number, "delta": delta} for number, delta in enumerate(deltas)]
    return {"object": "chat.completion.chunk", "choices": choices, **more}


def sse(*events: Any) -> bytes:
    return b"".join(b"data: " + orjson.dumps(event) + b"\n\n" for event in events)


CHUNKS: dict[str, Make] = {
    "many choices": lambda size: chunk(*[{"content": "x" * 20, "reasoning": "y"}] * (size // 70)),
    "many calls": lambda size: chunk({"tool_calls": [call("x" * 20, number) for number in range(size // 110)]}),
    "many pieces of one call": lambda size: chunk({"tool_calls": [call("x" * 20)] * (size // 110)}),
    "many held back": lambda size: chunk({"tool_calls": [call("[rule#", number) for number in range(size // 110)]}),
    "many ends": lambda size: {
        "choices": [{"index": n, "delta": {"content": "[rule#"}, "finish_reason": "stop"} for n in range(size // 60)]
    },
    "a long text": lambda size: chunk({"content": "[a" * (size // 2)}),
    **{f"content: {name}": make for name, make in within(lambda value: chunk({"content": value})).items()},
}
"""Events of every shape."""

PLAIN, ODD = chunk({"content": "x"}), chunk({"content": 'x"'})
STREAMS: dict[str, Make] = {
    "plain chunks": lambda size: sse(PLAIN) * (size // len(sse(PLAIN))),
    "every second one odd": lambda size: sse(PLAIN, ODD) * (size // len(sse(PLAIN, ODD))),
    "comments": lambda size: b": x\n\n" * (size // 5),
    "blank lines": lambda size: b"\n\n" * (size // 2),
    "lines of one event": lambda size: b"data: x\n" * (size // 8),
    "carriage returns": lambda size: b"\r" * size,
    "both line ends": lambda size: b"data: {}\r\n\r\n" * (size // 12),
    "one event": lambda size: sse(chunk({"content": "x" * size})),
    "an event without an end": lambda size: b"data: " + b"x" * size,
    **{f"one event: {name}": (lambda size, make=make: sse(make(size))) for name, make in CHUNKS.items()},
}
"""Bytes of streams of every shape."""


def dripped(feed: Callable[[bytes], object], data: bytes, piece: int = 97) -> None:
    """Feed bytes in pieces, as a network brings them."""
    for start in range(0, len(data), piece):
        feed(data[start : start + piece])


def streamed(data: bytes) -> None:
    """All that a stream does with its bytes, before and behind the gate."""
    stream = Stream("p", lambda error: failure_of_answer("p", 200, {}, error), limit=1 << 30, hold_limit=1 << 30)
    dripped(stream.feed, data, 1 << 16)
    stream.opening()
    stream.open()
    stream.feed(data)
    stream.end()


def fragments(size: int) -> list[Any]:
    """Pieces of one tool call, in as many events."""
    return [chunk({"tool_calls": [call("x" * 20)]}) for _ in range(size // 60)]


def numbered_past_each_other(size: int) -> list[Any]:
    """Calls that leave the first numbers out, and as many others that need one."""
    count = size // 100
    return [*({**call(""), "index": count + n, "id": f"a{n}"} for n in range(count)), *unnumbered(size // 2)]


def unnumbered(size: int) -> list[Any]:
    return [{"id": f"b{n}", "function": {"name": "f"}} for n in range(size // 50)]


def taken(event: Any) -> object:
    """What is known of a chunk's choices, and of the sizes of their calls."""
    choices = event["choices"]
    calls = [choice.get("delta", {}).get("tool_calls") for choice in choices]
    return [Choices(1).take(choices), *[(fragments_size(each), arguments_size(each or ())) for each in calls]]


def compared(data: bytes) -> object:
    """All chunks of a stream, held against its first one."""
    template, place = Template.of(data[: data.find(b"\n\n") + 2]), 0
    while template is not None and (run := template.run(data, place))[1]:
        place = run[0]
    return template


def unpacked(text: str) -> object:
    packed = packed_text(text)
    return packed and packed.with_text(packed.text)


def in_base64(beginning: bytes) -> Make:
    return lambda size: b64encode(beginning + b"\0\0\0\0tEXt" * (size // 12)).decode()


MASK = Mask("sk-aaaaaaaaaaaaaaaa")


def asked(body: Any) -> ChatRequest:
    return parse_chat(body, request_id="r")


def changed(body: Any) -> object:
    return rewritten(asked(body), lambda part: part.text + "x")


def restored(event: Any) -> list[Any]:
    """An event, and its like again, through what puts originals back."""
    restorer = Restorer({f"[rule#{number}]": "a secret" for number in range(1, 200)})
    return [*restorer.event(event), *restorer.event(event), *restorer.end(), restorer.answer({"choices": [event]})]


def many_originals(size: int) -> object:
    count = size // 20
    return Restorer({f"[rule#{number}]": "x" for number in range(count)}).answer({"a": "[rule#1] [rule# " * count})


POLICY = Rules(
    [
        Rule(privacy=routerpool.Privacy.PRIVATE, paths=("~/clients/**", "*.pem", "**/a*b*c*/x"), where="everywhere"),
        Rule(privacy=routerpool.Privacy.PRIVATE, words=("project falcon", "top secret")),
        Rule(privacy=routerpool.Privacy.PRIVATE, models=("*a*b*c*",)),
    ]
)
PATHS = PathPatterns(["~/clients/**", "*.pem", "**/a/**/b/**", "**/[a-z]*/[0-9]*x"])
SCANNERS = {"secrets": Secrets(), "secrets by re": Secrets(Secrets.Config(engine="re")), "pii": PII()}
CONFIG: Config = from_mapping({"aliases": {"*a*b*c*d": "auto", "x-*": "auto"}}, env={})[0]
SCHEMAS: dict[str, Make] = {
    **within(lambda value: {"type": "object", "properties": {"a": value}}),
    "many properties": lambda size: {"properties": {f"p{n}": {"type": "string"} for n in range(size // 30)}},
    "many alternatives": lambda size: {"anyOf": [{"type": "string", "enum": ["x"]}] * (size // 30)},
    "references": lambda size: {
        "$defs": {f"d{n}": {"$ref": f"#/$defs/d{n + 1}"} for n in range(size // 30)},
        "properties": {"a": {"$ref": "#/$defs/d0"}},
    },
}


def once(scanner: Any) -> Callable[[Any], object]:
    return lambda text: list(scanner.find(text))


def ruled(body: Any) -> object:
    return list(POLICY.matched(asked(body), routerpool.Features()))


def _in_a_message(make: Make) -> Make:
    return lambda size: chat(messages=[user(make(size))])


def headers(text: Any) -> object:
    names = ("Retry-After", "x-ratelimit-reset", "x-ratelimit-reset-requests", "ratelimit", "x-ratelimit-remaining")
    return read_reset(dict.fromkeys(names, text))


def looked_up(text: Any) -> object:
    return read_hints({"forbidden": text, "session": text, "task": text[:300]}, [("X-Session-Id", text)])


def translated(event: Any) -> object:
    translation = Translation()
    return [translation.event(event) for event in split_events(event)]


TEXT_BLOCK = {"type": "text", "text": ""}
MESSAGE_EVENTS: dict[str, Make] = {
    "many blocks": lambda size: sse(
        *({"type": "content_block_start", "index": n, "content_block": TEXT_BLOCK} for n in range(size // 90))
    ),
    "many pieces": lambda size: sse(
        *[{"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "x"}}] * (size // 90)
    ),
    **STREAMS,
}

READERS: Mapping[str, Reader] = {
    "JSON": Reader(lambda data: loads(data, 1000), {**encoded(texts()), **written(VALUES), **written(BODIES)}),
    "is_heavy": Reader(is_heavy, BODIES),
    "parse_chat": Reader(asked, BODIES),
    "needs, session, tokens and what is sent": Reader(
        lambda body: [
            needs_of(asked(body)),
            session_of(asked(body)),
            estimate_tokens(body["messages"], body.get("tools")),
            serialised(sent_body(asked(body), "m")),
        ],
        BODIES,
    ),
    "hints": Reader(looked_up, texts()),
    "hints by name": Reader(read_hints, VALUES),
    "aliases": Reader(CONFIG.alias, texts()),
    "nearest names": Reader(lambda name: nearest(name, [name[:size] for size in range(40)]), texts()),
    "tokens": Reader(lambda text: text_tokens((text,)), texts()),
    "server-sent events": Reader(
        lambda data: [event_data(event) for event in split_events(Cutter(1 << 30).feed(data))],
        {**encoded(texts()), **STREAMS},
    ),
    "server-sent events, dripped": Reader(lambda data: dripped(Cutter(1 << 30).feed, data), STREAMS),
    "a stream": Reader(streamed, STREAMS),
    "deltas": Reader(delta_of, CHUNKS),
    "pieces of a tool call": Reader(gathered, {"pieces": fragments}),
    "numbers of tool calls": Reader(
        lambda calls: Numbering().number(calls), {"past each other": numbered_past_each_other, "none": unnumbered}
    ),
    "choices": Reader(taken, CHUNKS),
    "chunks that are compared": Reader(compared, STREAMS),
    "forms of bodies": Reader(lambda data: [form_of(data), unwrapped(data)], {**encoded(texts()), **STREAMS}),
    "a provider's key": Reader(
        lambda data: [MASK.without(data), MASK.refusal(data)],
        {**encoded(texts()), "the key": lambda size: b"sk-aaaaaaaaaaaaaaaa " * (size // 20), **written(VALUES)},
    ),
    "answers": Reader(
        lambda value: [answer_of(value), read_usage(value), read_error(value)],
        {
            **within(lambda value: {"choices": [{"message": {"content": value, "tool_calls": value}}], "usage": value}),
            **{f"error: {name}": make for name, make in within(lambda value: {"error": value}).items()},
        },
    ),
    "our own words in answers": Reader(lambda event: list(Disclosure("m", {}).event(event)), CHUNKS),
    "errors of providers": Reader(
        lambda data: [failure_of_answer("p", status, {}, data) for status in (400, 429, 500)],
        {**encoded(texts()), **written(within(lambda value: {"error": {"message": value, "code": value}}))},
    ),
    "reset times in headers": Reader(headers, texts()),
    "reset times in bodies": Reader(lambda data: [read_reset({}, data), pool_marker(data)], encoded(texts())),
    "waits in bodies": Reader(
        lambda data: list(waits_in(document_of(data))),
        written(within(lambda value: {"error": value, "retry_after": 1})),
    ),
    "words of a prompt that is too long": Reader(says_too_long, texts()),
    "lists of models": Reader(
        lambda value: listed(value, lambda name: Model(id=name)),
        within(lambda value: {"data": value}, {"many": lambda size: [{"id": f"m{n}"} for n in range(size // 14)]}),
    ),
    "parameters": Reader(
        lambda body: Params(rename={"a": "b"}, drop=("k1",), most={"k2": 1.0}, default={"x": 1}).apply(dict(body)),
        BODIES,
    ),
    "texts of a request": Reader(lambda body: list(parts_of(asked(body))), BODIES),
    "a request changed": Reader(changed, BODIES),
    "data URLs": Reader(lambda text: list(parts_of(asked(chat(messages=[user(text)])))), texts()),
    "texts in base64": Reader(
        unpacked,
        {**texts(), **{name: in_base64(begin) for name, begin in (("text", b"a"), ("PNG", b"\x89PNG\r\n\x1a\n"))}},
    ),
    "placeholders": Reader(restored, CHUNKS),
    "placeholders, many": Reader(many_originals, {"many": lambda size: size}),
    "placeholders of others": Reader(lambda text: [*standins_in(text), unescaped(text)], texts()),
    **{name: Reader(once(scanner), texts()) for name, scanner in SCANNERS.items()},
    "findings": Reader(SCANNERS["secrets"].scan, {"many": lambda size: 'password = "hunter2xY9zQ8" ' * (size // 27)}),
    "rules of the policy": Reader(ruled, {**BODIES, **{name: _in_a_message(make) for name, make in texts().items()}}),
    "path rules": Reader(PATHS.found_in, {**texts(), "folders": lambda size: "/home/a/clients" + "/a/b" * (size // 4)}),
    "arguments of tool calls": Reader(lambda text: ruled(chat(messages=[user(""), called(call(text))])), texts()),
    "Messages, asked": Reader(lambda body: question(body, Model(id="m")), BODIES),
    "Messages, answered": Reader(completion_of_message, within(lambda value: {"content": value, "usage": value})),
    "Messages, streamed": Reader(translated, MESSAGE_EVENTS),
    "Messages, tool schemas": Reader(closed, SCHEMAS),
    "Gemini's tool schemas": Reader(lambda schema: Narrowing(schema).whole(), SCHEMAS),
    "Ollama, asked": Reader(lambda body: chat_body(body, Wishes(), Wishes()), BODIES),
    "base URLs": Reader(address_of, texts()),
    "YAML": Reader(parse, {**texts(), **within(lambda value: orjson.dumps(value).decode())}),
    "scalars": Reader(scalar, texts()),
    "references to the environment": Reader(lambda text: expand({"a": text}, {"A": "1"}, Problems()), texts()),
}
"""What a test keeps complete: every module that sees foreign bytes has a function here, or says below why not."""

ELSEWHERE: Mapping[str, str] = {
    "routerpool.wire": "a face",
    "routerpool.providers": "a face",
    "routerpool.privacy": "a face",
    "routerpool.refusals": "a face",
    "routerpool.privacy.guard": "it sees a class, no text",
    "routerpool.privacy.scanning": "`secrets` and `pii` are its scanners here",
    "routerpool.privacy.verdicts": "`secrets` and `pii` are its scanners here",
    "routerpool.providers.checkup": "it sees the configuration",
    "routerpool.providers.connection": "aiohttp's parser reads heads; tests/whole/test_caps.py bounds them",
    "routerpool.providers.openai": "`listed`, `failure_of_answer` and `Params` read for it",
    "routerpool.providers.replies": "bytes pass through; tests/whole/test_caps.py bounds what they inflate to",
    "routerpool.providers.settings": "it sees the configuration",
    "routerpool.providers.surroundings": "it sees the configuration and the environment",
}
"""Modules that see foreign bytes only through others, and what looks at them."""


PATTERNS_ELSEWHERE: Mapping[str, str] = {
    "routerpool.store._public() 1": "the operator's own database URL",
    "routerpool_pii.rules.RESERVED": "an address that MAIL has found, of at most 6 labels of 63 characters",
    "routerpool_policy.paths.WILD": "a pattern of the configuration",
    "routerpool_secrets.rules._unescaped() 0": "a rule of the operator's own file",
}
"""Expressions that are never asked of a text of any length, and what bounds it."""


# How it is measured

QUIET_SECONDS = 0.01
"""Below this nothing is compared: it is noise, and nobody's harm."""

MOST_GROWTH = 24.0
"""How much more eight times the bytes may take; the square of the length would be 64."""

SECONDS_A_BYTE = 40e-6
"""The generous cap."""


def growth(call: Callable[[Any], object], make: Make, size: int) -> str | None:
    """What is wrong with the time that a function takes for `size` bytes and for 2, 4 and 8 times as many.

    CPU of this thread is measured, each size's best of up to three rounds.
    """
    inputs = [make(size * factor) for factor in (1, 2, 4, 8)]
    times = [float("inf")] * 4
    for _ in range(3):
        times[3] = min(times[3], _spent(call, inputs[3]))
        if times[3] < QUIET_SECONDS:
            return None
        times[:3] = [min(time, _spent(call, each)) for time, each in zip(times, inputs[:3], strict=False)]
        if times[3] < MOST_GROWTH * times[0] and times[3] < SECONDS_A_BYTE * 8 * size:
            return None
    pairs = zip(times, (1, 2, 4, 8), strict=True)
    return ", ".join(f"{time * 1e3:.1f} ms for {size * factor:,}" for time, factor in pairs)


def _spent(call: Callable[[Any], object], value: Any) -> float:
    """Seconds of CPU, without the collector's passes over all that the tests themselves have made."""
    gc.disable()
    started = thread_time()
    try:
        with suppress(*EXPECTED_ERRORS):
            call(value)
        return thread_time() - started
    finally:
        gc.enable()


# What must be in the list

SEES = ("routerpool.wire", "routerpool.refusals", "routerpool.providers", "routerpool.privacy")
"""The rooms whose modules see foreign bytes."""

USES = {"search", "match", "fullmatch", "findall", "finditer", "sub", "split"}
AT_ONE_PLACE = {"match", "fullmatch"}
"""Uses that begin at one place of the text; the others try them all."""


def modules() -> Iterator[ModuleType]:
    """All modules of the package and of the plugins in this repository."""
    names = [module.name for module in pkgutil.walk_packages(routerpool.__path__, "routerpool.")]
    root = Path(__file__).resolve().parents[2] / "plugins"
    for folder in sorted(root.glob("*/*/")):
        for path in folder.glob("routerpool_*"):
            names.append(path.stem)
            names += [f"{path.stem}.{inner.stem}" for inner in path.glob("*.py") if inner.stem != "__init__"]
    for name in names:
        if "templates" not in name and not name.endswith("__main__"):
            yield importlib.import_module(name)


def patterns() -> Iterator[tuple[str, Callable[[Any], object], bool]]:
    """Every regular expression of the modules: where it stands, how it is used, and whether it is one of bytes."""
    every = [(module, ast.parse(Path(module.__file__ or "").read_text())) for module in modules()]
    used = _used(tree for _, tree in every)
    for module, tree in every:
        for name, value in vars(module).items():
            bound = getattr(value, "__self__", None)
            pattern = bound if isinstance(bound, re.Pattern) else value
            if isinstance(pattern, re.Pattern):
                use = value if pattern is bound else _use(pattern, used.get(name, set()))
                yield f"{module.__name__}.{name}", use, isinstance(pattern.pattern, bytes)
        yield from _inline(module, tree)


def _used(trees: Iterable[ast.AST]) -> dict[str, set[str]]:
    """What is called of each name, in any module; a name that is handed on is used in every way."""
    called: dict[str, set[str]] = {}
    for tree in trees:
        methods = {id(node.value): node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
                called.setdefault(node.id, set()).add(methods.get(id(node), "search"))
    return called


def _use(pattern: re.Pattern[Any], used: set[str]) -> Callable[[Any], object]:
    if used and used <= AT_ONE_PLACE:
        return pattern.fullmatch if used == {"fullmatch"} else pattern.match
    return lambda text: [match.span() for match in pattern.finditer(text)]


def _inline(module: ModuleType, tree: ast.AST) -> Iterator[tuple[str, Callable[[Any], object], bool]]:
    """Expressions that are written where they are used, if they are constant."""
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            for number, (use, text) in enumerate(_uses(function)):
                pattern = re.compile(text)
                yield f"{module.__name__}.{function.name}() {number}", _use(pattern, {use}), isinstance(text, bytes)


def _uses(function: ast.AST) -> Iterator[tuple[str, str | bytes]]:
    for node in ast.walk(function):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args:
            of, first, use = node.func.value, node.args[0], node.func.attr
            if (
                isinstance(of, ast.Name)
                and of.id == "re"
                and node.func.attr in USES
                and isinstance(first, ast.Constant)
            ):
                yield use, first.value
