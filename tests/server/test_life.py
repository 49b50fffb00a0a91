"""A server's life: what a new generation takes over from the one before."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from routerpool import Candidate, OpenAIProvider, Veto, hookimpl
from routerpool.config.sections import TlsConfig
from routerpool.server.app import Server
from routerpool.server.life import needing_restart
from routerpool.testing import make_router


class Lab(OpenAIProvider):
    base_url = "http://127.0.0.1:9/v1"
    models = ("m",)


class Learns:
    def __init__(self) -> None:
        self.barred: list[str] = []

    def take_over(self, older: Learns) -> None:
        self.barred = older.barred

    @hookimpl
    def veto(self, candidates: list[Candidate]) -> list[Veto]:
        return [Veto(c, "cooldown", "learned") for c in candidates if c.key in self.barred]


class Fails(Learns):
    def take_over(self, older: Learns) -> None:
        raise RuntimeError("no")


def reloaded(kind: type, other: type | None = None) -> tuple[Any, Any]:
    """The plugin of a generation that has learned something, and that of the next one."""

    def made(plugin: type) -> Any:
        return make_router({"plugins": {"lab": {}, "learns": {}}}, plugins={"lab": Lab, "learns": plugin})

    async def whole() -> tuple[Any, Any]:
        server = Server(made(kind), load=lambda: made(other or kind))
        async with server.router as old:
            before = old.hooks.instances["learns"]
            before.plugin.barred.append("lab/m")
            await server.reload()
            try:
                return before, server.router.hooks.instances["learns"]
            finally:
                await server.router.stop()
                await asyncio.gather(*server._retiring, return_exceptions=True)

    return asyncio.run(whole())


def test_a_plugin_takes_over_what_was_learned_before_a_reload() -> None:
    before, after = reloaded(Learns)
    assert after.plugin is not before.plugin
    assert after.plugin.barred == ["lab/m"]


def test_a_plugin_of_another_kind_under_the_same_name_takes_nothing_over() -> None:
    assert reloaded(Learns, Fails)[1].plugin.barred == []


def test_one_that_fails_to_take_over_begins_anew_and_is_named(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        _, after = reloaded(Fails)
    assert after.plugin.barred == []
    assert after.last_fault.startswith("take_over: RuntimeError")


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({}, []),
        ({"server": {"heartbeat_seconds": 5}}, []),
        ({"server": {"port": 1, "workers": 2}}, ["server.port", "server.workers"]),
        ({"server": {"host": "::1", "base_path": "/x"}}, ["server.host", "server.base_path"]),
        ({"limits": {"connections": 5, "max_attempts": 1}}, ["limits.connections"]),
    ],
)
def test_what_only_a_start_takes_is_named(changes: Any, named: list[str]) -> None:
    before, now = (make_router({"plugins": {}, **tree}).config for tree in ({}, changes))
    assert needing_restart(before, now) == named


def test_tls_needs_a_restart_where_it_is_switched_and_not_where_its_certificate_is_another_one() -> None:
    plain = make_router({"plugins": {}}).config
    one, other = (
        evolve(plain, server=evolve(plain.server, tls=TlsConfig(cert=Path(name), key=Path(name)))) for name in "ab"
    )
    assert needing_restart(plain, one) == needing_restart(one, plain) == ["server.tls"]
    assert needing_restart(one, other) == []
