from __future__ import annotations

import asyncio
from typing import Any

import pytest

from mlship import errors
from mlship.server import waiting

KEY, OTHER = ("a", "1"), ("b", "1")


def soon() -> float:
    return asyncio.get_running_loop().time() + 60


async def test_everybody_is_told_once_and_who_left_is_told_nothing() -> None:
    room, told = waiting.Room(each=3, total=10), []
    waiters = [room.enter(KEY, deadline=soon(), done=lambda outcome, n=n: told.append(n)) for n in range(3)]  # type: ignore[misc]
    other = room.enter(OTHER, deadline=soon(), done=told.append)
    room.leave(waiters[1])
    room.leave(waiters[1])
    assert room.waiting(KEY) == 2
    room.tell(KEY, errors.NotReady("no"))
    room.tell(KEY, errors.NotReady("again"))
    assert told == [0, 2]
    room.leave(waiters[0])
    room.leave(other)
    assert room.waiting(KEY) == room.waiting(OTHER) == 0


async def test_one_model_does_not_take_the_places_of_the_others_and_there_is_an_end() -> None:
    room = waiting.Room(each=2, total=3)
    has_come = room.expect(KEY)
    room.enter(KEY, deadline=soon(), done=lambda outcome: None)
    assert room.full(KEY)
    with pytest.raises(errors.Overloaded, match="is being loaded") as caught:
        room.enter(KEY, deadline=soon(), done=lambda outcome: None)
    assert caught.value.retry_after
    last = room.enter(OTHER, deadline=soon(), done=lambda outcome: None)
    assert room.full(OTHER)
    with pytest.raises(errors.Overloaded):
        room.expect(OTHER)
    has_come()
    assert not room.full(OTHER)
    room.leave(last)
    room.tell_all(errors.NotReady("the end"))
    assert room.waiting(KEY) == 0


async def test_time_runs_out_while_waiting() -> None:
    room = waiting.Room(each=2, total=3)
    future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    room.enter(KEY, deadline=0.0, done=future.set_result)
    assert not future.done()
    error = await future
    assert error.reason is errors.Reason.DEADLINE
    assert room.waiting(KEY) == 0
