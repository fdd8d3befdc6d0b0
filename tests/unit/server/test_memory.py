from __future__ import annotations

import gc
import pathlib

import numpy as np
import pytest

from mlship.server import memory

SIZE = 64 * 2**20


def test_the_meter_sees_what_is_taken_and_given_back() -> None:
    memory.Trimmer().trim()  # what tests before this one have left is none of its business
    memory.Trimmer().trim()  # what tests before this one have left is none of its business
    meter = memory.Meter()
    before = meter.read()
    block = np.ones(SIZE, dtype=np.uint8)
    taken = meter.read() - before
    assert 0.8 * SIZE < taken < 1.2 * SIZE
    del block
    memory.Trimmer().trim()
    assert meter.read() - before < 0.2 * SIZE
    meter.calibrate()
    assert abs(meter.read() - before) < 0.2 * SIZE


def test_cycles_that_are_out_of_sight_are_found_when_everything_is_looked_at_and_that_not_too_often() -> None:
    class Held:
        def __init__(self) -> None:
            self.me = self
            self.block = np.ones(SIZE, dtype=np.uint8)

    meter, trimmer = memory.Meter(), memory.Trimmer()
    before = meter.read()
    Held()
    gc.freeze()
    gc.collect()
    assert meter.read() - before > 0.8 * SIZE
    assert trimmer.thaw()
    assert meter.read() - before < 0.2 * SIZE
    assert not trimmer.thaw()
    gc.unfreeze()


def test_looks_that_find_little_become_rare() -> None:
    pauses = [memory.pause(0.1, fruitless=fruitless) for fruitless in (0, 1, 2, 40)]
    assert pauses == [5.0, 10.0, 20.0, 3600.0]


def test_a_look_that_found_nothing_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(memory, "pause", lambda took, *, fruitless: asked.append(fruitless) or 0.0)
    trimmer = memory.Trimmer()
    trimmer.thaw()  # what the tests before have left
    del asked[:]
    trimmer.thaw()
    trimmer.thaw()
    made: list[object] = [np.ones(SIZE, dtype=np.uint8)]
    made.append(made)
    gc.freeze()
    del made
    trimmer.thaw()
    assert asked[1] == asked[0] + 1
    assert asked[2] == 0
    gc.unfreeze()


def test_limits_are_those_of_the_machine_at_most() -> None:
    assert 0 < memory.default_budget() < memory.limit()


def test_files_and_folders_are_weighed(tmp_path: pathlib.Path) -> None:
    (tmp_path / "a").write_bytes(b"12345")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "c").write_bytes(b"123")
    assert memory.on_disk(tmp_path / "a") == 5
    assert memory.on_disk(tmp_path) == 8
    assert memory.on_disk(tmp_path / "nothing") == 0
