"""The chat-completions format, both ways: pure functions over bytes and parsed JSON.

In from a client: a body and its headers become a `ChatRequest` (`request`) with its `hints`. Out to a provider: the
body that is sent. In from a provider: one answer as a stream and back (`bodies`), events (`sse`), what they and whole
answers say (`answers`, `choices`, `calls`), errors in every wrapping (`errors`), usage in every spelling (`usage`), and
a stream from its first event to its visible end (`stream`, and `template` for chunks that are only compared). `json`
parses within bounds; `mask` takes a provider's own key out of what it says.

Nothing here knows a network, a provider or a policy. What other dialects need, their plugins translate to this one.
"""

from routerpool.wire.errors import read_error
from routerpool.wire.hints import read_hints
from routerpool.wire.json import EVENT_VALUES, dumps, event_bytes, loads, loads_answer, parsed
from routerpool.wire.request import new_id, parse_chat, sent_body, serialised, session_of
from routerpool.wire.sse import DONE, Cutter, event_data, split_events
from routerpool.wire.stream import State, Stream
from routerpool.wire.usage import read_usage

__all__ = [
    "DONE",
    "EVENT_VALUES",
    "Cutter",
    "State",
    "Stream",
    "dumps",
    "event_bytes",
    "event_data",
    "loads",
    "loads_answer",
    "new_id",
    "parse_chat",
    "parsed",
    "read_error",
    "read_hints",
    "read_usage",
    "sent_body",
    "serialised",
    "session_of",
    "split_events",
]
