"""The whole router as one of LiteLLM's providers: `routerpool/<profile>`, or `routerpool/<provider>/<model>`.

    model_list:
      - model_name: auto
        litellm_params: {model: routerpool/auto}
    litellm_settings:
      custom_provider_map:
        - {provider: routerpool, custom_handler: routerpool_litellm.llm.handler}

Everything works as in routerpool itself, since it does the asking: every plugin, streams, fallbacks within one plan.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from typing import Any, TypeAlias

from routerpool import AnswerError, Caller, Router
from routerpool_litellm.asked import caller_of, headers_of
from routerpool_litellm.home import home
from routerpool_litellm.host import CustomLLM, Refused, chunk_of, last_chunk, refusing, response_of

__all__ = ["Provider", "handler"]

LITELLMS_OWN = frozenset({"max_retries", "extra_headers", "stream", "stream_options", "client"})
"""Arguments that LiteLLM adds for other providers, or that are ours to say."""


class Provider(CustomLLM):
    """The asynchronous half of LiteLLM's interface: the router lives on LiteLLM's loop, and knows no other."""

    async def acompletion(self, model: str, messages: list[Any], **told: Any) -> Any:
        """A whole answer."""
        with refusing():
            residence = await home()
            async with residence.visit() as router:
                body, caller, headers = _asked(router, model, messages, told)
                try:
                    answer = await router.chat(body, caller, headers=headers)
                except AnswerError as error:
                    raise _passed_on(error) from None
                return response_of(answer)

    async def astreaming(self, model: str, messages: list[Any], **told: Any) -> AsyncIterator[Any]:
        """The chunks of an answer; the last one holds why it ended and what it took."""
        with refusing():
            residence = await home()
            async with residence.visit() as router:
                body, caller, headers = _asked(router, model, messages, told)
                body["stream_options"] = {"include_usage": True}
                finish: str | None = None
                usage: Mapping[str, Any] | None = None
                async with aclosing(router.stream(body, caller, headers=headers)) as events:
                    async for event in events:
                        usage = event.get("usage") or usage
                        for choice in event.get("choices") or ():
                            finish = choice.get("finish_reason") or finish
                        if any(_says_something(choice) for choice in event.get("choices") or ()):
                            yield chunk_of(_unfinished(event))
                yield last_chunk(finish or "stop", usage)


handler = Provider()

Headers: TypeAlias = list[tuple[str, str]]


def _asked(
    router: Router, model: str, messages: list[Any], told: Mapping[str, Any]
) -> tuple[dict[str, Any], Caller, Headers]:
    options = dict(told.get("optional_params") or {})
    options |= options.pop("extra_body", None) or {}
    kept = told.get("litellm_params") or {}
    body = {name: value for name, value in options.items() if name not in LITELLMS_OWN}
    body["model"] = f"routerpool/{model}" if model in router.config.profiles else model
    body["messages"] = messages
    return body, caller_of(kept), headers_of(kept)


def _passed_on(error: AnswerError) -> Refused:
    """A provider's own refusal of the request, with its status."""
    told = error.body.get("error") if isinstance(error.body, dict) else None
    return Refused(error.status, told if isinstance(told, dict) else {"message": str(error)})


def _says_something(choice: Mapping[str, Any]) -> bool:
    delta = choice.get("delta") or {}
    return any(value for name, value in delta.items() if name != "role")


def _unfinished(event: Mapping[str, Any]) -> dict[str, Any]:
    choices = [{**choice, "finish_reason": None} for choice in event["choices"]]
    return {**event, "choices": choices, "usage": None}
