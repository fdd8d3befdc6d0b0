from __future__ import annotations

import gc
import pathlib

import numpy as np

from mlship.server import memory

SIZE = 64 * 2**20


def test_the_meter_sees_what_is_taken_and_given_back() -> None:
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


def test_limits_are_those_of_the_machine_at_most() -> None:
    assert 0 < memory.default_budget() < memory.limit()


def test_files_and_folders_are_weighed(tmp_path: pathlib.Path) -> None:
    (tmp_path / "a").write_bytes(b"12345")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "c").write_bytes(b"123")
    assert memory.on_disk(tmp_path / "a") == 5
    assert memory.on_disk(tmp_path) == 8
    assert memory.on_disk(tmp_path / "nothing") == 0
