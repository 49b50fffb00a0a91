"""What servers say of a prompt that is too long, in all their words, and what they say of other things that are."""

from __future__ import annotations

import time

import pytest

from routerpool import FailureKind
from routerpool.providers import failure_of_answer
from routerpool.refusals.overflow import says_too_long
from routerpool.wire import dumps

TOO_LONG = """\
prompt is too long: 213462 tokens > 200000 maximum
Input is too long for requested model.
This model's maximum context length is 8192 tokens. However, your messages resulted in 9000 tokens.
Your input exceeds the context window of this model. Please adjust your input and try again.
context_length_exceeded
The input token count (1196265) exceeds the maximum number of tokens allowed (1048575).
This model's maximum prompt length is 131072 but the request contains 537812 tokens.
Please reduce the length of the messages or completion.
This endpoint's maximum context length is 131072 tokens. However, you requested about 150000 tokens
prompt token count of 130000 exceeds the limit of 128000
the request exceeds the available context size, try increasing it
request (9000 tokens) exceeds the available context size (8192 tokens), try increasing it
tokens to keep from the initial prompt is greater than the context length
The number of tokens to keep from the initial prompt is greater than the context length (n_keep: 9000>= n_ctx: 4096)
invalid params, context window exceeds limit
Your request exceeded model token limit: 262144 (requested: 270000)
Prompt contains 40000 tokens and 0 draft tokens, too large for model with 32768 maximum context length
prompt too long; exceeded max context length by 1000 tokens
input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000,
`inputs` tokens + `max_new_tokens` must be <= 4096. Given: 5000 `inputs` tokens and 100 `max_new_tokens`
`inputs` must have less than 4096 tokens. Given: 5000
Input validation error: `inputs` must have less than 1024 tokens. Given: 2000
The input (9000 tokens) is longer than the model's context length (8192 tokens).
Input length (9000 tokens) exceeds the maximum allowed length (8191 tokens).
The decoder prompt (length 9000) is longer than the maximum model length of 8192.
Requested token count exceeds the model's maximum context length of 8192 tokens. You requested a total of 9000 tokens
too many tokens: size limit exceeded by 1000 tokens. Try using shorter or fewer inputs.
Range of input length should be [1, 30720]
Too many tokens in prompt
The prompt is too long, please shorten your prompt
model_max_prompt_tokens_exceeded
model_context_window_exceeded
The total number of tokens in the prompt and completion exceeds the model's context window
max_tokens must be at least 1, got -500
Input token length too long
Requested tokens (4123) exceed context window of 4096
Request too large for model: maximum context length is 8192
the conversation is too long for this model
Prompt length (12000) larger than the maximum input length of 10000
prompt length (12000) exceeds max input length (8192). Set max_input_len
request body exceeds the model's context limit
Context size has been exceeded.
Context length exceeded
Total tokens of image and text exceed max message tokens
input tokens exceed the configured limit of 272000 tokens. Your messages resulted in 300000 tokens.
ValidationException: Input is too long for requested model
The sum of prompt length (5000) and max tokens exceeds max sequence length
Message length exceeds model context length
This request would exceed the model's context window
""".splitlines()
SOMETHING_ELSE = """\
max_tokens is too large: 99999. This model supports at most 4096 completion tokens
Rate limit reached: too many tokens per minute, limit 6000, requested 9000
Request too large for model on tokens per minute (TPM): Limit 6000, Requested 9000
Image is too large: the maximum size is 20 MB
You exceeded your current quota, please check your plan and billing details.
The model does not exist
tools: too many tools, the maximum is 128
messages: at least one message is required
Invalid value for temperature: must be less than 2
max_tokens: 100000 > 64000, which is the maximum allowed number of output tokens
Invalid 'user': string too long. Expected a string with maximum length 64
unknown parameter: max_context_length_foo
Too many requests, please slow down
this model does not support tools
stop: too many stop sequences
The requested number of completions n exceeds the maximum of 8
response_format schema is too complex
function name is too long
tool_call_id is too long: expected a string with maximum length 40
content is required
""".splitlines()


@pytest.mark.parametrize("words", TOO_LONG)
def test_a_prompt_that_is_too_long_is_told_in_many_words(words: str) -> None:
    assert says_too_long(words)
    for status in (400, 413, 422, 500):
        failure = failure_of_answer("a", status, {}, dumps({"error": {"message": words}}))
        assert failure.kind is FailureKind.TOO_LARGE
        assert failure.answer is not None
        assert failure.answer.status == (400 if status == 500 else status)
    assert failure_of_answer("a", 200, {}, dumps({"error": words})).kind is FailureKind.TOO_LARGE
    assert failure_of_answer("a", 400, {}, words.encode()).kind is FailureKind.TOO_LARGE


@pytest.mark.parametrize("words", SOMETHING_ELSE)
def test_what_is_too_much_of_something_else_is_no_such(words: str) -> None:
    assert not says_too_long(words)
    assert failure_of_answer("a", 422, {}, dumps({"error": {"message": words}})).kind is not FailureKind.TOO_LARGE


@pytest.mark.parametrize("piece", ["prompt ", "exceeds ", "context length ", "maximum ", "too ", "input tokens ", "a"])
def test_long_words_take_time_in_proportion(piece: str) -> None:
    def cost(size: int) -> float:
        words = piece * (size // len(piece))
        best = 1e9
        for _ in range(3):
            began = time.thread_time()
            says_too_long(words)
            best = min(best, time.thread_time() - began)
        return best

    assert cost(64_000) < 20 * max(cost(4_000), 1e-4)
