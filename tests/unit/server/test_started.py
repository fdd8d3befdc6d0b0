import os
import socket
import time

import pytest

from mlship import errors, forks
from mlship.server import started


def test_phases_follow_each_other_and_add_up(monkeypatch):
    now = [10.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    start = started.Start("forked", 9.0, phases={"wait": 0.25})
    for phase, at in (("fork", 10.0), ("listening", 10.5)):
        now[0] = at
        start.over(phase)
    now[0] = 11.5
    start.over("load", last=("warm-up", 0.25))
    assert start.fields() == {
        "how": "forked", "seconds": 2.5, "wait": 0.25, "fork": 0.75, "listening": 0.5, "load": 0.75, "warm-up": 0.25,
    }  # fmt: skip


def test_a_part_is_no_longer_than_its_whole(monkeypatch):
    monkeypatch.setattr(time, "monotonic", lambda: 10.0)
    start = started.Start("cold", 9.0)
    start.over("load", last=("warm-up", 5.0))
    assert start.phases == {"load": 0.0, "warm-up": 1.0}


def test_whoever_holds_the_line_hears_each_phase_and_the_end():
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        start = started.cold(os.dup(theirs.fileno()))
        theirs.close()
        start.over("import")
        start.ready()
        words = [forks.decode(ours.recv(forks.LARGEST)) for _ in range(2)]
        assert [type(word) for word in words] == [forks.Underway, forks.Ready]
        assert [(word.how, list(word.phases)) for word in words] == [("cold", ["import"])] * 2
        assert ours.recv(1) == b"", "the line is closed when everything is said"


def test_a_line_that_nobody_holds_disturbs_nothing():
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.close()
    start = started.Start("forked", time.monotonic(), tell=started.on_line(theirs))
    start.over("load")
    start.ready()


def test_a_descriptor_that_is_no_socket_is_refused():
    with (
        open(os.devnull) as file,
        pytest.raises(errors.SpecError, match=f"--ready-fd {file.fileno()} is no open socket"),
    ):
        started.cold(file.fileno())


def test_a_cold_start_began_when_the_process_did():
    start = started.cold()
    assert start.how == "cold"
    assert start.begun < time.monotonic()
    assert start.ready() is None


def test_where_the_system_does_not_tell_it_begins_now(monkeypatch, tmp_path):
    monkeypatch.setattr(started.pathlib, "Path", lambda _: tmp_path / "missing")
    assert started.cold().begun == pytest.approx(time.monotonic(), abs=60)
