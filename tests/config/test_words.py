"""In which words a wrong value is told of, and what is never told."""

from __future__ import annotations

import json
from typing import Any

import pytest
from attrs import frozen

from routerpool.config.structure import structure
from routerpool.document import Problems

from ..support.settings import CANARY, ENV, KEY_IDS, KEYS, complaints, tree_with


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
