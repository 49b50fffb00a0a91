"""Who is asked first on day one, with what people have: no key, one, many, paid ones, a local engine, a secret."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from routerpool import Router
from routerpool.hooks.detection import zero_config

FREE_KEYS = {f"{name}_API_KEY": "k" for name in ("GROQ", "CEREBRAS", "GEMINI", "OPENROUTER", "MISTRAL", "NVIDIA")}
PAID_KEYS = {"OPENAI_API_KEY": "k", "ANTHROPIC_API_KEY": "k"}
LOCAL = {"home": {"use": "llamacpp", "base_url": "http://127.0.0.1:1/v1", "models": ["home-model"]}}


def plan_for(
    env: Mapping[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, more: Any = None, **body: Any
) -> list[dict[str, Any]]:
    """The rows of `explain`, best first, for what a start without a file makes of this environment."""
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    tree, _ = zero_config({"HOME": str(tmp_path), **env})
    for name in tree["plugins"].keys() & {variable.partition("_")[0].lower() for variable in env} | {"google"}:
        if name in tree["plugins"]:
            tree["plugins"][name]["discover"] = "off"  # nothing is asked of anybody
    tree["plugins"] |= more or {}
    tree["store"] = f"sqlite:///{tmp_path}/store.db"

    async def whole() -> list[dict[str, Any]]:
        async with Router.of(tree) as router:
            question = {"model": "auto", "messages": [{"role": "user", "content": "Why is the sky blue?"}], **body}
            rows: list[dict[str, Any]] = (await router.explain(question))["ranked"]
            return rows

    return asyncio.run(whole())


def test_without_a_key_the_last_resort_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = plan_for({}, tmp_path, monkeypatch)
    assert {row["candidate"].partition("/")[0] for row in rows} <= {"smollm", "sandbox"}
    assert len({row["candidate"].partition("/")[0] for row in rows}) == 1
    assert all(row["local"] and row["free"] for row in rows)


def test_with_one_free_key_its_strongest_model_goes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = plan_for({"GROQ_API_KEY": "k"}, tmp_path, monkeypatch)
    assert rows[0]["candidate"] == "groq/openai/gpt-oss-120b"
    assert {row["candidate"].partition("/")[0] for row in rows} == {"groq"}
    ranks = [row["strategies"]["free_first"]["terms"]["rank"] for row in rows]
    assert ranks == sorted(ranks, reverse=True)


def test_with_six_free_keys_all_of_them_share_the_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = plan_for(FREE_KEYS, tmp_path, monkeypatch)
    assert {row["candidate"].partition("/")[0] for row in rows} == {
        *("groq", "cerebras", "google", "openrouter", "mistral", "nvidia")
    }
    free = [row["free"] for row in rows]
    assert free == sorted(free, reverse=True)
    assert len({row["candidate"].partition("/")[0] for row in rows[:6]}) >= 3


def test_with_two_paid_keys_the_cheapest_goes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = plan_for(PAID_KEYS, tmp_path, monkeypatch)
    assert {row["candidate"].partition("/")[0] for row in rows} == {"openai", "anthropic"}
    priced = [row["cost"] for row in rows if row["cost"] is not None]
    assert len(priced) >= 10
    assert priced == sorted(priced)
    assert [row["cost"] is None for row in rows] == sorted(row["cost"] is None for row in rows)


def test_a_long_answer_may_change_who_is_cheapest_and_the_order_follows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = plan_for(PAID_KEYS, tmp_path, monkeypatch, max_tokens=60_000)
    priced = [row["cost"] for row in rows if row["cost"] is not None]
    assert priced == sorted(priced)


def test_a_local_engine_goes_before_paid_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = plan_for(PAID_KEYS, tmp_path, monkeypatch, more=LOCAL)
    assert rows[0]["candidate"] == "home/home-model"
    assert not rows[1]["local"]


def test_a_private_request_has_the_local_engine_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = plan_for(PAID_KEYS, tmp_path, monkeypatch, more=LOCAL, router={"privacy": "private"})
    assert [row["candidate"] for row in rows] == ["home/home-model"]
