"""The loop turns with a real store and small neighbours: from an object to a route and back, and through failures."""

from __future__ import annotations

import asyncio

import pytest

from mlship import errors
from mlship.control import facts, journal, loop, metrics, store
from mlship.plan import actions, observed

RUNTIME = store.Key("servingruntimes.serving.kserve.io", "default", "r")


async def is_ready(kept, key) -> bool:
    body = await kept.get(key)
    conditions = (body.get("status") or {}).get("conditions", [])
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


async def wait_ready(kept, key) -> None:
    watcher = await kept.watch(key.resource, since=0)
    async with asyncio.timeout(20):
        while not await is_ready(kept, key):
            await watcher.next(1)
    watcher.close()


async def wait_gone(kept, key) -> None:
    async with asyncio.timeout(20):
        while True:
            try:
                await kept.get(key)
            except errors.SpecError:
                return
            await asyncio.sleep(0.01)


async def test_from_object_to_ready_and_to_nothing(plane, service, service_key, until):
    await plane.kept.create(service_key(), service())
    await wait_ready(plane.kept, service_key())
    (replica,) = plane.backend.replicas[plane.key()].values()
    route = plane.gateway.wanted[plane.key()]
    assert route.splits[0].endpoints == (replica.endpoint,)
    await plane.kept.delete(service_key())
    await wait_gone(plane.kept, service_key())
    assert plane.backend.replicas[plane.key()] == {}
    await until(lambda: not plane.gateway.wanted)
    assert plane.key() not in plane.turning.known


async def test_a_status_is_written_only_when_it_changes(plane, service, service_key, until):
    await plane.kept.create(service_key(), service())
    await wait_ready(plane.kept, service_key())
    version = await plane.kept.version()
    looks = plane.behind.meter.reconciles.labels("ok")._value
    before = looks.get()
    for _ in range(3):
        plane.backend.tell(plane.key())
        await until(lambda before=before: looks.get() > before)
        before = looks.get()
    assert await plane.kept.version() == version


async def test_a_status_alone_wakes_nobody(plane, service, service_key, until):
    await plane.kept.create(service_key(), service())
    await wait_ready(plane.kept, service_key())
    watcher = await plane.kept.watch(since=await plane.kept.version())
    await plane.kept.replace(service_key(), {"status": {"x": 1}}, part=store.Part.STATUS)
    (event,) = await watcher.next(10)
    assert list(await plane.turning._concerned(event)) == []


async def test_a_changed_spec_is_planned_anew(plane, service, service_key, until):
    await plane.kept.create(service_key(), service())
    await wait_ready(plane.kept, service_key())
    changed = service()
    changed["spec"]["replicas"] = 3
    await plane.kept.replace(service_key(), changed)
    await until(lambda: len(plane.backend.replicas[plane.key()]) == 3)


async def test_a_runtime_queues_the_services_of_its_namespace(plane, service, service_key, until):
    for namespace in ("default", "other"):
        await plane.kept.create(service_key("iris", namespace), service("iris", namespace))
        await wait_ready(plane.kept, service_key("iris", namespace))
    await plane.kept.create(RUNTIME, service("r") | {"kind": "ServingRuntime"})
    await until(lambda: len(plane.backend.replicas[plane.key()]) == 2)
    assert len(plane.backend.replicas[plane.key(namespace="other")]) == 1


async def test_a_failing_service_hurts_no_other(plane, service, service_key, until):
    plane.planner.failing.add("bad")
    plane.backend.failing.add("worse")
    for name in ("bad", "worse", "good"):
        await plane.kept.create(service_key(name), service(name))
    await wait_ready(plane.kept, service_key("good"))
    failed = plane.behind.meter.reconciles.labels("error")._value
    await until(lambda: failed.get() >= 2)
    entries = {name: await plane.behind.book.read(service_key(name)) for name in ("bad", "worse")}
    assert "not understood" in entries["bad"][-1]["error"]
    assert "cannot be started" in entries["worse"][-1]["error"]
    plane.planner.failing.clear()
    await plane.kept.replace(service_key("bad"), service("bad", uri="/cure"))
    await wait_ready(plane.kept, service_key("bad"))


async def test_a_lost_replica_is_replaced(plane, service, service_key, until):
    await plane.kept.create(service_key(), service())
    await wait_ready(plane.kept, service_key())
    plane.backend.replicas[plane.key()].clear()
    plane.backend.tell(plane.key())
    await until(lambda: plane.backend.replicas[plane.key()])


async def test_a_source_that_fails_is_followed_again(plane, service, service_key, until, caplog):
    await plane.kept.create(service_key(), service())
    await wait_ready(plane.kept, service_key())
    plane.backend.replicas[plane.key()].clear()
    plane.backend.tell(errors.BackendError("the world ends"))
    await until(lambda: plane.backend.replicas[plane.key()])
    assert "the world ends" in caplog.text
    plane.backend.replicas[plane.key()].clear()
    plane.backend.tell(plane.key())
    await until(lambda: plane.backend.replicas[plane.key()])


async def test_a_store_that_fails_for_a_while_takes_no_news_for_good(
    plane, service, service_key, until, monkeypatch, caplog
):
    await plane.kept.create(service_key(), service())
    await wait_ready(plane.kept, service_key())
    names, asked = plane.kept.names, []

    async def failing(*given, **more):
        asked.append(given)
        if len(asked) < 3:
            raise errors.BackendError("the disk is full")
        return await names(*given, **more)

    monkeypatch.setattr(plane.kept, "names", failing)
    plane.backend.tell(errors.BackendError("the world ends"))
    await until(lambda: len(asked) >= 3)
    assert "the disk is full" in caplog.text
    # What it tells after that is heard, and so is what happened in between.
    plane.backend.replicas[plane.key()].clear()
    plane.backend.tell(plane.key())
    await until(lambda: plane.backend.replicas[plane.key()])


async def test_nothing_is_published_before_every_service_was_looked_at(
    kept, catalog, small, service, service_key, until
):
    backend, gateway, planner = small()
    for name in ("a", "b", "c"):
        await kept.create(service_key(name), service(name))
    planner.failing.add("b")
    turning = loop.Loop(
        kept=kept, catalog=catalog, backend=backend, gateway=gateway, facts_of=facts.Facts(backend, gateway),
        planner=planner, book=journal.Journal(kept), meter=metrics.Metrics(),
    )  # fmt: skip
    running = asyncio.ensure_future(turning.run())
    await until(lambda: gateway.begun is not None)
    assert {key.name for key in gateway.begun} == {"a", "c"}
    await turning.close()
    await running
    assert len(backend.begun) == 2
    assert not any(isinstance(one, actions.StopReplica) for one in backend.begun)


class Waiting:
    """A gate that says for whom somebody waits."""

    def __init__(self) -> None:
        self.news: asyncio.Queue[observed.ServiceKey] = asyncio.Queue()
        self.open = True

    def waiting(self, service: observed.ServiceKey) -> int:
        return 1

    async def watch(self):
        while True:
            yield await self.news.get()


async def test_somebody_who_waits_makes_the_service_looked_at(kept, catalog, small, service, service_key, until):
    backend, gateway, planner = small()
    gate, meter = Waiting(), metrics.Metrics()
    await kept.create(service_key(), service())
    turning = loop.Loop(
        kept=kept, catalog=catalog, backend=backend, gateway=gateway, facts_of=facts.Facts(backend, gateway),
        planner=planner, book=journal.Journal(kept), meter=meter, gate=gate,
    )  # fmt: skip
    running = asyncio.ensure_future(turning.run())
    key = observed.ServiceKey("default", "iris")
    await until(lambda: gateway.wanted.get(key) and gateway.wanted[key].splits)
    backend.replicas[key].clear()
    gate.news.put_nowait(key)
    await until(lambda: len(backend.begun) == 2)
    await turning.close()
    await running


async def test_what_runs_without_an_object_is_left_alone_at_first(kept, catalog, small, service, service_key, until):
    backend, gateway, planner = small()
    key = observed.ServiceKey("default", "orphan")
    replica = observed.ReplicaId(key, "r1", 0)
    backend.replicas[key] = {replica: observed.Replica(replica, observed.Phase.RUNNING, 0.0, ready=True)}
    now = 1000.0
    turning = loop.Loop(
        kept=kept, catalog=catalog, backend=backend, gateway=gateway, facts_of=facts.Facts(backend, gateway),
        planner=planner, book=journal.Journal(kept), meter=metrics.Metrics(), clock=lambda: now,
    )  # fmt: skip
    running = asyncio.ensure_future(turning.run())
    await until(lambda: turning.seen())
    assert backend.begun == []
    now += 601
    backend.tell(key)
    await until(lambda: backend.begun)
    assert isinstance(backend.begun[0], actions.StopReplica)
    await turning.close()
    await running


@pytest.mark.parametrize("held", [True, False])
async def test_a_finalizer_keeps_a_finished_service(plane, service, service_key, until, held):
    metadata = {"finalizers": ["x/y"]} if held else {}
    await plane.kept.create(service_key(), service(**metadata))
    await wait_ready(plane.kept, service_key())
    await plane.kept.delete(service_key())
    if held:
        await until(lambda: not plane.backend.replicas[plane.key()])
        assert (await plane.kept.get(service_key()))["metadata"]["finalizers"] == ["x/y"]
        await plane.kept.replace(service_key(), service())
    await wait_gone(plane.kept, service_key())
