"""A LiteLLM that is not there may be passed over in tests, and one that lacks something may not."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from routerpool_litellm.testing import CannotStart, proxied


@pytest.fixture
def beside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Where the program `litellm` of this Python would lie."""
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    return tmp_path / "litellm"


def test_no_litellm_is_a_reason_to_skip(beside: Path) -> None:
    with pytest.raises(CannotStart, match="--group real"), proxied(beside.parent / "work", {}):
        pass


def test_a_litellm_without_a_module_that_it_imports_is_a_failure_that_names_it(beside: Path) -> None:
    beside.write_text("#!/bin/sh\necho \"ModuleNotFoundError: No module named 'semver'\" >&2\nexit 1\n")
    beside.chmod(0o755)
    with pytest.raises(AssertionError, match="No module named 'semver'"), proxied(beside.parent / "work", {}):
        pass
