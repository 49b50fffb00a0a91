"""All that is taken from LiteLLM itself, in one place, since none of it has types that hold from release to release."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import openai

from routerpool import RequestError, RouterpoolError

if TYPE_CHECKING:

    class CustomLogger:
        """LiteLLM's base of callbacks."""

    class CustomGuardrail(CustomLogger):
        """LiteLLM's base of guardrails."""

        guardrail_name: str | None

        def __init__(self, **options: Any) -> None: ...

    class CustomLLM:
        """LiteLLM's base of providers that somebody else writes."""

    class CustomRoutingStrategyBase:
        """LiteLLM's base of strategies that choose the deployment."""

else:
    from litellm.integrations.custom_guardrail import CustomGuardrail
    from litellm.integrations.custom_logger import CustomLogger
    from litellm.llms.custom_llm import CustomLLM
    from litellm.types.router import CustomRoutingStrategyBase

__all__ = [
    "CustomGuardrail",
    "CustomLLM",
    "CustomLogger",
    "CustomRoutingStrategyBase",
    "Refused",
    "all_metadata",
    "at_shutdown",
    "chunk_of",
    "config_folder",
    "deployments_of",
    "healthy",
    "internal",
    "last_chunk",
    "metadata_of",
    "originally",
    "originally_at_once",
    "proxy_router",
    "refusing",
    "response_of",
    "take_over",
]

PROXY = "litellm.proxy.proxy_server"
BUCKETS = ("litellm_metadata", "metadata")
"""Where LiteLLM keeps what it knows of a request; the first that is there is the one it writes to."""


class Refused(Exception):  # it is told to clients, through LiteLLM's own error form
    """A refusal as LiteLLM's proxy reads exceptions: its status, and the fields of OpenAI's error object."""

    def __init__(self, status: int, told: Mapping[str, Any]) -> None:
        self.status_code = status
        self.message = str(told.get("message") or "the request was refused")
        self.type = told.get("type")
        self.param = told.get("param")
        self.code = told.get("code")
        Exception.__init__(self, self.message)

    @classmethod
    def of(cls, error: RequestError) -> Refused:
        """One of ours. LiteLLM tells the status in the place of the code, so the message tells that."""
        kind = Forbidden if error.status == 403 else cls
        return kind(error.status, {**error.body()["error"], "message": f"{error.message} ({error.code})"})


class Forbidden(Refused, openai.PermissionDeniedError):  # type: ignore[misc]
    """One that LiteLLM does not try again after a pause: it knows that by the class."""


@contextmanager
def refusing() -> Iterator[None]:
    """Tell our refusals in LiteLLM's form. What is wrong with the configuration is told to its log only."""
    try:
        yield
    except RequestError as error:
        raise Refused.of(error) from None
    except RouterpoolError:
        message = "routerpool could not start inside LiteLLM; its log says why"
        raise Refused.of(RequestError("internal_error", message)) from None


def proxy_router() -> Any:
    """The router of the LiteLLM proxy that runs in this process; None where there is none."""
    return getattr(sys.modules.get(PROXY), "llm_router", None)


def config_folder() -> Path | None:
    """The folder of the proxy's `config.yaml`; None where it was started without one."""
    path = getattr(sys.modules.get(PROXY), "user_config_file_path", None)
    return Path(path).absolute().parent if isinstance(path, str) and path else None


def deployments_of(router: Any) -> list[Mapping[str, Any]]:
    """What a router of LiteLLM's may ask, each as its `model_name`, `litellm_params` and `model_info`."""
    registry = getattr(router, "registry", None)  # since 1.109; before that, a plain list
    found = registry().all() if callable(registry) else getattr(router, "model_list", None)
    return [known for entry in found or () if (known := _mapping(entry)) is not None]


def _mapping(entry: Any) -> Mapping[str, Any] | None:
    if isinstance(entry, Mapping):
        return entry
    dumped = getattr(entry, "model_dump", None)
    return dumped() if callable(dumped) else None


def at_shutdown(stop: Callable[[], Awaitable[None]]) -> None:
    """Have the proxy call `stop` when it shuts down.

    LiteLLM asks nobody at its end, so its own function for that is wrapped. Where a release has none of that name, the
    end of the loop must do, which uvicorn grants only when it is not ended by a signal.
    """
    module = sys.modules.get(PROXY)
    before = getattr(module, "proxy_shutdown_event", None)
    if before is None:
        return

    async def ended(*told: Any, **named: Any) -> Any:
        try:
            await stop()
        finally:
            await before(*told, **named)

    setattr(module, "proxy_shutdown_event", ended)  # noqa: B010 - a plain assignment wants a type for the module


def take_over(router: Any, strategy: CustomRoutingStrategyBase) -> None:
    """Have a router of LiteLLM's ask `strategy` for the deployment of every request."""
    register = getattr(router, "register_plugin", None) or router.set_custom_routing_strategy
    register(strategy)


async def healthy(router: Any, model: str, request: dict[str, Any], **told: Any) -> Any:
    """The entries that a router of LiteLLM's would choose from now; a mapping where only that one is meant."""
    if hasattr(router, "select"):  # since 1.109
        return await router.select(model, request, kind="healthy", **told)
    return await router.async_get_healthy_deployments(model=model, request_kwargs=request, **told)


async def originally(router: Any, model: str, request: dict[str, Any], **told: Any) -> Any:
    """The entry that a router of LiteLLM's chooses by itself, when a strategy of ours has taken it over."""
    untaken = _untaken(router)
    choose = getattr(untaken, "select", None) or untaken.async_get_available_deployment
    return await choose(model=model, request_kwargs=request, **told)


def originally_at_once(router: Any, *positional: Any, **told: Any) -> Any:
    """The same, without waiting for anybody."""
    return _untaken(router).get_available_deployment(*positional, **told)


def _untaken(router: Any) -> Any:
    """What chooses in a router of LiteLLM's, as if nobody had taken that over.

    Since 1.109 a router keeps it in a core, and since 1.110 that asks the strategy even where the strategy itself has
    asked, as if whoever takes a router over did all of its work. So this is a copy of the core for one call, which
    shares everything with it but the strategy.
    """
    core = vars(router).get("_core", router)
    copied = object.__new__(type(core))
    vars(copied).update((name, value) for name, value in vars(core).items() if name not in TAKEN_OVER)
    if "_custom_strategy" in vars(core):
        vars(copied)["_custom_strategy"] = None
    return copied


TAKEN_OVER = frozenset(
    {"get_available_deployment", "async_get_available_deployment", "_core_async_get_available_deployment"}
)
"""What LiteLLM, before and in 1.109, puts into a router for a strategy."""


def metadata_of(request: Mapping[str, Any]) -> dict[str, Any]:
    """What LiteLLM keeps of a request, to be read and written; an empty one where it keeps nothing."""
    for name in BUCKETS:
        if isinstance(kept := request.get(name), dict):
            return kept
    return {}


def all_metadata(request: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Both places, since LiteLLM moves things from one to the other between its hooks."""
    for name in BUCKETS:
        if isinstance(kept := request.get(name), dict):
            yield kept


# Answers


def response_of(answer: Mapping[str, Any]) -> Any:
    """A chat completion as LiteLLM's object."""
    from litellm.types.utils import ModelResponse

    return ModelResponse(**answer)


def chunk_of(event: Mapping[str, Any]) -> Any:
    """A chunk of a stream as LiteLLM's object."""
    from litellm.types.utils import ModelResponseStream

    return ModelResponseStream(**event)


def last_chunk(finish_reason: str, usage: Mapping[str, Any] | None) -> Any:
    """The end of a stream: LiteLLM takes the usage from this form only."""
    end = {"text": "", "is_finished": True, "finish_reason": finish_reason, "usage": usage}
    return {**end, "index": 0, "tool_use": None}


# Requests


def internal(name: str) -> bool:
    """Whether an argument is LiteLLM's own, and no part of what a model is told."""
    from litellm.types.utils import all_litellm_params

    return name in all_litellm_params or name.startswith(INTERNAL) or name in HANDLED


INTERNAL = ("litellm_", "_", "user_api_key")
HANDLED = frozenset(
    {"metadata", "user_api_key_dict", "cache_control_injection_points", "deployment", "specific_deployment"}
)
