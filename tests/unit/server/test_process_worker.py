"""The program itself: that it ends with whoever started it, whatever it does."""

from __future__ import annotations

import os
import pathlib
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable

import numpy as np

from mlship.server import loading, process_proxy, process_runner, process_worker

DEADLINE = 60.0

# A server in short: starts a process for the model in argv[1], calls it, says its pid, and never ends.
SERVER = """
    import asyncio, pathlib, sys, threading
    import numpy as np
    from mlship.server import calls, loading, process_runner
    source = loading.Source(name="m", version="1", path=pathlib.Path(sys.argv[1]), processes=1)
    model = loading.load(source, open_model=loading.from_disk, run_coroutine=asyncio.run).model
    print(*model.pool.pids, flush=True)
    model.pool.submit([calls.Call(inputs={"x": np.asarray([float(sys.argv[2])])})], lambda results: None)
    threading.Event().wait()
"""
MODEL = """
    import pathlib, time

    class Model:
        def predict(self, x):
            if x[0]:
                pathlib.Path(__file__).with_name("begun").touch()
                while True:
                    pass
            return x
"""


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def gone(pid: int) -> bool:
    """Whether it has ended; a zombie that nobody has asked for yet has."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def started(folder: pathlib.Path, value: float) -> tuple[subprocess.Popen[str], int]:
    (folder / "model.py").write_text(textwrap.dedent(MODEL))
    command = [sys.executable, "-c", textwrap.dedent(SERVER), str(folder), str(value)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    return server, int(server.stdout.readline())


def ended(server: subprocess.Popen[str]) -> None:
    server.kill()
    server.wait(DEADLINE)
    assert server.stdout is not None
    server.stdout.close()


def test_an_idle_process_ends_with_its_server(tmp_path: pathlib.Path) -> None:
    server, pid = started(tmp_path, 0)
    assert not gone(pid)
    ended(server)
    until(lambda: gone(pid))


def test_a_process_in_an_endless_call_ends_with_its_server(tmp_path: pathlib.Path) -> None:
    server, pid = started(tmp_path, 1)
    until((tmp_path / "begun").exists)
    ended(server)
    until(lambda: gone(pid))


def test_signals_for_the_server_are_not_for_its_processes(tmp_path: pathlib.Path) -> None:
    (tmp_path / "model.py").write_text(textwrap.dedent(MODEL))
    source = loading.Source(name="m", version="1", path=tmp_path)
    process = process_proxy.Process(process_proxy.Plan.of("m", process_runner.hello(source), 1, cpus=2))
    process.begin()
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(process.pid, number)
    found = process.infer({"x": np.zeros(2)}, outputs=(), parameters={})
    assert [data.tolist() for data in found.values()] == [[0.0, 0.0]]
    process.end()
    assert not process.running()


def test_without_its_server_a_process_does_not_begin() -> None:
    near, far = socket.socketpair()
    command = [sys.executable, "-m", process_proxy.PROGRAM, "--socket", str(far.fileno())]
    # Not the one that starts it.
    command += ["--parent", "1", "--threads", "1"]
    with near, far:
        assert subprocess.run(command, pass_fds=[far.fileno()], timeout=DEADLINE).returncode == 0
        far.close()
        assert near.recv(1) == b""


def test_thread_counts_are_set_unless_they_are(tmp_path: pathlib.Path) -> None:
    (tmp_path / "model.py").write_text(
        "import os\nimport numpy as np\nclass Model:\n    def predict(self, x):\n"
        f"        return np.array([os.environ.get(name, '') for name in {process_worker._THREADS!r}])\n"
    )
    source = loading.Source(name="m", version="1", path=tmp_path)
    plan = process_proxy.Plan("m", process_runner.hello(source), 1, threads=3)
    process = process_proxy.Process(plan)
    process.begin()
    (found,) = process.infer({"x": np.zeros(1)}, outputs=(), parameters={}).values()
    expected = [os.environ.get(name, "3") for name in process_worker._THREADS]
    assert [one.decode() if isinstance(one, bytes) else str(one) for one in found.tolist()] == expected
    process.end()


def test_the_wire_is_not_needed_to_read_the_command_line() -> None:
    # Thread counts must be set before anything numeric is imported.
    code = "import sys, mlship.server.process_worker; print('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"
