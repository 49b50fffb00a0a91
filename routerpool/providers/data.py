"""What is known of a provider: the YAML file beside its module, each fact with a date and a source.

Rosters, prices and limits change without notice. They are data, so that correcting them takes no programmer, and dated,
so that `doctor` can tell what is likely to be wrong by now.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal

from attrs import field, frozen

from routerpool.config.structure import structure
from routerpool.document import Problems, read
from routerpool.providers.failures import ErrorForm
from routerpool.refusals.resets import HeaderSpec
from routerpool.types import Pool, Prices, Tier

__all__ = ["DataPolicy", "Family", "ModelData", "Params", "ProviderData", "leave_out", "load_data"]

DataPolicy = Literal["unknown", "may_train", "no_training"]

SYNONYMS: Mapping[str, str] = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}
"""Two names of one thing: a default for the one is not wanted beside the other."""


@frozen(kw_only=True)
class ModelData:
    """A model as YAML tells it, in a data file or in a user's `models:` list."""

    id: str = field(metadata={"help": "the provider's own name of the model"})
    name: str | None = field(default=None, metadata={"help": "a name for people"})
    context: int | None = field(default=None, metadata={"help": "context window in tokens"})
    max_output: int | None = field(default=None, metadata={"help": "most tokens of one answer"})
    tier: Tier | None = field(default=None, metadata={"help": "strength class"})
    rank: int | None = field(default=None, metadata={"help": "order by strength, lower is stronger"})
    tags: tuple[str, ...] = field(default=(), metadata={"help": "free words for strategies"})
    capabilities: dict[str, bool] = field(factory=dict, metadata={"help": "claims: tools, vision, json_schema, …"})
    free: bool | None = field(default=None, metadata={"help": "whether it costs nothing on this account"})
    local: bool | None = field(default=None, metadata={"help": "whether prompts stay on this machine"})
    prices: Prices | None = field(default=None, metadata={"help": "US dollars per million tokens"})
    data_policy: DataPolicy | None = field(default=None, metadata={"help": "what the provider may do with prompts"})
    settings: dict[str, Any] = field(factory=dict, metadata={"help": "sections of other plugins, by plugin name"})


@frozen(kw_only=True)
class Params:
    """What a provider wants otherwise than OpenAI does, of the fields beside `model` and `messages`.

    `rename` gives a field another name, `drop` leaves it out, `most` cuts a number to what is allowed, `allowed` leaves
    a field out whose value is none of these, `default` adds what is not there. They apply in this order.
    """

    rename: dict[str, str] = field(factory=dict)
    drop: tuple[str, ...] = ()
    most: dict[str, float] = field(factory=dict)
    allowed: dict[str, tuple[str | int | float | bool, ...]] = field(factory=dict)
    default: dict[str, Any] = field(factory=dict)

    def apply(self, body: dict[str, Any]) -> None:
        """Change a body in place."""
        for old, new in self.rename.items():
            if old in body:
                value = body.pop(old)
                body.setdefault(new, value)
        for name in self.drop:
            body.pop(name, None)
        for name, most in self.most.items():
            value = body.get(name)
            if isinstance(value, (int, float)) and value > most:
                body[name] = type(value)(most)
        for name, values in self.allowed.items():
            if name in body and body[name] not in values:
                del body[name]
        for name, value in self.default.items():
            if name not in body and SYNONYMS.get(name) not in body:
                body[name] = value


def leave_out(body: dict[str, Any], refused: frozenset[str]) -> None:
    """Take out of a body what its provider has refused, a message's fields too; the messages of the request stay.

    Of the two names of the cap the other one is sent, of the role `developer` the older one.
    """
    for name in refused:
        if name in SYNONYMS and name in body:
            body.setdefault(SYNONYMS[name], body[name])
        body.pop(name, None)
    messages = []
    for message in body["messages"]:
        if not refused.isdisjoint(message):
            message = {name: value for name, value in message.items() if name not in refused}
        if "developer" in refused and message.get("role") == "developer":
            message = {**message, "role": "system"}
        messages.append(message)
    body["messages"] = messages


@frozen(kw_only=True)
class Family:
    """What holds for every model whose id fits one of these globs, such as `*:free`, listed in the roster or not."""

    models: tuple[str, ...]
    free: bool | None = None
    data_policy: DataPolicy | None = None
    capabilities: dict[str, bool] = field(factory=dict)
    tags: tuple[str, ...] = ()

    def holds(self, model_id: str) -> bool:
        """Whether a model is one of it."""
        return any(fnmatchcase(model_id, glob) for glob in self.models)


@frozen(kw_only=True)
class ProviderData:
    """What is known of a provider. `date` and `source` stand for everything that does not name its own.

    `models_at` is where its list of models is, relative to `base_url`: `models`, or `../catalog/models`; without it the
    roster alone counts. `prices_as` is the name by which price lists know it, `free_tier` a sentence for people.
    `first_event_seconds` is for those that think longer than `limits.first_event_seconds` before they say a word,
    `session_header` the name of a header by which one keeps a conversation together, for its cache.
    """

    title: str = ""
    base_url: str | None = None
    api_key_env: tuple[str, ...] = ()
    key_page: str = ""
    terms: str = ""
    free_tier: str = ""
    local: bool = False
    free: bool = False
    experimental: bool = False
    data_policy: DataPolicy = "unknown"
    headers: dict[str, str] = field(factory=dict)
    models_at: str | None = None
    prices_as: str | None = None
    models: tuple[ModelData, ...] = ()
    families: tuple[Family, ...] = ()
    pools: tuple[Pool, ...] = ()
    first_event_seconds: float | None = None
    session_header: str | None = None
    resets: tuple[HeaderSpec, ...] = ()
    errors: tuple[ErrorForm, ...] = ()
    params: Params = Params()
    date: str = ""
    source: str = ""


def load_data(owner: type, name: str) -> ProviderData:
    """The data file `name` beside the module of `owner`; a defect in it is a ConfigError with its line."""
    path = Path(inspect.getfile(owner)).with_name(name)
    document = read(path)
    problems = Problems(document)
    data = structure(document.tree, ProviderData, (), problems)
    problems.raise_if_any()
    return data or ProviderData()
