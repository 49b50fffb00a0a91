"""Hears what a piece of code asks of the system: what blocks its event loop, and where that is asked for.

Python tells an audit hook of every file, socket and process before it happens, and a profiler of every sleep. What
would be left behind (a file written, a connection, a process) is refused there, and so is sleeping. Calls that wait in
another way, such as a lock, a busy loop or a C library, are not heard: only the time they take shows them.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final, NamedTuple

from attrs import define, field

from routerpool.types import Level

__all__ = ["BlockingListener", "Call", "hearing_sleep", "watching"]


class Call(NamedTuple):
    """A kind of blocking call: how grave it is on a loop, what it does, and the cure."""

    level: Level
    what: str
    cure: str


IN_LIFESPAN: Final = "do it in `lifespan`, or await asyncio.to_thread(…)"
OVER_HTTP: Final = "use `router.session`, or another client that is awaited"
PROCESS: Final = "await asyncio.create_subprocess_exec(…) instead"

CALLS: Final[Mapping[str, Call]] = {
    "time.sleep": Call(Level.ERROR, "sleeps with time.sleep", "await asyncio.sleep(…) instead"),
    "socket.connect": Call(Level.ERROR, "connects a blocking socket", OVER_HTTP),
    "socket.getaddrinfo": Call(Level.ERROR, "looks up a host's address", OVER_HTTP),
    "socket.gethostbyname": Call(Level.ERROR, "looks up a host's address", OVER_HTTP),
    "subprocess.Popen": Call(Level.ERROR, "starts a process", PROCESS),
    "os.system": Call(Level.ERROR, "starts a shell", PROCESS),
    "sqlite3.connect": Call(Level.ERROR, "opens a database", "use `router.store`, or await asyncio.to_thread(…)"),
    "open": Call(Level.WARNING, "opens a file", IN_LIFESPAN),
    "os.listdir": Call(Level.WARNING, "lists a folder", IN_LIFESPAN),
    "os.scandir": Call(Level.WARNING, "lists a folder", IN_LIFESPAN),
    "os.mkdir": Call(Level.WARNING, "makes a folder", IN_LIFESPAN),
    "os.remove": Call(Level.WARNING, "removes a file", IN_LIFESPAN),
    "os.rename": Call(Level.WARNING, "renames a file", IN_LIFESPAN),
    "import": Call(Level.WARNING, "imports a module", "import it at the top, or in `lifespan` if it is heavy"),
}
"""Python's audit events of calls that block (that of sleeping is raised here), and `import` for what an import does."""

PASSED: Final = frozenset({"os.listdir", "os.scandir", "import"})
"""Of these nothing is left behind."""


class Blocked(PermissionError):
    """What code gets that is watched and wants to leave the process."""


@define(eq=False)
class BlockingListener:
    """What is heard of a package's code on one thread, and refused there and on the threads of a pool."""

    package: str
    pool: str
    thread: int = field(factory=threading.get_ident)
    doing: str | None = None
    """What the code is asked for now; None while it is nobody's turn."""
    refused: bool = False
    """Whether something was refused since this was last set to False."""
    seen: dict[tuple[str, str, str], Call] = field(factory=dict)
    """What blocks the thread, each once: what was asked for, the event, and the place."""

    def hear(self, event: str, args: tuple[Any, ...]) -> None:
        """Take note of an event; raises `Blocked` where it must not happen."""
        here = threading.get_ident() == self.thread and self.doing is not None
        if not here and not threading.current_thread().name.startswith(self.pool):
            return
        place, importing, awaited = self._asked_by()
        event = "import" if importing else event
        if here and place is not None and not awaited and not _at_once(event, args):
            self.seen.setdefault((str(self.doing), event, place), CALLS[event])
        if event in PASSED or (event == "open" and not _writes(args)):
            return
        self.refused = True
        raise Blocked(f"{event} is refused in a rehearsal")

    def _asked_by(self) -> tuple[str | None, bool, bool]:
        """The line of the package that led here, whether an import did, and whether asyncio takes care of it."""
        importing, awaited = False, False
        frame: FrameType | None = sys._getframe(3)
        while frame is not None:
            module = str(frame.f_globals.get("__name__", ""))
            if module != __name__ and module.partition(".")[0] == self.package:
                file = frame.f_code.co_filename.rpartition("/")[2]
                return f"{file}:{frame.f_lineno}", importing, awaited
            importing = importing or module.startswith("importlib.")
            awaited = awaited or module.startswith("asyncio.")
            frame = frame.f_back
        return None, importing, awaited


def _at_once(event: str, args: tuple[Any, ...]) -> bool:
    """Whether this one waits for nothing: it connects a socket that does not block."""
    return event == "socket.connect" and bool(args) and getattr(args[0], "gettimeout", lambda: None)() == 0


def _writes(args: tuple[Any, ...]) -> bool:
    mode = args[1] if len(args) > 1 else None
    return mode is None or any(sign in str(mode) for sign in "wax+")


_watches: list[BlockingListener] = []
_listening: list[bool] = []


def _audit(event: str, args: tuple[Any, ...]) -> None:
    if _watches and event in CALLS:
        for watch in tuple(_watches):
            watch.hear(event, args)


@contextmanager
def hearing_sleep() -> Iterator[None]:
    """Hear of sleeping on this thread, too; Python before 3.13 has no audit event of it. Slows all calls down."""

    def profile(_: FrameType, event: str, called: Any) -> None:
        if event == "c_call" and called is time.sleep:
            sys.audit("time.sleep")

    sys.setprofile(profile)
    try:
        yield
    finally:
        sys.setprofile(None)


@contextmanager
def watching(watch: BlockingListener) -> Iterator[BlockingListener]:
    """Let this watch hear; one whose code is still at something when the block ends goes on refusing."""
    if not _listening:
        _listening.append(True)  # an audit hook cannot be taken back, so there is one for all watches
        sys.addaudithook(_audit)
    _watches.append(watch)
    try:
        yield watch
    finally:
        if watch.doing is None:
            _watches.remove(watch)
