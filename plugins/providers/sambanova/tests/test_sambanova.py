"""SambaNova's own forms: its limits, its queue, models that are gone."""

from __future__ import annotations

from routerpool_sambanova import SambaNova

from routerpool.testing import ProviderContract


class TestSambaNova(ProviderContract):
    plugin = SambaNova
    forms = "forms.yaml"


def test_all_models_share_the_days_tokens_of_the_account() -> None:
    assert {model.pools for model in SambaNova().roster()} == {frozenset({"sambanova::day"})}


def test_a_trial_credit_makes_nothing_free() -> None:
    assert not any(model.free or model.local for model in SambaNova().roster())


def test_its_facts_have_a_date_and_a_source() -> None:
    data = SambaNova().facts
    assert data.date
    assert data.source
    assert all(pool.date and pool.source for pool in data.pools)
