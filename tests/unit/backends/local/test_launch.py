import dataclasses
import os
import pathlib
import signal
import socket
import subprocess

import pytest

from mlship import errors, forks
from mlship.backends.local import jobs, launch, pids, records, zygotes
from mlship.plan import actions, observed


def start(tmp_path, *argv, **rest):
    job = jobs.Job(
        actions.ProcessSpec(argv=argv, **rest), log=tmp_path / "logs" / "a.log", sockets=(str(tmp_path / "stale"),)
    )
    store = records.Records(tmp_path)
    path = {"PATH": os.environ["PATH"]}
    return launch.launch(records.Record("a", job), launch.Means(store, "test-of-launch", path)), store


def ended(launched):
    return os.waitstatus_to_exitcode(os.waitpid(launched.pid, 0)[1])


def test_a_start_notes_its_pid_and_clears_old_sockets(tmp_path):
    (tmp_path / "stale").write_text("")
    launched, store = start(
        tmp_path, "python", "-S", "-c", "import time; print($(PORT)); time.sleep(600)", needs_port=True
    )
    try:
        (record,) = store.read()
        assert (record.pid, record.born, record.port) == (launched.pid, pids.born(launched.pid), launched.record.port)
        assert not (tmp_path / "stale").exists()
    finally:
        os.kill(launched.pid, signal.SIGKILL)
        ended(launched)


def test_a_record_that_cannot_be_written_does_not_end_what_was_started(tmp_path, monkeypatch):
    def full(*_):
        raise errors.BackendError("no space left")

    monkeypatch.setattr(records.Records, "write", full)
    launched, _ = start(tmp_path, "true")
    assert (launched.problem, ended(launched)) == ("no space left", 0)


@pytest.mark.parametrize(
    ("argv", "cwd", "message"),
    [
        ((), "", "its command is empty"),
        (("no-such-program",), "", "there is no such program on this machine"),
        (("/etc/passwd",), "", "it is not executable"),
        (("true",), "/no/such/folder", "its working folder /no/such/folder is not there"),
        (("true", "a\0b"), "", "cannot start true: "),
    ],
)
def test_what_cannot_start_says_why(tmp_path, argv, cwd, message):
    with pytest.raises(errors.BackendError, match=message):
        start(tmp_path, *argv, cwd=cwd)


def test_a_log_that_cannot_be_opened_says_where(tmp_path):
    (tmp_path / "logs").write_text("")
    with pytest.raises(errors.BackendError, match="cannot open the log file"):
        start(tmp_path, "true")
    assert pathlib.Path(tmp_path / "logs").is_file()


class Fake:
    """Zygotes whose fork is a sleeping process of ours, and what was there when it was told to go."""

    def __init__(self, store, why=""):
        self.store, self.why, self.asked, self.seen = store, why, [], []

    def fork(self, family, command, marks, log_file):
        self.asked.append((family, command.argv, dict(marks)))
        if self.why:
            raise zygotes.Unavailable(self.why)
        child = subprocess.Popen(["sleep", "600"])
        child.returncode = 0
        self.ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        theirs.close()
        return Newborn(child.pid, self.ours, self)


class Newborn(zygotes.Newborn):
    def __init__(self, pid, line, owner):
        super().__init__(pid, line)
        object.__setattr__(self, "owner", owner)

    def go(self):
        self.owner.seen = [record.pid for record in self.owner.store.read()]
        super().go()


SERVER = actions.ProcessSpec(argv=("python", "-m", "mlship.server.main", "--model-format", "python", "--help"))


def launched(tmp_path, why=""):
    store = records.Records(tmp_path)
    fake = Fake(store, why)
    job = jobs.Job(SERVER, log=tmp_path / "a.log")
    made = launch.launch(records.Record("a", job), launch.Means(store, "here", dict(os.environ), fake), cpus=3)
    return made, fake, job


def test_a_fork_is_on_record_before_it_is_told_to_go(tmp_path):
    made, fake, job = launched(tmp_path)
    os.kill(made.pid, signal.SIGKILL)
    ended(made)
    assert fake.seen == [made.pid]
    ((family, argv, marks),) = fake.asked
    assert (family, argv[-2:]) == ("python", ("--cpus", "3"))
    assert marks == {pids.MARK: "here/a", launch.JOB_MARK: job.hash}
    assert (made.line, made.forked, made.cold) == (fake.ours, True, "")
    assert made.record.startup == observed.Startup(observed.How.FORKED, began_at=0.0)
    fake.ours.close()


def test_what_cannot_be_forked_starts_cold_and_says_why(tmp_path):
    made, fake, _ = launched(tmp_path, why="it hangs")
    assert ended(made) == 0  # --help
    assert (made.cold, made.forked, len(fake.asked)) == ("it hangs", False, 1)
    assert made.record.startup == observed.Startup(observed.How.COLD, began_at=0.0)
    assert "--model-path" in (tmp_path / "a.log").read_text()
    with made.line:
        assert made.line.recv(1) == b"", "it had a line, and ended without a word"


def test_an_executed_model_server_speaks_of_its_start_on_its_line(tmp_path):
    spec = dataclasses.replace(SERVER, argv=(*SERVER.argv[:3], "--model-path", "/nowhere", "--http-socket", "s"))
    job = jobs.Job(dataclasses.replace(spec, cwd=str(tmp_path)), log=tmp_path / "a.log")
    made = launch.launch(records.Record("a", job), launch.Means(records.Records(tmp_path), "here", dict(os.environ)))
    with made.line:
        made.line.settimeout(60)
        word = forks.decode(made.line.recv(forks.LARGEST))
        assert (word.how, list(word.phases)) == ("cold", ["import"])
        assert ended(made) == 65  # there is no model


def test_a_model_server_that_cannot_be_executed_leaves_no_line(tmp_path):
    job = jobs.Job(dataclasses.replace(SERVER, cwd="/no/such/folder"), log=tmp_path / "a.log")
    with pytest.raises(errors.BackendError, match="is not there"):
        launch.launch(records.Record("a", job), launch.Means(records.Records(tmp_path), "here", dict(os.environ)))
