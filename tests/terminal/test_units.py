"""Numbers as people read them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routerpool.terminal.units import amount, duration, middle, money


@pytest.mark.parametrize(
    ("count", "shown"),
    [(None, "–"), (0, "0"), (4812, "4,812"), (99_999, "99,999"), (100_000, "100k"), (181_600, "182k"),
     (999_499, "999k"), (999_500, "1.00M"), (1_730_000, "1.73M"), (41_200_000, "41.2M"), (2_500_000_000, "2.50G")],
)  # fmt: skip
def test_an_amount_has_three_figures_from_a_hundred_thousand_on(count: int | None, shown: str) -> None:
    assert amount(count) == shown


@pytest.mark.parametrize(
    ("milliseconds", "shown"),
    [(None, "–"), (0.2, "0ms"), (88, "88ms"), (999.4, "999ms"), (999.6, "1.00s"), (2410, "2.41s"), (14_200, "14.2s"),
     (252_000, "4m 12s"), (33_960_000, "9h 26m"), (532_800_000, "6d 4h")],
)  # fmt: skip
def test_a_duration_has_two_units_at_most(milliseconds: float | None, shown: str) -> None:
    assert duration(milliseconds) == shown


@pytest.mark.parametrize(
    ("dollars", "shown"),
    [(None, "–"), (0, "$0.00"), (0.00001, "<$0.0001"), (0.0143, "$0.0143"), (0.1, "$0.10"), (1234.5, "$1,234.50")],
)
def test_money_below_ten_cents_has_four_decimals(dollars: float | None, shown: str) -> None:
    assert money(dollars) == shown


def test_a_name_is_cut_in_the_middle_of_the_model() -> None:
    assert middle("mistral/mistral-small-2603", 23) == "mistral/mis…-small-2603"
    assert middle("openai/gpt-5-nano", 23) == "openai/gpt-5-nano"


@given(st.text(max_size=80), st.integers(0, 60))
def test_a_cut_name_is_never_wider_than_asked(name: str, width: int) -> None:
    cut = middle(name, width)
    assert len(cut) <= max(width, 0)
    assert len(cut) == min(len(name), width)


@given(st.integers(0, 10**13))
def test_an_amount_is_never_wider_than_seven_characters(count: int) -> None:
    assert len(amount(count)) <= 7
