"""Several workers behind one socket: a supervisor binds it, forks before any loop exists, and minds its children.

One socket that all workers accept from loses no queued connection when a worker ends, and a second server on the port
is an error; both would go wrong with SO_REUSEPORT.
"""

from __future__ import annotations

import json
import logging
import os
import selectors
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from attrs import define, field

from routerpool.errors import ConfigError, Problem, RouterpoolError
from routerpool.hooks.isolation import locate
from routerpool.process.standalone import WorkerControl, bind, check_exposure, serve_socket, url_of
from routerpool.router import Router

__all__ = ["Supervisor", "check_shareable", "supervise"]

log = logging.getLogger("routerpool.workers")

FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.2, 30.0
"""A worker that dies is replaced after a wait that doubles while it keeps dying within `STEADY_SECONDS`."""

STEADY_SECONDS = 30.0
SILENT_SECONDS = 30.0
"""A worker of which nothing is heard for so long hangs, though it tells every `BEAT_SECONDS` that it does not."""

GRACE_SECONDS = 5.0
"""How much longer than `drain_seconds` a worker may take before it is killed."""


def check_shareable(router: Router) -> None:
    """Refuse several workers where a plugin says that it cannot be had twice on one machine."""
    for instance in router.hooks.instances.values():
        reason = getattr(instance.plugin, "single_process", None)
        if reason:
            message = f"the plugin {instance.name!r} cannot be shared by several workers: {reason}; use one worker"
            raise ConfigError([Problem("server.workers", message)])


def supervise(
    router: Router,
    count: int,
    host: str | None = None,
    port: int | None = None,
    *,
    load: Callable[[], Router],
    ready: Callable[[Router, str], None] | None = None,
) -> None:
    """Serve with `count` workers until SIGTERM or SIGINT; `ready` is called once all of them answer."""
    config = router.config.server
    host = host or config.host
    check_exposure(config, host)
    check_shareable(router)
    listener = bind(host, config.port if port is None else port)
    url = url_of(config, host, listener)
    Supervisor(router, count, listener, load, lambda: ready(router, url) if ready else None).run()


@define
class Child:
    """One worker process as its supervisor sees it."""

    number: int
    pid: int
    wire: socket.socket
    born: float
    heard: float
    """When it last told anything."""
    rest: bytes = b""
    ready: bool = False


@define
class Supervisor:
    """Forks, replaces, signals and ends the workers; it serves nothing itself and runs no event loop."""

    router: Router
    count: int
    listener: socket.socket
    load: Callable[[], Router]
    ready: Callable[[], None]
    children: dict[int, Child] = field(factory=dict)
    sockets: Path = field(factory=lambda: Path(tempfile.mkdtemp(prefix=f"routerpool-{os.getpid()}-")))
    _due: dict[int, float] = field(factory=dict)
    _deaths: dict[int, int] = field(factory=dict)
    _told: bool = False
    _stopping: bool = False
    _at_once: bool = False
    _reload: bool = False
    _wake: socket.socket = field(init=False)
    _selector: selectors.BaseSelector = field(factory=selectors.DefaultSelector)

    def run(self) -> None:
        """Until a signal ends it; every worker is gone when this returns."""
        self._wake, wake = socket.socketpair()
        self._wake.setblocking(False)
        wake.setblocking(False)
        signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
        for name in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(name, self._signalled)
        self._selector.register(self._wake, selectors.EVENT_READ)
        for number in range(1, self.count + 1):
            self._fork(number)
        try:
            while not self._stopping:
                self._turn()
        finally:
            self._end()

    def _signalled(self, number: int, _frame: Any) -> None:
        if number in (signal.SIGTERM, signal.SIGINT):
            self._at_once = self._stopping and number == signal.SIGINT  # the second Ctrl-C
            self._stopping = True
        elif number == signal.SIGHUP:
            self._reload = True

    def _turn(self) -> None:
        silent = [child.heard + SILENT_SECONDS for child in self.children.values() if child.ready]
        until = min([*self._due.values(), *silent], default=None)
        for key, _ in self._selector.select(None if until is None else max(until - time.monotonic(), 0)):
            if key.fileobj is self._wake:
                with suppress(BlockingIOError):
                    self._wake.recv(4096)
            elif key.data in self.children:
                self._hear(self.children[key.data])
        self._end_silent()
        self._bury()
        if self._reload:
            self._reload = False
            self._ask_for_reload()
        for number, due in tuple(self._due.items()):
            if due <= time.monotonic() and not self._stopping:
                del self._due[number]
                self._fork(number)

    def _fork(self, number: int) -> None:
        ours, theirs = socket.socketpair()
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            self._be_worker(number, ours, theirs)
        theirs.close()
        ours.setblocking(False)
        now = time.monotonic()
        self.children[pid] = Child(number, pid, ours, born=now, heard=now)
        self._selector.register(ours, selectors.EVENT_READ, pid)

    def _be_worker(self, number: int, ours: socket.socket, theirs: socket.socket) -> None:
        """What the child does; it never returns."""
        status = 1
        try:
            signal.set_wakeup_fd(-1)
            for name in (signal.SIGTERM, signal.SIGCHLD):
                signal.signal(name, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal's Ctrl-C is the supervisor's business
            ours.close()
            self._selector.close()
            self._wake.close()
            for child in self.children.values():
                child.wire.close()
            control = WorkerControl(theirs, number, self.count, self.sockets)
            router = self.router if not self._told else self.load()
            serve_socket(router, self.listener, load=self.load, control=control)
            status = 0
        except RouterpoolError as error:
            log.error("worker %s cannot serve: %s", number, error)
        except Exception as error:
            log.error("worker %s failed: %s", number, locate(error))
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)

    def _hear(self, child: Child) -> None:
        try:
            data = child.wire.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._selector.unregister(child.wire)
            child.wire.close()
            return
        child.heard = time.monotonic()
        *lines, child.rest = (child.rest + data).split(b"\n")
        for line in lines:
            message = json.loads(line)
            if message["do"] == "ready":
                child.ready = True
                self._tell_ready()
            elif message["do"] != "beat":
                self._pass_on(line, but=child)

    def _pass_on(self, line: bytes, but: Child | None = None) -> None:
        for child in self.children.values():
            if child is not but:
                with suppress(OSError):  # it is dying; its successor reads the configuration anew
                    child.wire.send(line + b"\n")

    def _tell_ready(self) -> None:
        if not self._told and all(child.ready for child in self.children.values()):
            self._told = True
            self.ready()

    def _ask_for_reload(self) -> None:
        """Read the configuration here first, so that a broken one reaches no worker."""
        try:
            check_shareable(self.load())
        except RouterpoolError as error:
            log.error("the new configuration is not taken, the old one stays:\n%s", error)
            return
        self._pass_on(json.dumps({"do": "reload"}).encode())

    def _end_silent(self) -> None:
        """Kill workers whose loop hangs: they answer nobody, take no signal, and are replaced once they are dead."""
        for child in self.children.values():
            if child.ready and time.monotonic() - child.heard > SILENT_SECONDS:
                child.heard = time.monotonic()
                log.error("worker %s has told nothing for %.0f s and is killed", child.number, SILENT_SECONDS)
                os.kill(child.pid, signal.SIGKILL)

    def _bury(self) -> None:
        """Take note of workers that have died, and have each replaced after its wait."""
        while self.children:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            child = self.children.pop(pid, None)
            if child is None:
                continue
            self._forget(child)
            steady = time.monotonic() - child.born > STEADY_SECONDS
            deaths = self._deaths[child.number] = 0 if steady else self._deaths.get(child.number, -1) + 1
            wait = min(FIRST_WAIT_SECONDS * 2**deaths, LONGEST_WAIT_SECONDS)
            if not self._stopping:
                code = os.waitstatus_to_exitcode(status)
                log.error("worker %s ended with %s and is replaced in %.1f s", child.number, code, wait)
                self._due[child.number] = time.monotonic() + wait

    def _forget(self, child: Child) -> None:
        with suppress(KeyError, ValueError):  # its end of the wire was seen first
            self._selector.unregister(child.wire)
        child.wire.close()

    def _end(self) -> None:
        """Stop listening first, so that nothing new waits in our queue, then let the workers drain."""
        self.listener.close()
        for pid in self.children:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + self.router.config.server.drain + GRACE_SECONDS
        while self.children and time.monotonic() < deadline and not self._at_once:
            self._selector.select(0.05)
            with suppress(BlockingIOError):
                self._wake.recv(4096)
            for child in tuple(self.children.values()):
                if os.waitpid(child.pid, os.WNOHANG)[0]:
                    self._forget(self.children.pop(child.pid))
        for pid in tuple(self.children):
            log.error("worker process %s did not end in time and is killed", pid)
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            self._forget(self.children.pop(pid))
        shutil.rmtree(self.sockets, ignore_errors=True)
        signal.set_wakeup_fd(-1)
