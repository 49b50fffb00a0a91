"""The server as a process of its own: the socket, the loop, signals, draining, and workers that share a port.

In: a router, and how to make its next generation. Out: requests served until a signal says that it is enough.

`standalone` serves in this process, `connections` bounds those of its clients, `written` makes plain answers, and
`workers` is the supervisor of several. None of it runs where a router is mounted into somebody else's application.
"""

from routerpool.process.standalone import ListenError, serve
from routerpool.process.workers import supervise

__all__ = ["ListenError", "serve", "supervise"]
