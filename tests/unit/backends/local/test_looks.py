"""Whose source is looked at when: those in use often, the others in turn, nobody for ever."""

import asyncio

import pytest

from mlship.backends.local import looks
from mlship.plan import observed


def key(number: int) -> observed.ServiceKey:
    return observed.ServiceKey("default", f"s{number}")


async def turns(held: looks.Looks, count: int) -> list[observed.ServiceKey]:
    async with asyncio.timeout(20):
        return [await held.next() for _ in range(count)]


@pytest.fixture
def rate(monkeypatch):
    monkeypatch.setattr(looks, "LOOKS_A_SECOND", 1000.0)


async def test_everybody_has_a_turn_before_anybody_has_a_second_one(rate):
    held = looks.Looks(every=0.001, in_use=lambda _: False)
    for number in range(100):
        held.add(key(number))
        held.add(key(number))
    first = await turns(held, 100)
    again = await turns(held, 100)
    assert set(first) == {key(number) for number in range(100)}
    assert again == first


@pytest.fixture
def clock(monkeypatch):
    """Time that passes by waiting alone, so that turns can be counted on any machine."""
    now = [0.0]

    async def wait(_: asyncio.Event, seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr(looks, "_now", lambda: now[0])
    monkeypatch.setattr(looks.aio, "wait_event", wait)


async def test_what_is_in_use_does_not_wait_for_the_others(clock):
    held = looks.Looks(every=0.01, in_use=lambda service: service == key(0))
    for number in range(1000):  # each of the others has a turn in 100 s
        held.add(key(number))
    found = await turns(held, 30)
    assert found.count(key(0)) > 15


async def test_what_comes_into_use_is_looked_at_soon():
    busy: set[observed.ServiceKey] = set()
    held = looks.Looks(every=0.01, in_use=busy.__contains__)
    for number in range(10_000):
        held.add(key(number))
    busy.add(key(5))
    held.used(key(5))
    assert key(5) in await turns(held, 100)


async def test_what_is_dropped_has_no_turn_and_a_waiting_reader_hears_of_what_comes():
    held = looks.Looks(every=0.01, in_use=lambda _: True)
    held.used(key(0))
    reading = asyncio.ensure_future(turns(held, 1))
    await asyncio.sleep(0)
    held.add(key(1))
    held.drop(key(1))
    held.add(key(2))
    assert await reading == [key(2)]
