"""What a provider's contract asks of the real provider, where a key is set and somebody wants it asked."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from copy import deepcopy
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from routerpool.router import Router
from routerpool.testing.rig import TOOL, Rig
from routerpool.testing.routers import Witness
from routerpool.testing.upstream import Upstream

__all__ = ["LiveContract", "modes"]

modes = pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])


class LiveContract:
    """Three questions to the real provider. They run with `-m live` only, on the key that the environment holds."""

    options: ClassVar[Mapping[str, Any]] = {}
    name: ClassVar[str] = "contract"

    if TYPE_CHECKING:  # what ProviderContract brings

        def make(self, section: Mapping[str, Any], env: Mapping[str, str], witness: Witness | None = None) -> Router:
            """A router of this one plugin."""

    @asynccontextmanager
    async def live(self, config: pytest.Config) -> AsyncIterator[Rig]:
        """The plugin at its real address with the key of the environment; only where `-m live` asks for it."""
        if "live" not in config.getoption("markexpr", ""):
            pytest.skip("asks the real provider: run it with -m live")
        witness = Witness()
        router = self.make(dict(self.options), os.environ, witness)
        if (idle := router.providers[self.name].idle()) is not None:
            pytest.skip(idle)
        async with router:
            await router.catalog.refresh(router.session, all_of_them=True)
            yield Rig(self.name, Upstream(), router, witness, {})

    def ask_live(self, config: pytest.Config, body: Callable[[Rig], Awaitable[None]]) -> None:
        """Run a test's body against the real provider."""

        async def whole() -> None:
            async with self.live(config) as rig:
                await body(rig)

        asyncio.run(whole())

    @pytest.mark.live
    @modes
    def test_live_an_answer_arrives_with_its_usage(self, stream: bool, pytestconfig: pytest.Config) -> None:
        async def body(rig: Rig) -> None:
            got = await rig.ask_real([{"role": "user", "content": "Say the word hello."}], stream=stream)
            assert got.error is None
            assert "hello" in got.text.lower()
            assert rig.witness.records[0].usage.source == "reported"

        self.ask_live(pytestconfig, body)

    @pytest.mark.live
    def test_live_a_tool_is_called(self, pytestconfig: pytest.Config) -> None:
        async def body(rig: Rig) -> None:
            wish = [{"role": "user", "content": "What is the weather forecast for Oslo? Use the tool."}]
            got = await rig.ask_real(wish, tools=[deepcopy(TOOL)])
            assert got.error is None
            name, arguments = got.calls
            assert name == "forecast"
            assert "oslo" in json.loads(arguments)["city"].lower()

        self.ask_live(pytestconfig, body)
