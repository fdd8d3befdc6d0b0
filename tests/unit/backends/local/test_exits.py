import asyncio
import os
import signal
import socket
import subprocess
import sys

import pytest

from mlship import forks
from mlship.backends.local import exits, pids


def child(code="import time; time.sleep(600)"):
    made = subprocess.Popen([sys.executable, "-S", "-c", code], start_new_session=True)
    made.returncode = 0  # reaped by the watch
    return made.pid


@pytest.fixture(params=["pidfd", "polling"])
def way(request, monkeypatch):
    if request.param == "polling":

        def refused(_):
            raise OSError(24, "Too many open files")

        monkeypatch.setattr(os, "pidfd_open", refused)
        monkeypatch.setattr(exits, "POLL", 0.01)
    elif not hasattr(os, "pidfd_open"):
        pytest.skip("this system has no pidfds")


def watch(pid, born=None):
    told = asyncio.get_running_loop().create_future()
    made = exits.ExitWatch(pid, born or pids.born(pid) or "", lambda *how: told.set_result(how))
    return made, asyncio.wait_for(told, 30)


@pytest.mark.usefixtures("way")
async def test_the_signal_of_a_child_is_told_and_it_is_reaped():
    pid = child()
    _, told = watch(pid)
    os.kill(pid, signal.SIGKILL)
    assert await told == (None, signal.SIGKILL)
    with pytest.raises(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


@pytest.mark.usefixtures("way")
async def test_the_exit_code_of_a_child_that_has_ended_before_is_told():
    pid = child("raise SystemExit(3)")
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert await watch(pid)[1] == (3, None)


@pytest.mark.usefixtures("way")
async def test_the_end_of_a_process_that_is_not_our_child_is_told_without_a_code():
    code = (
        "import subprocess, sys\n"
        "print(subprocess.Popen([sys.executable, '-S', '-c', 'import time; time.sleep(600)'],"
        " stdout=subprocess.DEVNULL).pid)"
    )
    pid = int(subprocess.check_output([sys.executable, "-S", "-c", code]))
    _, told = watch(pid)
    os.kill(pid, signal.SIGKILL)
    assert await told == (None, None)


async def test_a_number_that_belongs_to_another_now_counts_as_gone():
    assert await watch(os.getppid(), "before/1")[1] == (None, None)


async def test_a_closed_watch_tells_nothing():
    pid = child()
    made, told = watch(pid)
    made.close()
    made.close()
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    told.close()


def orphan():
    """A process that is not our child, as one that a zygote forked is not: its pid, and its parent."""
    code = "import subprocess as s; print(s.Popen(['sleep', '600'], start_new_session=True).pid, flush=True); input()"
    parent = subprocess.Popen([sys.executable, "-S", "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    return int(parent.stdout.readline()), parent


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize(
    ("said", "told"),
    [
        ([forks.Underway("forked", {"fork": 0.1}), forks.Ready(), forks.Ended(3, None)], (3, None)),
        ([forks.Ended(None, 9)], (None, 9)),
        ([forks.Ready()], (None, None)),
        ([], (None, None)),
    ],
)
@pytest.mark.parametrize("before", [True, False])
async def test_what_the_line_of_a_forked_process_says_is_told(said, told, before, monkeypatch):
    monkeypatch.setattr(exits, "_SAYS_WITHIN", 30.0)
    pid, parent = orphan()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ended, heard = asyncio.get_running_loop().create_future(), []
    exits.ExitWatch(pid, pids.born(pid), lambda *how: ended.set_result(how), line=ours, told=True, on_word=heard.append)
    with parent, theirs:
        if not before:
            os.kill(pid, signal.SIGKILL)
            await asyncio.sleep(0)
        for word in said:
            theirs.send(forks.encode(word))
        theirs.close()
        if before:
            await asyncio.sleep(0)
            os.kill(pid, signal.SIGKILL)
        assert await asyncio.wait_for(ended, 30) == told
        assert heard == [word for word in said if not isinstance(word, forks.Ended)]
        assert ours.fileno() == -1
        parent.stdin.close()


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("open_to_the_end", [True, False])
async def test_a_child_that_speaks_of_its_start_is_still_reaped_by_us(open_to_the_end):
    pid = child("raise SystemExit(3)")
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    theirs.send(forks.encode(forks.Ready("cold", {"import": 0.5})))
    ended, heard = asyncio.get_running_loop().create_future(), []
    if not open_to_the_end:
        theirs.close()
    exits.ExitWatch(pid, pids.born(pid) or "", lambda *how: ended.set_result(how), line=ours, on_word=heard.append)
    assert await asyncio.wait_for(ended, 30) == (3, None)
    theirs.close()
    with pytest.raises(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


@pytest.mark.usefixtures("way")
async def test_a_line_that_stays_silent_is_not_waited_for_for_ever(monkeypatch):
    monkeypatch.setattr(exits, "_SAYS_WITHIN", 0.05)
    pid, parent = orphan()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ended = asyncio.get_running_loop().create_future()
    exits.ExitWatch(pid, pids.born(pid), lambda *how: ended.set_result(how), line=ours)
    with parent, theirs:
        os.kill(pid, signal.SIGKILL)
        assert await asyncio.wait_for(ended, 30) == (None, None)
        parent.stdin.close()


async def test_a_closed_watch_has_let_go_of_the_line():
    pid, parent = orphan()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    watching = exits.ExitWatch(pid, pids.born(pid), lambda *_: None, line=ours)
    watching.close()
    with parent, theirs:
        assert ours.fileno() == -1
        os.kill(pid, signal.SIGKILL)
        parent.stdin.close()
