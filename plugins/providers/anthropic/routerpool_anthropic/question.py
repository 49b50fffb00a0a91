"""The way there: a chat-completions body becomes the body of a Messages request.

Only fields that the Messages API knows are sent, for it answers an unknown one with a 400. Its own fields (`thinking`,
`top_k`, `cache_control`, …) pass as they are; `logprobs`, `seed`, the penalties and the like have no counterpart and
are left out, as Anthropic's own compatible endpoint does. What would change the meaning of the request, such as an
audio part or a second choice, is `Untranslatable`: another candidate may be able to do it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from attrs import field, frozen

from routerpool import Model
from routerpool_anthropic.schema import closed
from routerpool_anthropic.turns import Untranslatable, turns

__all__ = ["Untranslatable", "Ways", "question"]

MAX_TOKENS = 4096
"""What is asked for where neither the client nor the roster says a number: every model allows as many."""

NATIVE = (
    "cache_control",
    "container",
    "context_management",
    "diagnostics",
    "inference_geo",
    "mcp_servers",
    "output_config",
    "speed",
    "stream",
    "temperature",
    "thinking",
    "top_k",
    "top_p",
)
"""Fields that both sides call the same, or that only Anthropic has."""

SAMPLING = ("temperature", "top_p", "top_k")
BUDGETS: Mapping[str, int] = {"minimal": 1024, "low": 1024, "medium": 4096, "high": 16384, "xhigh": 16384, "max": 16384}
"""Tokens of thinking for a `reasoning_effort`, for models that are told a number; 1,024 is the least they take."""

LEVELS: Mapping[str, str] = {"minimal": "low", "low": "low", "medium": "medium", "high": "high", "xhigh": "xhigh"}
TIERS: Mapping[str, str] = {"auto": "auto", "default": "standard_only", "standard_only": "standard_only"}
JSON_ONLY = "Answer with a single JSON object and nothing else: no introduction, no code fence."
"""The Messages API has no mode for JSON of any shape; this is what takes the place of `json_object`."""


@frozen(kw_only=True)
class Ways:
    """How a model wants to be asked: the section `settings: {anthropic: …}` of a model.

    `thinking` is what it takes: a `budget` in tokens, `adaptive`, or `always` where it cannot be switched off. `xhigh`
    says that it knows that effort, `sampling` whether it takes temperature and its kin, `forced_tools` whether a
    `tool_choice` may insist on a call.
    """

    thinking: Literal["budget", "adaptive", "always"] = field(default="adaptive")
    xhigh: bool = False
    sampling: bool = True
    forced_tools: bool = True

    @classmethod
    def of(cls, model: Model) -> Ways:
        """What is known of a model; of an unknown one it is assumed that it is a new one that takes everything."""
        return cls(**model.settings.get("anthropic", {}))


def question(body: Mapping[str, Any], model: Model) -> dict[str, Any]:
    """The Messages request that asks what a chat-completions body asks; `Untranslatable` where none does."""
    _refuse_what_it_cannot(body)
    ways = Ways.of(model)
    system, messages = turns(body["messages"])
    asked: dict[str, Any] = {"model": body["model"], "messages": messages, "max_tokens": _cap(body, model)}
    asked |= {name: body[name] for name in NATIVE if body.get(name) is not None}
    tools = [_tool(tool) for tool in body.get("tools") or ()]
    if tools:
        asked["tools"] = tools
        choice = _choice(body.get("tool_choice"), body.get("parallel_tool_calls"))
        if choice is not None:
            asked["tool_choice"] = choice
    elif names := _called(messages):  # a history with tool calls is refused where no tool is declared
        asked["tools"] = [{"name": name, "input_schema": {"type": "object"}} for name in names]
        asked["tool_choice"] = {"type": "none"}
    stops = [body["stop"]] if isinstance(body.get("stop"), str) else body.get("stop") or ()
    if stops := [stop for stop in stops if isinstance(stop, str) and stop.strip()]:
        asked["stop_sequences"] = stops
    if (user := _user(body)) is not None:
        asked["metadata"] = {"user_id": user}
    if (tier := TIERS.get(str(body.get("service_tier")))) is not None:
        asked["service_tier"] = tier
    _shape(asked, body.get("response_format"), system)
    if system:
        asked["system"] = system if any(len(block) > 2 for block in system) else _joined(system)
    _think(asked, body.get("reasoning_effort"), ways)
    _sample(asked, ways)
    return asked


def _refuse_what_it_cannot(body: Mapping[str, Any]) -> None:
    count = body.get("n")
    if isinstance(count, int) and count > 1:
        raise Untranslatable("more than one choice")
    if body.get("functions"):
        raise Untranslatable("`functions`, the older form of `tools`")
    if "audio" in (body.get("modalities") or ()):
        raise Untranslatable("an answer as audio")


def _cap(body: Mapping[str, Any], model: Model) -> int:
    """The most tokens of the answer; the Messages API wants the number, and refuses one beyond the model's own."""
    asked = body.get("max_completion_tokens") or body.get("max_tokens")
    if not isinstance(asked, int):
        return model.max_output or MAX_TOKENS
    return min(asked, model.max_output or asked)


def _joined(system: Sequence[Mapping[str, Any]]) -> str:
    return "\n\n".join(block["text"] for block in system)


# Tools


def _tool(tool: Any) -> dict[str, Any]:
    """A function as Anthropic declares it; its own tools pass as they are."""
    if not isinstance(tool, dict):
        raise Untranslatable("a tool that is no object")
    kind, function = str(tool.get("type")), tool.get("function")
    if not isinstance(function, dict):
        if kind in ("web_search", "web_search_preview"):
            return {"type": "web_search_20250305", "name": "web_search"}
        if "input_schema" in tool or ("name" in tool and kind not in ("function", "custom", "namespace")):
            return dict(tool)
        raise Untranslatable(f"a tool of the type {kind!r}")
    parameters = function.get("parameters") or {"type": "object", "properties": {}}
    declared = {"name": function.get("name"), "input_schema": {"type": "object", **parameters}}
    if function.get("description"):
        declared["description"] = function["description"]
    if function.get("strict"):
        declared |= {"strict": True, "input_schema": closed(declared["input_schema"])}
    cached = tool.get("cache_control") or function.get("cache_control")
    return declared | ({"cache_control": cached} if cached else {})


def _choice(choice: Any, parallel: Any) -> dict[str, Any] | None:
    """The `tool_choice` of Anthropic, in which the wish for one call at a time stands too."""
    named = choice.get("function") if isinstance(choice, dict) else None
    if isinstance(named, dict):
        chosen = {"type": "tool", "name": named.get("name")}
    elif isinstance(choice, dict) and choice.get("type") in ("auto", "any", "tool", "none"):
        chosen = dict(choice)
    elif choice in ("none", "auto", "required"):
        chosen = {"type": {"required": "any"}.get(choice, choice)}
    elif choice is None:
        chosen = {"type": "auto"}
    else:
        raise Untranslatable("this form of `tool_choice`")
    if parallel is False and chosen["type"] != "none":
        chosen["disable_parallel_tool_use"] = True
    return None if chosen == {"type": "auto"} else chosen


def _called(messages: Sequence[Mapping[str, Any]]) -> list[str]:
    blocks = [b for message in messages if isinstance(message["content"], list) for b in message["content"]]
    return list(dict.fromkeys(block["name"] for block in blocks if block.get("type") == "tool_use"))


# What the answer shall be like


def _user(body: Mapping[str, Any]) -> str | None:
    """The end user's id, the one thing that the Messages API takes of `metadata`."""
    told = body.get("metadata")
    told = told.get("user_id") if isinstance(told, dict) else None
    user = told or body.get("safety_identifier") or body.get("user")
    return user if isinstance(user, str) else None


def _shape(asked: dict[str, Any], form: Any, system: list[dict[str, Any]]) -> None:
    """Ask for JSON: of a schema by `output_config`, of any shape by words."""
    kind = form.get("type") if isinstance(form, dict) else None
    if kind == "json_object":
        system.append({"type": "text", "text": JSON_ONLY})
    elif kind == "json_schema":
        told = form.get("json_schema")
        schema = told.get("schema") if isinstance(told, dict) else None
        if not isinstance(schema, dict):
            raise Untranslatable("a `json_schema` without a schema")
        format_ = {"type": "json_schema", "schema": closed(schema)}
        asked["output_config"] = {**asked.get("output_config", {}), "format": format_}


def _think(asked: dict[str, Any], effort: Any, ways: Ways) -> None:
    """Turn `reasoning_effort` into thinking, unless the client has said in Anthropic's own words how to think."""
    forced = asked.get("tool_choice", {}).get("type") in ("any", "tool")
    if forced and not ways.forced_tools:
        raise Untranslatable("a `tool_choice` that insists on a call, of a model that cannot be forced")
    if "thinking" in asked or not isinstance(effort, str):
        return
    if effort == "none":
        if ways.thinking == "adaptive":
            asked["thinking"] = {"type": "disabled"}
    elif ways.thinking == "budget":
        budget = min(BUDGETS.get(effort, 4096), asked["max_tokens"] - 1)
        if budget >= BUDGETS["low"] and not forced:
            asked["thinking"] = {"type": "enabled", "budget_tokens": budget}
    else:
        level = LEVELS.get(effort, "high")
        level = "high" if level == "xhigh" and not ways.xhigh else level
        asked["output_config"] = {"effort": level, **asked.get("output_config", {})}
        if not forced:
            asked["thinking"] = {"type": "adaptive"}


def _sample(asked: dict[str, Any], ways: Ways) -> None:
    """Leave out what the model refuses: all sampling where it thinks or takes none, `top_p` beside a temperature."""
    thinks = asked.get("thinking", {}).get("type") in ("enabled", "adaptive")
    if thinks or not ways.sampling:
        for name in SAMPLING:
            asked.pop(name, None)
    elif "temperature" in asked:
        asked.pop("top_p", None)
