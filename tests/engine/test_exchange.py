"""What one attempt passes on of a provider's answer, and the one thing that it does not."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from ..support.house import Reply, house

KEY = "sk-of-ours-123"


def asked(key: str = KEY, text: str = "", reply: Any = None, headers: Any = None, **changes: Any) -> Reply:
    """The answer to a request whose provider was sent this key and says this."""

    async def whole() -> Reply:
        options = {"a": {"api_key_env": "A_KEY"}}
        async with house(options=options, env={"A_KEY": key}) as at:
            if reply is None:
                at.up.text("a", text, events=1)
            else:
                at.up.reply("a", reply[0], reply[1], headers)
            answer = await at.chat(**changes)
            assert at.up.seen("a").last.headers["authorization"] == f"Bearer {key}"
            return answer

    return asyncio.run(whole())


@pytest.mark.parametrize("stream", [False, True])
def test_a_provider_that_says_its_own_key_says_it_to_nobody(stream: bool) -> None:
    body = asked(text=f"your key is {KEY}, and\n{KEY}", stream=stream).body
    assert KEY.encode() not in body
    assert b"your key is [key], and\\n[key]" in body


def test_a_key_that_may_be_a_word_tears_no_answer() -> None:
    answer = asked(key="0", text="100 and 0")
    assert answer.json["choices"][0]["message"]["content"] == "100 and 0"


@pytest.mark.parametrize("written", [KEY, "\\u0073k-of-ours-123"])
def test_a_refusal_quotes_no_key_and_its_type_is_ours(written: str) -> None:
    body = f'{{"error": {{"message": "not with {written}"}}}}'.encode()
    answer = asked(reply=(400, body), headers={"Content-Type": f"application/x-{KEY}"})
    assert (answer.status, answer.headers["Content-Type"].partition(";")[0]) == (400, "application/json")
    assert answer.error["message"] == "not with [key]"
    assert KEY not in str(answer.headers)


def test_a_refusal_that_is_no_json_is_plain_text() -> None:
    answer = asked(reply=(400, f"maximum context length exceeded by {KEY}"))
    assert answer.headers["Content-Type"].partition(";")[0] == "text/plain"
    assert answer.body == b"maximum context length exceeded by [key]"
