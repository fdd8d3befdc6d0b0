import os
import signal
import subprocess
import sys

import psutil
import pytest

from mlship.backends.local import pids


@pytest.fixture
def sleeper():
    made = []

    def make(**environ):
        code = "print(1, flush=True); import time; time.sleep(600)"
        made.append(
            subprocess.Popen(
                [sys.executable, "-S", "-c", code], env=environ, start_new_session=True, stdout=subprocess.PIPE
            )
        )
        made[-1].stdout.readline()
        return made[-1]

    yield make
    for process in made:
        process.kill()
        process.wait()
        process.stdout.close()


def test_a_process_has_one_birth_until_it_ends(sleeper):
    process = sleeper()
    born = pids.born(process.pid)
    assert born
    assert pids.born(process.pid) == born
    assert pids.born(os.getpid()) not in (None, born)
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert pids.born(process.pid) is None  # a zombie
    process.wait()
    assert pids.born(process.pid) is None


def test_without_proc_psutil_tells(sleeper, monkeypatch, tmp_path):
    process = sleeper(MLSHIP_REPLICA="home/key")
    monkeypatch.setattr(pids, "_PROC", tmp_path)
    assert pids.born(process.pid)
    assert [found.pid for found in pids.marked("home") if found.key == "key"] == [process.pid]
    process.kill()
    process.wait()
    assert pids.born(process.pid) is None


def test_marked_processes_are_found_with_what_they_carry(sleeper):
    ours, other = sleeper(MLSHIP_REPLICA="h1/ns/a-0", PORT="80"), sleeper(MLSHIP_REPLICA="h2/ns/a-0")
    (found,) = pids.marked("h1")
    assert (found.pid, found.key, found.leader, found.group) == (ours.pid, "ns/a-0", True, ours.pid)
    assert (found.born, found.environ["PORT"]) == (pids.born(ours.pid), "80")
    assert pids.kill_marked("h1", "another") == 0
    assert pids.kill_marked("h1", "ns/a-0") == 1
    assert ours.wait() == -signal.SIGKILL
    assert psutil.pid_exists(other.pid)


def test_signals_reach_the_group_and_an_empty_group_is_fine(sleeper):
    process = sleeper()
    pids.signal_group(process.pid, signal.SIGTERM)
    assert process.wait() == -signal.SIGTERM
    pids.signal_group(process.pid, signal.SIGTERM)
