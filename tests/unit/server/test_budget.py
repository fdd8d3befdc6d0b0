"""The budget with a process whose size is said by the test."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable, Iterator, Sequence

import pytest

from mlship.server import budget, memory, paging, worker

MIB = 2**20
BASE = 100 * MIB


class World:
    """Loaded models by name; those that leave give back ``returns`` of their size."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, aside: worker.Workers, total: int) -> None:
        self.size = BASE
        self.pages: dict[Hashable, paging.Page] = {}
        self.returns = 1.0
        self.looks = 0
        monkeypatch.setattr(memory.Meter, "read", lambda meter: self.size)
        monkeypatch.setattr(memory.Trimmer, "thaw", lambda trimmer: self.thaw())
        self.budget = budget.Budget(total, pages=lambda: list(self.pages.values()), evict=self.evict, aside=aside)

    def thaw(self) -> bool:
        self.looks += 1
        return True

    async def evict(self, keys: Sequence[Hashable]) -> None:
        leaving = list(keys)
        await asyncio.sleep(0)
        for key in leaving:
            self.size -= int(self.pages.pop(key).size * self.returns)

    async def load(self, key: str, size: int) -> paging.Verdict:
        verdict = await self.budget.admit(key, size, wanted=lambda: False)
        if verdict is paging.Verdict.GO:
            self.size += size
            grown = self.budget.end(key, expected=size)
            self.pages[key] = paging.Page(key, grown, used=len(self.pages) + self.size)
        return verdict


@pytest.fixture
def aside() -> Iterator[worker.Workers]:
    made = worker.Workers(1)
    yield made
    assert made.close(10)


async def test_it_holds_whatever_comes(monkeypatch: pytest.MonkeyPatch, aside: worker.Workers) -> None:
    world = World(monkeypatch, aside, BASE + 50 * MIB)
    for number in range(20):
        assert await world.load(str(number), 10 * MIB) is paging.Verdict.GO
        assert world.size <= world.budget.total
    assert "19" in world.pages
    assert world.looks == 0
    assert await world.load("large", 51 * MIB + 4 * MIB) is paging.Verdict.NEVER


async def test_loads_that_begin_together_do_not_count_the_same_bytes_twice(
    monkeypatch: pytest.MonkeyPatch, aside: worker.Workers
) -> None:
    world = World(monkeypatch, aside, BASE + 50 * MIB)
    assert await world.budget.admit("a", 30 * MIB, wanted=lambda: True) is paging.Verdict.GO
    second = asyncio.create_task(world.budget.admit("b", 30 * MIB, wanted=lambda: True))
    await asyncio.sleep(0.05)
    assert not second.done()
    world.size += 10 * MIB
    assert world.budget.end("a", expected=30 * MIB) == 10 * MIB
    assert await second is paging.Verdict.GO


async def test_memory_that_does_not_come_back_is_looked_for_and_then_counted_as_room(
    monkeypatch: pytest.MonkeyPatch, aside: worker.Workers
) -> None:
    world = World(monkeypatch, aside, BASE + 50 * MIB)
    world.returns = 0.0
    for number in range(5):
        await world.load(str(number), 10 * MIB)
    assert await world.load("more", 10 * MIB) is paging.Verdict.GO
    assert world.looks == 1
    assert world.budget.free_for_models() > 40 * MIB


async def test_growth_that_is_no_models_makes_models_leave(
    monkeypatch: pytest.MonkeyPatch, aside: worker.Workers
) -> None:
    world = World(monkeypatch, aside, BASE + 50 * MIB)
    for number in range(4):
        await world.load(str(number), 10 * MIB)
    world.size += 30 * MIB
    await world.budget.keep()
    assert world.size <= world.budget.total
    assert "3" in world.pages


async def test_a_load_that_fails_takes_no_room_that_others_have_left(
    monkeypatch: pytest.MonkeyPatch, aside: worker.Workers
) -> None:
    world = World(monkeypatch, aside, BASE + 50 * MIB)
    world.returns = 0.0
    for number in range(6):
        await world.load(str(number), 10 * MIB)
    assert await world.budget.admit("bad", 10 * MIB, wanted=lambda: False) is paging.Verdict.GO
    free = world.budget.free_for_models()
    world.budget.end("bad", expected=0)
    assert world.budget.free_for_models() == free
    assert await world.budget.admit("good", 4 * MIB, wanted=lambda: False) is paging.Verdict.GO
    free = world.budget.free_for_models()
    world.budget.end("good", expected=4 * MIB)
    assert world.budget.free_for_models() == free - 4 * MIB


async def test_what_never_comes_back_is_room_up_to_a_tenth_and_no_more(
    monkeypatch: pytest.MonkeyPatch, aside: worker.Workers
) -> None:
    world = World(monkeypatch, aside, BASE + 50 * MIB)
    world.returns = 0.0
    verdicts = [await world.load(str(number), 10 * MIB) for number in range(30)]
    assert verdicts[-1] is paging.Verdict.NEVER
    assert world.size <= 1.1 * world.budget.total + 20 * MIB


async def test_two_that_need_room_at_once_have_it_made_one_after_the_other(
    monkeypatch: pytest.MonkeyPatch, aside: worker.Workers
) -> None:
    world = World(monkeypatch, aside, BASE + 50 * MIB)
    for number in range(5):
        await world.load(str(number), 10 * MIB)
    both = await asyncio.gather(*(world.budget.admit(key, 20 * MIB, wanted=lambda: True) for key in ("a", "b")))
    assert both == [paging.Verdict.GO, paging.Verdict.GO]
    assert world.size + 40 * MIB <= world.budget.total
