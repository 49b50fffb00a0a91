"""Fireworks' own forms: the account's limit, the model's capacity, a suspended account."""

from __future__ import annotations

from routerpool_fireworks import Fireworks

from routerpool import FailureKind
from routerpool.testing import ProviderContract


class TestFireworks(ProviderContract):
    plugin = Fireworks
    refusals = {"http:503": FailureKind.UNAVAILABLE}  # noqa: RUF012 - as the contract declares it, and never changed
    forms = "forms.yaml"


def test_all_models_draw_on_the_accounts_tokens() -> None:
    assert {model.pools for model in Fireworks().roster()} == {frozenset({"fireworks::tokens"})}


def test_its_limits_headers_tell_no_wait() -> None:
    headers = {"X-Ratelimit-Remaining-Tokens-Prompt": "0", "X-Ratelimit-Remaining-Tokens-Generated": "12"}
    assert Fireworks().failure(429, headers, b"").retry_after is None
    assert Fireworks().failure(429, {**headers, "Retry-After": "4"}, b"").retry_after == 4


def test_a_credit_makes_nothing_free_and_its_facts_have_a_date_and_a_source() -> None:
    fireworks = Fireworks()
    assert not any(model.free or model.local for model in fireworks.roster())
    assert fireworks.facts.date
    assert fireworks.facts.source
    assert all(model.id.startswith("accounts/fireworks/models/") for model in fireworks.roster())
