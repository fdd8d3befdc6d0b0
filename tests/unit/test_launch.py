"""Starting and ending the control plane as a program: what comes up, what does not, and what is said then."""

from __future__ import annotations

import json
import os
import pathlib
import signal
import subprocess
from collections.abc import Callable, Iterator

import psutil
import pytest

from mlship import client, errors, home, launch
from mlship.control import listeners


@pytest.fixture
def where(tmp_path: pathlib.Path) -> Iterator[home.Home]:
    found = home.Home(tmp_path / "home")
    yield found
    launch.stop(found, replicas=True, deadline=60)


def pid_of(where: home.Home) -> int:
    return int(where.control_pid.read_text())


@pytest.mark.e2e
def test_a_control_plane_comes_up_once_and_goes_with_everything(where: home.Home):
    first = launch.ensure_running(where, port="auto", deadline=60)
    assert first["started"] is True
    again = launch.ensure_running(where, deadline=60)
    assert (again["started"], again["pid"]) == (False, first["pid"])
    assert launch.ensure_running(where, port="auto")["started"] is False
    with pytest.raises(errors.SpecError, match="mlship down") as caught:
        launch.ensure_running(where, port=str(first["gateway"]["port"] + 1))
    assert caught.value.reason is errors.Reason.CONFLICT
    assert launch.is_held(where.control_pid)
    assert launch.stop(where, replicas=True, deadline=60) is True
    assert not launch.is_held(where.control_pid)
    assert launch.stop(where, replicas=True) is False
    assert not where.control_socket.exists()


@pytest.mark.e2e
def test_a_restart_keeps_the_port_and_envoy(where: home.Home, until_true: Callable[..., None]):
    first = launch.ensure_running(where, port="auto", deadline=60)
    until_true(lambda: running_envoy(where))
    envoy = envoy_pid(where)
    os.kill(first["pid"], signal.SIGKILL)
    until_true(lambda: not launch.is_held(where.control_pid))
    second = launch.ensure_running(where, deadline=60)
    assert second["started"] is True
    assert second["gateway"]["port"] == first["gateway"]["port"]
    assert envoy_pid(where) == envoy


@pytest.mark.e2e
def test_ending_the_control_plane_alone_leaves_envoy(where: home.Home, until_true: Callable[..., None]):
    launch.ensure_running(where, port="auto", deadline=60)
    until_true(lambda: running_envoy(where))
    envoy = envoy_pid(where)
    os.kill(pid_of(where), signal.SIGTERM)
    until_true(lambda: not launch.is_held(where.control_pid))
    os.kill(envoy, 0)
    launch.ensure_running(where, deadline=60)
    assert envoy_pid(where) == envoy
    launch.stop(where, replicas=True, deadline=60)
    until_true(lambda: not pathlib.Path(f"/proc/{envoy}").exists())


def running_envoy(where: home.Home) -> bool:
    with client.Client(where) as control:
        return bool(control.status()["gateway"]["running"])


def envoy_pid(where: home.Home) -> int:
    mark = str(where.envoy / "bootstrap.json")
    found = subprocess.run(["pgrep", "-f", mark], capture_output=True, text=True, check=False).stdout.split()
    assert len(found) == 1, found
    return int(found[0])


@pytest.fixture
def until_true() -> Callable[..., None]:
    import time

    def wait(condition: Callable[[], object], seconds: float = 20.0) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, "it did not happen in time"
            time.sleep(0.02)

    return wait


def test_one_that_does_not_come_up_tells_the_end_of_its_log(tmp_path: pathlib.Path):
    where = home.Home(tmp_path)
    where.database.mkdir()
    with pytest.raises(errors.BackendError, match="ended with code 1") as caught:
        launch.ensure_running(where, port="auto", deadline=60)
    assert "state.db" in caught.value.message
    assert str(where.control_log) in caught.value.message


def test_what_an_earlier_one_wrote_is_not_told(tmp_path: pathlib.Path):
    log = tmp_path / "control.log"
    log.write_text("old\n")
    before = log.stat().st_size
    with log.open("a") as file:
        file.write('{"message": "it ends"}\nmlship control plane: it ends\n')
    assert launch.last_lines(log, since=before) == ["it ends"]
    log.write_text("new\n")
    assert launch.last_lines(log, since=1000) == ["new"]


def test_one_that_holds_the_home_and_is_silent_is_waited_for_only_so_long(tmp_path: pathlib.Path):
    where = home.Home(tmp_path)
    with listeners.lock(where.control_pid):
        with pytest.raises(errors.BackendError, match="did not answer within 3 s"):
            launch.ensure_running(where, deadline=3)
        # One that comes up late must find the home held, too.
        found = psutil.process_iter(["cmdline"])
        started = [one for one in found if str(tmp_path) in " ".join(one.info["cmdline"] or [])]
        assert psutil.wait_procs(started, timeout=60)[1] == []


def test_a_home_that_cannot_be_made(tmp_path: pathlib.Path):
    (tmp_path / "file").touch()
    with pytest.raises(errors.BackendError, match="MLSHIP_HOME"):
        launch.ensure_running(home.Home(tmp_path / "file" / "home"))


def test_stopping_one_that_is_silent_says_so(tmp_path: pathlib.Path):
    where = home.Home(tmp_path)
    with listeners.lock(where.control_pid), pytest.raises(client.Unreachable):
        launch.stop(where, replicas=False)


def test_the_end_of_a_log_for_people(tmp_path: pathlib.Path):
    log = tmp_path / "control.log"
    assert launch.last_lines(log) == []
    log.write_text("Traceback\n" + json.dumps({"message": "the port is taken"}) + "\n7\n")
    assert launch.last_lines(log) == ["Traceback", "the port is taken", "7"]
    assert launch.last_lines(log, lines=1) == ["7"]
