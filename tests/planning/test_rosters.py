"""What providers listed last is kept, so that who only asks about routing asks none of them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from routerpool import OpenAIProvider, Router
from routerpool.planning.rosters import told
from routerpool.testing import make_router
from routerpool.testing.upstream import Upstream

ENV = {"LAB_KEY": "key-of-the-lab", "OTHER": "another-key"}
OTHERWISE: list[dict[str, Any]] = [
    {"api_key_env": "OTHER"},
    {"base_url": "http://127.0.0.1:9/v1"},
    {"models": ["m9"]},
]


class Lab(OpenAIProvider):
    models_at = "models"


def router_of(up: Upstream, store: Path, *, lists: bool, **section: Any) -> Router:
    entry = {"use": "p", "base_url": up.base_url("lab"), "api_key_env": "LAB_KEY", **section}
    config = {"store": f"sqlite:///{store}", "plugins": {"lab": entry}}
    router = make_router(config, plugins={"p": Lab}, env=ENV)
    router.lists = lists
    return router


def models_of(router: Router) -> list[str]:
    return [candidate.model.id for candidate in router.catalog.snapshot.candidates]


async def listed(up: Upstream, store: Path) -> None:
    """Let a router that serves list this provider's models, and keep them."""
    up.models("lab", ["m1", "m2"])
    async with router_of(up, store, lists=True) as router:
        assert models_of(router) == ["m1", "m2"]
        await router.rosters.keep()


def test_who_only_asks_sends_nothing_and_sees_what_was_listed_last(tmp_path: Path) -> None:
    async def whole() -> None:
        async with Upstream() as up:
            await listed(up, tmp_path / "db")
            before = len(up.seen("lab").requests)
            async with router_of(up, tmp_path / "db", lists=False) as router:
                assert models_of(router) == ["m1", "m2"]
                assert (await router.explain({"messages": [{"role": "user", "content": "x"}]}))["ranked"]
                assert 0 <= router.rosters.ages["lab"] < 60
                assert list(router.rosters.unlisted()) == []
            assert len(up.seen("lab").requests) == before

    asyncio.run(whole())


def test_without_a_list_that_was_kept_nobody_is_asked_and_it_is_told(tmp_path: Path) -> None:
    async def whole() -> None:
        async with Upstream() as up:
            async with router_of(up, tmp_path / "db", lists=False) as router:
                assert models_of(router) == []
                assert told(router.rosters.ages, router.rosters.unlisted()).startswith(
                    "models as listed last: lab never;"
                )
            assert up.seen("lab").requests == []
            assert not (tmp_path / "db").exists()

    asyncio.run(whole())


@pytest.mark.parametrize(
    "section", [{"api_key_env": "OTHER"}, {"base_url": "http://127.0.0.1:9/v1"}, {"models": ["m9"]}]
)
def test_a_list_that_was_asked_for_in_another_way_is_not_used(tmp_path: Path, section: dict[str, Any]) -> None:
    async def whole() -> None:
        async with Upstream() as up:
            await listed(up, tmp_path / "db")
            async with router_of(up, tmp_path / "db", lists=False, **section) as router:
                assert models_of(router) == section.get("models", [])

    asyncio.run(whole())


def test_no_key_and_no_address_is_kept(tmp_path: Path) -> None:
    async def whole() -> None:
        async with Upstream() as up:
            await listed(up, tmp_path / "db")
            held = b"".join(path.read_bytes() for path in tmp_path.iterdir())
            assert b"m2" in held
            assert b"key-of-the-lab" not in held
            assert up.base_url("lab").encode() not in held

    asyncio.run(whole())


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "just now"), (61, "1 minute ago"), (7200, "2 hours ago"), (86400 * 3, "3 days ago")],
)
def test_an_age_is_told_in_words(seconds: float, words: str) -> None:
    assert told({"lab": seconds}, []) == f"models as listed last: lab {words}; --refresh asks for them anew"
    assert told({}, []) == ""
