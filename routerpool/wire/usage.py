"""Usage in every spelling: the tokens that an answer or an event reports."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from routerpool.types import Usage

__all__ = ["read_usage"]

MOST_TOKENS = 1 << 40
"""No answer has as many tokens: a larger number is a defect, and would ruin every sum it joins."""

USD_TICKS = 1e10
"""xAI states what an answer costs in ticks of this part of a dollar."""


def read_usage(body: Any) -> Usage | None:
    """The usage that an answer or an event reports, in any of the spellings; None when it reports none.

    OpenAI's `prompt_tokens` counts cached tokens in, Anthropic's `input_tokens` leaves cached and written ones out.
    A usage without a single token is none: providers fill it with zeros, or with -1, where they do not count.
    """
    if not isinstance(body, dict):
        return None
    raw = body.get("usage")
    if not isinstance(raw, dict):
        if "choices" in body and "x_groq" not in body and "timings" not in body:
            raw = _usage_in_choice(body["choices"])
        else:
            raw = _usage_elsewhere(body)
        if raw is None:
            return None
    if "prompt_tokens" not in raw:
        return _read_input_tokens(raw)
    prompt, output = _count(raw, "prompt_tokens"), _count(raw, "completion_tokens")
    details, spent = raw.get("prompt_tokens_details"), raw.get("completion_tokens_details")
    cached = written = long_written = 0
    cost = None
    if len(raw) > 3 + (details is not None) + (spent is not None):  # more than OpenAI's own fields
        cached, written, long_written = _cache_counts(raw, details)
        cost = _stated_cost(raw)
    elif type(details) is dict:
        cached = _count(details, "cached_tokens")
        written = _count(details, "cache_write_tokens") if "cache_write_tokens" in details else 0
    if not cached and "timings" in body:
        cached = _llamacpp_cached(body["timings"])
    reasoning = _reasoning(spent) if spent else 0
    kept = cached + written + long_written
    total = raw.get("total_tokens")
    if type(total) is int and total > prompt + output:
        prompt, output, reasoning = _completed(prompt, output, reasoning, kept, min(total, MOST_TOKENS))
    if not (prompt or output):
        return None
    return Usage(
        input_uncached=prompt - kept if prompt > kept else 0,
        input_cached=cached,
        cache_write=written,
        cache_write_1h=long_written,
        output=output,
        reasoning=reasoning,
        cost=cost,
        source="reported",
    )


def _completed(prompt: int, output: int, reasoning: int, kept: int, total: int) -> tuple[int, int, int]:
    """Prompt, output and reasoning, where the total is more than the first two: something is not in either."""
    over = total - prompt - output
    if not prompt:
        return over, output, reasoning
    if not output:
        return prompt, over, reasoning
    if over == kept:  # a translator of Anthropic's format, whose prompt leaves out what the cache had or got
        return prompt + kept, output, reasoning
    if not reasoning or over == reasoning:  # Gemini and xAI leave the reasoning out of the output, and bill it as such
        return prompt, output + over, over
    return prompt, output, reasoning


def _read_input_tokens(raw: Mapping[str, Any]) -> Usage | None:
    """The usage of Anthropic's Messages and of OpenAI's Responses, whose names are alike and mean different things."""
    prompt, output = _count(raw, "input_tokens"), _count(raw, "output_tokens")
    details = raw.get("input_tokens_details")
    cached, written, long_written = _cache_counts(raw, details)
    if not (prompt or output or cached or written or long_written):
        return None
    kept = cached + written + long_written if isinstance(details, dict) else 0
    return Usage(
        input_uncached=max(prompt - kept, 0),
        input_cached=cached,
        cache_write=written,
        cache_write_1h=long_written,
        output=output,
        reasoning=_reasoning(raw.get("output_tokens_details")),
        cost=_stated_cost(raw),
        source="reported",
    )


def _usage_elsewhere(body: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The usage of a body that has none under `usage`, in one of the known forms."""
    for holder in ("x_groq", "message", "response"):  # Groq; Anthropic's first event; the Responses format's last
        inner = body.get(holder)
        if isinstance(inner, dict) and isinstance(inner.get("usage"), dict):
            found: Mapping[str, Any] = inner["usage"]
            return found
    timings = body.get("timings")
    if isinstance(timings, dict):
        cached = _llamacpp_cached(timings)
        prompt, output = _count(timings, "prompt_n") + cached, _count(timings, "predicted_n")
        details = {"cached_tokens": cached}
        return {"prompt_tokens": prompt, "completion_tokens": output, "prompt_tokens_details": details, "timings": 1}
    if "eval_count" in body or "prompt_eval_count" in body:  # Ollama's own format
        return {"prompt_tokens": body.get("prompt_eval_count"), "completion_tokens": body.get("eval_count")}
    return None


def _usage_in_choice(choices: Any) -> Mapping[str, Any] | None:
    """The usage that stands in a choice, as Moonshot writes it."""
    for choice in choices if isinstance(choices, list) else ():
        usage = choice.get("usage") if isinstance(choice, dict) else None
        if isinstance(usage, dict):
            return usage
    return None


def _cache_counts(raw: Mapping[str, Any], details: Any) -> tuple[int, int, int]:
    """Tokens read from a cache, written to one for five minutes, and written for an hour."""
    details = details if isinstance(details, dict) else {}
    cached = (
        _count(details, "cached_tokens")
        or _count(raw, "prompt_cache_hit_tokens")
        or _count(raw, "cache_read_input_tokens")
        or _count(raw, "cached_tokens")
    )
    written = _count(raw, "cache_creation_input_tokens") or _count(details, "cache_write_tokens")
    by_time = raw.get("cache_creation")
    if not isinstance(by_time, dict):
        return cached, written, 0
    hour = _count(by_time, "ephemeral_1h_input_tokens")
    short = _count(by_time, "ephemeral_5m_input_tokens")
    return cached, max(written - hour, short), hour


def _reasoning(details: Any) -> int:
    if not isinstance(details, dict):
        return 0
    return _count(details, "reasoning_tokens") or _count(details, "thinking_tokens")


def _llamacpp_cached(timings: Any) -> int:
    return _count(timings, "cache_n") if isinstance(timings, dict) else 0


def _stated_cost(raw: Mapping[str, Any]) -> float | None:
    """What the provider says that it takes, in US dollars; with a key of the user's own at another provider, both."""
    ticks = raw.get("cost_in_usd_ticks")
    cost = _dollars(raw.get("cost")) if ticks is None else _dollars(ticks, USD_TICKS)
    details = raw.get("cost_details")
    if cost is not None and raw.get("is_byok") is True and isinstance(details, dict):
        cost += _dollars(details.get("upstream_inference_cost")) or 0.0
    return cost


def _dollars(value: Any, parts: float = 1.0) -> float | None:
    return value / parts if type(value) in (int, float) and 0 <= value < 1e6 * parts else None


def _count(raw: Mapping[str, Any], name: str) -> int:
    value = raw.get(name)
    return value if type(value) is int and 0 < value < MOST_TOKENS else 0
