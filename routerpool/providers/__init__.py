"""The way to a provider: what is known of it, how it is asked, and what its failures mean.

In: an attempt and its request. Out: an answer that has begun, to be read in bounded steps, or a `Failure`.

`openai` is the class that most providers derive from. What holds for one comes from `data`, the YAML file beside it,
and `settings`, which lays class, section and environment over that; `roster` is which models it has, `checkup` what
doctor says of it. `connection` and `replies` are the socket, `failures` tells a failure's kind by status, headers and
words, and `resets` when a limit ends, in all the ways in which providers say so.
"""

from routerpool.providers.connection import PreparedPost
from routerpool.providers.data import DataPolicy, ModelData
from routerpool.providers.failures import ErrorForm, failure_of_answer
from routerpool.providers.openai import OpenAIProvider, Outgoing
from routerpool.providers.replies import HttpReply, ReadReply, read_all
from routerpool.providers.resets import PACIFIC, until_midnight, zone
from routerpool.providers.settings import ProviderConfig, Settings

__all__ = [
    "PACIFIC",
    "DataPolicy",
    "ErrorForm",
    "HttpReply",
    "ModelData",
    "OpenAIProvider",
    "Outgoing",
    "PreparedPost",
    "ProviderConfig",
    "ReadReply",
    "Settings",
    "failure_of_answer",
    "read_all",
    "until_midnight",
    "zone",
]
