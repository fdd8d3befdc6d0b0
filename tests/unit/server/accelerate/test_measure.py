"""Work that takes time on a clock of its own."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mlship.server.accelerate import measure


class Machine:
    """Its clocks go on when it works; ``disturbed`` takes wall time at some calls."""

    def __init__(self) -> None:
        self.computing = 0.0
        self.wall = 0.0
        self.calls = 0

    @property
    def clocks(self) -> measure.Clocks:
        return measure.Clocks(lambda: self.computing, lambda: self.wall)

    def work(self, seconds: float) -> Callable[[], None]:
        def run() -> None:
            self.calls += 1
            self.computing += seconds
            self.wall += seconds + (1.0 if self.calls % 3 else 0.0)

        return run


def test_gains_by_size_whatever_else_runs() -> None:
    machine = Machine()
    found = measure.gains(
        lambda size: (machine.work(0.004 * size), machine.work(0.002)), (1, 2), clocks=machine.clocks, seconds=1.0
    )
    assert found == {1: pytest.approx(2.0), 2: pytest.approx(4.0)}


def test_it_ends_with_its_time() -> None:
    machine = Machine()
    found = measure.gains(
        lambda size: (machine.work(1.0), machine.work(1.0)), (1, 2, 3), clocks=machine.clocks, seconds=2.0
    )
    assert (list(found), machine.calls) == ([1], 10)


def test_it_ends_where_there_is_nothing_to_compare() -> None:
    machine = Machine()
    found = measure.gains(
        lambda size: None if size > 1 else (machine.work(0.1), machine.work(0.1)),
        (1, 2, 3),
        clocks=machine.clocks,
        seconds=9.0,
    )
    assert list(found) == [1]
