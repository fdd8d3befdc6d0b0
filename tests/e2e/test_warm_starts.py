"""Replicas come from a zygote, do without it when it is gone, and it is gone when the control plane is."""

import json
import signal
import time

import psutil
import pytest

from mlship import launch

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]
ZYGOTE, REPLICA, CONTROL = "mlship.server.zygote", "mlship.server.main", "mlship.control.main"


def until(holds, seconds=60):
    deadline = time.monotonic() + seconds
    while not (value := holds()):
        assert time.monotonic() < deadline, holds
        time.sleep(0.02)
    return value


def answers(installation):
    done = installation.mlship("predict", "iris", "--data", "[[5.1,3.5,1.4,0.2]]")
    return done.code == 0


def starts(installation):
    """How each start of the one replica went, from its log."""
    (path,) = (installation.where.logs / "default" / "iris").glob("*-0.log")
    whole = path.read_text().rpartition("\n")[0]
    lines = (json.loads(line) for line in whole.splitlines() if line.startswith("{"))
    return [line["how"] for line in lines if line["event"] == "started"]


@pytest.fixture
def serving(installation, iris):
    installation.ok("up", "--port", "auto")
    installation.ok("deploy", str(iris), "--name", "iris")
    return installation


def kill(process):
    process.send_signal(signal.SIGKILL)
    psutil.wait_procs([process], timeout=30)


def test_a_replica_is_forked_and_forked_again_when_it_is_killed(serving):
    (zygote,), (replica,) = serving.one(ZYGOTE), serving.one(REPLICA)
    assert replica.ppid() == zygote.pid
    kill(replica)
    (another,) = until(lambda: [one for one in serving.one(REPLICA) if one.pid != replica.pid])
    assert another.ppid() == zygote.pid
    until(lambda: starts(serving) == ["forked", "forked"])
    with serving.control as control:
        control.wait_ready("iris", deadline=30)
    assert answers(serving)
    assert "ended by SIGKILL" in serving.where.control_log.read_text()


def test_without_its_zygote_a_replica_goes_on_and_the_next_start_works(serving):
    (zygote,), (replica,) = serving.one(ZYGOTE), serving.one(REPLICA)
    kill(zygote)
    assert answers(serving)
    assert [one.pid for one in serving.one(REPLICA)] == [replica.pid]
    kill(replica)
    until(lambda: len(starts(serving)) == 2)
    with serving.control as control:
        control.wait_ready("iris", deadline=30)
    assert answers(serving)


def test_a_zygote_that_hangs_means_a_cold_start(serving):
    (zygote,), (replica,) = serving.one(ZYGOTE), serving.one(REPLICA)
    zygote.send_signal(signal.SIGSTOP)
    kill(replica)
    until(lambda: starts(serving) == ["forked", "cold"])
    assert "started cold" in serving.where.control_log.read_text()
    assert not zygote.is_running()
    # Its log says that it has started before the control plane has asked it.
    with serving.control as control:
        control.wait_ready("iris", deadline=30)
    assert answers(serving)


def test_a_killed_control_plane_takes_its_zygote_along_and_no_replica(serving):
    (zygote,), (replica,), (control,) = serving.one(ZYGOTE), serving.one(REPLICA), serving.one(CONTROL)
    kill(control)
    assert psutil.wait_procs([zygote], timeout=30)[1] == []
    launch.ensure_running(serving.where)
    assert answers(serving)
    assert [one.pid for one in serving.one(REPLICA)] == [replica.pid]


def test_down_leaves_no_zygote(serving):
    assert serving.one(ZYGOTE)
    serving.ok("down")
    until(lambda: not serving.processes())
