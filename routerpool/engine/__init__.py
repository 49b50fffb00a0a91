"""One request carried out: admitted, attempted, answered, recorded.

In: a plan, and a `Sink` for what goes to the client. Out: one answer or one error in the sink, and one record.

`admission` lets a bounded number in and `load` a bounded number of bytes, `run` makes the attempts one after the other,
`exchange` is one of them at the socket, `rewriting` passes answers through plugins, `deadline` is the one timer,
`limits` how long an attempt may take, `journey` holds what they share, `record` is what is remembered, and
`failure_log` tells once what fails at providers. `handover` is the same for hosts that forward requests themselves, and
`sinks` are those that stay in this process.
"""

from routerpool.engine.handover import Assignment, Handover
from routerpool.engine.sinks import EventSink, PlainSink, Served, Sink

__all__ = ["Assignment", "EventSink", "Handover", "PlainSink", "Served", "Sink"]
