import time

import pytest

from mlship.server import started


def test_phases_follow_each_other_and_add_up(monkeypatch):
    now = [10.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    start = started.Start("forked", 9.0, phases={"wait": 0.25})
    for phase, at in (("fork", 10.0), ("listening", 10.5), ("load", 10.5)):
        now[0] = at
        start.over(phase)
    assert start.fields() == {
        "how": "forked", "seconds": 1.5, "wait": 0.25, "fork": 0.75, "listening": 0.5, "load": 0.0,
    }  # fmt: skip


def test_a_cold_start_began_when_the_process_did():
    start = started.cold()
    assert start.how == "cold"
    assert start.begun < time.monotonic()
    assert start.on_ready() is None


def test_where_the_system_does_not_tell_it_begins_now(monkeypatch, tmp_path):
    monkeypatch.setattr(started.pathlib, "Path", lambda _: tmp_path / "missing")
    assert started.cold().begun == pytest.approx(time.monotonic(), abs=60)
