"""An engine's process: started, watched, started again when it dies, and ended with the router."""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from routerpool import PluginError

__all__ = ["Engine"]

log = logging.getLogger("routerpool.llamacpp")

LOAD_SECONDS = 280.0
"""How long a model may take to load, which is less than a plugin may take to open."""

END_SECONDS = 5.0
"""How long an engine may take to end before it is killed."""

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 60.0
"""Seconds before a dead engine is started again: the first time, and at most, each time twice the last."""


class Engine:
    """One model's engine at `address`, behind a `key` that only this process knows.

    It dies alone: requests under way fail as those of any provider whose server is gone, and `run` starts it again at
    the same address.
    """

    def __init__(self, name: str, options: Mapping[str, Any]) -> None:
        self.name = name
        self.key = secrets.token_urlsafe(32)
        self.address = ""
        self.restarts = 0
        self._options = {**options, "key": self.key}
        self._process: Process | None = None
        self._watch: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """The process that runs now."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    async def start(self) -> None:
        """Load the model; a PluginError says why that is not possible."""
        await self._start(0)
        self._watch = asyncio.ensure_future(self._keep())

    async def stop(self) -> None:
        """End it."""
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.wait((self._watch,))
        await self._end()

    async def _start(self, port: int) -> None:
        process = self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "routerpool_llamacpp.child", stdin=PIPE, stdout=PIPE
        )
        assert process.stdin is not None  # noqa: S101 - for the type checker: both are pipes
        assert process.stdout is not None  # noqa: S101
        try:
            process.stdin.write(json.dumps({**self._options, "port": port}).encode() + b"\n")
            async with asyncio.timeout(LOAD_SECONDS):
                line = await process.stdout.readline()
            answer = json.loads(line or b'{"error": "ended"}')
        except BaseException as error:
            await self._end()
            if isinstance(error, TimeoutError):
                raise PluginError(f"{self.name}: the model was not loaded within {LOAD_SECONDS:g} s") from None
            raise
        if "error" in answer:
            await self._end()
            raise PluginError(f"{self.name}: {self._words(answer['error'])}")
        self.address = answer["address"]

    def _words(self, error: str) -> str:
        if error == "unloadable":
            return f"llama.cpp cannot load {self._options['model']}; see that it is a whole GGUF file and fits"
        return f"llama.cpp ended while it loaded {self._options['model']}; see that it fits into memory"

    async def _keep(self) -> None:
        pause = FIRST_PAUSE
        while True:
            process = self._process
            if process is not None:
                began = asyncio.get_running_loop().time()
                code = await process.wait()
                if asyncio.get_running_loop().time() - began > LONGEST_PAUSE:
                    pause = FIRST_PAUSE
                log.warning("the engine of %s ended (%s) and is started again in %.1f s", self.name, code, pause)
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
            self.restarts += 1
            port = int(self.address.rpartition(":")[2])
            try:
                await self._start(port)
            except (PluginError, OSError) as error:
                log.error("the engine of %s did not start again: %s", self.name, error)

    async def _end(self) -> None:
        process, self._process = self._process, None
        if process is None or process.returncode is not None:
            return
        assert process.stdin is not None  # noqa: S101 - for the type checker: it is a pipe
        process.stdin.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(END_SECONDS):
                await process.wait()
                return
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
