"""Together's own forms: limits of requests and of tokens, a list of models without a wrapping."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from routerpool_together import Together

from routerpool import FailureKind
from routerpool.testing import Form, ProviderContract

LIMITED = {"error": {"message": "Request was rejected due to rate limiting", "type": "rate_limit", "code": None}}


class TestTogether(ProviderContract):
    plugin = Together
    forms = (
        Form(
            name="the requests are used up",
            status=429,
            body=LIMITED,
            headers={
                "x-ratelimit-limit": "10",
                "x-ratelimit-remaining": "0",
                "x-ratelimit-reset": "3",
                "x-tokenlimit-limit": "180000",
                "x-tokenlimit-remaining": "90000",
                "x-tokenlimit-reset": "41",
            },
            kind=FailureKind.RATE_LIMITED,
            wait=3,
            source="third parties, 2026",
        ),
        Form(
            name="the tokens are used up",
            status=429,
            body=LIMITED,
            headers={
                "x-ratelimit-remaining": "7",
                "x-ratelimit-reset": "3",
                "x-tokenlimit-remaining": "0",
                "x-tokenlimit-reset": "41",
            },
            kind=FailureKind.RATE_LIMITED,
            wait=41,
            source="third parties, 2026",
        ),
        Form(
            name="a limit without any header",
            status=429,
            body=LIMITED,
            kind=FailureKind.RATE_LIMITED,
        ),
    )

    def listing(self, models: Sequence[Any]) -> Any:
        return list(models)

    def entry(self, model_id: str) -> Any:
        return {"id": model_id, "object": "model", "type": "chat", "context_length": 131072}


@pytest.mark.parametrize("variable", ["TOGETHER_API_KEY", "TOGETHER_AI_API_KEY", "TOGETHERAI_API_KEY"])
def test_its_key_goes_by_three_names(variable: str) -> None:
    together = Together()
    assert variable in (together.idle() or "")
    together.bind({variable: "k"})
    assert together.idle() is None


def test_its_list_tells_the_window_of_a_model_that_the_roster_does_not_know() -> None:
    [known, other] = Together().parse_models(
        [{"id": "moonshotai/Kimi-K3", "context_length": 7}, {"id": "new/one", "context_length": 4096}]
    )
    assert (known.context, other.context) == (1048576, 4096)


def test_nothing_is_free_and_its_facts_have_a_date_and_a_source() -> None:
    together = Together()
    assert not any(model.free or model.local for model in together.roster())
    assert together._data.date
    assert together._data.source
