"""The way to a provider: what is known of it, how it is asked, and what its failures mean.

In: an attempt and its request. Out: an answer that has begun, to be read in bounded steps, or a `Failure`.

`openai` is the class that most providers derive from. What holds for one comes from `data`, the YAML file beside it,
and `settings`, which lays class, section and environment over that; `surroundings` is what people write around an
address or a key, proxies and certificates. `roster` is which models it has, `checkup` what doctor says of it.
`connection` and `replies` are the socket, `forms` what a body is by its bytes, and `failures` tells a failure's kind by
status, headers and words.
"""

from routerpool.providers.connection import PreparedPost
from routerpool.providers.data import DataPolicy, ModelData
from routerpool.providers.failures import ErrorForm, failure_of_answer
from routerpool.providers.openai import OpenAIProvider, Outgoing
from routerpool.providers.replies import HttpReply, NotListedError, ReadReply, begun, read_all
from routerpool.providers.roster import entries_of
from routerpool.providers.settings import ProviderConfig, Settings
from routerpool.refusals.resets import PACIFIC, until_midnight, zone

__all__ = [
    "PACIFIC",
    "DataPolicy",
    "ErrorForm",
    "HttpReply",
    "ModelData",
    "NotListedError",
    "OpenAIProvider",
    "Outgoing",
    "PreparedPost",
    "ProviderConfig",
    "ReadReply",
    "Settings",
    "begun",
    "entries_of",
    "failure_of_answer",
    "read_all",
    "until_midnight",
    "zone",
]
