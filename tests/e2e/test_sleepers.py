"""What goes wrong while callers wait for a service at zero: each is answered, and told what happened."""

import asyncio
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import httpx
import psutil
import pytest

from mlship import launch

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]
CALL = {"inputs": [{"name": "input-0", "shape": [1, 4], "datatype": "FP64", "data": [5.1, 3.5, 1.4, 0.2]}]}
ASLEEP = {"autoscaling.knative.dev/initial-scale": "0"}
# Loads when it may, and dies while it loads as often as it is told to.
MODEL = """
import os, pathlib, signal, time
here = pathlib.Path({folder!r})
tries = here / "tries"
tries.write_text((tries.read_text() if tries.exists() else "") + "x")
if len(tries.read_text()) <= {deaths}:
    os.kill(os.getpid(), signal.SIGKILL)
while (here / "hold").exists():
    time.sleep(0.02)

class Model:
    def predict(self, rows):
        return [1.0] * len(rows)
"""


def until(holds, seconds=60):
    deadline = time.monotonic() + seconds
    while not (value := holds()):
        assert time.monotonic() < deadline, holds
        time.sleep(0.02)
    return value


def asleep(name, path, *, kind="sklearn", **annotations):
    return json.dumps(
        {
            "apiVersion": "serving.kserve.io/v1beta1",
            "kind": "InferenceService",
            "metadata": {"name": name, "annotations": {**ASLEEP, **annotations}},
            "spec": {
                "predictor": {"minReplicas": 0, "model": {"modelFormat": {"name": kind}, "storageUri": str(path)}}
            },
        }
    )


def python_model(folder, *, deaths=0):
    (folder / "model").mkdir()
    (folder / "model" / "model.py").write_text(MODEL.format(folder=str(folder), deaths=deaths))
    return folder / "model"


def sleeps(installation, name):
    with installation.control as control:
        found = control.get("isvc", name).get("status", {})
    ready = {one["type"]: one for one in found.get("conditions", [])}.get("Ready", {})
    return (ready.get("status"), ready.get("reason")) == ("True", "ScaledToZero")


def waiting(installation, name):
    with installation.control as control:
        return {one["name"]: one["waiting"] for one in control.top()["services"]}[name]


def test_fifty_callers_wait_when_the_control_plane_is_killed(installation, iris, tmp_path):
    hold = tmp_path / "hold"
    hold.touch()
    installation.ok("up", "--port", "auto")
    installation.ok("apply", "-f", "-", stdin=asleep("slow", python_model(tmp_path), kind="python"))
    installation.ok("deploy", str(iris), "--name", "warm")
    until(lambda: sleeps(installation, "slow"))
    url = installation.url

    async def kill() -> tuple[list[httpx.Response], list[int]]:
        (plane,) = installation.one("mlship.control.main")
        limits = httpx.Limits(max_connections=100)
        async with httpx.AsyncClient(timeout=60, limits=limits) as http:
            calls = [
                asyncio.ensure_future(http.post(f"{url}/v1/models/slow:predict", json={"instances": [[1.0]]}))
                for _ in range(50)
            ]
            while await asyncio.to_thread(waiting, installation, "slow") != 50:
                await asyncio.sleep(0.02)
            plane.kill()
            warm = [(await http.post(f"{url}/v2/models/warm/infer", json=CALL)).status_code for _ in range(50)]
            return await asyncio.gather(*calls), warm

    answers, warm = asyncio.run(kill())
    assert {one.status_code for one in answers} == {503}
    assert all(one.headers["retry-after"] and one.json()["error"] for one in answers)
    assert warm == [200] * 50
    launch.ensure_running(installation.where)
    hold.unlink()
    answer = httpx.post(f"{url}/v1/models/slow:predict", json={"instances": [[1.0]]}, timeout=60)
    assert (answer.status_code, answer.json()) == (200, {"predictions": [1.0]})
    assert len(installation.one("mlship.server.main --model-path")) <= 2


def test_a_replica_that_dies_while_it_starts_costs_its_callers_time_alone(installation, tmp_path):
    installation.ok("up", "--port", "auto")
    installation.ok("apply", "-f", "-", stdin=asleep("frail", python_model(tmp_path, deaths=2), kind="python"))
    until(lambda: sleeps(installation, "frail"))
    answer = httpx.post(f"{installation.url}/v1/models/frail:predict", json={"instances": [[1.0]]}, timeout=90)
    assert (answer.status_code, (tmp_path / "tries").read_text()) == (200, "xxx")


def test_a_dead_zygote_is_replaced_by_a_start_of_its_own(installation, iris):
    installation.ok("up", "--port", "auto")
    installation.ok("apply", "-f", "-", stdin=asleep("iris", iris))
    until(lambda: sleeps(installation, "iris"))
    (zygote,) = until(lambda: zygotes(installation))
    zygote.kill()
    answer = httpx.post(f"{installation.url}/v2/models/iris/infer", json=CALL, timeout=60)
    assert answer.status_code == 200


def test_looking_at_a_service_that_sleeps_does_not_wake_it(installation, iris):
    installation.ok("up", "--port", "auto")
    installation.ok("apply", "-f", "-", stdin=asleep("nap", iris))
    until(lambda: sleeps(installation, "nap"))
    shown = installation.ok("get", "nap")
    assert "/v2/models/nap/infer" in shown
    assert "inputs   known once it has been awake" in shown
    assert sleeps(installation, "nap")
    with installation.control as control:
        assert [one["ready"] for one in control.top()["services"]] == [0]
        assert control.why("nap")["waking"] is None
    installation.ok("predict", "nap", "--data", "[[5.1, 3.5, 1.4, 0.2]]")
    assert "inputs   input-0 FP64 [-1,4]" in installation.ok("get", "nap")


def zygotes(installation):
    """Children of its control plane, which hold the libraries of a format."""
    (plane,) = installation.one("mlship.control.main")
    return [one for one in installation.one("mlship.server.zygote") if one.info["ppid"] == plane.pid]


def test_a_model_that_is_gone_from_source_and_cache_is_told_at_once(installation, iris, tmp_path):
    path = tmp_path / "iris.joblib"
    shutil.copy(iris, path)
    installation.ok("up", "--port", "auto")
    installation.ok("apply", "-f", "-", stdin=asleep("iris", path))
    until(lambda: sleeps(installation, "iris"))
    path.unlink()
    blobs = installation.where.cache / "blobs"
    for place, _, _ in os.walk(blobs):
        pathlib.Path(place).chmod(0o700)
    shutil.rmtree(blobs)
    answer = httpx.post(f"{installation.url}/v2/models/iris/infer", json=CALL, timeout=60)
    assert answer.status_code == 503
    assert str(path) in answer.json()["error"]
    assert answer.headers["retry-after"]
    shutil.copy(iris, path)
    until(lambda: httpx.post(f"{installation.url}/v2/models/iris/infer", json=CALL, timeout=60).status_code == 200)


def test_on_a_full_disk_callers_are_told_and_once_there_is_room_they_are_served(installation, iris):
    """The whole home on a small file system of its own, in a mount namespace of its own."""
    if subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode:
        pytest.skip("mount namespaces are not allowed here: no tiny disk can be made")
    root = installation.where.root
    up = (
        f"mount -t tmpfs -o size=24m tmpfs {root} && chmod 700 {root} && {sys.executable} -m mlship.cli up --port auto "
        f"&& {sys.executable} -m mlship.cli apply -f - && {sys.executable} -m mlship.cli list && cat {root}/config.json"
    )
    model = asleep("iris", iris, **{"mlship.dev/hold-seconds": "5"})
    started = subprocess.run(
        ["unshare", "-m", "sh", "-c", up],
        input=model,
        capture_output=True,
        text=True,
        env=installation.environ,
        timeout=90,
    )
    assert started.returncode == 0, started.stdout + started.stderr
    (plane,) = installation.one("mlship.control.main")

    def inside(*arguments):
        command = ["nsenter", "-t", str(plane.pid), "-m", *arguments]
        return subprocess.run(command, capture_output=True, text=True, env=installation.environ, timeout=60).stdout

    try:
        until(lambda: "ScaledToZero" in inside(sys.executable, "-m", "mlship.cli", "list"))
        status = json.loads(inside(sys.executable, "-m", "mlship.cli", "status", "-o", "json"))
        url = f"{status['gateway']['url']}/v2/models/iris/infer"
        inside("sh", "-c", f"cat /dev/zero > {root}/filler; true")
        began = time.monotonic()
        answer = httpx.post(url, json=CALL, timeout=60)
        assert answer.status_code in (200, 503)
        if answer.status_code == 503:
            assert answer.headers["retry-after"]
            assert answer.json()["error"]
            assert time.monotonic() - began < 30, "held beyond its patience"
        inside("rm", f"{root}/filler")
        until(lambda: httpx.post(url, json=CALL, timeout=60).status_code == 200)
    finally:
        inside(sys.executable, "-m", "mlship.cli", "down")
        _, left = psutil.wait_procs(installation.processes(), timeout=20)
        for one in left:
            one.send_signal(signal.SIGKILL)
