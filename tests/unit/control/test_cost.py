"""What a change of one service costs is the same beside ten others and beside hundreds: counted, not timed.

Counted are the instructions that Python executes in both threads of the control plane and those of SQLite's machine,
from the write of the change until nothing is left to do. A scan over all services anywhere would show.
"""

from __future__ import annotations

import collections
import pathlib
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

import pytest
from bench import control_loop

_CHANGES = 7
_BENCH = str(pathlib.Path(control_loop.__file__).parent)


class Counter:
    """Counts instructions while ``counting``."""

    def __init__(self) -> None:
        self.counting = False
        self.places: collections.Counter[str] = collections.Counter()

    def trace(self, frame: FrameType, event: str, arg: object) -> Any:
        if not self.counting:
            return None
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        if event == "opcode" and not frame.f_code.co_filename.startswith(_BENCH):
            self.places[f"{frame.f_code.co_filename}:{frame.f_code.co_name}"] += 1
        return self.trace

    def step(self) -> int:
        if self.counting:
            self.places["sqlite"] += 1
        return 0


@pytest.fixture
def counter() -> Iterator[Counter]:
    made, before = Counter(), sys.gettrace()
    threading.settrace(made.trace)
    sys.settrace(made.trace)
    try:
        yield made
    finally:
        sys.settrace(before)
        threading.settrace(before)  # type: ignore[arg-type]


async def costs(
    counter: Counter, folder: pathlib.Path, services: int, *, scaled: bool
) -> list[collections.Counter[str]]:
    """The work of each of a few changes by place, beside so many services."""
    folder.mkdir()
    await control_loop.fill(folder, services, with_scalers=scaled)
    found = []
    async with control_loop.Plane(folder) as plane:
        await plane.database.run(lambda connection: connection.set_progress_handler(counter.step, 1))
        plane.start()
        await plane.settled(services)
        for number in range(_CHANGES):
            counter.places = collections.Counter()
            counter.counting = True
            await plane.change(f"s{number:05d}", 1)
            await plane.settled(0)
            counter.counting = False
            found.append(counter.places)
    return found


@pytest.mark.parametrize("scaled", [False, True], ids=["alone", "with ScaledObjects"])
async def test_a_change_costs_the_same_beside_any_number_of_services(counter, tmp_path, scaled):
    few = await costs(counter, tmp_path / "few", 10, scaled=scaled)
    many = await costs(counter, tmp_path / "many", 300, scaled=scaled)
    # How many looks a change takes is chance, within bounds; a walk over all services would be in each of them.
    most = {place: max(one[place] for one in few) for place in set().union(*few, *many)}
    least = {place: min(one[place] for one in many) for place in most}
    assert {place: (most[place], spent) for place, spent in least.items() if spent > most[place] + 500} == {}
    assert least["sqlite"] > 100
    assert sum(least.values()) > 10_000, "nothing was counted"
