"""Admission: no more inside than places, no place lost, the more important first, and a queue with an end."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest
from attrs import define, field
from hypothesis import given, settings
from hypothesis import strategies as st

from routerpool.config.sections import LimitsConfig
from routerpool.engine.admission import Admission
from routerpool.engine.deadline import Deadline, DeadlinePassed
from routerpool.errors import RequestError


class SkippingLoop(asyncio.SelectorEventLoop):
    """A loop whose clock jumps to the next timer when nothing else is to be done, so that waiting takes no time."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def time(self) -> float:
        return self.now

    def _run_once(self) -> None:
        if not self._ready and self._scheduled:
            self.now = max(self.now, self._scheduled[0].when())
        super()._run_once()


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    with asyncio.Runner(loop_factory=SkippingLoop) as runner:
        runner.run(main())


async def settle() -> None:
    """Let everybody go on who can, without letting time pass."""
    for _ in range(6):
        await asyncio.sleep(0)


def places(concurrent: int = 1, *, waiting: int = 100, streams: int = 100, seconds: float = 10.0) -> Admission:
    return Admission(
        LimitsConfig(max_concurrent=concurrent, max_waiting=waiting, max_streams=streams, queue_seconds=seconds)
    )


def entering(admission: Admission, **how: Any) -> asyncio.Task[None]:
    async def enter() -> None:
        await admission.enter(Deadline(), **how)

    return asyncio.create_task(enter())


async def refused(entry: Awaitable[None]) -> RequestError:
    with pytest.raises(RequestError) as raised:
        await entry
    return raised.value


# One thing at a time


def test_a_free_place_is_taken_at_once_and_the_next_one_waits() -> None:
    async def main() -> None:
        admission = places(2)
        first, second, third = (entering(admission) for _ in range(3))
        await settle()
        assert [one.done() for one in (first, second, third)] == [True, True, False]
        assert admission.status() == {"running": 2, "waiting": 1, "streams": 0, "refused": 0}
        admission.leave()
        await third
        assert admission.status() == {"running": 2, "waiting": 0, "streams": 0, "refused": 0}

    run(main)


def test_the_more_important_goes_first_and_of_equals_who_came_first() -> None:
    async def main() -> None:
        admission, served = places(1), list[str]()
        await entering(admission)

        async def come(name: str, priority: str) -> None:
            await admission.enter(Deadline(), priority=priority)
            served.append(name)
            admission.leave()

        arrivals = [("l1", "low"), ("n1", "normal"), ("l2", "low"), ("h1", "high"), ("n2", "normal"), ("h2", "high")]
        tasks = []
        for name, priority in arrivals:
            tasks.append(asyncio.create_task(come(name, priority)))
            await settle()
        admission.leave()
        await asyncio.gather(*tasks)
        assert served == ["h1", "h2", "n1", "n2", "l1", "l2"]
        assert admission.running == 0

    run(main)


def test_nobody_overtakes_those_who_wait() -> None:
    async def main() -> None:
        admission, order = places(1), list[str]()
        await entering(admission)
        old = entering(admission, priority="low")
        old.add_done_callback(lambda _: order.append("old"))
        await settle()
        admission.leave()  # the place is given to the one who waits, who has not run yet
        new = entering(admission, priority="high")
        new.add_done_callback(lambda _: order.append("new"))
        await settle()
        assert order == ["old"]
        admission.leave()
        await new
        assert order == ["old", "new"]

    run(main)


def test_a_full_queue_refuses_at_once_with_a_time_to_come_back() -> None:
    async def main() -> None:
        admission = places(1, waiting=2)
        await entering(admission)
        waiting = [entering(admission) for _ in range(2)]
        await settle()
        error = await refused(entering(admission, priority="high"))
        assert (error.code, error.status, error.retry_after) == ("request_queue_full", 429, 1.0)
        assert admission.status() == {"running": 1, "waiting": 2, "streams": 0, "refused": 1}
        for task in waiting:
            task.cancel()

    run(main)


def test_without_a_queue_who_finds_no_place_is_refused() -> None:
    async def main() -> None:
        admission = places(1, waiting=0)
        await entering(admission)
        assert (await refused(entering(admission))).code == "request_queue_full"
        admission.leave()
        await entering(admission)

    run(main)


@pytest.mark.parametrize(("asked", "waited"), [(None, 10.0), (3.0, 3.0), (60.0, 10.0), (0.0, 0.0)])
def test_who_waits_too_long_is_told_so_and_may_ask_for_less_but_not_for_more(
    asked: float | None, waited: float
) -> None:
    async def main() -> None:
        admission = places(1, seconds=10.0)
        await entering(admission)
        error = await refused(entering(admission, seconds=asked))
        assert asyncio.get_running_loop().time() == pytest.approx(waited, abs=0.01)
        assert (error.code, error.retry_after) == ("request_queue_timeout", 1.0)
        assert f"{waited:g} s" in error.message
        assert admission.status() == {"running": 1, "waiting": 0, "streams": 0, "refused": 1}

    run(main)


def test_who_leaves_while_waiting_gives_up_the_place_in_the_queue() -> None:
    async def main() -> None:
        admission, deadline = places(1), Deadline()
        await entering(admission)
        waiting = asyncio.create_task(admission.enter(deadline))
        await settle()
        deadline.leave("client_gone")
        with pytest.raises(DeadlinePassed, match="client_gone"):
            await waiting
        assert admission.status() == {"running": 1, "waiting": 0, "streams": 0, "refused": 0}

    run(main)


def test_an_open_stream_gives_its_place_to_the_next_one() -> None:
    async def main() -> None:
        admission = places(1)
        await entering(admission)
        next_one = entering(admission)
        await settle()
        admission.commit()
        await next_one
        assert admission.status() == {"running": 1, "waiting": 0, "streams": 1, "refused": 0}
        admission.closed()
        admission.leave()
        assert admission.status() == {"running": 0, "waiting": 0, "streams": 0, "refused": 0}

    run(main)


def test_who_comes_while_all_streams_are_taken_is_refused() -> None:
    async def main() -> None:
        admission = places(1, streams=1)
        await entering(admission)
        admission.commit()
        assert (await refused(entering(admission))).code == "request_queue_full"
        admission.closed()
        await entering(admission)

    run(main)


def test_never_more_streams_are_open_than_allowed() -> None:
    async def main() -> None:
        admission = places(1, streams=2)
        tasks = [entering(admission) for _ in range(6)]
        for _ in range(6):
            await settle()
            if admission.running:
                admission.commit()
            assert admission.streams <= 2
        for task in tasks:
            task.cancel()

    run(main)


# A place that is given in the very moment in which nobody wants it any more


ENDS: dict[str, Callable[[asyncio.Task[None], Deadline], None]] = {
    "cancelled": lambda task, _: task.cancel() and None,
    "left": lambda _, deadline: deadline.leave("client_gone"),
}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("given_first", [pytest.param(True, id="given first"), pytest.param(False, id="ended first")])
@pytest.mark.parametrize("another_waits", [True, False], ids=["another waits", "nobody else waits"])
def test_a_place_given_to_one_who_is_just_leaving_is_not_lost(end: str, given_first: bool, another_waits: bool) -> None:
    async def main() -> None:
        admission, deadline = places(1), Deadline()
        await entering(admission)
        leaving = asyncio.create_task(admission.enter(deadline))
        await settle()
        other = entering(admission) if another_waits else None
        await settle()
        if given_first:
            admission.leave()
        ENDS[end](leaving, deadline)
        if not given_first:
            admission.leave()
        with pytest.raises((asyncio.CancelledError, DeadlinePassed)):
            await leaving
        await settle()
        if other is not None:
            assert other.done(), "the place went on to the next one"
            await other
            admission.leave()
        assert admission.status() == {"running": 0, "waiting": 0, "streams": 0, "refused": 0}

    run(main)


# Whatever happens, in whatever order


@define
class Guest:
    """One request at the door."""

    priority: str
    deadline: Deadline
    task: asyncio.Task[None]
    stage: str = "entering"

    def look(self) -> None:
        """Note that it is inside, or was turned away."""
        if self.stage == "entering" and self.task.done():
            if self.task.cancelled():
                self.stage = "away"
            elif self.task.exception() is None:
                self.stage = "inside"
            else:
                error = self.task.exception()
                assert isinstance(error, (RequestError, DeadlinePassed)), repr(error)
                self.stage = "away"


@define
class House:
    """A model of the door beside the real one."""

    admission: Admission
    limits: LimitsConfig
    guests: list[Guest] = field(factory=list)

    def at(self, stage: str) -> list[Guest]:
        return [guest for guest in self.guests if guest.stage == stage]

    def check(self) -> None:
        status = self.admission.status()
        assert 0 <= status["running"] <= self.limits.max_concurrent
        assert 0 <= status["waiting"] <= self.limits.max_waiting
        assert status["streams"] == len(self.at("stream"))

    def settled(self) -> None:
        """What holds once everybody has gone on who could."""
        for guest in self.guests:
            guest.look()
        self.check()
        assert self.admission.running == len(self.at("inside"))
        assert self.admission.waiting == len(self.at("entering"))
        assert not self.at("entering") or self.admission.running == self.limits.max_concurrent, "a free place is given"


ACTIONS = st.sampled_from(["come", "come", "come", "go", "go", "commit", "close", "cancel", "leave", "settle", "wait"])


@settings(max_examples=250, deadline=None)
@given(
    actions=st.lists(ACTIONS, max_size=60),
    seed=st.integers(0, 2**32),
    concurrent=st.integers(1, 3),
    waiting=st.integers(0, 4),
)
def test_no_place_is_lost_and_none_is_given_twice(actions: list[str], seed: int, concurrent: int, waiting: int) -> None:
    dice = random.Random(seed)

    async def main() -> None:
        limits = LimitsConfig(max_concurrent=concurrent, max_waiting=waiting, max_streams=10_000, queue_seconds=5.0)
        house = House(Admission(limits), limits)
        for action in actions:
            await act(house, action, dice)
            house.check()
        await settle()
        house.settled()
        for guest in house.at("entering"):
            guest.task.cancel()
        for _ in house.at("inside"):
            house.admission.leave()
        for _ in house.at("stream"):
            house.admission.closed()
        await settle()
        for guest in house.guests:
            if guest.stage == "entering":
                guest.look()
                if guest.stage == "inside":  # given a place in the moment of its cancelling, and it stayed
                    house.admission.leave()
        assert house.admission.running == house.admission.waiting == house.admission.streams == 0
        again = [entering(house.admission) for _ in range(concurrent)]
        await settle()
        assert all(task.done() for task in again), "all places are there"

    run(main)


async def act(house: House, action: str, dice: random.Random) -> None:
    """One event; without a pause behind it, so that several fall into one turn of the loop."""
    inside, streams, entering_ = house.at("inside"), house.at("stream"), house.at("entering")
    if action == "come":
        priority, deadline = dice.choice(["high", "normal", "low"]), Deadline()
        seconds = dice.choice([None, None, 0.0, 1.0])
        task = asyncio.create_task(house.admission.enter(deadline, priority=priority, seconds=seconds))
        house.guests.append(Guest(priority, deadline, task))
    elif action == "go" and inside:
        dice.choice(inside).stage = "away"
        house.admission.leave()
    elif action == "commit" and inside:
        dice.choice(inside).stage = "stream"
        house.admission.commit()
    elif action == "close" and streams:
        dice.choice(streams).stage = "away"
        house.admission.closed()
    elif action == "cancel" and entering_:
        dice.choice(entering_).task.cancel()
    elif action == "leave" and entering_:
        dice.choice(entering_).deadline.leave("client_gone")
    elif action == "settle":
        await settle()
        house.settled()
    elif action == "wait":
        await asyncio.sleep(dice.choice([0.5, 1.0, 6.0]))
        await settle()
        house.settled()
