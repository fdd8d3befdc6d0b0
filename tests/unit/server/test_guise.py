import os
import pathlib
import subprocess
import sys

import pytest

from mlship import forks
from mlship.server import guise

pytestmark = pytest.mark.skipif(not pathlib.Path("/proc/self/environ").exists(), reason="this system has no /proc")

PROGRAM = """
import os, sys
from mlship.server import guise
place = guise.find()
place.wear({title!r}, {marks!r})
print("worn", flush=True)
sys.stdin.read()
"""


def run(title, marks, room=True, text=PROGRAM):
    environ = {**os.environ, "BESIDE": "stays", **({forks.ROOM: " " * forks.ROOM_BYTES} if room else {})}
    return subprocess.Popen(
        [sys.executable, "-c", text.format(title=title, marks=marks), "-" * forks.TITLE_BYTES],
        env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def shown(pid, what):
    return [part for part in pathlib.Path(f"/proc/{pid}/{what}").read_bytes().decode().split("\0") if part]


def test_the_kernel_shows_what_was_worn():
    with run(["python", "-m", "other", "é"], {"MLSHIP_REPLICA": "h/k", "MLSHIP_JOB": "j"}) as process:
        assert process.stdout.readline() == "worn\n"
        environ = shown(process.pid, "environ")
        assert shown(process.pid, "cmdline") == ["python", "-m", "other", "é"]
        assert {"MLSHIP_REPLICA=h/k", "MLSHIP_JOB=j", "BESIDE=stays"} <= set(environ)
        assert not any(entry.startswith(forks.ROOM) for entry in environ)
        process.stdin.close()
        assert process.wait(30) == 0


def test_a_title_that_is_too_long_is_cut_off():
    with run(["x" * 20_000], {}) as process:
        assert process.stdout.readline() == "worn\n"
        (title,) = shown(process.pid, "cmdline")
        assert title == "x" * len(title)
        assert len(title) > forks.TITLE_BYTES
        process.stdin.close()


def test_marks_that_do_not_fit_are_refused():
    with run(["x"], {"A": "b" * 2 * forks.ROOM_BYTES}) as process:
        assert "and there is room for" in process.communicate(timeout=60)[1]


def test_a_process_that_was_started_without_room_has_no_guise():
    with run(["x"], {}, room=False) as process:
        assert "there is no room" in process.communicate(timeout=60)[1]


def test_where_the_kernel_tells_no_addresses_there_is_none(tmp_path, monkeypatch):
    (tmp_path / "stat").write_text("1 (python) S " + "0 " * 49)
    monkeypatch.setattr(guise, "_PROC", tmp_path)
    with pytest.raises(OSError, match="does not tell"):
        guise.find()


def test_addresses_that_hold_something_else_are_not_believed(tmp_path, monkeypatch):
    (tmp_path / "stat").write_text(pathlib.Path("/proc/self/stat").read_text())
    (tmp_path / "cmdline").write_text("something else")
    (tmp_path / "environ").write_text("something else")
    monkeypatch.setattr(guise, "_PROC", tmp_path)
    with pytest.raises(OSError, match="somewhere else"):
        guise.find()
