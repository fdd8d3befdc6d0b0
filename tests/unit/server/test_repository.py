from __future__ import annotations

import asyncio
import dataclasses
import pathlib
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from sklearn import linear_model

import queues
from mlship import errors
from mlship.protocol import messages
from mlship.server import acceleration, loading, machinery, repository, states, worker
from mlship.server.accelerate import verdict


class Model:
    platform = "test"
    signature = messages.Signature(inputs=(messages.TensorSpec("x", "FP64", (-1,)),))

    def __init__(self) -> None:
        self.closed = 0
        self.block: threading.Event | None = None

    def infer(self, inputs: Any, *, outputs: Any, parameters: Any) -> Any:
        if self.block is not None:
            assert self.block.wait(30)
        return {"y": inputs["x"]}

    def close(self) -> None:
        self.closed += 1


class Disk:
    """Models by (name, version); an exception in their place is raised."""

    def __init__(self) -> None:
        self.made: list[Model] = []
        self.fails: BaseException | None = None
        self.hold: threading.Event | None = None

    def open(self, source: loading.Source) -> Any:
        if self.hold is not None:
            assert self.hold.wait(30)
        if self.fails is not None:
            raise self.fails
        self.made.append(Model())
        return self.made[-1]


@pytest.fixture
def engine() -> Iterator[machinery.Machinery]:
    made = machinery.Machinery.start(2)
    yield made
    assert made.close(10)


def source(name: str = "iris", version: str = "1") -> loading.Source:
    return loading.Source(name=name, version=version, path=pathlib.Path("/nowhere"))


def make(engine: machinery.Machinery, disk: Disk, *versions: str, **options: Any) -> repository.Repository:
    options = {"queue_size": 10, "drain_seconds": 30.0} | options
    made = repository.Repository(engine, open_model=disk.open, **options)
    for version in versions:
        made.register(source(version=version))
    return made


async def until(condition: Any) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.001)


def listed(models: repository.Repository) -> list[tuple[str, str, str]]:
    return [(status.name, status.version, status.state.value) for status in models.index()]


async def test_a_model_goes_from_unavailable_over_loading_to_ready(engine: machinery.Machinery) -> None:
    disk = Disk()
    disk.hold = threading.Event()
    models = make(engine, disk, "1")
    assert models.unready == 'model "iris" version 1 is UNAVAILABLE: not loaded yet'
    loading_it = asyncio.create_task(models.load_all())
    await until(lambda: listed(models) == [("iris", "1", "LOADING")])
    with pytest.raises(errors.NotReady, match="LOADING") as caught:
        models.get("iris")
    assert caught.value.retry_after
    disk.hold.set()
    assert await loading_it == []
    assert listed(models) == [("iris", "1", "READY")]
    assert models.unready == models.model_unready("iris") == ""
    assert models.get("iris").platform == "test"


async def test_a_model_that_does_not_load_stays_unavailable_with_the_reason(engine: machinery.Machinery) -> None:
    disk = Disk()
    disk.fails = errors.ModelError("truncated.", hint="Save it again.")
    models = make(engine, disk, "1")
    failures = await models.load_all()
    assert failures == [disk.fails]
    assert models.status("iris").reason == "truncated. Save it again."
    assert "truncated" in models.unready
    assert models.index(ready=True) == []
    with pytest.raises(errors.ModelError):
        await models.load("iris")


async def test_a_fault_of_the_loader_itself_leaves_nothing_loading(engine: machinery.Machinery) -> None:
    models = make(engine, Disk(), "1")
    models._open_model = None  # type: ignore[assignment]
    (failure,) = await models.load_all()
    assert isinstance(failure, errors.MlshipError)
    assert models.status("iris").state is states.State.UNAVAILABLE


async def test_the_highest_version_is_the_default(engine: machinery.Machinery) -> None:
    models = make(engine, Disk(), "9", "10", "2")
    await models.load_all()
    assert models.versions("iris") == ["2", "9", "10"]
    assert models.get("iris").source.version == "10"
    assert models.get("iris", "2").source.version == "2"
    await models.unload("iris", "10")
    assert models.get("iris").source.version == "9"


async def test_what_is_not_there_is_said_with_what_is(engine: machinery.Machinery) -> None:
    models = make(engine, Disk(), "1")
    with pytest.raises(errors.SpecError, match='no model "irsi" on this server, it has model "iris"') as caught:
        models.get("irsi")
    assert caught.value.reason is errors.Reason.NOT_FOUND
    with pytest.raises(errors.SpecError, match='has no version "7", it has "1"'):
        models.get("iris", "7")
    with pytest.raises(errors.SpecError):
        await models.load("../etc")
    with pytest.raises(errors.SpecError):
        models.statistics("nobody")


async def test_an_unloaded_model_is_closed_and_the_server_stays_ready(engine: machinery.Machinery) -> None:
    disk = Disk()
    models = make(engine, disk, "1")
    await models.load_all()
    await models.unload("iris")
    assert disk.made[0].closed == 1
    assert listed(models) == [("iris", "1", "UNAVAILABLE")]
    assert models.status("iris").reason == "unloaded"
    assert models.unready == ""
    await models.load("iris")
    assert listed(models) == [("iris", "1", "READY")]


async def test_unloading_finishes_what_is_under_way_and_lets_nobody_in(engine: machinery.Machinery) -> None:
    disk = Disk()
    models = make(engine, disk, "1")
    await models.load_all()
    served = models.get("iris")
    disk.made[0].block = threading.Event()
    call = worker.Call(inputs={"x": np.asarray([1.0])})
    request = asyncio.create_task(queues.submit(served.batcher, call, deadline=asyncio.get_running_loop().time() + 30))
    await until(lambda: served.batcher.running)
    unloading = asyncio.create_task(models.unload("iris"))
    await until(lambda: listed(models) == [("iris", "1", "UNLOADING")])
    with pytest.raises(errors.NotReady):
        models.get("iris")
    assert disk.made[0].closed == 0
    disk.made[0].block.set()
    await unloading
    assert (await request).result.outputs is not None
    assert disk.made[0].closed == 1


async def test_a_model_that_does_not_finish_in_time_is_not_closed_under_its_feet(engine: machinery.Machinery) -> None:
    disk = Disk()
    models = make(engine, disk, "1", drain_seconds=0.01)
    await models.load_all()
    disk.made[0].block = threading.Event()
    call = worker.Call(inputs={"x": np.asarray([1.0])})
    batcher = models.get("iris").batcher
    request = asyncio.create_task(queues.submit(batcher, call, deadline=asyncio.get_running_loop().time() + 30))
    await until(lambda: batcher.running)
    await models.unload("iris")
    with pytest.raises(errors.NotReady, match="its time to finish is over"):
        await request
    assert disk.made[0].closed == 0
    disk.made[0].block.set()


async def test_loading_again_serves_the_old_until_the_new_is_ready(engine: machinery.Machinery) -> None:
    disk = Disk()
    models = make(engine, disk, "1")
    await models.load_all()
    disk.hold = threading.Event()
    again = asyncio.create_task(models.load("iris"))
    await asyncio.sleep(0)
    assert models.get("iris").model is disk.made[0]
    disk.hold.set()
    await again
    assert models.get("iris").model is disk.made[1]
    assert disk.made[0].closed == 1
    disk.fails = errors.ModelError("broken")
    with pytest.raises(errors.ModelError):
        await models.load("iris")
    assert models.get("iris").model is disk.made[1]
    assert listed(models) == [("iris", "1", "READY")]


async def test_a_caller_who_leaves_does_not_leave_a_model_half_way(engine: machinery.Machinery) -> None:
    disk = Disk()
    disk.hold = threading.Event()
    models = make(engine, disk, "1")
    caller = asyncio.create_task(models.load("iris"))
    await until(lambda: listed(models) == [("iris", "1", "LOADING")])
    caller.cancel()
    await asyncio.gather(caller, return_exceptions=True)
    disk.hold.set()
    await until(lambda: listed(models) == [("iris", "1", "READY")])


async def test_load_finds_what_has_come_to_the_folder_since(engine: machinery.Machinery) -> None:
    found = [source("wine")]
    models = make(engine, Disk(), discover=lambda: found)
    await models.load("wine")
    assert models.get("wine").source.name == "wine"
    with pytest.raises(errors.SpecError):
        await models.load("beer")


async def test_a_draining_server_is_not_ready_and_still_answers(engine: machinery.Machinery) -> None:
    models = make(engine, Disk(), "1")
    await models.load_all()
    models.drain("the server is shutting down")
    assert models.unready == models.model_unready("iris") == "the server is shutting down"
    assert models.get("iris")


async def test_close_unloads_everything(engine: machinery.Machinery) -> None:
    disk = Disk()
    models = make(engine, disk, "1", "2")
    await models.load_all()
    await models.close()
    assert [model.closed for model in disk.made] == [1, 1]


async def test_load_times_are_observed(engine: machinery.Machinery) -> None:
    seen: list[tuple[str, bool]] = []

    class Observer:
        def loaded(self, name: str, seconds: float, *, ok: bool) -> None:
            seen.append((name, ok))

        def compiled(self, name: str, used: bool) -> None: ...

        def executed(self, name: str, seconds: float, *, requests: int, rows: int) -> None: ...

    disk = Disk()
    models = make(engine, disk, "1", observer=Observer())
    await models.load_all()
    disk.fails = errors.ModelError("no")
    with pytest.raises(errors.ModelError):
        await models.load("iris")
    assert seen == [("iris", True), ("iris", False)]


class Proven:
    """A prover that puts a compiled form in place when it is told to."""

    def __init__(self, *, used: bool = True) -> None:
        self.go = asyncio.Event()
        self.used = used

    async def follow(self, source: loading.Source, state: acceleration.Acceleration, *, loader: worker.Workers) -> None:
        await self.go.wait()
        state.report = dataclasses.replace(state.report, used=self.used, pending=False)

    def close(self) -> None: ...


class Scaled(Model):
    """What can be compiled, as far as a look tells."""

    signature = messages.Signature(inputs=(messages.TensorSpec("x", "FP64", (-1, 10)),), default_outputs=("y",))
    fitted = linear_model.Ridge()


@pytest.mark.parametrize("used", [True, False])
async def test_a_compiled_form_gets_a_queue_of_its_own_and_nobody_notices(
    engine: machinery.Machinery, tmp_path: pathlib.Path, used: bool
) -> None:
    model, seen, proving = Scaled(), [], Proven(used=used)

    class Observer:
        def loaded(self, name: str, seconds: float, *, ok: bool) -> None: ...

        def compiled(self, name: str, used: bool) -> None:
            seen.append(used)

        def executed(self, name: str, seconds: float, *, requests: int, rows: int) -> None: ...

    models = repository.Repository(
        engine,
        open_model=lambda source: model,
        queue_size=10,
        drain_seconds=30.0,
        observer=Observer(),
        proving=proving,  # type: ignore[arg-type]
    )
    (tmp_path / "model").write_text("x")
    models.register(loading.Source(name="iris", version="1", path=tmp_path / "model", accelerate=verdict.Mode.AUTO))
    await models.load_all()
    before = models.get("iris")
    assert before.acceleration.pending
    model.block = threading.Event()
    call = worker.Call(inputs={"x": np.zeros((1, 10))})
    answer = asyncio.ensure_future(queues.submit(before.batcher, call, deadline=asyncio.get_running_loop().time() + 30))
    await until(lambda: before.batcher.running)
    proving.go.set()
    await until(lambda: seen == [False, used])
    await until(lambda: (models.get("iris") is not before) is used)
    assert models.unready == ""
    model.block.set()
    assert (await answer).result.error is None
    assert model.closed == 0
    await models.close()
    assert model.closed == 1
