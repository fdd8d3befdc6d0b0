"""What comes between two steps of a pool: entries that change, go and come back while a model is being loaded."""

from __future__ import annotations

import asyncio
import contextlib
import json
import pathlib
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import numpy as np
import pytest

from mlship import errors
from mlship.protocol import messages
from mlship.server import calls, catalog, loading, machinery, marks, memory, onuse, pager, paging, serving

MIB = 2**20


class Model:
    platform = "test"
    signature = messages.Signature(inputs=(messages.TensorSpec("x", "FP64", (-1,)),))

    def __init__(self, disk: Disk, path: str) -> None:
        self.disk, self.path = disk, path

    def infer(self, inputs: Any, *, outputs: Any, parameters: Any) -> Any:
        if self.path in self.disk.inside:
            assert self.disk.inside[self.path].wait(30)
        return {"y": inputs["x"]}

    def close(self) -> None:
        self.disk.closed.append(self.path)


class Disk:
    """Artifacts by the last part of their path: how loading one goes."""

    def __init__(self) -> None:
        self.opened: list[str] = []
        self.closed: list[str] = []
        self.holds: dict[str, threading.Event] = {}
        self.fails: dict[str, Exception] = {}
        self.inside: dict[str, threading.Event] = {}

    def hold(self, path: str) -> threading.Event:
        self.holds[path] = threading.Event()
        return self.holds[path]

    def open(self, source: loading.Source) -> Any:
        path = source.path.name
        self.opened.append(path)
        if path in self.holds:
            assert self.holds[path].wait(30)
        if path in self.fails:
            raise self.fails[path]
        return Model(self, path)


class World:
    """A pool in this process, and the folder that lists its models."""

    def __init__(self, root: pathlib.Path, engine: machinery.Machinery, crashes: marks.Crashes) -> None:
        self.root, self.disk = root, Disk()
        self.pool = pager.Pager(
            engine,
            listed=catalog.Catalog(root),
            total=2**40,
            loads=4,
            queue_size=10,
            drain_seconds=30.0,
            crashes=crashes,
            open_model=self.disk.open,
        )

    def put(self, name: str, path: str, **more: Any) -> None:
        """List ``path`` as the model, in the place of what was listed before."""
        new = self.root / f".{name}"
        new.write_text(json.dumps({"name": name, "path": f"/artifacts/{path}", "digest": path, **more}))
        new.replace(self.root / f"{name}.json")

    def remove(self, name: str) -> None:
        (self.root / f"{name}.json").unlink()

    def ask(self, name: str, version: str = "") -> asyncio.Future[serving.Served]:
        """As a request does: what is there, or wait for it."""
        future: asyncio.Future[serving.Served] = asyncio.get_running_loop().create_future()
        served = self.pool.find(name, version)
        if served is not None:
            future.set_result(served)
            return future

        def told(outcome: serving.Served | errors.MlshipError) -> None:
            if isinstance(outcome, errors.MlshipError):
                future.set_exception(outcome)
            else:
                future.set_result(outcome)

        self.pool.wait(name, version, deadline=asyncio.get_running_loop().time() + 30, done=told)
        return future

    async def use(self, name: str, version: str = "") -> str:
        """The artifact that answers."""
        served = await asyncio.wait_for(self.ask(name, version), 30)
        return served.model.path

    def run(self, served: serving.Served) -> asyncio.Future[Any]:
        """Begin a request that is in the model for as long as ``disk.inside`` says."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        call = calls.Call({"x": np.zeros(1)}, (), {})
        served.batcher.enter(call, deadline=asyncio.get_running_loop().time() + 30, rows=1, done=future.set_result)
        return future

    def look(self) -> None:
        """Have everything looked at anew by the next request."""
        for page in self.pool.pages():
            page.check_at = 0.0


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.001)


@pytest.fixture
def engine() -> Iterator[machinery.Machinery]:
    made = machinery.Machinery.start(2, loaders=5)
    yield made
    assert made.close(10)


@pytest.fixture
async def world(tmp_path: pathlib.Path, engine: machinery.Machinery) -> AsyncIterator[World]:
    made = World(tmp_path, engine, marks.Crashes(tmp_path / ".quarantine"))
    yield made
    for event in (*made.disk.holds.values(), *made.disk.inside.values()):
        event.set()
    await made.pool.close()


def keep(pool: pager.Pager) -> contextlib.AbstractAsyncContextManager[asyncio.Task[None]]:
    @contextlib.asynccontextmanager
    async def running() -> AsyncIterator[asyncio.Task[None]]:
        task = asyncio.create_task(pool.keep())
        yield task
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    return running()


# What is known of the bytes before says nothing of the new ones.


async def test_a_small_model_comes_in_the_place_of_one_that_was_found_too_large(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = {"large": 2**41, "small": 0}
    inside = lambda: [path for path in world.disk.opened if path not in world.disk.closed]  # noqa: E731
    monkeypatch.setattr(memory.Meter, "read", lambda meter: MIB + sum(weights[path] for path in inside()))
    world.put("a", "large")
    with pytest.raises(errors.NotReady, match="are left for models"):
        await world.use("a")
    world.put("a", "small")
    world.look()
    assert await world.use("a") == "small"


# An explicit load


async def test_a_load_for_which_there_is_no_room_says_so(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def full(*_: Any, **__: Any) -> paging.Verdict:
        return paging.Verdict.WAIT

    world.put("a", "1")
    monkeypatch.setattr(world.pool.budget, "admit", full)
    with pytest.raises(errors.Overloaded, match="there is no memory for it"):
        await world.pool.load("a")


async def test_what_replaces_a_load_that_fails_is_loaded_and_not_blamed(world: World) -> None:
    world.put("a", "bad")
    hold = world.disk.hold("bad")
    world.disk.fails["bad"] = errors.ModelError("it is broken.")
    waiting = world.ask("a")
    await until(lambda: world.disk.opened == ["bad"])
    world.put("a", "good")
    load = asyncio.create_task(world.pool.load("a"))
    await asyncio.sleep(0.01)
    hold.set()
    await load
    assert (await waiting).model.path == "good"
    assert await world.use("a") == "good"
    assert world.pool.report()["models"][0]["failing"] == ""


async def test_another_version_in_an_entry_is_loaded_once(world: World) -> None:
    world.put("a", "old")
    assert await world.use("a") == "old"
    world.put("a", "new", version="2")
    await world.pool.load("a")
    assert await world.use("a") == "new"
    assert world.disk.opened == ["old", "new"]
    assert world.disk.closed == ["old"]


async def test_a_load_that_fails_has_taken_nothing_of_what_was_there(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken, end = [], world.pool.budget.end

    def ended(key: Any, *, expected: int) -> int:
        taken.append(expected)
        return end(key, expected=expected)

    monkeypatch.setattr(world.pool.budget, "end", ended)
    world.put("a", "bad", memory=1000)
    world.disk.fails["bad"] = errors.ModelError("it is broken.")
    with pytest.raises(errors.ModelError):
        await world.use("a")
    world.put("a", "good", memory=1000)
    await world.pool.load("a")
    assert taken == [0, 1000]


async def test_the_report_names_the_bytes_that_it_speaks_of(world: World) -> None:
    def says() -> tuple[str, bool, str]:
        (model,) = world.pool.report()["models"]
        return model["digest"], model["loaded"], model["failing"]

    world.put("a", "old")
    assert await world.use("a") == "old"
    world.put("a", "bad")
    hold = world.disk.hold("bad")
    world.disk.fails["bad"] = errors.ModelError("it is broken.")
    load = asyncio.create_task(world.pool.load("a"))
    await until(lambda: world.disk.opened == ["old", "bad"])
    assert says() == ("old", True, "")
    hold.set()
    with pytest.raises(errors.ModelError):
        await load
    assert says() == ("bad", True, "it is broken.")


# Removed, and listed again at once


async def test_a_model_that_is_listed_again_while_it_is_let_go_is_a_new_one(world: World) -> None:
    world.put("a", "old")
    served = await world.ask("a")
    world.disk.inside["old"] = threading.Event()
    running = world.run(served)
    world.remove("a")
    going = asyncio.create_task(world.pool.unload("a"))
    await until(lambda: world.pool.queues() == [])
    world.put("a", "new")
    assert await world.use("a") == "new"
    world.disk.inside["old"].set()
    await asyncio.gather(running, going)
    assert await world.use("a") == "new"
    assert [model["loaded"] for model in world.pool.report()["models"]] == [True]
    world.put("a", "newer")
    await world.pool.load("a")
    assert await world.use("a") == "newer"


@pytest.mark.parametrize("fails", [True, False])
async def test_a_load_of_what_was_removed_tells_nobody_who_came_later(world: World, fails: bool) -> None:
    world.put("a", "old")
    old = world.disk.hold("old")
    if fails:
        world.disk.fails["old"] = errors.ModelError("it is broken.")
    first = world.ask("a")
    await until(lambda: world.disk.opened == ["old"])
    world.remove("a")
    going = asyncio.create_task(world.pool.unload("a"))
    with pytest.raises(errors.SpecError, match="was removed"):
        await first
    world.put("a", "new")
    new = world.disk.hold("new")
    second = world.ask("a")
    await until(lambda: world.disk.opened == ["old", "new"])
    old.set()
    await going
    assert not second.done()
    new.set()
    assert (await second).model.path == "new"
    assert await world.use("a") == "new"


async def test_a_model_that_was_removed_while_it_was_loaded_is_not_ready(world: World) -> None:
    world.put("a", "1")
    hold = world.disk.hold("1")
    waiting = world.ask("a")
    await until(lambda: world.disk.opened == ["1"])
    world.remove("a")
    going = asyncio.create_task(world.pool.unload("a"))
    with pytest.raises(errors.SpecError):
        await waiting
    hold.set()
    await going
    await until(lambda: world.disk.closed == ["1"])
    with pytest.raises(errors.SpecError, match="no model"):
        world.pool.model_unready("a", "1")
    with pytest.raises(errors.SpecError, match="no model"):
        world.pool.find("a", "1")


async def test_who_waits_is_told_although_the_model_is_unloaded_right_after_its_load(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.put("a", "1")
    hold = world.disk.hold("1")
    keeps, kept = asyncio.Event(), world.pool.budget.keep

    async def slow() -> None:
        await keeps.wait()
        await kept()

    monkeypatch.setattr(world.pool.budget, "keep", slow)
    waiting = world.ask("a")
    hold.set()
    await until(lambda: world.pool.report()["loaded"] == 1)
    await world.pool.unload("a")
    keeps.set()
    assert (await asyncio.wait_for(waiting, 20)).model.path == "1"


# Who leaves, and who comes


async def test_nobody_is_taken_out_who_answers_or_is_being_replaced(world: World) -> None:
    for name in ("inside", "renewed", "idle"):
        world.put(name, name)
        assert await world.use(name) == name
    world.disk.inside["inside"] = threading.Event()
    running = world.run(await world.ask("inside"))
    world.put("renewed", "new")
    hold = world.disk.hold("new")
    load = asyncio.create_task(world.pool.load("renewed"))
    await until(lambda: "new" in world.disk.opened)
    await world.pool._evict([("inside", "1"), ("renewed", "1"), ("idle", "1")])
    there = {model["name"] for model in world.pool.report()["models"] if model["loaded"]}
    assert there == {"inside", "renewed"}
    hold.set()
    world.disk.inside["inside"].set()
    await asyncio.gather(running, load)


async def test_who_was_used_last_leaves_last(world: World) -> None:
    for name in ("a", "b"):
        world.put(name, name)
        assert await world.use(name) == name
    assert await world.use("a") == "a"
    assert [view.key for view in sorted(world.pool._views(), key=lambda view: view.used)] == [("b", "1"), ("a", "1")]


async def test_so_many_are_loaded_at_once_and_none_for_who_has_left(world: World) -> None:
    names = [f"m{number}" for number in range(6)]
    holds = {}
    for name in names:
        world.put(name, name)
        holds[name] = world.disk.hold(name)
    waiting = [world.ask(name) for name in names[:5]]
    late = asyncio.get_running_loop().time() + 30
    gone = world.pool.wait("m5", "", deadline=late, done=lambda outcome: None)
    await until(lambda: len(world.disk.opened) == 4)
    world.pool.leave(gone)
    await asyncio.sleep(0.05)
    assert sorted(world.disk.opened) == names[:4]
    for hold in holds.values():
        hold.set()
    await asyncio.gather(*waiting)
    await until(lambda: not any(page.task for page in world.pool.pages()))
    assert sorted(world.disk.opened) == names[:5]


async def test_a_model_that_loads_after_all_is_nothing_to_speak_of_any_more(world: World) -> None:
    world.put("a", "1")
    world.disk.fails["1"] = errors.ModelError("it is broken.")
    with pytest.raises(errors.ModelError):
        await world.use("a")
    with pytest.raises(errors.NotReady, match="could not be loaded"):
        world.pool.find("a")
    del world.disk.fails["1"]
    (page,) = world.pool.pages()
    page.retry_at = 0.0
    assert await world.use("a") == "1"
    assert world.pool.report()["models"][0]["failing"] == ""


# Folders


def version(root: pathlib.Path, name: str, number: str) -> None:
    (root / name / number).mkdir(parents=True)


async def test_a_higher_version_that_is_put_beside_is_what_the_name_means(world: World) -> None:
    version(world.root, "a", "1")
    assert await world.use("a") == "1"
    version(world.root, "a", "2")
    world.look()
    await until(lambda: world.pool.find("a").source.version == "2")
    assert await world.use("a", "1") == "1"
    (world.root / "a" / "2").rmdir()
    world.look()
    await until(lambda: world.pool.find("a").source.version == "1")
    assert world.disk.opened == ["1", "2"]


async def test_a_folder_of_mlserver_has_the_name_that_its_settings_give_and_no_other(world: World) -> None:
    (world.root / "folder").mkdir()
    settings = {"name": "iris", "implementation": "mlserver_sklearn.SKLearnModel"}
    (world.root / "folder" / "model-settings.json").write_text(json.dumps(settings))
    pool = pager.Pager(
        world.pool._engine, listed=catalog.Catalog(world.root), total=2**40, loads=1, queue_size=10,
        drain_seconds=30.0, open_model=world.disk.open,
    )  # fmt: skip
    assert pool.names == ["iris"]
    with pytest.raises(errors.SpecError, match='no model "folder"'):
        pool.find("folder")


# Who is to blame for the end of a process


def died(world: World, *, times: int) -> None:
    """What was at work when as many processes died, one after the other."""
    page = next(world.pool.pages())
    for _ in range(times):
        before = marks.Crashes(world.root / ".quarantine")
        with before.while_loading(page.key, page.held.identity):
            again = marks.Crashes(world.root / ".quarantine")
    world.pool._crashes = again


async def test_a_file_that_was_replaced_is_not_kept_out_for_what_was_there_before(world: World) -> None:
    version(world.root, "a", "1")
    file = world.root / "a" / "1" / "model.onnx"
    file.write_bytes(b"bad")
    assert await world.use("a") == "1"
    died(world, times=2)
    await world.pool.unload("a")
    with pytest.raises(errors.NotReady, match="quarantine"):
        world.pool.find("a")
    with pytest.raises(errors.NotReady, match="quarantine"):
        await world.pool.load("a")
    file.write_bytes(b"good one")
    await world.pool.load("a")
    assert await world.use("a") == "1"


async def test_what_was_loaded_is_blamed_and_not_what_came_in_its_place(world: World) -> None:
    world.put("a", "bad")
    hold = world.disk.hold("bad")
    waiting = world.ask("a")
    await until(lambda: world.disk.opened == ["bad"])
    world.put("a", "good")
    world.look()
    assert world.pool.model_unready("a") == ""
    hold.set()
    served = await waiting
    assert served.model.path == "bad"
    assert served.model._mark == marks._mark(("a", "1"), marks._short("bad"), 2)


# What runs for as long as the server


async def test_the_budget_is_kept_although_the_folder_cannot_be_read_for_a_while(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns = 0

    async def kept() -> None:
        nonlocal turns
        turns += 1

    monkeypatch.setattr(pager, "_KEEP_SECONDS", 0.001)
    monkeypatch.setattr(world.pool.budget, "keep", kept)
    async with keep(world.pool):
        await until(lambda: turns)
        gone = world.root.with_name("elsewhere")
        world.root.rename(gone)
        before = turns
        await until(lambda: turns > before + 5)
        gone.rename(world.root)
        world.put("b", "2")
        await until(lambda: "b" in world.pool.names)
        # One that was there, and has become something else when it is looked at.
        monkeypatch.setattr(world.pool._listings.catalog, "names", list)
        (world.root / "b.json").write_text("{")
        world.put("c", "3")
        before = turns
        await until(lambda: turns > before + 5)


async def test_who_was_not_loaded_has_no_part_in_what_a_name_means(world: World) -> None:
    world.put("a", "1")
    assert await world.use("a") == "1"
    await world.pool.unload("a")
    assert world.pool.status("a").reason == onuse.NOT_LOADED
    assert not world.pool._hot
