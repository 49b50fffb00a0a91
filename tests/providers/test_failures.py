"""What an upstream's answer means: one kind for each, by status, words and header."""

from __future__ import annotations

import errno
import json
from collections.abc import Mapping

import aiohttp
import pytest
from aiohttp.client_reqrep import ConnectionKey

from routerpool import OpenAIProvider, ProviderConfig, errors
from routerpool.providers.failures import ErrorForm, failure_of_answer, failure_of_exception
from routerpool.types import ChatRequest, Failure, FailureKind, Model


def failure(status: int, message: str = "", headers: Mapping[str, str] | None = None, **error: object) -> Failure:
    body = json.dumps({"error": {"message": message, **error}}).encode()
    return failure_of_answer("p", status, headers or {}, body)


@pytest.mark.parametrize(
    ("status", "message", "kind"),
    [
        (429, "Rate limit reached", "rate_limited"),
        (429, "You exceeded your daily quota", "quota_exhausted"),
        (429, "You have reached your weekly usage limit", "quota_exhausted"),
        (429, "insufficient_quota", "credit"),
        (402, "Insufficient balance", "credit"),
        (401, "Invalid key", "auth"),
        (400, "API key not valid. Please pass a valid API key.", "auth"),
        (403, "Forbidden", "forbidden"),
        (400, "You are not allowed to access this model", "forbidden"),
        (404, "Not found", "missing_model"),
        (410, "Gone", "missing_model"),
        (400, "The model `x` does not exist", "missing_model"),
        (408, "", "timeout"),
        (504, "", "timeout"),
        (500, "", "server"),
        (529, "Overloaded", "server"),
        (400, "Function id 'x': DEGRADED function cannot be invoked", "server"),
        (503, "Loading model", "unavailable"),
        (503, "server busy, please try again.  maximum pending requests exceeded", "unavailable"),
        (413, "Request too large", "too_large"),
        (400, "prompt is too long: 210000 tokens > 200000 maximum", "too_large"),
        (400, "The input token count (9000) exceeds the maximum number of tokens allowed", "too_large"),
        (400, "The response was filtered by our content management policy", "content_filter"),
        (400, "temperature must be between 0 and 2", "bad_request"),
        (422, "Extra inputs are not permitted", "bad_request"),
        (418, "", "server"),
        (405, "Method Not Allowed", "server"),
        (407, "Proxy Authentication Required", "server"),
        (421, "Misdirected", "server"),
        (424, "a dependency failed", "server"),
        (425, "Too Early", "server"),
        (451, "for legal reasons", "server"),
        (402, "You asked for 4000 tokens, but can only afford 12", "unavailable"),
        (402, "Add credits or send fewer max_tokens", "unavailable"),
        (402, "fewer max_tokens are needed: you can only afford 0", "credit"),
        (403, "Your usage limit is reached", "quota_exhausted"),
        (403, "You have hit a secondary rate limit", "rate_limited"),
        (403, "Daily rate limit reached, your daily quota is used up", "quota_exhausted"),
        (403, "Sorry, your account balance is insufficient", "credit"),
        (403, "The API key is revoked", "auth"),
        (403, "Not available in your country", "forbidden"),
    ],
)
def test_an_answer_has_the_kind_that_its_status_and_words_say(status: int, message: str, kind: str) -> None:
    assert failure(status, message).kind == kind


@pytest.mark.parametrize(
    ("message", "lacks"),
    [
        ("registry.ollama.ai/library/gemma:2b does not support tools", "tools"),
        ("tool calling is not supported with this model", "tools"),
        ("This model doesn't support image input", "vision"),
        ("Images are not supported by this model", "vision"),
        ("This model does not support structured outputs", "json_schema"),
        ("This model does not support tool_choice 'any'", None),
        ("Image format is not supported; send png or jpeg", None),
        ("response_format type 'xml' is not supported", None),
    ],
)
def test_a_capability_that_is_denied_is_told_from_a_value_that_is(message: str, lacks: str | None) -> None:
    told = failure(400, message)
    assert told.lacks == lacks
    assert told.kind is (FailureKind.UNAVAILABLE if lacks else FailureKind.BAD_REQUEST)


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, b"<html><title>Bad request</title></html>", "server"),
        (422, b"\xef\xbb\xbf\n<!doctype html><p>the prompt is too long</p>", "server"),
        (403, b"<html><title>Are you human?</title></html>", "server"),
        (403, b"denied by a rule", "server"),
        (403, b"", "server"),
        (403, b"<p>you are being rate limited</p>", "rate_limited"),
        (400, b"Bad Request", "unavailable"),
        (422, b"unprocessable", "unavailable"),
        (413, b"<h1>413 Request Entity Too Large</h1>", "unavailable"),
        (404, b"<h1>Not Found</h1>", "missing_model"),
    ],
)
def test_an_answer_without_an_error_object_is_never_the_clients_own_fault(status: int, body: bytes, kind: str) -> None:
    told = failure_of_answer("p", status, {}, body)
    assert told.kind == kind
    assert told.answer is None


def test_a_refusal_is_a_rate_limit_where_a_window_is_told_to_be_spent() -> None:
    spent = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "30"}
    assert failure(403, "no", spent).kind is FailureKind.RATE_LIMITED
    assert failure(403, "no", spent).retry_after == 30
    assert failure(403, "no", {**spent, "X-RateLimit-Remaining": "9"}).kind is FailureKind.FORBIDDEN


@pytest.mark.parametrize(
    ("status", "message", "wide"),
    [
        (500, "broken", True),
        (404, "no such path", True),
        (404, "The model `x` does not exist", False),
        (403, "not in your country", True),
        (403, "you may not use this model", False),
        (429, "slow down", True),
        (401, "Invalid key", False),
        (400, "temperature must be less than 2", False),
    ],
)
def test_it_is_told_whether_a_failure_says_something_of_the_model(status: int, message: str, wide: bool) -> None:
    assert failure(status, message).wide is wide


@pytest.mark.parametrize(
    ("message", "again"),
    [
        ("property 'reasoning_content' is unsupported", True),
        ("Unknown field: reasoning_details", True),
        ("Unrecognized request argument supplied: store", True),
        ("additional properties are not allowed: `annotations`", True),
        ("messages[0].role: unknown variant `developer`, expected one of `system`, `user`", True),
        ("body.messages.0.role: Input should be 'system', 'user', 'assistant' or 'tool' (input: developer)", True),
        ("body.max_completion_tokens: Input should be greater than 0", False),
        ("unknown parameter max_completion_tokens", True),
        ("stream_options: no", True),
        ("max_completion_tokens must be at least 1", False),
        ("the vector store is unknown", False),
        ("Unknown field: colour", False),
    ],
)
def test_a_field_that_is_not_the_clients_need_is_told_from_its_own_fault(message: str, again: bool) -> None:
    told = failure(422, message)
    assert told.again is again
    assert told.kind is (FailureKind.UNAVAILABLE if again else FailureKind.BAD_REQUEST)
    assert (told.answer is None) is again


def test_an_error_inside_a_200_has_the_status_that_it_names() -> None:
    assert failure(200, "slow down", code=429).kind is FailureKind.RATE_LIMITED
    assert failure(200, "slow down", code=429).status == 429
    assert failure(200, "what?").status == 502


def test_a_providers_own_form_goes_before_the_common_ones() -> None:
    form = ErrorForm(kind=FailureKind.UNAVAILABLE, status=413, match="tokens per minute", retry_after=0)
    body = b'{"error": {"message": "Request too large: tokens per minute (TPM): Limit 8000, Requested 9000"}}'
    told = failure_of_answer("p", 413, {}, body, forms=[form])
    assert (told.kind, told.retry_after) == (FailureKind.UNAVAILABLE, 0)


def test_the_message_never_quotes_the_providers_words() -> None:
    told = failure(401, "Incorrect API key provided: sk-canary-123", code="invalid_api_key", type="auth error, sk-9")
    assert told.message == "p answered 401 (invalid_api_key)"


def test_a_window_that_is_not_spent_says_nothing_about_a_server_error() -> None:
    headers = {"x-ratelimit-remaining-requests": "900", "x-ratelimit-reset-requests": "2m59s"}
    assert failure(500, "", headers).retry_after is None
    assert failure(503, "", {"Retry-After": "3"}).retry_after == 3


def test_only_the_clients_own_failures_keep_the_providers_words() -> None:
    assert failure(400, "no").answer is not None
    assert failure(500, "no").answer is None


def test_an_exception_is_told_by_its_kind_and_never_by_its_text() -> None:
    told = failure_of_exception("p", ConnectionResetError("sk-canary"))
    assert (told.kind, told.message) == (FailureKind.SERVER, "p: the connection broke")
    assert failure_of_exception("p", RuntimeError("sk-canary")).message == "p: RuntimeError"


@pytest.mark.parametrize("word", ["falcon", "falcon-7f3a-the-secret-plan", "xk_live_4eC39Hq", "two words"])
def test_a_code_that_may_be_a_word_of_the_prompt_is_not_told(word: str) -> None:
    body = json.dumps({"error": {"message": "no", "type": word, "code": word}}).encode()
    assert word not in failure_of_answer("lab", 500, {}, body).message


def test_a_refusal_that_quotes_our_key_reaches_the_client_without_it() -> None:
    provider = OpenAIProvider(ProviderConfig(base_url="http://127.0.0.1:1/v1", api_key_env="LAB_KEY"), name="lab")
    provider.bind({"LAB_KEY": "key-of-ours-123"})
    failure = provider.failure(400, {}, b'{"error": {"message": "bad request with key-of-ours-123"}}')
    assert failure.answer is not None
    assert b"key-of-ours-123" not in failure.answer.body
    assert json.loads(failure.answer.body)


def test_what_a_provider_has_refused_is_left_out_of_what_it_gets_from_then_on() -> None:
    provider = OpenAIProvider(ProviderConfig(base_url="http://127.0.0.1:1/v1"), name="lab")
    history = [
        {"role": "developer", "content": "be brief"},
        {"role": "assistant", "content": "hello", "reasoning_content": "hm"},
    ]
    request = ChatRequest(id="r", model="auto", messages=history, params={"max_completion_tokens": 9, "store": True})
    assert provider.body_of(request, Model(id="m"))["messages"] == history
    for words in (
        "unknown field `reasoning_content`",
        "role: unknown variant `developer`, expected `system`",
        "unsupported parameter: 'store'",
        "unknown parameter max_completion_tokens",
    ):
        assert provider.failure(400, {}, json.dumps({"error": {"message": words}}).encode()).again
    body = provider.body_of(request, Model(id="m"))
    assert body == {
        "model": "m",
        "max_tokens": 9,
        "messages": [{"role": "system", "content": "be brief"}, {"role": "assistant", "content": "hello"}],
    }
    assert history[0]["role"] == "developer", "the request itself is as it was, for other candidates"


OLDER = "Unsupported parameter: 'max_completion_tokens'. Use 'max_tokens' instead."
NEWER = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."


@pytest.mark.parametrize(
    ("words", "sent"),
    [
        ([NEWER], {"max_completion_tokens": 9}),
        ([OLDER], {"max_tokens": 9}),
        ([OLDER, NEWER], {"max_completion_tokens": 9}),
        ([NEWER, OLDER], {"max_tokens": 9}),
    ],
)
@pytest.mark.parametrize("asked", ["max_tokens", "max_completion_tokens"])
def test_the_cap_is_sent_by_the_name_that_a_provider_has_asked_for_last(
    words: list[str], sent: dict[str, int], asked: str
) -> None:
    provider = OpenAIProvider(ProviderConfig(base_url="http://127.0.0.1:1/v1"), name="lab")
    for told in words:
        assert provider.failure(400, {}, json.dumps({"error": {"message": told}}).encode()).again
    body = provider.body_of(ChatRequest(id="r", model="auto", messages=[], params={asked: 9}), Model(id="m"))
    assert body == {"model": "m", "messages": [], **sent}


@pytest.mark.parametrize("words", ["max_tokens is too large: 9 is not allowed", "max_tokens: unexpected value"])
def test_a_cap_that_is_too_large_is_the_clients_to_read(words: str) -> None:
    provider = OpenAIProvider(ProviderConfig(base_url="http://127.0.0.1:1/v1"), name="lab")
    assert not provider.failure(400, {}, json.dumps({"error": {"message": words}}).encode()).again


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EADDRNOTAVAIL])
def test_what_this_machine_lacks_is_nobodys_failure_and_is_told_once_with_its_cure(
    number: int, caplog: pytest.LogCaptureFixture
) -> None:
    errors._tell_once.cache_clear()
    refused = aiohttp.ClientConnectorError(CONNECTION, OSError(number, "no"))
    for error in (refused, OSError(number, "no"), refused):
        assert failure_of_exception("p", error).kind is FailureKind.OVERLOADED
    (told,) = caplog.records
    assert told.levelname == "ERROR"
    assert any(cure in told.getMessage() for cure in ("raise", "lower", "widen"))


def test_a_refused_connection_is_still_the_providers_failure() -> None:
    for error in (aiohttp.ClientConnectorError(CONNECTION, OSError(errno.ECONNREFUSED, "no")), unresolved()):
        assert failure_of_exception("p", error).kind is FailureKind.CONNECT


def test_a_name_that_does_not_resolve_for_want_of_a_descriptor_is_nobodys_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def spent(*_: object) -> int:
        raise OSError(errno.EMFILE, "no")

    monkeypatch.setattr(errors.os, "open", spent)
    assert failure_of_exception("p", unresolved()).kind is FailureKind.OVERLOADED


CONNECTION = ConnectionKey("p.example", 443, True, True, None, None, None)


def unresolved() -> aiohttp.ClientConnectorDNSError:
    return aiohttp.ClientConnectorDNSError(CONNECTION, OSError(-3, "Temporary failure in name resolution"))
