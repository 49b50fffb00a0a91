"""Every key of the core: what it takes, what it refuses, and in which words."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
import yaml
from attrs import evolve, fields_dict

from routerpool import document
from routerpool.config import sections
from routerpool.config.reading import from_mapping, load
from routerpool.config.sections import (
    BUILT_IN_PROFILES,
    LimitsConfig,
    PrivacyConfig,
    Profile,
    ServerConfig,
)
from routerpool.config.words import expected
from routerpool.types import Privacy, Tier

from ..support.settings import CANARY, ENV, HEX, KEY_IDS, KEYS, SECTIONS, VALIDATOR, complaints, tree_with

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
    assert config.glob("claude-opus") == "routerpool/capable"


def test_the_built_in_profiles_lie_beneath_the_users() -> None:
    config, _ = load(text="profiles: {fast: {models: [a/b]}, own: {}}", env=ENV)

    assert list(config.profiles) == ["auto", "free", "fast", "balanced", "capable", "private", "own"]
    assert config.profiles["fast"] == Profile(models=("a/b",))
    assert not any(profile.weights for profile in BUILT_IN_PROFILES.values()), "each strategy says what it weighs"
    assert config.profiles["free"].cost == "free_only"
    assert [config.profiles[name].tier for name in ("balanced", "capable")] == [Tier.BALANCED, Tier.CAPABLE]
    assert config.profiles["private"].privacy is Privacy.PRIVATE
    assert BUILT_IN_PROFILES["fast"].tier is Tier.FAST


def test_the_first_glob_that_matches_wins() -> None:
    text = 'aliases: {"gpt-*": routerpool/fast, "*-mini": routerpool/free, gpt-4: a/b, same: same}'
    config, problems = load(text=text, env=ENV)

    assert not problems
    names = ("gpt-4", "gpt-4-mini", "o3-mini", "same", "other", "GPT-5")
    assert [config.glob(name) for name in names] == [
        "routerpool/fast", "routerpool/fast", "routerpool/free", "same", None, None,
    ]  # fmt: skip


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
    ("server: {api_keys: [{sha256: '12'}]}",
     ("1: server.api_keys[0].sha256: expected the 64 hexadecimal digits of a SHA-256; "
      "`printf %s KEY | sha256sum` prints them")),
    ("server: {api_keys: ['sha256:12']}",
     "1: server.api_keys[0]: expected the 64 hexadecimal digits of a SHA-256; `printf %s KEY | sha256sum` prints them"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "line"), BAD, ids=[text for text, _ in BAD])
def test_a_bad_value_is_one_line_with_place_and_cure(text: str, line: str) -> None:
    assert complaints(text) == [line]


def test_what_is_wrong_in_one_plugin_does_not_hide_the_others() -> None:
    config, problems = load(text="plugins: {a: {enabled: 1}, b: 5, c: {use: [x]}, d: null, e: {x: 1}}", env=ENV)

    assert [entry.name for entry in config.plugins] == ["a", "d", "e"]
    assert [problem.path for problem in problems] == ["plugins.a.enabled", "plugins.b", "plugins.c.use"]


# Every key, generated from the classes


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
    missing = [name for name, attribute in fields_dict(cls).items() if not attribute.metadata.get("help")]

    assert missing == []


# The keys of clients


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


@pytest.mark.parametrize(
    ("key", "good", "bad"),
    [
        (
            "allowed_hosts",
            ["*", "llm.example.org", "LLM.example", "my_service", "box", "[::1]", "10.0.0.4"],
            ["https://llm.example", "llm.example:443", "llm.example/", "*.example", "", "a b"],
        ),
        (
            "allowed_origins",
            [
                "*",
                "null",
                "https://app.example",
                "http://localhost:3000",
                "app://obsidian.md",
                "chrome-extension://abc",
            ],
            [
                "https://app.example/",
                "https://App.example",
                "app.example",
                "https://*.example",
                "https://a.b/c",
            ],
        ),
    ],
)
def test_a_host_or_an_origin_that_can_never_match_is_refused(key: str, good: list[str], bad: list[str]) -> None:
    assert not from_mapping({"server": {key: good, "api_keys": ["sha256:" + "0" * 64]}}, env=ENV)[1]
    for index, name in enumerate(bad):
        _, problems = from_mapping({"server": {key: [name]}}, env=ENV)
        assert [problem.path for problem in problems] == [f"server.{key}[0]"], bad[index]
