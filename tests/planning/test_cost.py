"""What a request costs: usages as providers report them, priced by hand and by us."""

from __future__ import annotations

from math import isclose
from typing import Any

import pytest
from attrs import evolve, frozen
from hypothesis import given, settings
from hypothesis import strategies as st

from routerpool.planning.cost import cost_of
from routerpool.types import Failure, FailureKind, Prices, Usage
from routerpool.wire.json import dumps
from routerpool.wire.stream import Stream
from routerpool.wire.usage import read_usage

law = settings(max_examples=200, deadline=None)

GPT_4O_MINI = Prices(input=0.15, cached=0.075, output=0.6)
GPT_5 = Prices(input=1.25, cached=0.125, output=10.0)
GPT_5_NANO = Prices(input=0.05, cached=0.005, output=0.4)
LONG_SONNET = Prices(input=6.0, cached=0.6, cache_write=7.5, cache_write_1h=12.0, output=22.5)
SONNET = Prices(
    input=3.0, cached=0.3, cache_write=3.75, cache_write_1h=6.0, output=15.0, over=200_000, long=LONG_SONNET
)
OPUS = Prices(input=5.0, cached=0.5, cache_write=6.25, cache_write_1h=10.0, output=25.0)
LLAMA_70B = Prices(input=0.59, output=0.79)
GPT_OSS = Prices(input=0.15, cached=0.075, output=0.6)
DEEPSEEK = Prices(input=0.28, cached=0.028, output=0.42)
MISTRAL_SMALL = Prices(input=0.1, output=0.3)
GROK_MINI = Prices(input=0.3, cached=0.075, output=0.5)


@frozen
class Bill:
    """A usage as it came, who said it, what the tokens cost, and what it comes to in US dollars by hand."""

    who: str
    body: dict[str, Any]
    prices: Prices
    dollars: float


def openai(prompt: int, completion: int, **more: Any) -> dict[str, Any]:
    """OpenAI's form, with further fields as they are."""
    usage = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
    return {"usage": usage | more}


def anthropic(prompt: int, output: int, **more: Any) -> dict[str, Any]:
    """Anthropic's form, in which the prompt leaves out what the cache had or got."""
    return {"type": "message", "usage": {"input_tokens": prompt, "output_tokens": output} | more}


BILLS = [
    # 1,200 × 0.15 = 180; 350 × 0.60 = 210; together 390 millionths
    Bill("openai", openai(1200, 350), GPT_4O_MINI, 0.00039),
    # 2,048 − 1,920 = 128 × 1.25 = 160; 1,920 × 0.125 = 240; 640 × 10 = 6,400 with the reasoning in it; 6,800
    Bill(
        "openai, cached and reasoning",
        openai(
            2048,
            640,
            prompt_tokens_details={"cached_tokens": 1920, "audio_tokens": 0},
            completion_tokens_details={"reasoning_tokens": 512},
        ),
        GPT_5,
        0.0068,
    ),
    # 16 × 0.15 = 2.4; 300 × 0.60 = 180; 182.4
    Bill(
        "openai, last chunk",
        {"object": "chat.completion.chunk", "choices": []}
        | openai(
            16, 300, prompt_tokens_details={"cached_tokens": 0}, completion_tokens_details={"reasoning_tokens": 0}
        ),
        GPT_4O_MINI,
        0.0001824,
    ),
    # 15 × 0.05 = 0.75; 78 × 0.40 = 31.2; 31.95
    Bill(
        "azure",
        {"choices": []} | openai(15, 78, completion_tokens_details={"reasoning_tokens": 64}),
        GPT_5_NANO,
        0.00003195,
    ),
    # 1,000 − 600 = 400 × 1.25 = 500; 600 × 0.125 = 75; 200 × 10 = 2,000; 2,575
    Bill(
        "openai, responses",
        {
            "object": "response",
            "usage": {
                "input_tokens": 1000,
                "input_tokens_details": {"cached_tokens": 600},
                "output_tokens": 200,
                "output_tokens_details": {"reasoning_tokens": 150},
                "total_tokens": 1200,
            },
        },
        GPT_5,
        0.002575,
    ),
    # 75 × 1.25 = 93.75; 1,186 × 10 = 11,860; 11,953.75
    Bill(
        "openai, response.completed",
        {
            "type": "response.completed",
            "response": {
                "status": "completed",
                "usage": {
                    "input_tokens": 75,
                    "input_tokens_details": {"cached_tokens": 0},
                    "output_tokens": 1186,
                    "output_tokens_details": {"reasoning_tokens": 1024},
                    "total_tokens": 1261,
                },
            },
        },
        GPT_5,
        0.01195375,
    ),
    # 565 × 3 = 1,695; 48 × 15 = 720; 2,415
    Bill(
        "anthropic, nothing cached",
        anthropic(565, 48, cache_creation_input_tokens=0, cache_read_input_tokens=0),
        SONNET,
        0.002415,
    ),
    # 21 × 3 = 63; 18,886 × 3.75 = 70,822.5; 393 × 15 = 5,895; 76,780.5
    Bill(
        "anthropic, written for five minutes",
        anthropic(
            21,
            393,
            cache_creation_input_tokens=18886,
            cache_read_input_tokens=0,
            cache_creation={"ephemeral_5m_input_tokens": 18886, "ephemeral_1h_input_tokens": 0},
        ),
        SONNET,
        0.0767805,
    ),
    # 21 × 3 = 63; 18,886 × 0.30 = 5,665.8; 393 × 15 = 5,895; 11,623.8
    Bill(
        "anthropic, read",
        anthropic(21, 393, cache_creation_input_tokens=0, cache_read_input_tokens=18886),
        SONNET,
        0.0116238,
    ),
    # 50 × 3 = 150; 2,000 × 3.75 = 7,500; 10,000 × 6 = 60,000; 4,000 × 0.30 = 1,200; 100 × 15 = 1,500; 70,350
    Bill(
        "anthropic, written for both times",
        anthropic(
            50,
            100,
            cache_creation_input_tokens=12000,
            cache_read_input_tokens=4000,
            cache_creation={"ephemeral_5m_input_tokens": 2000, "ephemeral_1h_input_tokens": 10000},
        ),
        SONNET,
        0.07035,
    ),
    # 10 × 3 = 30; 30,000 × 3.75 = 112,500; 60,000 × 0.30 = 18,000; 500 × 15 = 7,500; 138,030
    Bill(
        "anthropic, written for a time that is not told",
        anthropic(10, 500, cache_creation_input_tokens=30000, cache_read_input_tokens=60000),
        SONNET,
        0.13803,
    ),
    # over 200,000: 1,000 × 6 = 6,000; 250,000 × 0.60 = 150,000; 1,000 × 22.50 = 22,500; 178,500
    Bill("anthropic, long", anthropic(1000, 1000, cache_read_input_tokens=250000), SONNET, 0.1785),
    # exactly 200,000 is not over it: 200,000 × 3 = 600,000; 10 × 15 = 150; 600,150
    Bill("anthropic, just not long", anthropic(200_000, 10), SONNET, 0.60015),
    # 43 × 5 = 215; 1 × 25 = 25; 240
    Bill(
        "anthropic, message_start",
        {"type": "message_start", "message": {"usage": {"input_tokens": 43, "output_tokens": 1}}},
        OPUS,
        0.00024,
    ),
    # stated; by the list it would be 194 × 0.15 + 88 × 0.60 = 81.9 millionths
    Bill(
        "openrouter, stated",
        {"choices": []}
        | openai(194, 88, cost=0.0001425, is_byok=False, cost_details={"upstream_inference_cost": None}),
        GPT_4O_MINI,
        0.0001425,
    ),
    # the user's own key at the provider behind it: 0.00001 to the one, 0.0002 to the other
    Bill(
        "openrouter, own key",
        openai(194, 88, cost=0.00001, is_byok=True, cost_details={"upstream_inference_cost": 0.0002}),
        GPT_4O_MINI,
        0.00021,
    ),
    # the fee is in the statement already: 0.0002 is what OpenRouter pays out of it
    Bill(
        "openrouter, its own key",
        openai(194, 88, cost=0.00021, is_byok=False, cost_details={"upstream_inference_cost": 0.0002}),
        GPT_4O_MINI,
        0.00021,
    ),
    # 10,339 − 9,000 − 1,000 = 339 × 3 = 1,017; 9,000 × 0.30 = 2,700; 1,000 × 3.75 = 3,750; 60 × 15 = 900; 8,367
    Bill(
        "openrouter, cache written",
        openai(10339, 60, prompt_tokens_details={"cached_tokens": 9000, "cache_write_tokens": 1000}),
        SONNET,
        0.008367,
    ),
    # 210 × 0.59 = 123.9; 15 × 0.79 = 11.85; 135.75
    Bill(
        "groq",
        openai(210, 15, queue_time=0.041520249, prompt_time=0.010407901, completion_time=0.046601227),
        LLAMA_70B,
        0.00013575,
    ),
    # 45 × 0.59 = 26.55; 662 × 0.79 = 522.98; 549.53
    Bill(
        "groq, x_groq",
        {
            "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}],
            "x_groq": {"id": "req_1", "usage": {"prompt_tokens": 45, "completion_tokens": 662, "total_tokens": 707}},
        },
        LLAMA_70B,
        0.00054953,
    ),
    # 4,641 − 4,608 = 33 × 0.15 = 4.95; 4,608 × 0.075 = 345.6; 1,817 × 0.60 = 1,090.2; 1,440.75
    Bill("groq, cached", openai(4641, 1817, prompt_tokens_details={"cached_tokens": 4608}), GPT_OSS, 0.00144075),
    # 19 × 0.28 = 5.32; 320 × 0.028 = 8.96; 83 × 0.42 = 34.86; 49.14
    Bill(
        "deepseek",
        openai(
            339,
            83,
            prompt_tokens_details={"cached_tokens": 320},
            completion_tokens_details={"reasoning_tokens": 39},
            prompt_cache_hit_tokens=320,
            prompt_cache_miss_tokens=19,
        ),
        DEEPSEEK,
        0.00004914,
    ),
    # 904 × 0.28 = 253.12; 4,096 × 0.028 = 114.688; 200 × 0.42 = 84; 451.808
    Bill(
        "deepseek, short form",
        openai(5000, 200, prompt_cache_hit_tokens=4096, prompt_cache_miss_tokens=904),
        DEEPSEEK,
        0.000451808,
    ),
    # 13 × 0.10 = 1.3; 8 × 0.30 = 2.4; 3.7
    Bill(
        "mistral, on the last content chunk",
        {"choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": "stop"}]} | openai(13, 8),
        MISTRAL_SMALL,
        0.0000037,
    ),
    # 1,497,500 ticks of a ten-thousand-millionth of a dollar
    Bill(
        "xai, stated",
        {"choices": []}
        | openai(
            307,
            26,
            total_tokens=560,
            prompt_tokens_details={"cached_tokens": 306},
            completion_tokens_details={"reasoning_tokens": 227},
            cost_in_usd_ticks=1497500,
        ),
        GROK_MINI,
        0.00014975,
    ),
    # its own arithmetic: 1 × 0.30 = 0.3; 306 × 0.075 = 22.95; 26 + 227 = 253 × 0.50 = 126.5; 149.75
    Bill(
        "xai, reasoning beside the output",
        openai(
            307,
            26,
            total_tokens=560,
            prompt_tokens_details={"cached_tokens": 306},
            completion_tokens_details={"reasoning_tokens": 227},
        ),
        GROK_MINI,
        0.00014975,
    ),
    # 275 − 9 − 10 = 256 of thought; 9 × 0.30 = 2.7; 266 × 2.50 = 665; 667.7
    Bill("gemini", openai(9, 10, total_tokens=275), Prices(input=0.3, output=2.5), 0.0006677),
    # no price of a cached token: 322 × 0.35 = 112.7; 104 × 0.75 = 78; 190.7
    Bill(
        "cerebras",
        openai(
            322,
            104,
            prompt_tokens_details={"cached_tokens": 256},
            completion_tokens_details={"reasoning_tokens": 97},
        ),
        Prices(input=0.35, output=0.75),
        0.0001907,
    ),
    # 1 × 0.10 = 0.1; 236 × 0.01 = 2.36; 35 × 0.20 = 7; 9.46
    Bill(
        "llama.cpp, timings",
        {"choices": [{"delta": {}, "finish_reason": "stop"}]}
        | {"timings": {"cache_n": 236, "prompt_n": 1, "predicted_n": 35, "prompt_ms": 30.9, "predicted_ms": 661.0}},
        Prices(input=0.1, cached=0.01, output=0.2),
        0.00000946,
    ),
    # 237 − 236 = 1 × 0.10 = 0.1; 236 × 0.01 = 2.36; 35 × 0.20 = 7; 9.46
    Bill(
        "llama.cpp, both",
        {"choices": []} | openai(237, 35) | {"timings": {"cache_n": 236, "prompt_n": 1, "predicted_n": 35}},
        Prices(input=0.1, cached=0.01, output=0.2),
        0.00000946,
    ),
    # 26 × 0.05 = 1.3; 298 × 0.10 = 29.8; 31.1
    Bill(
        "ollama, its own format",
        {"message": {"role": "assistant", "content": "Hi"}, "done": True, "prompt_eval_count": 26, "eval_count": 298},
        Prices(input=0.05, output=0.1),
        0.0000311,
    ),
    # 1,000 − 992 = 8 × 0.20 = 1.6; 992 × 0.02 = 19.84; 100 × 0.60 = 60; 81.44
    Bill(
        "vllm",
        openai(1000, 100, prompt_tokens_details={"cached_tokens": 992}),
        Prices(input=0.2, cached=0.02, output=0.6),
        0.00008144,
    ),
    # 21 × 3 = 63; 18,886 × 0.30 = 5,665.8; 393 × 15 = 5,895; 11,623.8
    Bill(
        "anthropic behind a translator that leaves out the cache",
        openai(21, 393, total_tokens=19300, cache_read_input_tokens=18886),
        SONNET,
        0.0116238,
    ),
    # 18,907 − 18,886 = 21 × 3 = 63; 18,886 × 0.30 = 5,665.8; 393 × 15 = 5,895; 11,623.8
    Bill(
        "anthropic behind a translator that counts it in",
        openai(18907, 393, cache_read_input_tokens=18886),
        SONNET,
        0.0116238,
    ),
]


def test_there_are_thirty_of_them_and_more() -> None:
    assert len({bill.who for bill in BILLS}) == len(BILLS) >= 30


@pytest.mark.parametrize("bill", BILLS, ids=lambda bill: bill.who)
def test_a_recorded_usage_costs_what_it_does_by_hand(bill: Bill) -> None:
    usage = read_usage(bill.body)

    assert usage is not None
    assert usage.source == "reported"
    cost = cost_of(usage, bill.prices)
    assert cost is not None
    assert isclose(cost, bill.dollars, rel_tol=1e-12)


CHAT = [bill for bill in BILLS if "prompt_tokens" in bill.body.get("usage", {})]


@pytest.mark.parametrize("place", ["empty choices", "last content chunk", "finish chunk", "x_groq", "no choices"])
@pytest.mark.parametrize("bill", CHAT, ids=lambda bill: bill.who)
def test_it_costs_the_same_wherever_in_a_stream_it_arrives(bill: Bill, place: str) -> None:
    told: dict[str, Any] = {name: bill.body[name] for name in ("usage", "timings") if name in bill.body}
    holders: dict[str, dict[str, Any]] = {
        "empty choices": {"choices": []},
        "last content chunk": {"choices": [{"index": 0, "delta": {"content": "!"}, "finish_reason": None}]},
        "finish chunk": {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
        "x_groq": {"choices": []},
        "no choices": {},
    }
    if place == "x_groq":
        told = {"x_groq": {"usage": told["usage"]}} | {"timings": told.get("timings", {})}
    stream = Stream("p", lambda data: Failure(kind=FailureKind.SERVER, message="broken"))
    for chunk in ({"choices": [{"index": 0, "delta": {"content": "Hi"}}]}, holders[place] | told):
        stream.feed(b"data: " + dumps(chunk) + b"\n\n")
    stream.feed(b"data: [DONE]\n\n")

    assert stream.failure is None
    assert stream.usage is not None
    cost = cost_of(stream.usage, bill.prices)
    assert cost is not None
    assert isclose(cost, bill.dollars, rel_tol=1e-12)


def test_what_a_stream_of_anthropics_tells_in_two_places_is_one_usage() -> None:
    start = read_usage({"type": "message_start", "message": {"usage": {"input_tokens": 43, "output_tokens": 1}}})
    end = read_usage({"type": "message_delta", "usage": {"input_tokens": 61, "output_tokens": 2}})
    assert start is not None
    assert end is not None

    # 61 × 5 = 305; 2 × 25 = 50; 355
    assert cost_of(start.joined(end), OPUS) == pytest.approx(0.000355, rel=1e-12)
    assert start.joined(end).source == "reported"


def test_the_end_of_a_stream_may_tell_the_output_alone() -> None:
    start = read_usage(
        {"type": "message_start", "message": {"usage": {"input_tokens": 17, "cache_read_input_tokens": 5}}}
    )
    end = read_usage({"type": "message_delta", "usage": {"output_tokens": 227}})
    assert start is not None
    assert end is not None

    assert start.joined(end) == Usage(input_uncached=17, input_cached=5, output=227, source="reported")


def test_the_providers_own_word_is_kept_and_goes_before_all() -> None:
    usage = Usage(input_uncached=100, output=20, cost=0.5)

    assert cost_of(usage, Prices()) == 0.5
    assert cost_of(usage, GPT_5) == 0.5
    assert cost_of(usage, GPT_5, free=True) == 0.5
    assert cost_of(evolve(usage, cost=0.0), GPT_5) == 0.0
    assert usage.joined(Usage(output=30)).cost == 0.5
    assert usage.joined(Usage(output=30, cost=0.6)).cost == 0.6


@pytest.mark.parametrize("value", [-1, -0.5, True, "0.1", None, {"total": 1}, 1e9, float("nan"), float("inf")])
def test_what_is_no_sum_of_money_is_not_taken_for_one(value: Any) -> None:
    usage = read_usage(openai(100, 20, cost=value))

    assert usage is not None
    assert usage.cost is None


def test_a_price_that_is_not_known_makes_the_cost_unknown() -> None:
    assert cost_of(Usage(input_uncached=1), Prices(output=1.0)) is None
    assert cost_of(Usage(output=1), Prices(input=1.0)) is None
    assert cost_of(Usage(input_uncached=5), Prices(input=2.0)) == 0.00001
    assert cost_of(Usage(), Prices()) == 0.0
    assert cost_of(Usage(input_uncached=1, output=1), Prices(), free=True) == 0.0


def test_a_token_written_without_a_price_of_its_own_costs_what_the_next_best_does() -> None:
    usage = Usage(cache_write=1_000_000, cache_write_1h=1_000_000)

    assert cost_of(usage, Prices(input=1.0, cache_write=2.0, cache_write_1h=4.0)) == 6.0
    assert cost_of(usage, Prices(input=1.0, cache_write=2.0)) == 4.0
    assert cost_of(usage, Prices(input=1.0)) == 2.0


def test_several_thresholds_are_taken_one_after_the_other() -> None:
    highest = Prices(input=4.0)
    prices = Prices(input=1.0, over=10, long=Prices(input=2.0, over=20, long=highest))

    costs = [cost_of(Usage(input_uncached=tokens), prices) for tokens in (10, 11, 20, 21)]
    assert costs == pytest.approx([10e-6, 22e-6, 40e-6, 84e-6])


@pytest.mark.parametrize(
    "given", [{"input": -1.0}, {"output": float("nan")}, {"cached": float("inf")}, {"over": 5}, {"long": Prices()}]
)
def test_what_is_no_price_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"price of 0 or more|go together"):
        Prices(**given)


# Laws

tokens = st.integers(0, 10**7)
price = st.floats(0, 1000)
prices = st.builds(Prices, input=price, cached=price, cache_write=price, cache_write_1h=price, output=price)


@law
@given(prompt=tokens, cached=tokens, written=tokens, output=tokens, prices=prices)
def test_both_conventions_cost_the_same(prompt: int, cached: int, written: int, output: int, prices: Prices) -> None:
    whole = prompt + cached + written
    including = read_usage(
        openai(whole, output, prompt_tokens_details={"cached_tokens": cached, "cache_write_tokens": written})
    )
    excluding = read_usage(
        anthropic(prompt, output, cache_read_input_tokens=cached, cache_creation_input_tokens=written)
    )
    if including is None or excluding is None:
        assert (including, excluding, whole, output) == (None, None, 0, 0)
        return

    assert including == excluding
    assert including.input == whole
    assert cost_of(including, prices) == cost_of(excluding, prices)


@law
@given(counts=st.lists(tokens, min_size=5, max_size=5), prices=prices)
def test_no_token_is_billed_twice_or_not_at_all(counts: list[int], prices: Prices) -> None:
    names = ("input_uncached", "input_cached", "cache_write", "cache_write_1h", "output")
    whole = cost_of(Usage(**dict(zip(names, counts, strict=True))), prices)
    alone = [cost_of(Usage(**{name: count}), prices) for name, count in zip(names, counts, strict=True)]

    assert whole == pytest.approx(sum(part for part in alone if part is not None), rel=1e-9, abs=1e-12)
    assert None not in alone
