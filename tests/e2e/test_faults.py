"""What a crash costs under a steady 200 requests/s: nothing, but for Envoy itself, which is back within 2 s."""

import asyncio
import importlib.util
import pathlib
import signal
import time

import pytest

from mlship import launch

_spec = importlib.util.spec_from_file_location("e2e_load", pathlib.Path(__file__).with_name("load.py"))
load = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(load)

pytestmark = [pytest.mark.slow, pytest.mark.e2e, pytest.mark.timeout(180)]

SERVICE = """
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata: {{name: iris}}
spec:
  predictor:
    minReplicas: 2
    maxReplicas: 2
    model:
      modelFormat: {{name: sklearn}}
      storageUri: file://{path}
"""


@pytest.fixture
def serving(installation, iris):
    installation.ok("up", "--port", "auto")
    installation.ok("apply", "--wait", "60", "-f", "-", stdin=SERVICE.format(path=iris))
    return installation


def under_load(installation, seconds, during):
    steady = load.Load(f"{installation.url}/v2/models/iris/infer")
    asyncio.run(steady.run(seconds, during))
    assert len(steady.outcomes) >= 0.9 * seconds * steady.rate
    return steady


def kill(installation, word: str) -> int:
    victim = installation.one(word)[0]
    victim.send_signal(signal.SIGKILL)
    return victim.pid


def test_a_killed_control_plane_costs_nothing_and_its_successor_adopts_what_runs(serving):
    before = {process.pid for process in [*serving.one("mlship.server.main"), *serving.one("envoy")]}

    async def during(steady):
        await steady.answered(200, since=0)
        await asyncio.to_thread(kill, serving, "mlship.control.main")
        await steady.answered(300, since=time.monotonic())
        await asyncio.to_thread(launch.ensure_running, serving.where)
        await steady.answered(400, since=time.monotonic())

    steady = under_load(serving, 8, during)
    assert steady.failed == []
    assert {process.pid for process in [*serving.one("mlship.server.main"), *serving.one("envoy")]} == before
    with serving.control as control:
        assert control.wait_ready("iris", deadline=20)


def test_a_killed_replica_costs_nothing_and_is_back(serving):
    async def during(steady):
        await steady.answered(200, since=0)
        gone = await asyncio.to_thread(kill, serving, "mlship.server.main")
        async with asyncio.timeout(30):
            while True:
                running = await asyncio.to_thread(lambda: [one.pid for one in serving.one("mlship.server.main")])
                if len(running) == 2 and gone not in running:
                    break
                await asyncio.sleep(0.05)
        await steady.answered(400, since=time.monotonic())

    steady = under_load(serving, 8, during)
    assert steady.failed == []


def test_a_killed_envoy_is_back_within_two_seconds(serving):
    killed = []

    async def during(steady):
        await steady.answered(200, since=0)
        killed.append(time.monotonic())
        await asyncio.to_thread(kill, serving, "envoy")
        await steady.answered(400, since=killed[0])

    steady = under_load(serving, 8, during)
    # The bound is the promise made to users, not a measurement of this machine's speed.
    late = [one for one in steady.failed if one.due > killed[0] + 2.0]
    assert late == []
    assert all(one.due >= killed[0] - 1.0 for one in steady.failed)
