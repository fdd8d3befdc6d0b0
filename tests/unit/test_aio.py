"""Tasks have owners, failures reach somebody, and nothing loses a cancellation."""

from __future__ import annotations

import asyncio

import pytest

from mlship import aio


@pytest.mark.parametrize("turns", range(4))
async def test_a_cancellation_at_the_moment_of_the_event_is_not_lost(turns):
    event = asyncio.Event()

    async def wait_and_go_on() -> None:
        await aio.wait_event(event, 60)
        await asyncio.Event().wait()

    task = asyncio.ensure_future(wait_and_go_on())
    for _ in range(3):
        await asyncio.sleep(0)
    event.set()
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task], timeout=5)
    assert task.cancelled()


async def test_waiting_for_an_event():
    event = asyncio.Event()
    assert await aio.wait_event(event, 0.001) is False
    event.set()
    assert await aio.wait_event(event, 0) is True


async def test_a_failure_reaches_the_owner_and_the_others_go_on():
    failures: list[tuple[str, BaseException]] = []
    async with aio.tasks(lambda name, error: failures.append((name, error))) as owner:
        going_on = asyncio.Event()

        async def fail() -> None:
            raise ValueError("no")

        async def go_on() -> None:
            going_on.set()
            await asyncio.Event().wait()

        owner.start(fail(), name="failing")
        other = owner.start(go_on(), name="other")
        await going_on.wait()
        assert [(name, str(error)) for name, error in failures] == [("failing", "no")]
        assert not other.done()
    assert other.cancelled()
    with pytest.raises(RuntimeError, match="closed"):
        owner.start(go_on(), name="late")
