"""What becomes of the ScaledObjects of a service as it comes and goes, on a real store with the real planner."""

from __future__ import annotations

import asyncio
import pathlib
from collections.abc import AsyncIterator

import pytest
from bench import control_loop

from mlship.control import store

_SECONDS = 20.0


@pytest.fixture
async def plane(tmp_path: pathlib.Path) -> AsyncIterator[control_loop.Plane]:
    async with control_loop.Plane(tmp_path) as made:
        yield made


async def told(plane: control_loop.Plane, name: str, reason: str) -> store.Object:
    """The Ready condition of a ScaledObject, once it has this reason."""
    async with asyncio.timeout(_SECONDS):
        while True:
            body = await plane.kept.get(plane.key(name, "ScaledObject"))
            found = (body.get("status") or {}).get("conditions") or [{}]
            if found[0].get("reason") == reason:
                return found[0]
            await asyncio.sleep(0.01)


async def make(plane: control_loop.Plane, name: str, target: str) -> None:
    await plane.kept.create(plane.key(name, "ScaledObject"), control_loop.scaled(name, target))


async def test_a_scaled_object_outlives_its_target_and_says_so(plane):
    plane.start()
    await plane.kept.create(plane.key("s"), control_loop.service("s"))
    await make(plane, "so", "s")
    assert (await told(plane, "so", "ScaledObjectReady"))["status"] == "True"
    await plane.kept.delete(plane.key("s"))
    gone = await told(plane, "so", "ScaledObjectCheckFailed")
    assert gone["status"] == "False"
    assert "there is no InferenceService s " in gone["message"]
    await plane.kept.create(plane.key("s"), control_loop.service("s"))
    await told(plane, "so", "ScaledObjectReady")


async def test_the_second_of_two_scales_when_the_first_has_gone(plane):
    plane.start()
    await plane.kept.create(plane.key("s"), control_loop.service("s"))
    await make(plane, "a", "s")
    await make(plane, "b", "s")
    await told(plane, "a", "ScaledObjectReady")
    assert "ScaledObject a" in (await told(plane, "b", "AnotherScaledObject"))["message"]
    await plane.kept.delete(plane.key("a", "ScaledObject"))
    await told(plane, "b", "ScaledObjectReady")


async def test_a_target_in_a_pool_is_not_scaled(plane):
    plane.start()
    body = control_loop.service("s")
    body["metadata"]["annotations"] = {"serving.kserve.io/deploymentMode": "ModelMesh"}
    await plane.kept.create(plane.key("s"), body)
    await make(plane, "so", "s")
    assert "is in a pool" in (await told(plane, "so", "TargetInPool"))["message"]


async def test_one_without_a_target_is_told_whether_it_was_there_before_the_start_or_not(plane):
    await make(plane, "before", "none")
    await plane.kept.create(plane.key("s"), control_loop.service("s"))
    await make(plane, "with", "s")
    plane.start()
    await told(plane, "before", "ScaledObjectCheckFailed")
    await told(plane, "with", "ScaledObjectReady")
    await make(plane, "after", "none-else")
    await told(plane, "after", "ScaledObjectCheckFailed")
