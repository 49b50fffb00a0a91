"""The JSON Schema: a valid one, which takes and refuses what the reader does."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
from attrs import frozen

from routerpool.config.reading import from_mapping, schema

from ..support.settings import CANARY, ENV, HEX, SCHEMA, VALIDATOR, Price


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
        several: tuple[str | Price, ...] = ("a", Price())
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
