"""Which YAML is read, with which lines, what is refused, and how the environment is expanded in it."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from routerpool import document
from routerpool.config.reading import from_mapping, load
from routerpool.config.sections import (
    Profile,
)
from routerpool.document import parse, read
from routerpool.errors import ConfigError

from .support.settings import ENV, complaints


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


# What is no YAML of ours

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


SHARED = Path(os.environ.get("ROUTERPOOL_SHARED_DATA") or Path(__file__).parents[2] / "shared" / "data")
STRINGS = SHARED / "reliability" / "own" / "security_strings.json"


def test_none_of_the_shared_bad_texts_loads_or_ends_in_a_traceback() -> None:
    if not STRINGS.is_file():
        pytest.skip(f"the shared data is absent: {STRINGS}; set ROUTERPOOL_SHARED_DATA")
    texts = json.loads(STRINGS.read_text())["yaml_bad"]

    assert len(texts) > 20
    assert [text for text in texts if not complaints(text)] == []


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
