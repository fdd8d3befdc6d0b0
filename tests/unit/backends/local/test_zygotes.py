"""Real zygotes without a framework, which start in a second, and the replicas they fork."""

import asyncio
import os
import pathlib
import signal
import socket
import sys
import time

import psutil
import pytest

import model_server
from mlship import forks
from mlship.backends.local import exits, expand, pids, zygotes

pytestmark = pytest.mark.skipif(not pathlib.Path("/proc/self/environ").exists(), reason="this system has no /proc")
MARKS = {pids.MARK: "test-of-zygotes/a/b", "MLSHIP_JOB": "h"}


class Nursery:
    """Zygotes, and what they fork; ended by their own pids."""

    def __init__(self, folder, **options):
        self.folder = folder
        self.model = model_server.write_model(folder / "model", model_server.MODELS["adder"])
        self.zygotes = zygotes.Zygotes(home=folder, logs=folder / "logs", inherited=os.environ, **options)
        self.newborns = []

    def command(self, *flags, **changes):
        argv = (
            *(sys.executable, "-m", "mlship.server.main", "--model-path", str(self.model), "--model-format", "python"),
            *("--http-socket", str(self.folder / "http"), *flags),
        )
        return expand.Command(**({"argv": argv, "env": {**os.environ, "FLAVOUR": "mild"}} | changes))

    def fork(self, family="python", command=None):
        with (self.folder / "log").open("ab") as log:
            newborn = self.zygotes.fork(family, command or self.command(), MARKS, log.fileno())
        self.newborns.append(newborn)
        return newborn

    @property
    def log(self):
        return (self.folder / "log").read_text()

    def close(self):
        self.zygotes.close()
        for newborn in self.newborns:
            newborn.line.close()
            if psutil.pid_exists(newborn.pid) and pids.born(newborn.pid):
                os.kill(newborn.pid, signal.SIGKILL)


@pytest.fixture
def nursery(tmp_path_factory):
    made = Nursery(tmp_path_factory.mktemp("n"))
    yield made
    made.close()


def hear(newborn):
    newborn.line.settimeout(60)
    message = newborn.line.recv(forks.LARGEST)
    return forks.decode(message) if message else None


def loaded(newborn):
    """Whether it says that it has its model, after whatever it says of its start."""
    return isinstance(settled(newborn), forks.Ready)


def settled(newborn):
    """What it says after whatever it says of its start."""
    while isinstance(word := hear(newborn), forks.Underway):
        pass
    return word


def until(holds):
    deadline = time.monotonic() + 30
    while not (value := holds()):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return value


def connects(path):
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


def test_a_fork_is_a_replica_like_one_that_was_started(nursery):
    newborn = nursery.fork()
    assert not (nursery.folder / "http").exists()  # it waits until it is noted
    newborn.go()
    assert loaded(newborn)
    assert connects(nursery.folder / "http")
    process = psutil.Process(newborn.pid)
    assert " ".join(process.cmdline()).rstrip() == " ".join(nursery.command().argv)
    assert (os.getsid(newborn.pid), os.getpgid(newborn.pid)) == (newborn.pid, newborn.pid)
    (found,) = pids.marked("test-of-zygotes")
    assert (found.pid, found.key, found.leader) == (newborn.pid, "a/b", True)
    assert found.environ["MLSHIP_JOB"] == "h"
    until(lambda: '"event":"started"' in nursery.log)
    held = {str(path.readlink()) for path in pathlib.Path(f"/proc/{newborn.pid}/fd").iterdir() if path.exists()}
    assert str(nursery.folder / "log") in held
    assert not any("zygote" in path for path in held)


def test_it_sees_the_environment_and_the_folder_it_was_given(nursery):
    (nursery.model / "model.py").write_text(
        "import os\n"
        "open('seen', 'w').write(f\"{os.environ['FLAVOUR']} {os.environ.get('MLSHIP_ROOM')} {os.getpid()}\")\n"
        "class Model:\n"
        "    def predict(self, inputs):\n"
        "        return inputs\n"
    )
    newborn = nursery.fork(command=nursery.command(cwd=str(nursery.folder)))
    newborn.go()
    assert loaded(newborn)
    assert (nursery.folder / "seen").read_text() == f"mild None {newborn.pid}"


def test_random_numbers_of_two_forks_differ(nursery):
    (nursery.model / "model.py").write_text(
        "import os, random, numpy\n"
        "open(f'drawn-{os.getpid()}', 'w').write(f'{random.random()} {numpy.random.random()}')\n"
        "class Model:\n"
        "    def predict(self, inputs):\n"
        "        return inputs\n"
    )
    for name in "ab":
        command = nursery.command("--http-socket", str(nursery.folder / name), cwd=str(nursery.folder))
        newborn = nursery.fork(command=command)
        newborn.go()
        assert loaded(newborn)
    first, second = ((nursery.folder / f"drawn-{one.pid}").read_text().split() for one in nursery.newborns)
    assert set(first).isdisjoint(second)


def test_a_replica_that_nobody_noted_ends_by_itself(nursery):
    newborn = nursery.fork()
    newborn.line.close()
    until(lambda: pids.born(newborn.pid) is None)
    assert not (nursery.folder / "http").exists()


@pytest.mark.parametrize(
    ("flags", "number", "ended"),
    [
        ((), signal.SIGTERM, forks.Ended(0, None)),
        ((), signal.SIGKILL, forks.Ended(None, signal.SIGKILL)),
        (("--port", "nonsense"), None, forks.Ended(64, None)),
        (("--model-path", "/no/such/model"), None, forks.Ended(65, None)),
    ],
)
def test_its_zygote_tells_how_it_ended(nursery, flags, number, ended):
    newborn = nursery.fork(command=nursery.command(*flags))
    newborn.go()
    if number is not None:
        assert loaded(newborn)
        os.kill(newborn.pid, number)
    assert settled(newborn) == ended
    until(lambda: not psutil.pid_exists(newborn.pid))


def test_the_supervisor_hears_of_readiness_and_the_end(nursery):
    newborn = nursery.fork()

    async def main():
        ready, told = asyncio.Event(), asyncio.get_running_loop().create_future()
        exits.ExitWatch(
            newborn.pid,
            pids.born(newborn.pid),
            lambda *how: told.set_result(how),
            line=newborn.line,
            told=True,
            on_word=lambda word: ready.set() if isinstance(word, forks.Ready) else None,
        )
        newborn.go()
        async with asyncio.timeout(60):
            await ready.wait()
            os.kill(newborn.pid, signal.SIGABRT)
            return await told

    assert asyncio.run(main()) == (None, signal.SIGABRT)


def test_replicas_outlive_their_zygote_and_the_next_start_gets_another(nursery):
    first = nursery.fork()
    first.go()
    assert loaded(first)
    before = nursery.zygotes.pids()["python"]
    os.kill(before, signal.SIGKILL)
    assert hear(first) is None
    until(lambda: pids.born(before) is None)
    assert connects(nursery.folder / "http")
    second = nursery.fork(command=nursery.command("--http-socket", str(nursery.folder / "second")))
    second.go()
    assert loaded(second)
    assert nursery.zygotes.pids()["python"] != before
    assert connects(nursery.folder / "http")


def test_one_that_dies_over_a_request_is_unavailable(nursery, monkeypatch):
    nursery.fork().line.close()
    pid, answer = nursery.zygotes.pids()["python"], zygotes._Zygote._born

    def die(held, line):
        os.kill(pid, signal.SIGKILL)
        return answer(held, line)

    os.kill(pid, signal.SIGSTOP)
    monkeypatch.setattr(zygotes._Zygote, "_born", die)
    with pytest.raises(zygotes.Unavailable, match="it has ended"):
        nursery.fork()
    assert nursery.zygotes.pids() == {}


def test_what_is_installed_later_is_imported_by_another_zygote(tmp_path_factory):
    now = ["before"]
    made = Nursery(tmp_path_factory.mktemp("n"), stamp=lambda: now[0])
    try:
        made.fork().line.close()
        first = made.zygotes.pids()
        made.fork().line.close()
        assert made.zygotes.pids() == first
        now[0] = "after"
        made.fork().line.close()
        assert made.zygotes.pids() != first
        assert not psutil.pid_exists(first["python"])
    finally:
        made.close()


def test_an_installation_changes_the_stamp(tmp_path, monkeypatch):
    monkeypatch.setattr(zygotes.sysconfig, "get_paths", lambda: {"purelib": str(tmp_path), "platlib": "/no/such"})
    before = zygotes.installed()
    assert before == zygotes.installed()
    os.utime(tmp_path, ns=(1, 1))
    assert zygotes.installed() != before


def test_a_zygote_that_hangs_is_killed_and_forks_nothing_later(nursery, monkeypatch):
    nursery.fork().line.close()
    pid = nursery.zygotes.pids()["python"]
    monkeypatch.setattr(zygotes, "FORK_SECONDS", 0.2)
    os.kill(pid, signal.SIGSTOP)
    with pytest.raises(zygotes.Unavailable, match="no answer"):
        nursery.fork()
    assert not psutil.pid_exists(pid)
    assert nursery.zygotes.pids() == {}


def test_a_zygote_that_cannot_start_is_not_tried_again_at_once(tmp_path):
    now = [0.0]
    made = zygotes.Zygotes(home=tmp_path, logs=tmp_path, inherited=os.environ, clock=lambda: now[0])
    command = expand.Command(argv=("python", "-m", "x"), env={})
    with pytest.raises(zygotes.Unavailable, match="it has ended"):
        made.fork("no-such-family", command, {}, 1)
    with pytest.raises(zygotes.Unavailable, match="a moment ago"):
        made.fork("no-such-family", command, {}, 1)
    now[0] += zygotes.TRY_AGAIN_AFTER
    with pytest.raises(zygotes.Unavailable, match="it has ended"):
        made.fork("no-such-family", command, {}, 1)
    assert made.pids() == {}


def test_a_zygote_whose_program_is_missing_is_unavailable(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    made = zygotes.Zygotes(home=tmp_path, logs=tmp_path, inherited=os.environ)
    with pytest.raises(zygotes.Unavailable, match="did not start"):
        made.fork("python", expand.Command(argv=("python", "-m", "x"), env={}), {}, 1)


def test_what_a_child_cannot_become_is_refused_with_the_reason(nursery):
    with pytest.raises(zygotes.Unavailable, match="No such file or directory: '/no/such/folder'"):
        nursery.fork(command=nursery.command(cwd="/no/such/folder"))
    newborn = nursery.fork()  # and the zygote goes on
    newborn.go()
    assert loaded(newborn)


def test_a_request_that_is_too_long_is_unavailable(nursery):
    with pytest.raises(zygotes.Unavailable, match="Message too long"):
        nursery.fork(command=nursery.command("x" * (1 << 21)))


def test_closing_ends_the_zygotes_and_nothing_else(nursery):
    newborn = nursery.fork()
    newborn.go()
    assert loaded(newborn)
    (pid,) = nursery.zygotes.pids().values()
    nursery.zygotes.close()
    assert not psutil.pid_exists(pid)
    assert connects(nursery.folder / "http")
    with pytest.raises(zygotes.Unavailable, match="being ended"):
        nursery.fork()


def test_what_is_needed_runs_before_anybody_asks_and_again_when_it_has_ended(nursery):
    nursery.zygotes.keep({"python"})
    (pid,) = nursery.zygotes.pids().values()
    newborn = nursery.fork()
    newborn.go()
    assert psutil.Process(newborn.pid).ppid() == pid
    os.kill(pid, signal.SIGKILL)
    psutil.Process(pid).wait(30)
    nursery.zygotes.keep({"python"})
    (another,) = nursery.zygotes.pids().values()
    assert another != pid


def test_what_nobody_needs_ends_after_a_minute(nursery):
    now = [1000.0]
    nursery.zygotes.clock = lambda: now[0]
    nursery.zygotes.keep({"python"})
    now[0] += zygotes.LINGER_SECONDS - 1
    nursery.zygotes.keep(())
    (pid,) = nursery.zygotes.pids().values()
    now[0] += 1
    nursery.zygotes.keep(())
    assert nursery.zygotes.pids() == {}
    assert not psutil.pid_exists(pid)


def test_one_that_cannot_be_had_is_told_of_once(nursery, monkeypatch, caplog):
    monkeypatch.setattr(nursery.zygotes, "spawn", lambda *_: (_ for _ in ()).throw(OSError("no memory")))
    for _ in range(3):
        nursery.zygotes.keep({"python"})
    assert [record.message for record in caplog.records] == ["the zygote for python did not start: no memory"]


def test_none_is_kept_when_they_are_being_ended(nursery):
    nursery.zygotes.close()
    nursery.zygotes.keep({"python"})
    assert nursery.zygotes.pids() == {}
