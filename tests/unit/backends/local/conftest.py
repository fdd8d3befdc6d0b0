"""A supervisor on a home of its own, jobs that run the stand-in replica, and waiting for what shall become true."""

import asyncio
import os
import pathlib
import shutil
import signal
import socket
import time

import pytest

from mlship import home
from mlship.backends.local import jobs, pids, supervisor
from mlship.plan import actions, observed

REPLICA = pathlib.Path(__file__).parent.parent / "replica.py"
Phase = observed.Phase


async def wait_until(holds, seconds=30.0):
    """Wait until ``holds()`` gives something true, and return it."""
    deadline = time.monotonic() + seconds
    while not (value := holds()):
        assert time.monotonic() < deadline, f"{holds} did not hold within {seconds} s"
        await asyncio.sleep(0.01)
    return value


def ask_replica(path):
    """The answer of a replica at a Unix socket: its pid."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(10)
        client.connect(str(path))
        client.sendall(b"GET / HTTP/1.1\r\n\r\n")
        return int(client.makefile("rb").read().rpartition(b"\r\n\r\n")[2])


class World:
    """A home, and the supervisors that take turns in it."""

    def __init__(self, root):
        self.home = home.Home(root)
        self.errors = []
        self.supervisors = []

    def make(self, **options):
        made = supervisor.Supervisor(
            self.home,
            environ={name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
            | {"MLSHIP_TOKEN": "s3cret"},
            on_error=lambda name, error: self.errors.append((name, error)),
            **options,
        )
        self.supervisors.append(made)
        return made

    async def started(self, **options):
        made = self.make(**options)
        await made.start()
        return made

    def socket(self, name="a"):
        return self.home.sockets / f"{name}.h"

    def job(self, *flags, name="a", probe="/ready", **spec):
        path = str(self.socket(name))
        defaults = {"stop_grace": 10.0, "start_deadline": 60.0}
        return jobs.Job(
            spec=actions.ProcessSpec(
                argv=("python", "-S", str(REPLICA), "$(SOCKET)", *flags),
                probe=actions.Probe(path=probe, period=0.05),
                **(defaults | spec),
            ),
            log=self.home.logs / f"{name}-0.log",
            address=f"unix:{path}",
            provided=(("SOCKET", path),),
            sockets=(path,),
        )

    def kill_everything(self):
        for found in pids.marked(self.mark):
            os.kill(found.pid, signal.SIGKILL)

    @property
    def mark(self):
        return supervisor.mark_of(self.home)


@pytest.fixture
def bare_world(tmp_path):
    """For tests that bring their own event loop, and close what they start."""
    made = World(tmp_path / "home")
    yield made
    made.kill_everything()
    shutil.rmtree(made.home.sockets, ignore_errors=True)
    assert made.errors == []


@pytest.fixture
async def world(bare_world):
    yield bare_world
    for held in bare_world.supervisors:
        await held.close()


@pytest.fixture
def until():
    return wait_until


@pytest.fixture
def ask():
    """Asks a replica at a Unix socket; its answer is its pid."""
    return ask_replica
