"""What the configuration takes, what it refuses, and in which words."""

from __future__ import annotations

import hashlib
import json
import os
import time
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, NewType

import jsonschema
import pytest
import yaml
from attrs import evolve, field, frozen, validators
from hypothesis import given, settings
from hypothesis import strategies as st

from routerpool.config import document, sections
from routerpool.config.reading import (
    BUILT_IN_PROFILES,
    Config,
    LimitsConfig,
    Pattern,
    PluginEntry,
    PrivacyConfig,
    Problems,
    Profile,
    Range,
    ServerConfig,
    Size,
    TlsConfig,
    find,
    from_mapping,
    load,
    parse,
    read,
    schema,
    structure,
)
from routerpool.config.structure import keys_of
from routerpool.config.words import expected
from routerpool.errors import ConfigError
from routerpool.types import Privacy, Tier

ENV = {"HOME": "/home/ada"}
CANARY = "sk-canary-7f3a91"
HEX = hashlib.sha256(b"hello").hexdigest()

# The example of the documented contract.
CONTRACT = """
server: {host: 127.0.0.1, port: 4545, base_path: /, workers: 1, api_keys: [], admin_keys: []}   # tls, limits …
store: sqlite:///~/.local/share/routerpool/routerpool.db      # or postgresql+…://
limits: {max_attempts: 6, budget_seconds: 120, first_event_seconds: 60, idle_seconds: 60, answer_seconds: 600,
         max_concurrent: 100, max_streams: 1000, max_waiting: 200, queue_seconds: 30, request_bytes: 32MiB}
privacy: {default: public, remote_allows: public}
plugins:                        # order = call order; with a file only what it names is imported
  secrets: {}
  groq: {models: [llama-3.3-70b-versatile]}
  lab: {use: openai_compatible, base_url: "http://127.0.0.1:9000/v1", api_key_env: LAB_KEY, local: true, models: [m1]}
  tool_results: {enabled: false}
profiles:                       # also: description, providers, privacy (floor), max_attempts, too_large: next, buffer
  auto: {weights: {pin: 100, free_first: 10, perf: 1}}
  free: {cost: free_only, weights: {free_first: 1}}           # free_only and budget veto
  mine: {models: [lab/m1, groq/llama-3.3-70b-versatile]}      # an explicit order
aliases: {gpt-4o-mini: routerpool/auto, "claude-*": routerpool/capable}
"""


class Colour(Enum):
    RED = "r"
    DARK_BLUE = "b"


@frozen(kw_only=True)
class Price:
    input: float = field(default=0.0, metadata={"help": "per million tokens"})
    currency: Literal["usd", "eur"] = "usd"


@frozen(kw_only=True)
class Entry:
    id: str
    context: int | None = None
    prices: Price = Price()
    tags: frozenset[str] = frozenset()


@frozen(kw_only=True)
class Plugin:
    """A third party's section, with each type that a plugin may want."""

    base_url: str = "http://localhost"
    api_key_env: str | None = None
    seconds: float = field(default=5.0, validator=validators.gt(0))
    retries: Annotated[int, Range(least=0, most=9)] = 2
    local: bool = False
    colour: Colour = Colour.RED
    mode: Literal["fast", "slow", 3] = "fast"
    models: tuple[str | Entry, ...] = ()
    list_of: list[int] = field(factory=list)
    pair: tuple[int, str] = (1, "a")
    by_name: dict[str, Entry] = field(factory=dict)
    level: int | str = 0
    cap: Size = field(default=Size(10))
    word: Annotated[str, Pattern("[a-z]+", "small letters")] = "a"
    anything: Any = None
    password: str = field(default="", validator=validators.max_len(12), repr=False)
    folder: Path = Path()
    low: int = 0
    high: int = field(default=10)

    @high.validator
    def _above_low(self, attribute: Any, value: int) -> None:
        if value < self.low:
            raise ValueError("high must not be below low")


def complaints(text: str, env: dict[str, str] | None = None) -> list[str]:
    """Each problem of this YAML, as it is printed."""
    try:
        load(text=text, env=ENV if env is None else env)[1].raise_if_any()
    except ConfigError as error:
        return str(error).replace("routerpool.yaml:", "").splitlines()
    return []


def plugin(env: dict[str, str] | None = None, **options: Any) -> tuple[Plugin | None, list[str]]:
    """The section of a plugin called p, made through the whole way of a configuration."""
    config, problems = from_mapping({"plugins": {"p": options}}, env=ENV if env is None else env)
    made = structure(config.plugins[0].options, Plugin, ("plugins", "p"), problems)
    return made, [f"{problem.path}: {problem.message}" for problem in problems]


# What is taken


def test_the_contracts_example_loads_without_problems() -> None:
    config, problems = load(text=CONTRACT, env=ENV)

    assert list(problems) == []
    assert config.server == ServerConfig()
    assert config.limits == LimitsConfig()
    assert config.privacy == PrivacyConfig()
    assert config.store == "sqlite:////home/ada/.local/share/routerpool/routerpool.db"
    assert [(entry.name, entry.use, entry.enabled) for entry in config.plugins] == [
        ("secrets", "secrets", True),
        ("groq", "groq", True),
        ("lab", "openai_compatible", True),
        ("tool_results", "tool_results", False),
    ]
    assert config.plugins[2].options == {
        "base_url": "http://127.0.0.1:9000/v1",
        "api_key_env": "LAB_KEY",
        "local": True,
        "models": ["m1"],
    }
    assert config.plugins[2].line == 10
    assert config.plugins[2].required is None
    assert config.profiles["mine"].models == ("lab/m1", "groq/llama-3.3-70b-versatile")
    assert config.alias("claude-opus") == "routerpool/capable"


def test_without_a_file_everything_has_its_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text("A=1\n")

    config, problems = load(env={"HOME": str(tmp_path)})

    assert not problems
    assert config.path is None
    assert config.plugins == ()
    assert dict(config.env) == {"HOME": str(tmp_path)}


def test_the_built_in_profiles_lie_beneath_the_users() -> None:
    config, _ = load(text="profiles: {fast: {models: [a/b]}, own: {}}", env=ENV)

    assert list(config.profiles) == ["auto", "free", "fast", "balanced", "capable", "private", "own"]
    assert config.profiles["fast"] == Profile(models=("a/b",))
    assert not any(profile.weights for profile in BUILT_IN_PROFILES.values()), "each strategy says what it weighs"
    assert config.profiles["free"].cost == "free_only"
    assert [config.profiles[name].tier for name in ("balanced", "capable")] == [Tier.BALANCED, Tier.CAPABLE]
    assert config.profiles["private"].privacy is Privacy.PRIVATE
    assert BUILT_IN_PROFILES["fast"].tier is Tier.FAST


def test_an_exact_alias_beats_a_glob_and_the_first_glob_wins() -> None:
    text = 'aliases: {"gpt-*": routerpool/fast, "*-mini": routerpool/free, gpt-4: a/b, same: same}'
    config, problems = load(text=text, env=ENV)

    assert not problems
    names = ("gpt-4", "gpt-4-mini", "o3-mini", "same", "other", "GPT-5")
    assert [config.alias(name) for name in names] == [
        "a/b", "routerpool/fast", "routerpool/free", "same", "other", "GPT-5",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("written", "read_as"),
    [("32MiB", 32 << 20), ("20MB", 20_000_000), ("5 kB", 5000), ("7B", 7), ("1GiB", 1 << 30), ("4096", 4096)],
)
def test_sizes_are_numbers_or_carry_a_unit(written: str, read_as: int) -> None:
    config, problems = load(text=f"limits: {{request_bytes: {written}}}", env=ENV)

    assert not problems
    assert config.limits.request_bytes == read_as


@pytest.mark.parametrize("written", ["32Mib", "1.5MiB", "MiB", "'4096'", "-1", "0", "1TiB", "true", "1 000"])
def test_other_sizes_are_refused(written: str) -> None:
    assert len(complaints(f"limits: {{request_bytes: {written}}}")) == 1


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True), ("False", False), ("yes", "yes"), ("on", "on"), ("NO", "NO"), ("~", None), ("", None),
        ("null", None), ("8", 8), ("-8", -8), ("08", "08"), ("0o17", "0o17"), ("017", "017"), ("0x1F", "0x1F"),
        ("1_000", "1_000"), ("12:30", "12:30"), ("1.5", 1.5), ("1e3", 1000.0), ("1e400", "1e400"), (".5", ".5"),
        (".nan", ".nan"), (".inf", ".inf"), ("2024-01-01", "2024-01-01"), ("'5'", "5"), ("!!str 5", "5"),
        ("9" * 5000, "9" * 5000), ("=", "="), ("\"a\\u0041\"", "aA"), ("|\n  x\n  y", "x\ny\n"),
    ],
)  # fmt: skip
def test_only_jsons_numbers_and_truth_values_are_more_than_texts(text: str, value: Any) -> None:
    tree = parse(f"a: {text}\n").tree

    assert tree == {"a": value}
    assert type(tree["a"]) is type(value)


def test_every_value_knows_its_line() -> None:
    lines = parse("a:\n  b: 1\n  c:\n    - x\n    - {d: 1,\n       e: 2}\n").lines

    assert lines[("a", "b")] == 2
    assert lines[("a", "c", 0)] == 4
    assert lines[("a", "c", 1, "d")] == 5
    assert lines[("a", "c", 1, "e")] == 6


def test_anchors_repeat_a_value() -> None:
    config, problems = load(text="profiles: {a: &p {models: [x/y]}, b: *p}", env=ENV)

    assert not problems
    assert config.profiles["a"] == config.profiles["b"] == Profile(models=("x/y",))


# What is refused, in which words

BAD = [
    ("server: {port: lots}", "1: server.port: expected a whole number, got the text 'lots'"),
    ("server: {port: '80'}", "1: server.port: expected a whole number, got the text '80'; write it without quotes"),
    ("server: {port: 08}", "1: server.port: expected a whole number, got the text '08'"),
    ("server: {port: 12:30}", "1: server.port: expected a whole number, got the text '12:30'"),
    ("server: {port: true}", "1: server.port: expected a whole number, got true"),
    ("server: {port: 1.5}", "1: server.port: expected a whole number, got the number 1.5"),
    ("server: {port: 70000}", "1: server.port: must be at least 0 and at most 65535, got the number 70000"),
    ("server: {workers: 0}", "1: server.workers: must be at least 1 and at most 256, got the number 0"),
    ("server: {host: 1}", "1: server.host: expected a text, got the number 1; put it in quotes"),
    ("server: {base_path: llm/}", "1: server.base_path: expected a path such as / or /llm, with no slash at its end"),
    ("server: {allow_unauthenticated: yes}",
     "1: server.allow_unauthenticated: expected true or false, got the text 'yes'"),
    ("server: {tls: {cert: a.pem}}", "1: server.tls.key: is missing; give it a path"),
    ("server:", "1: server: expected a mapping, got nothing (null); give it a value or leave the key out"),
    ("server: {prot: 1}", "1: server.prot: unknown key; did you mean 'port'?"),
    ("privacy: {level: public}", "1: privacy.level: unknown key; known here: default, remote_allows"),
    ("profiles: {a: {tier: fats}}",
     "1: profiles.a.tier: expected one of fast, balanced, capable, got the text 'fats'; did you mean 'fast'?"),
    ("privacy: {default: 1}",
     "1: privacy.default: expected one of public, private, sensitive, secret, got the number 1"),
    ("limits: {idle_seconds: 0}", "1: limits.idle_seconds: must be more than 0 and at most 604800, got the number 0"),
    ("limits: {idle_seconds: .nan}", "1: limits.idle_seconds: expected a number, got the text '.nan'"),
    ("limits: {request_bytes: 5x}",
     "1: limits.request_bytes: expected a size in bytes such as 1000000 or 32MiB, got the text '5x'"),
    ("store: routerpool.db", "1: store: expected a database URL such as sqlite:///~/routerpool.db"),
    ("plugins: [groq]", "1: plugins: expected a mapping, got a list; write `name: {}` for each plugin"),
    ("plugins: {groq: on}", "1: plugins.groq: expected a mapping, got the text 'on'; write {} for no options"),
    ("plugins: {Groq: {}}", "1: plugins.Groq: expected a name of small letters, digits, '_', '.' and '-'"),
    ("plugins: {groq: {enabled: 'false'}}",
     "1: plugins.groq.enabled: expected true or false, got the text 'false'; write it without quotes"),
    ("profiles: {a: {weights: {pin: -1}}}",
     "1: profiles.a.weights.pin: must be at least 0 and at most 1000000, got the number -1"),
    ("profiles: {a: {models: x/y}}", "1: profiles.a.models: expected a list, got the text 'x/y'; put it in [ ]"),
    ("profiles: {a: {cost: budget}}",
     "1: profiles.a: cost: budget needs budget_usd, the most that one request may cost"),
    ("profiles: {'a b': {}}", "1: profiles['a b']: expected a name of small letters, digits, '_', '.' and '-'"),
    ("aliases: {'gpt-*': routerpool/fsat}", "1: aliases['gpt-*']: there is no profile 'fsat'; did you mean 'fast'?"),
    ("aliases: {a: b, b: c/d}",
     "1: aliases.a: 'b' is an alias too, and aliases are followed once; write what it stands for"),
    ("default_profile: zzz",
     "1: default_profile: there is no profile 'zzz'; profiles: auto, free, fast, balanced, capable, private"),
    ("unknown_model: fre", "1: unknown_model: there is no profile 'fre'; did you mean 'free'?"),
    ("server: {port: '${PORT}'}",
     "1: server.port: the variable PORT is not set; export it, or write it to .env beside the file"),
    ("server: {host: '${A:-${B}}'}",
     "1: server.host: expected ${NAME} or ${NAME:-default}, not nested; write $$ for a plain dollar sign"),
    ("server: {host: '${A'}",
     "1: server.host: expected ${NAME} or ${NAME:-default}, not nested; write $$ for a plain dollar sign"),
    ("server: {api_keys: ['${HOME}', '${HOME}']}",
     "1: server.api_keys[1]: is the same key as entry [0]; remove one of them"),
    ("server: {api_keys: [{name: a}]}",
     "1: server.api_keys[0]: a key needs either key: ${NAME} or sha256: HEX, and not both"),
    ("server: {api_keys: ['sha256:12']}",
     "1: server.api_keys[0]: expected the 64 hexadecimal digits of a SHA-256; `printf %s KEY | sha256sum` prints them"),
]  # fmt: skip

BAD_YAML = [
    ("a: 1\nb: 1\na: 2\n", "3: the key 'a' stands here and on line 1; remove one of them"),
    ("server: {host: a,\n  host: b}\n", "2: server: the key 'host' stands here and on line 1; remove one of them"),
    ("\tserver: {}\n", "1: a tab indents this line; use spaces"),
    ("server:\n\tport: 1\n", "2: a tab indents this line; use spaces"),
    ("plugins: [\n", "2: a bracket is not closed; add it, or the comma before it"),
    ("plugins: {a: 1\nb: {}\n", "2: a bracket is not closed; add it, or the comma before it"),
    ("server:\n  api_keys: [${KEY}]\n",
     "2: within [ ] and { } a ${NAME} must stand in quotes, since braces mean something there"),
    ("host: http://x: y\n", "1: a ': ' stands where no key can; put the text in quotes or mend the indentation"),
    ("host: 'x\n", "2: a quote is not closed; add it"),
    ("host: \"\\q\"\n", "1: this backslash means nothing in double quotes; use single quotes"),
    ("host: @x\n", "1: a text cannot begin with this character; put the text in quotes"),
    ("a:\n  b: 1\n c: 2\n", "3: the YAML breaks off here; check the indentation, quotes and brackets"),
    ("%YAML 9.9\n---\na: 1\n", "1: this YAML version is not read; remove the %YAML line"),
    ("a: 1\n--- \nb: 1\n", "2: a second document begins here (---); keep one a file"),
    ("a: !!python/object/apply:os.system ['true']\n", "1: a: tags (!…) are not read; remove it"),
    ("a: !mine {b: 1}\n", "1: a: tags (!…) are not read; remove it"),
    ("a: !x!y 1\n", "1: tags (!…) are not read; remove it"),
    ("<<: {a: 1}\n", "1: merge keys (<<) are not read; write the keys out"),
    ("plugins: {1: {}}\n", "1: plugins: a key must be a text; put it in quotes"),
    ("plugins: {[a]: {}}\n", "1: plugins: a key must be a text; put it in quotes"),
    ("a: *b\n", "1: a: this alias (*…) names no anchor (&…) that ends above it; write the value out"),
    ("a: &a [*a]\n", "1: a[0]: this alias (*…) names no anchor (&…) that ends above it; write the value out"),
    ("a: b\x07c\n", "1: the control character U+0007 cannot stand in YAML; remove it"),
    ("[]\n", "1: the file must be a mapping of keys, such as `plugins:`"),
    ("42\n", "1: the file must be a mapping of keys, such as `plugins:`"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "line"), BAD, ids=[text for text, _ in BAD])
def test_a_bad_value_is_one_line_with_place_and_cure(text: str, line: str) -> None:
    assert complaints(text) == [line]


@pytest.mark.parametrize("loader", [yaml.CSafeLoader, yaml.SafeLoader])
@pytest.mark.parametrize(("text", "line"), BAD_YAML, ids=[repr(text) for text, _ in BAD_YAML])
def test_bad_yaml_is_refused_alike_by_both_parsers(
    text: str, line: str, loader: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(document, "_LOADER", loader)

    with pytest.raises(ConfigError) as caught:
        load(text=text, env=ENV)

    assert str(caught.value) == f"routerpool.yaml:{line}"


@pytest.mark.parametrize("text", ["", "null\n", "# nothing\n", "---\n"])
def test_an_empty_file_says_how_to_fill_it(text: str) -> None:
    [line] = complaints(text)

    assert line.endswith("the file is empty; name at least the plugins to use, or let `routerpool init` write it")


def test_all_problems_come_at_once_sorted_by_line_with_the_plugins_among_them() -> None:
    text = (
        "limits: {idle_seconds: x}\nplugins:\n  p:\n    retries: many\n    modells: []\nserver: {port: y}\nexact: z\n"
    )
    config, problems = load(text=text, env=ENV)
    made = structure(config.plugins[0].options, Plugin, ("plugins", "p"), problems)

    assert made is None
    with pytest.raises(ConfigError) as caught:
        problems.raise_if_any()
    assert str(caught.value).splitlines() == [
        "routerpool.yaml:1: limits.idle_seconds: expected a number, got the text 'x'",
        "routerpool.yaml:4: plugins.p.retries: expected a whole number, got the text 'many'",
        "routerpool.yaml:5: plugins.p.modells: unknown key; did you mean 'models'?",
        "routerpool.yaml:6: server.port: expected a whole number, got the text 'y'",
        "routerpool.yaml:7: exact: expected one of strict, first, got the text 'z'",
    ]


def test_a_profile_that_is_wrong_is_still_a_name() -> None:
    assert complaints("default_profile: mine\nprofiles: {mine: {cost: x}}") == [
        "2: profiles.mine.cost: expected one of free_first, free_only, budget, quality, got the text 'x'"
    ]


def test_what_is_wrong_in_one_plugin_does_not_hide_the_others() -> None:
    config, problems = load(text="plugins: {a: {enabled: 1}, b: 5, c: {use: [x]}, d: null, e: {x: 1}}", env=ENV)

    assert [entry.name for entry in config.plugins] == ["a", "d", "e"]
    assert [problem.path for problem in problems] == ["plugins.a.enabled", "plugins.b", "plugins.c.use"]


# Every key, generated from the classes

SECTIONS: list[tuple[tuple[str | int, ...], type]] = [
    ((), Config),
    (("server",), ServerConfig),
    (("server", "tls"), TlsConfig),
    (("server", "api_keys", 0), sections._KeyEntry),
    (("server", "admin_keys", 0), sections._KeyEntry),
    (("limits",), LimitsConfig),
    (("privacy",), PrivacyConfig),
    (("profiles", "mine"), Profile),
    (("plugins", "p"), PluginEntry),
]
KEYS = [((*path, key), hint) for path, cls in SECTIONS for key, (_, hint) in keys_of(cls).items()]
KEY_IDS = [document.render(path) for path, _ in KEYS]


def tree_with(path: tuple[str | int, ...], value: Any) -> Any:
    """A right tree, but for this value."""
    for part in reversed(path):
        value = [value] if part == 0 else {part: value}
    if path[:2] == ("server", "tls") and len(path) > 2:
        value["server"]["tls"] = {"cert": "a", "key": "b"} | value["server"]["tls"]
    if path[2:3] == (0,) and path[3] not in ("key", "sha256"):
        value["server"][path[1]][0]["sha256"] = HEX
    return value


def nullable(path: tuple[str | int, ...], hint: Any) -> bool:
    return type(None) in getattr(hint, "__args__", ()) and path[-1] not in ("key", "sha256")


@pytest.mark.parametrize(("path", "hint"), KEYS, ids=KEY_IDS)
def test_every_key_refuses_a_wrong_type_at_its_line(path: tuple[str | int, ...], hint: Any) -> None:
    wrong: Any = 5 if expected(hint) == "a mapping" or path == ("plugins",) else {"odd": 1}
    tree = tree_with(path, wrong)

    [line] = complaints(yaml.safe_dump(tree, sort_keys=False))

    number, place, message = line.split(": ", 2)
    assert number.isdigit()
    assert place == document.render(path)
    assert message.startswith("expected ")
    assert not VALIDATOR.is_valid(tree)


@pytest.mark.parametrize(("path", "hint"), KEYS, ids=KEY_IDS)
def test_every_key_takes_null_only_where_null_means_something(path: tuple[str | int, ...], hint: Any) -> None:
    tree = tree_with(path, None)
    found = complaints(json.dumps(tree))

    if nullable(path, hint):
        assert found == []
        assert VALIDATOR.is_valid(tree)
    elif path[-1] in ("key", "sha256") and "tls" not in path:
        assert [line.endswith("a key needs either key: ${NAME} or sha256: HEX, and not both") for line in found] == [
            True
        ]
    else:
        assert len(found) == 1
        assert f": {document.render(path)}: expected " in found[0]
        assert "got nothing (null)" in found[0]
        assert not VALIDATOR.is_valid(tree)


# A plugin's own options are the business of its Config.
CORE_KEYS = [path for path, _ in KEYS if path[:2] != ("plugins", "p")]


@pytest.mark.parametrize("path", CORE_KEYS, ids=[document.render(path) for path in CORE_KEYS])
def test_every_key_with_a_letter_too_many_is_told_its_name(path: tuple[str | int, ...]) -> None:
    misspelt = (*path[:-1], f"{path[-1]}x")
    tree = tree_with(misspelt, 1)

    found = complaints(json.dumps(tree))

    assert f"unknown key; did you mean {path[-1]!r}?" in "\n".join(found)
    assert not VALIDATOR.is_valid(tree)


@pytest.mark.parametrize(("path", "hint"), KEYS, ids=KEY_IDS)
def test_every_key_with_a_missing_variable_names_it_once(path: tuple[str | int, ...], hint: Any) -> None:
    found = complaints(json.dumps(tree_with(path, "${ABSENT}")))

    assert found == [
        f"1: {document.render(path)}: the variable ABSENT is not set; export it, or write it to .env beside the file"
    ]


@pytest.mark.parametrize("bad", ["!!python/name:os.system x", "&a [*a]", "!!binary '@@@'", '1, "{key}": 2', "'x"])
@pytest.mark.parametrize(("path", "hint"), KEYS, ids=KEY_IDS)
def test_every_key_refuses_yamls_tricks(path: tuple[str | int, ...], hint: Any, bad: str) -> None:
    text = json.dumps(tree_with(path, "@")).replace('"@"', bad.replace("{key}", str(path[-1])))

    found = complaints(text)

    assert len(found) == 1
    assert found[0].split(": ")[0].isdigit()


NUMBERS = [(path, hint) for path, hint in KEYS if {"a whole number", "a number"} & set(expected(hint).split(" or "))]


@pytest.mark.parametrize("value", [-1, -1.5, 10**15, 1e300, 10**400, float("nan"), float("inf"), "1e9", True])
@pytest.mark.parametrize(("path", "hint"), NUMBERS, ids=[document.render(path) for path, _ in NUMBERS])
def test_every_number_refuses_what_is_no_sensible_number(path: tuple[str | int, ...], hint: Any, value: Any) -> None:
    _, problems = from_mapping(tree_with(path, value), env=ENV)

    assert [problem.path for problem in problems] == [document.render(path)]


@pytest.mark.parametrize("cls", [cls for _, cls in SECTIONS] + [sections.ApiKey], ids=lambda cls: cls.__name__)
def test_every_field_has_a_help_text(cls: type) -> None:
    missing = [name for name, attribute in vars_of(cls) if not attribute.metadata.get("help")]

    assert missing == []


def vars_of(cls: Any) -> list[tuple[str, Any]]:
    return [(attribute.name, attribute) for attribute in cls.__attrs_attrs__]


# Bombs


def test_an_anchor_bomb_is_refused_before_it_unfolds() -> None:
    rows = ["a0: &a0 [x]"] + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30)]
    begun = time.monotonic()

    [line] = complaints("\n".join(rows))

    assert "more than 100,000 values once anchors are expanded; write less" in line
    assert time.monotonic() - begun < 2


def test_anchors_cannot_pile_up_depth() -> None:
    rows = [f"a{n}: &a{n} " + "[" * 40 + (f"*a{n - 1}" if n else "x") + "]" * 40 for n in range(3)]

    [line] = complaints("\n".join(rows))

    assert line.endswith("nested more than 64 levels deep; flatten it")


@pytest.mark.parametrize("text", ["[" * 500_000, '{"a":' * 100_000, "- " * 200_000, "a: [" + "x," * 400_000 + "]"])
def test_deep_and_wide_texts_end_in_one_line(text: str) -> None:
    begun = time.monotonic()

    assert len(complaints(text)) == 1
    assert time.monotonic() - begun < 5


def test_files_over_one_mebibyte_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "routerpool.yaml"
    file.write_text("# " + "x" * (1 << 20))

    with pytest.raises(ConfigError) as caught:
        read(file)

    assert str(caught.value) == f"{file}: larger than 1 MiB, which no configuration needs; is it the right file?"


def test_files_that_are_not_utf8_name_the_line(tmp_path: Path) -> None:
    file = tmp_path / "routerpool.yaml"
    file.write_bytes(b"a: 1\nb: \xff\n")

    with pytest.raises(ConfigError) as caught:
        read(file)

    assert str(caught.value) == f"{file}:2: not UTF-8 text; save the file as UTF-8"


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path)


def test_a_hosts_mapping_that_holds_itself_is_refused() -> None:
    tree: dict[str, Any] = {}
    tree["plugins"] = {"p": tree}

    _, problems = from_mapping(tree, env=ENV)

    assert "nested more than 64 levels deep; flatten it" in [problem.message for problem in problems]


def test_a_hosts_mapping_may_hold_tuples_but_only_text_keys() -> None:
    config, problems = from_mapping({"profiles": {"a": {"models": ("x/y",)}, 5: {}}}, env=ENV)

    assert config.profiles["a"].models == ("x/y",)
    assert [str(problem.render("f")) for problem in problems] == ["f: profiles: a key must be a text"]


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="ab:-[]{}&*!#|>'\"\n\t ,?%@`$~1.\\<", max_size=60))
def test_no_text_ends_in_a_traceback(text: str) -> None:
    assert isinstance(complaints(text), list)


SHARED = Path(os.environ.get("ROUTERPOOL_SHARED_DATA") or Path(__file__).parents[3] / "shared" / "data")
STRINGS = SHARED / "reliability" / "own" / "security_strings.json"


def test_none_of_the_shared_bad_texts_loads_or_ends_in_a_traceback() -> None:
    if not STRINGS.is_file():
        pytest.skip(f"the shared data is absent: {STRINGS}; set ROUTERPOOL_SHARED_DATA")
    texts = json.loads(STRINGS.read_text())["yaml_bad"]

    assert len(texts) > 20
    assert [text for text in texts if not complaints(text)] == []


# The environment


def test_a_variables_value_cannot_change_the_structure() -> None:
    value = "x: {y: [1, '2\"]}\n# not a comment\n${HOME} $$ *a !!str"
    config, problems = load(text="plugins: {p: {a: '<${V}>', b: '${V}'}}", env=ENV | {"V": value})

    assert not problems
    assert config.plugins[0].options == {"a": f"<{value}>", "b": value}


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("$$", "$"), ("$${A}", "${A}"), ("$A", "$A"), ("a$", "a$"), ("$$$$", "$$"), ("${A}${B}", "12"),
        ("${NO:-d e}", "d e"), ("${EMPTY:-d}", "d"), ("${EMPTY}", ""), ("${A:-d}", "1"), ("${NO:-}", ""),
    ],
)  # fmt: skip
def test_references_expand_once(written: str, value: str) -> None:
    env = ENV | {"A": "1", "B": "2", "EMPTY": ""}
    config, problems = from_mapping({"plugins": {"p": {"v": written}}}, env=env)

    assert not problems
    assert config.plugins[0].options["v"] == value


def test_keys_of_mappings_are_not_expanded() -> None:
    config, _ = from_mapping({"aliases": {"${A}": "x/y"}}, env={"A": "1"} | ENV)

    assert config.aliases == {"${A}": "x/y"}


def test_only_variables_may_become_numbers_and_truth_values() -> None:
    text = (
        "server: {port: '${PORT}', allow_unauthenticated: '${OPEN}'}\n"
        "limits: {idle_seconds: '${IDLE}', request_bytes: '${BYTES}'}\nprivacy: {default: '${CLASS}'}\n"
    )
    env = ENV | {"PORT": "8080", "OPEN": "true", "IDLE": "2.5", "BYTES": "1024", "CLASS": "secret"}
    config, problems = load(text=text, env=env)

    assert not problems
    assert (config.server.port, config.server.allow_unauthenticated) == (8080, True)
    assert (config.limits.idle_seconds, config.limits.request_bytes) == (2.5, 1024)
    assert config.privacy.default is Privacy.SECRET


@pytest.mark.parametrize("value", ["08", " 8080", "0x10", "8080.0", "", "yes", "1e3", "eighty"])
def test_a_variable_for_a_number_is_read_strictly_and_never_printed(value: str) -> None:
    assert complaints("server: {port: '${PORT}'}", ENV | {"PORT": value}) == [
        "1: server.port: expected a whole number, got what ${PORT} holds"
    ]


def test_a_disabled_plugin_needs_no_variables() -> None:
    config, problems = load(text="plugins: {p: {enabled: false, key: '${ABSENT}'}}", env=ENV)

    assert not problems
    assert config.plugins[0].options == {"key": "${ABSENT}"}


def test_dotenv_beside_the_file_yields_to_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FROM_FILE", raising=False)
    (tmp_path / ".env").write_text("FROM_FILE=a$b${c}\nBOTH=file\nexport QUOTED='x y'\nBARE\n")
    file = tmp_path / "my.yaml"
    file.write_text("plugins: {p: {a: '${FROM_FILE}', b: '${BOTH}', c: '${QUOTED}'}}")

    config, problems = load(file, env={"BOTH": "real"} | ENV)

    assert not problems
    assert config.plugins[0].options == {"a": "a$b${c}", "b": "real", "c": "x y"}
    assert dict(config.env) == {"FROM_FILE": "a$b${c}", "BOTH": "real", "QUOTED": "x y"} | ENV
    assert "FROM_FILE" not in os.environ
    assert config.path == file
    assert "x y" not in repr(config)


def test_another_env_file_replaces_the_one_beside(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("A=beside\nB=beside\n")
    (tmp_path / "other").write_text("A=other\n")
    file = tmp_path / "routerpool.yaml"
    file.write_text("plugins: {}")

    config, _ = load(file, env={}, env_file=tmp_path / "other")

    assert dict(config.env) == {"A": "other"}
    with pytest.raises(ConfigError, match="there is no such file; mend --env-file or leave it out"):
        load(file, env={}, env_file=tmp_path / "absent")


def test_an_env_file_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"A=\xff\xfe\n")
    (tmp_path / "routerpool.yaml").write_text("plugins: {}")

    with pytest.raises(ConfigError, match=r"\.env: cannot be read; check its rights, and save it as UTF-8"):
        load(tmp_path / "routerpool.yaml", env={})


# Keys


def test_a_key_is_kept_as_its_hash_only() -> None:
    text = f"""
server:
  api_keys:
    - ${{TEAM}}
    - sha256:{HEX.upper()}
    - {{name: ada, key: "${{ADA}}", profile: fast, privacy: private}}
    - {{name: bob, sha256: {HEX[::-1]}}}
"""
    config, problems = load(text=text, env=ENV | {"TEAM": CANARY, "ADA": "other"})
    team, hashed, ada, bob = config.server.api_keys

    assert not problems
    assert (team.name, team.sha256) == ("TEAM", hashlib.sha256(CANARY.encode()).hexdigest())
    assert (hashed.name, hashed.sha256) == (f"key-{HEX[:8]}", HEX)
    assert (ada.name, ada.profile, ada.privacy) == ("ada", "fast", Privacy.PRIVATE)
    assert bob.sha256 == HEX[::-1]
    assert CANARY not in repr(config)
    assert CANARY not in repr(evolve(config, env={}))


@pytest.mark.parametrize(
    "entry",
    [
        CANARY, {"key": CANARY}, {CANARY: "x"}, {"key": f"${{NO:-{CANARY}}}"}, f"${{NO:-{CANARY}}}", {"sha256": CANARY},
        {"key": "${C}", "sha256": HEX}, f"sha256:{CANARY}", {"name": CANARY * 2 + " "},
        {"key": "${C}", "profile": CANARY},
        {"key": "${C}", "privacy": CANARY}, "${SPACED}", "${EMPTY}", 5, {"key": "${C}", "profile": "${C}"}, [CANARY],
        {"key": "${C}", "api_key": CANARY},
    ],
    ids=str,
)  # fmt: skip
def test_no_key_shows_in_what_is_said_about_it(entry: Any) -> None:
    env = ENV | {"C": CANARY, "SPACED": f"{CANARY} x", "EMPTY": ""}
    for plane in ("api_keys", "admin_keys"):
        found = complaints(json.dumps({"server": {plane: [entry]}}), env)

        assert len(found) == 1
        assert f"1: server.{plane}[0]" in found[0]
        assert CANARY not in found[0]


def test_a_clear_text_key_is_refused_with_both_cures() -> None:
    assert complaints(f"server: {{api_keys: [{CANARY}]}}") == [
        "1: server.api_keys[0]: a clear-text key must not stand in the file; write ${NAME} and set NAME, or sha256:HEX"
    ]


def test_keys_have_names_of_their_own() -> None:
    text = f"server: {{api_keys: [{{name: a, sha256: {HEX}}}, {{name: a, sha256: {HEX[::-1]}}}]}}"

    assert complaints(text) == ["1: server.api_keys[1]: has the name of entry [0]; give each key its own"]


@pytest.mark.parametrize(("path", "hint"), KEYS, ids=KEY_IDS)
def test_no_variables_value_shows_at_any_key(path: tuple[str | int, ...], hint: Any) -> None:
    found = complaints(json.dumps(tree_with(path, "${C}")), ENV | {"C": CANARY})

    assert CANARY not in "\n".join(found)


SECRET_KEYS = ("api_key", "token", "client_secret", "password", "Authorization", "apiKey", "passphrase")


@pytest.mark.parametrize("key", SECRET_KEYS)
def test_values_at_secret_looking_paths_are_never_printed(key: str) -> None:
    problems = Problems()

    assert structure({key: CANARY}, SecretNumbers, ("plugins", "p"), problems) is None
    assert structure({key: 123456789}, SecretTexts, ("plugins", "p"), problems) is None

    said = "\n".join(problem.render("f") for problem in problems)
    assert f"plugins.p.{key}: expected a whole number, got a text" in said
    assert f"plugins.p.{key}: expected a text, got a number" in said
    assert CANARY not in said
    assert "123456789" not in said


def _class_of(hint: type) -> type:
    body: dict[str, Any] = {"__annotations__": dict.fromkeys(SECRET_KEYS, hint)} | dict.fromkeys(SECRET_KEYS)
    return frozen(type("Secrets", (), body))


SecretNumbers, SecretTexts = _class_of(int), _class_of(str)


def test_long_texts_are_not_printed() -> None:
    assert complaints(f"server: {{port: {'x' * 50}}}") == [
        "1: server.port: expected a whole number, got a text of 50 characters"
    ]


# Sections of third parties


def test_a_plugins_section_takes_the_usual_types() -> None:
    made, found = plugin(
        base_url="http://x", api_key_env="KEY", seconds=3, retries=9, local=True, colour="dark_blue", mode=3,
        models=["a", {"id": "b", "context": 5, "prices": {"input": 1, "currency": "eur"}, "tags": ["x", "x"]}],
        list_of=[1, 2], pair=[5, "z"], by_name={"k": {"id": "c"}}, level="high", cap="1kB", word="ab",
        anything={"a": [None]}, password="short", folder="/a/b", low=3, high=4,
    )  # fmt: skip

    assert found == []
    assert made == Plugin(
        base_url="http://x", api_key_env="KEY", seconds=3.0, retries=9, local=True, colour=Colour.DARK_BLUE, mode=3,
        models=("a", Entry(id="b", context=5, prices=Price(input=1.0, currency="eur"), tags=frozenset({"x"}))),
        list_of=[1, 2], pair=(5, "z"), by_name={"k": Entry(id="c")}, level="high", cap=Size(1000), word="ab",
        anything={"a": [None]}, password="short", folder=Path("/a/b"), low=3, high=4,
    )  # fmt: skip
    assert type(made.seconds) is float


def test_an_empty_section_is_all_defaults() -> None:
    assert plugin() == (Plugin(), [])


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"models": [{"id": 5}]}, "models[0].id: expected a text, got the number 5; put it in quotes"),
        ({"models": ["a", {}]}, "models[1].id: is missing; give it a text"),
        ({"models": [5]}, "models[0]: expected a text or a mapping, got the number 5"),
        ({"models": [{"id": "a", "contxt": 5}]}, "models[0].contxt: unknown key; did you mean 'context'?"),
        ({"models": [{"id": "a", "context": "big"}]}, "models[0].context: expected a whole number, got the text 'big'"),
        ({"by_name": {"a b": {}}}, "by_name['a b'].id: is missing; give it a text"),
        ({"seconds": -1}, "seconds: 'seconds' must be > 0: -1.0"),
        ({"low": 5, "high": 4}, ": high must not be below low"),
        ({"low": 50}, ": high must not be below low"),
        ({"retries": 10}, "retries: must be at least 0 and at most 9, got the number 10"),
        ({"pair": [1]}, "pair: expected 2 items, got 1"),
        ({"pair": [1, 2]}, "pair[1]: expected a text, got the number 2; put it in quotes"),
        ({"mode": "fats"}, "mode: expected one of fast, slow, 3, got the text 'fats'; did you mean 'fast'?"),
        ({"mode": "3"}, "mode: expected one of fast, slow, 3, got the text '3'; write it without quotes"),
        ({"mode": True}, "mode: expected one of fast, slow, 3, got true"),
        ({"colour": "r"}, "colour: expected one of red, dark_blue, got the text 'r'"),
        ({"level": 1.5}, "level: expected a whole number or a text, got the number 1.5"),
        ({"local": "false"}, "local: expected true or false, got the text 'false'; write it without quotes"),
        ({"local": 1}, "local: expected true or false, got the number 1"),
        ({"list_of": [True]}, "list_of[0]: expected a whole number, got true"),
        ({"list_of": "12"}, "list_of: expected a list, got the text '12'; put it in [ ]"),
        ({"word": "A"}, "word: expected small letters"),
        ({"folder": 5}, "folder: expected a path, got the number 5; put it in quotes"),
        ({"password": CANARY}, "password: the value breaks a rule of this key (not shown, since it may hold a secret)"),
        ({"seconds": "${NEGATIVE}"},
         "seconds: the value breaks a rule of this key (not shown, since it may hold a secret)"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_a_plugins_section_stands_at_its_field(options: dict[str, Any], line: str) -> None:
    made, found = plugin(env=ENV | {"NEGATIVE": "-12345"}, **options)

    assert made is None
    assert found == [f"plugins.p{'' if line.startswith(':') else '.'}{line}"]


def test_validators_speak_even_when_another_field_is_wrong() -> None:
    _, found = plugin(seconds=-1, retries="x")

    assert found == [
        "plugins.p.seconds: 'seconds' must be > 0: -1.0",
        "plugins.p.retries: expected a whole number, got the text 'x'",
    ]


def test_a_missing_variable_in_a_plugins_section_is_reported_once() -> None:
    made, found = plugin(retries="${ABSENT}", models=["${ABSENT}"])

    assert made is None
    assert [line.split(":")[0] for line in found] == ["plugins.p.retries", "plugins.p.models[0]"]


def test_a_variable_in_a_plugins_section_becomes_its_type() -> None:
    made, _ = plugin(env={"N": "7", "T": "x"}, retries="${N}", base_url="${N}", level="${T}", mode="slow")

    assert made is not None
    assert (made.retries, made.base_url, made.level) == (7, "7", "x")
    assert type(made.base_url) is str


@frozen
class Impossible:
    call: bytes = b""


def test_a_type_that_no_configuration_can_hold_is_the_authors_error() -> None:
    with pytest.raises(TypeError, match="bytes"):
        structure({"call": "x"}, Impossible, (), Problems())


Metres = NewType("Metres", int)


@frozen(kw_only=True)
class Bounds:
    height: Annotated[Metres, Range(least=2)] = Metres(2)
    depth: Annotated[float, Range(most=5)] = 0.0
    folder: Path | None = None
    values: list[Any] = field(factory=list, validator=validators.max_len(1))


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"height": 1}, "must be at least 2, got the number 1"),
        ({"depth": 6}, "must be at most 5, got the number 6"),
        ({"folder": "~nobody-of-this-name/x"}, "expected a path, got the text '~nobody-of-this-name/x'"),
        ({"values": ["a", document.EnvText.of(CANARY, ("C",), False)]},
         "the value breaks a rule of this key (not shown, since it may hold a secret)"),
    ],
)  # fmt: skip
def test_bounds_on_one_side_new_types_and_homes(tree: Any, message: str) -> None:
    problems = Problems()

    assert structure(tree, Bounds, (), problems) is None
    assert [problem.message for problem in problems] == [message]
    assert structure({"height": 2, "folder": "~/x"}, Bounds, (), problems) == Bounds(folder=Path.home() / "x")
    assert jsonschema.Draft202012Validator(schema(plugins={"b": Bounds})).is_valid({"plugins": {"b": {"height": 2}}})


@frozen
class Unresolved:
    price: Decimal | None = None  # noqa: F821  # the name is missing on purpose


def test_an_annotation_that_cannot_be_resolved_is_the_authors_error() -> None:
    with pytest.raises(TypeError, match="name 'Decimal' is not defined; import it where it runs"):
        structure({}, Unresolved, (), Problems())


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda inner: st.lists(inner)
       | st.dictionaries(st.sampled_from([key for key, _ in vars_of(Plugin)]) | st.text(), inner)))  # fmt: skip
@settings(max_examples=200, deadline=None)
def test_any_tree_is_either_an_instance_or_a_problem(tree: Any) -> None:
    problems = Problems()

    made = structure(tree, Plugin, (), problems)

    assert (made is None) == (len(problems) > 0)


# Where the file is


def test_the_file_is_looked_up_in_the_documented_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, home, system = tmp_path / "here", tmp_path / "home", tmp_path / "etc"
    places = [here / "routerpool.yaml", home / ".config/routerpool/routerpool.yaml", system / "routerpool.yaml"]
    for place in places:
        place.parent.mkdir(parents=True)
        place.write_text("plugins: {}")
    named, asked = tmp_path / "named.yaml", tmp_path / "asked.yaml"
    named.touch()
    asked.touch()
    monkeypatch.chdir(here)
    env = {"ROUTERPOOL_CONFIG": str(named)}

    assert find(asked, env, home, system) == asked
    assert find(None, env, home, system) == named
    for place in places:
        found = find(None, {"HOME": str(home)}, None, system)
        assert found is not None
        assert found.resolve() == place
        place.unlink()
    assert find(None, {}, home, system) is None
    assert find(None, {}, None, system) is None


def test_a_file_that_was_asked_for_must_exist(tmp_path: Path) -> None:
    absent = tmp_path / "absent.yaml"

    with pytest.raises(ConfigError) as caught:
        find(absent, {})
    assert str(caught.value) == f"{absent}: there is no such file; mend --config, or let `routerpool init` write one"
    with pytest.raises(ConfigError, match=r"mend \$ROUTERPOOL_CONFIG"):
        load(env={"ROUTERPOOL_CONFIG": str(absent)})


@pytest.mark.parametrize(
    ("url", "expanded"),
    [
        ("sqlite:///~/a.db", "sqlite:////home/ada/a.db"),
        ("sqlite:////var/a.db", "sqlite:////var/a.db"),
        ("postgresql+asyncpg://u:p~@h/~x", "postgresql+asyncpg://u:p~@h/~x"),
    ],
)
def test_home_is_expanded_in_the_stores_url(url: str, expanded: str) -> None:
    config, _ = load(text=f"store: {url}", env=ENV)

    assert config.store == expanded
    assert url not in repr(config)


def test_a_home_that_is_unknown_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", unknown)
    assert complaints("plugins: {}", {}) == ["1: store: ~ is unknown because HOME is not set; write the folder out"]


def test_every_web_page_may_come_in_only_where_keys_are_asked_for() -> None:
    open_to_all = 'server: {allowed_origins: ["*"]}'
    said = "1: server.allowed_origins: any web page could use and change this router; name the pages, or set "
    assert complaints(open_to_all) == [said + "server.api_keys"]
    meant = 'server: {allowed_origins: ["*"], allow_unauthenticated: true}'
    assert complaints(meant) == []


# The JSON Schema

SCHEMA = schema(plugins={"groq": Plugin, "openai_compatible": Entry, "secrets": None, "p": None})
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


def schema_finds(tree: Any) -> list[str]:
    return sorted({error.json_path for error in VALIDATOR.iter_errors(tree)})


def test_the_schema_is_a_valid_schema_of_plain_json() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)

    assert json.loads(json.dumps(SCHEMA)) == SCHEMA
    assert SCHEMA["additionalProperties"] is False


def test_the_schema_takes_what_the_reader_takes() -> None:
    tree = {
        "server": {
            "port": "${PORT}",
            "api_keys": ["${KEY}", f"sha256:{HEX}", {"name": "a", "key": "${B}"}],
            "tls": None,
        },
        "limits": {"request_bytes": "32MiB", "idle_seconds": 1.5},
        "plugins": {
            "secrets": None,
            "groq": {"models": ["a", {"id": "b"}], "enabled": True, "colour": "red", "cap": 5, "pair": [1, "a"]},
            "lab": {"use": "openai_compatible", "id": "x", "required": None},
        },
        "profiles": {"mine": {"cost": "budget", "budget_usd": 0.1, "tier": "fast", "weights": {"pin": 0}}},
        "aliases": {"a*": "routerpool/mine"},
    }
    config, problems = from_mapping(tree, env=ENV | {"PORT": "1", "KEY": "x", "B": "y"})

    assert not problems
    assert [entry.name for entry in config.plugins] == ["secrets", "groq", "lab"]
    assert schema_finds(tree) == []


@pytest.mark.parametrize(
    ("tree", "place"),
    [
        ({"severs": {}}, "$"),
        ({"server": {"port": 70000}}, "$.server.port"),
        ({"server": {"port": "80"}}, "$.server.port"),
        ({"server": {"api_keys": [CANARY]}}, "$.server.api_keys[0]"),
        ({"limits": {"request_bytes": "5x"}}, "$.limits.request_bytes"),
        ({"limits": {"idle_seconds": 0}}, "$.limits.idle_seconds"),
        ({"profiles": {"a": {"cost": "much"}}}, "$.profiles.a.cost"),
        ({"profiles": {"A": {}}}, "$.profiles"),
        ({"plugins": {"Groq": {"use": "groq"}}}, "$.plugins"),
        ({"plugins": {"groq": {"modells": []}}}, "$.plugins.groq"),
        ({"plugins": {"groq": {"models": [{"id": 1}]}}}, "$.plugins.groq.models[0]"),
        ({"plugins": {"groq": {"retries": 10}}}, "$.plugins.groq.retries"),
        ({"plugins": {"secrets": {"x": 1}}}, "$.plugins.secrets"),
        ({"plugins": {"lab": {"id": "x"}}}, "$.plugins.lab"),
        ({"plugins": {"lab": {"use": "secrets", "x": 1}}}, "$.plugins.lab"),
        ({"plugins": {"lab": {"use": "openai_compatible"}}}, "$.plugins.lab"),
    ],
    ids=str,
)
def test_the_schema_refuses_what_is_wrong_at_its_place(tree: Any, place: str) -> None:
    assert schema_finds(tree) == [place]


def test_the_schema_explains_every_key() -> None:
    port = SCHEMA["$defs"]["routerpool.config.sections.ServerConfig"]["properties"]["port"]

    assert port["description"] == "The TCP port; 0 takes a free one"
    assert port["default"] == 4545
    assert port["anyOf"][0] == {"type": "integer", "minimum": 0, "maximum": 65535}
    sections_described = [key for key in SCHEMA["$defs"] if key.startswith("routerpool.")]
    assert len(sections_described) == 6
    for name in sections_described:
        assert [key for key, value in SCHEMA["$defs"][name]["properties"].items() if "description" not in value] == []


def test_the_schema_names_no_default_where_there_is_none_to_write() -> None:
    @frozen(kw_only=True)
    class Section:
        needed: int
        several: tuple[str | Bounds, ...] = ("a", Bounds())
        names: frozenset[str] = frozenset({"c", "b", "a"})

    keys = schema(plugins={"p": Section})["$defs"]["plugin:p"]["properties"]

    assert [key for key in ("needed", "several") if "default" in keys[key]] == []
    assert keys["names"]["default"] == ["a", "b", "c"]
    assert "_Nothing" not in json.dumps(SCHEMA)
    assert "nothing" not in [key.get("default") for key in keys.values()]


def test_the_schema_without_plugins_leaves_their_options_open() -> None:
    bare = jsonschema.Draft202012Validator(schema())

    assert bare.is_valid({"plugins": {"any": {"thing": 1}}})
    assert not bare.is_valid({"plugins": {"any": {"enabled": "no"}}})
