import os
import signal
import subprocess
import sys

import pytest

from mlship.backends.local import adoption, jobs, launch, pids, records
from mlship.plan import actions

HOME = "test-of-adoption"


@pytest.fixture
def store(tmp_path):
    return records.Records(tmp_path)


@pytest.fixture
def sleeper():
    made = []

    def make(key, *, job="", session=True, port=""):
        environ = {pids.MARK: f"{HOME}/{key}", launch.JOB_MARK: job, "PORT": port}
        code = "print(1, flush=True); import time; time.sleep(600)"
        process = subprocess.Popen(
            [sys.executable, "-S", "-c", code], env=environ, start_new_session=session, stdout=subprocess.PIPE
        )
        process.stdout.readline()
        made.append(process)
        return process

    yield make
    for process in made:
        process.kill()
        process.wait()
        process.stdout.close()


def record(tmp_path, key, *, needs_port=False, **rest):
    job = jobs.Job(actions.ProcessSpec(argv=("run",), needs_port=needs_port), log=tmp_path / "a.log")
    return records.Record(key, job, **rest)


def test_each_record_meets_its_process(store, tmp_path, sleeper):
    alive, unnoted = sleeper("alive"), None
    known = record(tmp_path, "alive", pid=alive.pid, born=pids.born(alive.pid), served=True)
    wish = record(tmp_path, "unnoted", needs_port=True, pid=99, born="before/1", served=True)
    unnoted = sleeper("unnoted", job=wish.job.hash, port="8123")
    dead = record(tmp_path, "dead", pid=os.getppid(), born="before/1")
    for each in (known, wish, dead):
        store.write(each)
    found = {finding.record.key: finding for finding in adoption.survey(store, HOME)}
    assert found["alive"] == adoption.Finding(known, alive=True)
    assert found["dead"] == adoption.Finding(dead, alive=False)
    taken = found["unnoted"]
    assert (taken.alive, taken.record.pid, taken.record.port, taken.record.served) == (True, unnoted.pid, 8123, False)


def test_what_no_record_accounts_for_is_killed_and_the_children_of_the_living_are_not(store, tmp_path, sleeper):
    alive = sleeper("alive")
    store.write(record(tmp_path, "alive", pid=alive.pid, born=pids.born(alive.pid)))
    moved_away = sleeper("alive")
    stray, other_job = sleeper("stray", session=False), sleeper("wish", job="another")
    store.write(record(tmp_path, "wish"))
    adoption.survey(store, HOME)
    assert (stray.wait(), other_job.wait()) == (-signal.SIGKILL, -signal.SIGKILL)
    assert (alive.poll(), moved_away.poll()) == (None, None)


def test_a_damaged_record_is_removed(store, tmp_path):
    store.path("a").write_text("{")
    assert adoption.survey(store, HOME) == ()
    assert not store.path("a").exists()
