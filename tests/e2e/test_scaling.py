"""A load makes a second replica, its end takes it away: real Envoy, real processes, the real command."""

import asyncio
import contextlib
import functools
import json
import time

import httpx
import pytest

import keda_scaler
from mlship import client, launch

pytestmark = [pytest.mark.slow, pytest.mark.e2e, pytest.mark.timeout(240)]

MODEL = """
import time

class Slow:
    def predict(self, inputs):
        time.sleep(0.1)
        return [1.0]
"""
SERVICE = """
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata:
  name: slow
  annotations:
    autoscaling.knative.dev/window: "10s"
spec:
  predictor:
    minReplicas: {least}
    maxReplicas: 2
    scaleMetric: concurrency
    scaleTarget: 2
    model:
      modelFormat: {{name: python}}
      storageUri: file://{path}
"""


@pytest.fixture
def slow(installation, tmp_path):
    path = tmp_path / "slow.py"
    path.write_text(MODEL)
    installation.ok("up", "--port", "auto")
    installation.ok("apply", "--wait", "60", "-f", "-", stdin=SERVICE.format(path=path, least=1))
    return installation


def row(installation) -> dict:
    (found,) = json.loads(installation.ok("top", "-o", "json"))
    return found


async def ask(http: httpx.AsyncClient, url: str, until: list[float], failed: list[str]) -> None:
    """One client that asks again and again."""
    while time.monotonic() < until[0]:
        answer = await http.post(url, json={"instances": [[1.0]]})
        if answer.status_code != 200:
            failed.append(answer.text)


async def load(installation, url: str, *, clients: int, seconds: float, failed: list[str]) -> tuple[float, dict]:
    """Have so many clients ask until two replicas are ready, and some seconds on; how long that took, and a row."""
    until = [time.monotonic() + 60.0]
    began = time.monotonic()
    async with httpx.AsyncClient(timeout=30) as http, asyncio.TaskGroup() as group:
        for _ in range(clients):
            group.create_task(ask(http, url, until, failed))
        with installation.control as control:
            while time.monotonic() < until[0]:
                status = (await asyncio.to_thread(control.get, "isvc", "slow"))["status"]
                if status["mlship"]["replicas"]["ready"] == 2:
                    break
                await asyncio.sleep(0.02)
        took = time.monotonic() - began
        await asyncio.sleep(seconds)
        shown = await asyncio.to_thread(row, installation)
        until[0] = 0.0
    return took, shown


def test_a_second_replica_under_load_and_one_again_after_it(slow):
    before = row(slow)
    assert (before["ready"], before["wanted"], before["min"], before["max"]) == (1, 1, 1, 2)
    assert before["memoryBytes"] > 1e6
    failed: list[str] = []
    url = f"{slow.url}/v1/models/slow:predict"
    took, shown = asyncio.run(load(slow, url, clients=8, seconds=3.0, failed=failed))
    print(f"the second replica was ready after {took:.2f} s")
    assert took < 60
    assert failed == []
    assert (shown["ready"], shown["wanted"]) == (2, 2)
    assert 4 < shown["concurrency"] < 12
    assert shown["requestsPerSecond"] > 1
    assert 0.05 < shown["p99Seconds"] < 5
    assert "concurrency" in shown["decision"]
    why = slow.ok("why", "slow")
    assert "2 replicas" in why
    deadline = time.monotonic() + 90
    while row(slow)["wanted"] != 1 and time.monotonic() < deadline:
        time.sleep(1)
    assert row(slow)["wanted"] == 1
    with contextlib.suppress(TimeoutError), slow.control as control:
        while time.monotonic() < deadline and control.top()["services"][0]["ready"] != 1:
            time.sleep(0.5)
    assert row(slow)["ready"] == 1
    assert "1 replica instead of 2" in slow.ok("why", "slow")
    lines = slow.ok("top").splitlines()
    assert lines[0].split()[:3] == ["NAMESPACE", "NAME", "READY"]
    assert lines[1].split()[:4] == ["default", "slow", "1/1", "1-2"]


def wait_for(installation, reason: str, *, running: int, deadline: float = 60.0) -> None:
    """Wait until the service says so, and so many of its processes are left."""
    ready: dict = {}
    end = time.monotonic() + deadline
    with installation.control as control:
        while time.monotonic() < end:
            ready = client.condition(control.get("isvc", "slow"), "Ready")
            if ready.get("reason", "") == reason and len(installation.one("mlship.server.main")) == running:
                return
            time.sleep(0.1)
    raise AssertionError(f"not {reason} with {running}: {ready}\n{installation.ok('why', 'slow')}")


def test_it_sleeps_and_whoever_asks_wakes_it_also_after_a_restart_or_is_told_why_not(installation, tmp_path):
    path = tmp_path / "slow.py"
    path.write_text(MODEL)
    installation.ok("up", "--port", "auto")
    installation.ok("apply", "--wait", "60", "-f", "-", stdin=SERVICE.format(path=path, least=0))
    url = f"{installation.url}/v1/models/slow:predict"
    wait_for(installation, "ScaledToZero", running=0)
    assert "ScaledToZero" in installation.ok("list")
    assert "the first request wakes it" in installation.ok("why", "slow")
    (plane,) = installation.one("mlship.control.main")
    plane.kill()
    plane.wait(10)
    launch.ensure_running(installation.where)
    wait_for(installation, "ScaledToZero", running=0)
    answer = httpx.post(url, json={"instances": [[1.0]]}, timeout=60)
    assert (answer.status_code, answer.json()) == (200, {"predictions": [1.0]})
    assert "1 caller waits at the gate" in installation.ok("why", "slow")
    wait_for(installation, "ScaledToZero", running=0)
    path.write_text("raise SystemExit('no')")
    installation.ok("apply", "-f", "-", stdin=SERVICE.format(path=path, least=0))
    wait_for(installation, "ModelLoadFailed", running=0)
    began = time.monotonic()
    answer = httpx.post(url, json={"instances": [[1.0]]}, timeout=60)
    assert answer.status_code == 503
    assert "mlship why slow" in answer.text
    assert time.monotonic() - began < 10, "held although nothing can come"


SCALED = """
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata:
  name: jobs
spec:
  scaleTargetRef: {{name: slow, kind: InferenceService}}
  maxReplicaCount: 2
  cooldownPeriod: 1
  pollingInterval: 600
  triggers:
    - type: external-push
      metadata: {{scalerAddress: "{address}"}}
"""


async def test_a_scaler_that_pushes_wakes_it_long_before_the_next_question(installation, tmp_path):
    path = tmp_path / "slow.py"
    path.write_text(MODEL)
    async with keda_scaler.scaler() as scaler:
        await asyncio.to_thread(installation.ok, "up", "--port", "auto")
        scaled = SCALED.format(address=scaler.address)
        await asyncio.to_thread(installation.ok, "apply", "-f", "-", stdin=scaled)
        slow = SERVICE.format(path=path, least=0)
        await asyncio.to_thread(installation.ok, "apply", "--wait", "60", "-f", "-", stdin=slow)
        await asyncio.to_thread(functools.partial(wait_for, installation, "", running=1))
        async with asyncio.timeout(30):
            while not (scaler.listeners and scaler.calls("GetMetrics")):
                await asyncio.sleep(0.05)
        scaler.values["jobs"] = [(0, 7.0)]
        scaler.push(True)
        await asyncio.to_thread(functools.partial(wait_for, installation, "", running=2))
        assert "external-push 1.4" in await asyncio.to_thread(installation.ok, "why", "slow")
        assert scaler.calls("IsActive") == 1
        assert "gRPC" not in installation.where.control_log.read_text(), "the library has its say about forks"
