"""The catalog's snapshot: swapped whole, with prices that others know, and watched by who wants to hear of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from routerpool import Model, OpenAIProvider
from routerpool.planning.catalog import Catalog
from routerpool.types import Candidate, Prices

LIST = Prices(input=1.0, output=2.0)
OWN = Prices(input=3.0, output=4.0)


class Lab(OpenAIProvider):
    base_url = "http://127.0.0.1:9/v1"
    models = (Model(id="bare"), Model(id="own", prices=OWN))


@pytest.fixture
def catalog() -> Catalog:
    return Catalog({"lab": Lab(name="lab")})


def prices(catalog: Catalog) -> dict[str, Prices]:
    return {candidate.key: candidate.model.prices for candidate in catalog.snapshot.candidates}


def test_a_listed_price_is_for_models_that_bring_none(catalog: Catalog) -> None:
    catalog.price({"lab/bare": LIST, "lab/own": LIST, "lab/gone": LIST})

    assert prices(catalog) == {"lab/bare": LIST, "lab/own": OWN}
    assert catalog.snapshot.by_key["lab/bare"].model.prices == LIST


def test_a_stated_price_goes_before_all(catalog: Catalog) -> None:
    stated = Prices(input=5.0)
    catalog.price({"lab/bare": LIST}, stated={"lab/bare": stated, "lab/own": stated})

    assert prices(catalog) == {"lab/bare": stated, "lab/own": stated}


def test_prices_hold_for_models_that_come_later_and_beside_what_traffic_shows(catalog: Catalog) -> None:
    catalog.price({"lab/bare": LIST, "lab/later": LIST})
    catalog.learn(Candidate(provider="lab", model=Model(id="bare")), "tools", True)
    catalog.replace("lab", (Model(id="bare"), Model(id="later"), Model(id="own")))

    assert prices(catalog) == {"lab/bare": LIST, "lab/later": LIST, "lab/own": Prices()}
    assert catalog.snapshot.by_key["lab/bare"].model.capabilities == {"tools": True}


def test_the_last_prices_replace_those_before(catalog: Catalog) -> None:
    catalog.price({"lab/bare": LIST})
    catalog.price({})

    assert prices(catalog)["lab/bare"] == Prices()


def test_the_same_prices_again_make_no_new_snapshot(catalog: Catalog) -> None:
    catalog.price({"lab/bare": LIST})
    before = catalog.snapshot
    catalog.price({"lab/bare": Prices(input=1.0, output=2.0)})

    assert catalog.snapshot is before


def test_a_watcher_hears_of_every_new_snapshot_until_it_leaves(catalog: Catalog) -> None:
    seen: list[Sequence[Any]] = []
    leave = catalog.watch(lambda: seen.append(catalog.snapshot.candidates))
    catalog.price({"lab/bare": LIST})
    catalog.price({"lab/bare": LIST})
    catalog.learn(catalog.snapshot.candidates[0], "vision", False)
    catalog.replace("lab", (Model(id="new"),))
    catalog.replace("lab", (Model(id="new"),))
    leave()
    catalog.replace("lab", ())

    assert [len(candidates) for candidates in seen] == [2, 2, 1]
    assert seen[0][0].model.prices == LIST
