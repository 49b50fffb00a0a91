"""What bodies weigh: held from their first byte to their end, in all and of each caller, and given back to the byte."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routerpool.config.sections import LimitsConfig
from routerpool.config.words import Size
from routerpool.engine.load import Bodies, Body
from routerpool.errors import RequestError

LIMITS = LimitsConfig(request_bytes=Size(10), body_bytes=Size(100), body_bytes_per_caller=Size(40))


def test_a_caller_and_all_of_them_have_their_bounds() -> None:
    bodies = Bodies(LIMITS)
    for caller in "abc":
        bodies.begin(caller).grow(33)
    with pytest.raises(RequestError, match="body_bytes_per_caller") as raised:
        bodies.begin("a").grow(8)
    assert (raised.value.status, raised.value.code, raised.value.retry_after) == (503, "overloaded", 1.0)
    with pytest.raises(RequestError, match=r"limits\.body_bytes\)"):
        bodies.begin("d").grow(2)
    assert bodies.status() == {"bytes": 99, "refused": 2}


def test_a_single_request_of_the_largest_size_fits_whatever_the_bounds_say() -> None:
    small = Size(1)
    bodies = Bodies(LimitsConfig(request_bytes=Size(10), body_bytes=small, body_bytes_per_caller=small))
    bodies.begin("a").grow(10)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 6), st.integers(0, 30))))
def test_what_is_held_is_the_sum_of_what_is_not_ended_and_never_above_the_bounds(
    steps: list[tuple[str, int, int]],
) -> None:
    bodies = Bodies(LIMITS)
    known: dict[tuple[str, int], Body] = {}
    for caller, number, size in steps:
        body = known.setdefault((caller, number), bodies.begin(caller))
        if size == 0:
            body.end()
        else:
            with suppress(RequestError):
                body.grow(size)
        assert bodies.held == sum(body.size for body in known.values()) <= 100
        for name in "abc":
            assert sum(body.size for (other, _), body in known.items() if other == name) <= 40
    for body in known.values():
        body.end()
        body.end()
    assert (bodies.held, bodies._held) == (0, {})
