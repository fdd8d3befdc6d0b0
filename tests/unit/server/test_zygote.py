"""Its own side: when it forks, when it refuses, when it ends. Forks through a control plane: test_zygotes.py."""

import os
import pathlib
import select
import socket
import subprocess
import sys

import pytest

from mlship import forks

pytestmark = pytest.mark.skipif(not pathlib.Path("/proc/self/environ").exists(), reason="this system has no /proc")

# A zygote that imports nothing and whose children answer and end.
BARE = """
import os, signal, socket, sys, threading
from mlship.server import guise, zygote
{before}
control = socket.socket(fileno=os.dup(0))
made = zygote.Zygote(control, guise.find())
print("up", flush=True)
child = made.run()
if child is not None:
    assert signal.getsignal(signal.SIGCHLD) is signal.SIG_DFL
    print(*child.request.argv, flush=True)
    os._exit(7)
print("ended", flush=True)
"""


@pytest.fixture
def start():
    started = []

    def begin(*, before="", program=None):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = program or [sys.executable, "-c", BARE.format(before=before)]
        environ = {
            **os.environ, forks.ROOM: " " * forks.ROOM_BYTES, "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1",
        }  # fmt: skip
        with theirs:
            process = subprocess.Popen(
                [*command, "-" * forks.TITLE_BYTES], env=environ, stdin=theirs, stdout=subprocess.PIPE, text=True,
            )  # fmt: skip
        started.append((process, ours))
        ours.settimeout(60)
        if program is None:
            assert process.stdout.readline() == "up\n"
        return process, ours

    yield begin
    for process, ours in started:
        ours.close()
        process.kill()
        process.communicate()


def request(*argv):
    return forks.Request(argv=argv, title=("x",), env={"A": "b"}, marks=("A",), cwd="/", asked=0.0)


def ask(control, message, log):
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        socket.send_fds(control, [message], [log.fileno(), theirs.fileno()])
    ours.settimeout(60)
    return ours


def hear(line):
    return forks.decode(line.recv(forks.LARGEST))


def test_a_child_goes_on_when_told_and_its_end_is_reported(start, tmp_path):
    _, control = start()
    with (tmp_path / "log").open("w") as log, ask(control, forks.encode_request(request("a", "b")), log) as line:
        assert isinstance(hear(line), forks.Born)
        line.send(forks.GO)
        assert hear(line) == forks.Ended(7, None)
        assert line.recv(1) == b""
    assert (tmp_path / "log").read_text() == "a b\n"


def test_it_does_not_fork_with_a_second_thread(start, tmp_path):
    _, control = start(before="threading.Thread(target=threading.Event().wait, daemon=True).start()")
    with (tmp_path / "log").open("w") as log, ask(control, forks.encode_request(request()), log) as line:
        word = hear(line)
        assert isinstance(word, forks.Refused)
        assert "2 threads" in word.why


def test_what_is_no_request_is_refused_and_the_next_one_is_heard(start, tmp_path):
    _, control = start()
    with (tmp_path / "log").open("w") as log:
        with ask(control, b"nonsense", log) as line:
            assert isinstance(hear(line), forks.Refused)
        control.send(forks.encode_request(request()))  # without descriptors: nobody to answer
        with ask(control, forks.encode_request(request()), log) as line:
            assert isinstance(hear(line), forks.Born)


def test_a_child_whose_line_says_something_else_ends(start, tmp_path):
    _, control = start()
    with (tmp_path / "log").open("w") as log, ask(control, forks.encode_request(request()), log) as line:
        assert isinstance(hear(line), forks.Born)
        line.send(b"stop")
        assert hear(line) == forks.Ended(0, None)
    assert (tmp_path / "log").read_text() == ""


def test_what_a_child_leaves_of_its_group_is_killed(start, tmp_path):
    left = (
        "import subprocess as s\n"
        "zygote._is_wanted = lambda line: print(s.Popen(['sleep', '600']).pid, flush=True) or True"
    )
    _, control = start(before=left)
    with (tmp_path / "log").open("w") as log, ask(control, forks.encode_request(request()), log) as line:
        assert isinstance(hear(line), forks.Born)
        assert hear(line) == forks.Ended(7, None)
    pid = int((tmp_path / "log").read_text().split()[0])
    descriptor = None
    try:
        descriptor = os.pidfd_open(pid)
        assert select.select([descriptor], [], [], 30)[0]
    except ProcessLookupError:
        pass
    finally:
        if descriptor is not None:
            os.close(descriptor)


def test_it_ends_when_its_control_plane_does(start):
    process, control = start()
    control.close()
    assert process.wait(60) == 0
    assert process.stdout.read() == "ended\n"


def test_the_program_says_that_it_is_ready_and_looks_like_one(start):
    program = [sys.executable, "-m", forks.PROGRAM, "--framework", "python", "--home", "/the/home", "--"]
    process, control = start(program=program)
    assert isinstance(hear(control), forks.Hello)
    shown = pathlib.Path(f"/proc/{process.pid}/cmdline").read_bytes().rstrip(b"\0").decode().split("\0")
    assert shown[1:] == program[1:-1]


def test_wrong_flags_and_help_are_the_childs_to_answer(start, tmp_path):
    program = [sys.executable, "-m", forks.PROGRAM, "--framework", "python", "--"]
    _, control = start(program=program)
    assert isinstance(hear(control), forks.Hello)
    for flags, code, said in ((["--port", "x"], 64, "expected a whole number"), (["--help"], 0, "usage: ")):
        path = tmp_path / str(code)
        with path.open("w") as log, ask(control, forks.encode_request(request(*flags)), log) as line:
            assert isinstance(hear(line), forks.Born)
            line.send(forks.GO)
            assert hear(line) == forks.Ended(code, None)
        assert said in path.read_text()


def test_a_program_without_room_ends_and_says_why(start, monkeypatch):
    monkeypatch.setattr(forks, "ROOM_BYTES", 10)
    program = [sys.executable, "-m", forks.PROGRAM, "--framework", "python", "--"]
    process, control = start(program=program)
    assert control.recv(100) == b""
    assert process.wait(60) == 1
