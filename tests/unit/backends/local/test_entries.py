"""Entries of pools on disk: what survives, what is told to processes, and a disk that is full."""

from __future__ import annotations

import asyncio
import json
import pathlib
from collections.abc import AsyncIterator, Callable

import pytest

from mlship import aio, errors, home
from mlship.backends.local import asking, entries, records
from mlship.plan import actions, observed, pool

POOL = pool.key_of("default", "sklearn")
IRIS = observed.ServiceKey("default", "iris")
REPLICA = observed.ReplicaId(POOL, "aaaa", 0)


def entry(name: str = "iris", digest: str = "sha256:aa", **more: object) -> actions.Entry:
    return actions.Entry(name=name, format="sklearn", path="/cache/aa", digest=digest, **more)


class Process:
    """A process of a pool, as far as it is asked here."""

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path
        self.models: list[dict] = []
        self.orders: list[str] = []
        self.silent = False

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")[0].decode()
        if not self.silent:
            verb, path, _ = line.split()
            if verb == "POST":
                self.orders.append(path)
            body = json.dumps({"models": self.models}).encode()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
            await writer.drain()
        writer.close()

    async def start(self) -> asyncio.Server:
        return await asyncio.start_unix_server(self._answer, self.path)


class World:
    """The entries of one home; ``news`` are the members that were told of."""

    def __init__(self, root: pathlib.Path, tasks: aio.Tasks, process: Process) -> None:
        self.place, self.tasks, self.process = home.Home(root), tasks, process
        self.news: list[observed.ServiceKey] = []
        self.here = [(REPLICA, f"unix:{process.path}")]
        self.entries = self.again()

    def again(self) -> entries.Entries:
        return entries.Entries(
            self.place, tasks=self.tasks, changed=self.news.append,
            processes=lambda key: self.here if key == POOL else [], listen_every=0.01, tell_every=0.0,
        )  # fmt: skip

    @property
    def folder(self) -> pathlib.Path:
        return self.place.pools / "default" / "modelmesh.sklearn" / "models"

    def known(self) -> tuple[observed.Placement, ...]:
        found = self.entries.observe(IRIS)
        return () if found is None else found.placements


@pytest.fixture
async def world(tmp_path: pathlib.Path) -> AsyncIterator[World]:
    failures: list[BaseException] = []
    process = Process(tmp_path / "p.sock")
    server = await process.start()
    async with aio.tasks(lambda name, error: failures.append(error)) as tasks:
        yield World(tmp_path / "home", tasks, process)
    server.close()
    await server.wait_closed()
    assert failures == []


async def holds(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.005)


async def test_an_entry_is_a_file_as_processes_read_it(world):
    world.entries.enlist(actions.EnlistModel(POOL, entry(accelerate="exact", memory=7, options=(("a", "b"),))))
    found = json.loads((world.folder / "iris.json").read_text())
    assert found.pop("tags") == {"mark": world.entries.observe(IRIS).mark}
    assert found == {
        "name": "iris", "version": "1", "format": "sklearn", "path": "/cache/aa", "options": {"a": "b"},
        "accelerate": "exact", "digest": "sha256:aa", "memory": 7,
    }  # fmt: skip
    assert list(world.folder.iterdir()) == [world.folder / "iris.json"]


async def test_entries_outlive_the_control_plane_and_what_is_none_is_removed(world):
    world.entries.enlist(actions.EnlistModel(POOL, entry()))
    parent = observed.ServiceKey("far", "many")
    world.entries.enlist(actions.EnlistModel(parent, entry("wine")))
    (world.folder / "broken.json").write_text("{")
    (world.folder / "strange.json").write_text('{"name": "strange"}')
    again = world.again()
    await again.start()
    assert set(again.members()) == {IRIS, pool.trained_key("far", "wine")}
    assert again.observe(IRIS) == world.entries.observe(IRIS)
    assert again.observe(pool.trained_key("far", "wine")).pool == parent
    assert [path.name for path in world.folder.iterdir()] == ["iris.json"]


async def test_a_disk_that_is_full_is_an_error_with_a_cure_and_leaves_the_entry_before(world, monkeypatch):
    world.entries.enlist(actions.EnlistModel(POOL, entry()))
    before = (world.folder / "iris.json").read_bytes()

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(records.os, "fdopen", full)
    with pytest.raises(errors.BackendError, match="No space left on device") as caught:
        world.entries.enlist(actions.EnlistModel(POOL, entry(digest="sha256:bb")))
    assert "free space" in caught.value.hint
    assert (world.folder / "iris.json").read_bytes() == before
    assert world.entries.observe(IRIS).digest == "sha256:aa"


async def test_a_home_that_cannot_be_written_is_an_error(world):
    world.place.root.mkdir(parents=True)
    world.place.pools.write_text("a file where the folder should be")
    with pytest.raises(errors.BackendError, match="cannot make the folder"):
        world.entries.enlist(actions.EnlistModel(POOL, entry()))


async def test_what_a_process_says_is_known_and_told(world):
    world.entries.enlist(actions.EnlistModel(POOL, entry()))
    world.news.clear()
    model = {"name": "iris", "digest": "sha256:aa", "loaded": True, "bytes": 5, "hits": 3, "misses": 1, "failing": ""}
    world.process.models = [model, {"name": "nobody's", "loaded": True}]
    await holds(lambda: world.known())
    (found,) = world.known()
    assert (found.replica, found.state, found.size) == (REPLICA, observed.Held.LOADED, 5)
    await holds(lambda: world.news == [IRIS])
    world.process.models = [model | {"failing": "no pickle"}]
    await holds(lambda: world.known()[0].reason == "no pickle")
    world.process.models = [model | {"loaded": False, "quarantined": "it died twice"}]
    await holds(lambda: world.known()[0].quarantined)
    assert (world.known()[0].state, world.known()[0].reason) == (observed.Held.FAILED, "it died twice")
    world.here = []
    await holds(lambda: world.known() == ())


async def test_requests_are_counted_from_when_a_process_is_first_heard(world):
    world.entries.enlist(actions.EnlistModel(POOL, entry()))

    async def says(hits: int) -> int:
        world.process.models = [{"name": "iris", "loaded": True, "bytes": hits, "hits": hits, "misses": 1}]
        await holds(lambda: [one.size for one in world.known()] == [hits])
        return world.entries.requests(POOL)["iris"]

    # Before the control plane came, or the process was started.
    assert await says(1_000_000) == 0
    assert await says(1_000_003) == 3
    here, world.here = world.here, []
    await holds(lambda: world.known() == ())
    assert world.entries.requests(POOL)["iris"] == 3
    world.here = here
    assert await says(1_000_005) == 5
    # It was started again between two looks.
    assert await says(1) == 7
    # Another one, that was started here.
    world.here = [(observed.ReplicaId(POOL, "bbbb", 0), world.here[0][1])]
    world.entries.provided(world.here[0][0], "short")
    assert await says(2) == 10
    world.entries.delist(actions.DelistModel(POOL, "iris"))
    assert world.entries.requests(POOL) == {}


async def test_a_process_that_is_silent_keeps_what_it_said_last(world):
    world.entries.enlist(actions.EnlistModel(POOL, entry()))
    world.process.models = [{"name": "iris", "loaded": True}]
    await holds(lambda: world.known())
    world.process.silent = True
    await asyncio.sleep(0.1)
    assert world.known()


async def test_a_changed_entry_is_told_to_those_who_know_the_model_and_its_end_to_all(world):
    world.entries.enlist(actions.EnlistModel(POOL, entry()))
    world.entries.enlist(actions.EnlistModel(POOL, entry(digest="sha256:bb")))
    world.process.models = [{"name": "iris", "loaded": True}]
    await holds(lambda: world.known())
    assert world.process.orders == []
    world.entries.enlist(actions.EnlistModel(POOL, entry(digest="sha256:cc")))
    await holds(lambda: world.process.orders == ["/v2/repository/models/iris/load"])
    world.entries.delist(actions.DelistModel(POOL, "iris"))
    await holds(lambda: world.process.orders[1:] == ["/v2/repository/models/iris/unload"])
    assert list(world.folder.iterdir()) == []


async def test_nothing_stays_of_a_pool_that_has_ended(world):
    world.entries.provided(REPLICA, "short")
    world.entries.enlist(actions.EnlistModel(POOL, entry()))
    world.entries.tidy(POOL)
    assert world.folder.exists()
    world.entries.delist(actions.DelistModel(POOL, "iris"))
    world.entries.tidy(POOL)
    assert not world.folder.parent.exists()


async def test_asking_says_why_there_is_no_answer(tmp_path, world):
    with pytest.raises(asking.Silence, match="No such file"):
        await asking.ask(f"unix:{tmp_path / 'nobody'}", "GET", "/", seconds=5)
    world.process.silent = True
    with pytest.raises(asking.Silence):
        await asking.ask(f"unix:{world.process.path}", "GET", "/", seconds=5)


async def test_asking_reads_an_answer_without_a_length_and_refuses_a_huge_one(tmp_path):
    async def reply(text: bytes) -> tuple[int, bytes]:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(text)
            await writer.drain()
            writer.close()

        async with await asyncio.start_server(handle, "127.0.0.1", 0) as server:
            host, port = server.sockets[0].getsockname()
            return await asking.ask(f"{host}:{port}", "GET", "/", seconds=5)

    assert await reply(b"HTTP/1.1 200 OK\r\n\r\nhello") == (200, b"hello")
    with pytest.raises(asking.Silence, match="bytes"):
        await reply(b"HTTP/1.1 200 OK\r\nContent-Length: 999999999999\r\n\r\n")
    with pytest.raises(asking.Silence):
        await reply(b"what?\r\n\r\n")
