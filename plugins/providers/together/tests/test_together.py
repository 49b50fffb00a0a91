"""Together's own forms: limits of requests and of tokens, a list of models without a wrapping."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from routerpool_together import Together

from routerpool.testing import ProviderContract


class TestTogether(ProviderContract):
    plugin = Together
    forms = "forms.yaml"

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
    assert together.facts.date
    assert together.facts.source
