"""Pools in the loop: with the real planner and store, from the first member to the last, and across a restart."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import pathlib
from collections.abc import AsyncIterator, Sequence

import pytest

from mlship import aio, errors
from mlship.backends import base, fake_pools
from mlship.control import facts, journal, ledger, loop, metrics, planner, pools, rules, sqlite, store
from mlship.plan import actions, observed, pool, pool_popular

POOL = pool.key_of("default", "sklearn")
MEMBER = pool.Membership(POOL, "sklearn", timeout=60)
IRIS, WINE = observed.ServiceKey("default", "iris"), observed.ServiceKey("default", "wine")
MESH = {"serving.kserve.io/deploymentMode": "ModelMesh"}
TRAINED = "trainedmodels.serving.kserve.io"


class Now:
    """A clock set by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def seen(ready: int = 2, requests: dict[str, int] | None = None) -> observed.Observed:
    found = tuple(
        observed.Replica(
            observed.ReplicaId(POOL, "aaaa", number), observed.Phase.RUNNING, 0.0, ready=True,
            endpoint=observed.Endpoint(f"unix:/{number}"),
        )
        for number in range(ready)
    )  # fmt: skip
    applied = frozenset(one.endpoint for one in found)
    return observed.Observed(replicas=found, requests=requests or {}, gateway=observed.Gateway(True, applied=applied))


def test_who_comes_goes_or_says_something_else_has_its_pool_planned():
    known = pools.Pools(Now(), cores=4)
    assert known.note(IRIS, MEMBER) == (POOL,)
    assert known.note(IRIS, MEMBER) == ()
    assert known.note(WINE, MEMBER) == (POOL,)
    other = pool.Membership(pool.key_of("default", "onnx"), "onnx", timeout=60)
    assert known.note(WINE, other) == (POOL, other.pool)
    assert list(known.members(POOL)) == [IRIS]
    assert known.note(IRIS, None) == (POOL,)
    assert known.note(IRIS, None) == ()
    assert list(known.members(POOL)) == []


def test_a_pool_of_which_nobody_has_spoken_ends_after_the_grace():
    clock = Now()
    known = pools.Pools(clock, cores=4)
    made = known.plan(POOL, seen())
    assert (made.actions, made.wake_at) == ((), clock.now + pool.GRACE)
    clock.now += pool.GRACE
    idle = dataclasses.replace(seen(), gateway=observed.Gateway(running=True))
    made = known.plan(POOL, idle)
    assert [type(one) for one in made.actions] == [actions.StopReplica, actions.StopReplica]
    assert (made.route, made.finished) == (None, False)
    assert known.plan(POOL, observed.Observed()).finished


def test_requests_make_a_model_hot_in_the_route():
    clock = Now()
    known = pools.Pools(clock, cores=4)
    known.note(IRIS, MEMBER)
    for number in range(10):
        made = known.plan(POOL, seen(requests={"iris": number * 1000, "wine": number}))
        clock.now += pool_popular.EVERY
    assert made.route is not None
    assert made.route.pool.hot == ("iris",)
    assert made.wake_at == clock.now


def test_members_are_told_when_the_pool_begins_or_ceases_to_serve():
    known = pools.Pools(Now(), cores=4)
    assert not known.turned(POOL, seen(0))
    assert known.turned(POOL, seen(1))
    assert not known.turned(POOL, seen(2))
    assert known.turned(POOL, seen(0))


class Backend:
    """Artifacts and processes are there at once; entries as in the fake world."""

    def __init__(self) -> None:
        self.replicas: dict[observed.ServiceKey, dict[observed.ReplicaId, observed.Replica]] = {}
        self.artifacts: dict[observed.ServiceKey, observed.Artifact] = {}
        self.news: asyncio.Queue[observed.ServiceKey] = asyncio.Queue()
        self.pools = fake_pools.Pools(self.news.put_nowait)
        self.begun: list[actions.Action] = []
        self.full = False

    async def observe(self, service: observed.ServiceKey) -> base.Facts:
        enlisted = self.pools.of(service)
        if enlisted is not None:
            enlisted = dataclasses.replace(enlisted, replicas=self._replicas(enlisted.pool))
        return base.Facts(
            self._replicas(service), self.artifacts.get(service), enlisted=enlisted,
            requests=self.pools.requests(service), entries=self.pools.count(service),
        )  # fmt: skip

    def _replicas(self, key: observed.ServiceKey) -> tuple[observed.Replica, ...]:
        return tuple(self.replicas.get(key, {}).values())

    async def apply(self, service: observed.ServiceKey, todo: Sequence[actions.Action]) -> None:
        for action in todo:
            self.begun.append(action)
            match action:
                case actions.FetchArtifact():
                    found = observed.Artifact(action.uri, observed.ArtifactState.READY, "sha256:aa", "/cache/aa")
                    self.artifacts[service] = found
                case actions.ForgetArtifact():
                    self.artifacts.pop(service, None)
                case actions.StartReplica():
                    self.replicas.setdefault(service, {})[action.id] = observed.Replica(
                        action.id, observed.Phase.RUNNING, 0.0, ready=True,
                        endpoint=observed.Endpoint(f"unix:/{service.name}/{action.id.ordinal}"),
                    )  # fmt: skip
                case actions.StopReplica():
                    self.replicas[service].pop(action.id, None)
                case actions.EnlistModel():
                    if self.full:
                        raise errors.BackendError("cannot write the entry: No space left on device.")
                    self.pools.enlist(action)
                case actions.DelistModel():
                    self.pools.delist(action)
        self.news.put_nowait(service)

    async def watch(self) -> AsyncIterator[observed.ServiceKey]:
        for key in {*self.replicas, *self.artifacts, *self.pools.entries}:
            yield key
        while True:
            yield await self.news.get()

    def count(self, kind: type) -> int:
        return sum(isinstance(one, kind) for one in self.begun)


class Plane:
    """A loop over a real store, with a fast backend."""

    def __init__(self, kept: ledger.Ledger, backend: Backend, gateway: object) -> None:
        self.kept, self.backend, self.gateway = kept, backend, gateway
        self.clock = Now()
        catalog = rules.catalog()
        self.loop = loop.Loop(
            kept=kept, catalog=catalog, backend=backend, gateway=gateway, facts_of=facts.Facts(backend, gateway),
            planner=planner.Planner(), book=journal.Journal(kept), meter=metrics.Metrics(), clock=self.clock,
        )  # fmt: skip

    async def condition(self, name: str, which: str = "Ready", resource: str = "inferenceservices") -> str:
        try:
            body = await self.kept.get(store.Key(f"{resource}.serving.kserve.io", "default", name))
        except errors.SpecError:
            return "gone"
        found = (body.get("status") or {}).get("conditions", [])
        return next((one["status"] for one in found if one["type"] == which), "")

    async def until(self, name: str, value: str, **more: str) -> None:
        async with asyncio.timeout(20):
            while await self.condition(name, **more) != value:
                await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def turning(kept: ledger.Ledger, backend: Backend, gateway: object) -> AsyncIterator[Plane]:
    plane = Plane(kept, backend, gateway)
    failures: list[BaseException] = []
    async with aio.tasks(lambda name, error: failures.append(error)) as owner:
        running = owner.start(plane.loop.run(), name="loop")
        yield plane
        await plane.loop.close()
        await asyncio.wait([running], timeout=10)
    assert failures == []


@pytest.fixture
async def mesh_store(tmp_path: pathlib.Path) -> AsyncIterator[ledger.Ledger]:
    database = sqlite.Database(tmp_path / "mesh.db")
    await database.open()
    drained = frozenset(one.id for one in rules.catalog().all if one.drained)
    made = ledger.Ledger(database, drained=drained, targets=rules.catalog().targets())
    yield made
    await made.close()


async def test_members_share_a_pool_that_comes_with_the_first_and_goes_with_the_last(
    mesh_store, small, service, service_key, until
):
    backend, gateway = Backend(), small()[1]
    async with turning(mesh_store, backend, gateway) as plane:
        for name in ("iris", "wine"):
            await mesh_store.create(service_key(name), service(name, annotations=MESH))
        await plane.until("iris", "True")
        await plane.until("wine", "True")
        assert set(backend.replicas) == {POOL}
        assert backend.count(actions.StartReplica) == len(backend.replicas[POOL])
        assert gateway.wanted[POOL].pool is not None
        assert {one.service for one in gateway.wanted.values() if one.via == POOL} == {IRIS, WINE}
        await mesh_store.delete(service_key("iris"))
        await plane.until("iris", "gone")
        assert backend.replicas[POOL]
        await mesh_store.delete(service_key("wine"))
        await plane.until("wine", "gone")
        plane.clock.now += pool.GRACE
        backend.news.put_nowait(POOL)
        await until(lambda: not backend.replicas[POOL])
        await until(lambda: gateway.wanted == {})
        await until(lambda: POOL not in plane.loop.known)


async def test_a_restart_changes_nothing_and_publishes_once_the_pool_was_looked_at(
    mesh_store, small, service, service_key, until
):
    backend = Backend()
    async with turning(mesh_store, backend, small()[1]) as plane:
        for name in ("iris", "wine"):
            await mesh_store.create(service_key(name), service(name, annotations=MESH))
        await plane.until("wine", "True")
        await plane.until("iris", "True")
    begun = list(backend.begun)
    gateway = small()[1]
    async with turning(mesh_store, backend, gateway):
        await until(lambda: gateway.begun is not None)
        assert gateway.begun == {IRIS, WINE, POOL}
        assert gateway.wanted[POOL].splits
    assert backend.begun == begun


async def test_a_full_disk_is_told_and_mends_itself(mesh_store, small, service, service_key, until, caplog):
    backend = Backend()
    backend.full = True
    async with turning(mesh_store, backend, small()[1]) as plane:
        await mesh_store.create(service_key("iris"), service("iris", annotations=MESH))
        await until(lambda: "No space left" in caplog.text)
        backend.full = False
        await plane.until("iris", "True")


async def test_a_service_that_leaves_the_pool_gets_replicas_first(mesh_store, small, service, service_key, until):
    backend = Backend()
    async with turning(mesh_store, backend, small()[1]) as plane:
        await mesh_store.create(service_key("iris"), service("iris", annotations=MESH))
        await plane.until("iris", "True")
        await mesh_store.replace(service_key("iris"), service("iris"))
        await until(lambda: backend.pools.of(IRIS) is None)
        assert backend.replicas[IRIS]
        kinds = [type(one) for one in backend.begun]
        last_start = len(kinds) - 1 - kinds[::-1].index(actions.StartReplica)
        assert last_start < kinds.index(actions.DelistModel)


def trained(name: str = "iris") -> dict:
    model = {"framework": "sklearn", "storageUri": "/m/iris.pkl", "memory": "64Mi"}
    return {
        "apiVersion": "serving.kserve.io/v1alpha1",
        "kind": "TrainedModel",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"inferenceService": "many", "model": model},
    }


async def test_a_trained_model_waits_for_its_parent_and_follows_it(mesh_store, small, service, service_key, until):
    backend = Backend()
    key = store.Key(TRAINED, "default", "iris")
    async with turning(mesh_store, backend, small()[1]) as plane:
        await mesh_store.create(key, trained())
        await plane.until("iris", "False", resource="trainedmodels")
        parent = service("many")
        del parent["spec"]["predictor"]["model"]["storageUri"]
        await mesh_store.create(service_key("many"), parent)
        await plane.until("iris", "True", resource="trainedmodels")
        assert backend.pools.of(pool.trained_key("default", "iris")) is not None
        await mesh_store.delete(service_key("many"))
        await plane.until("iris", "False", resource="trainedmodels")
        await mesh_store.delete(key)
        await plane.until("iris", "gone", resource="trainedmodels")
        assert backend.pools.of(pool.trained_key("default", "iris")) is None


async def test_an_entry_without_an_object_is_taken_out_after_a_grace(mesh_store, small, until):
    backend = Backend()
    lost = actions.EnlistModel(POOL, actions.Entry("iris", "sklearn", "/cache/aa", "sha256:aa"))
    backend.pools.enlist(lost)
    async with turning(mesh_store, backend, small()[1]) as plane:
        await until(lambda: IRIS in plane.loop.known)
        backend.news.put_nowait(IRIS)
        await asyncio.sleep(0.05)
        assert backend.pools.of(IRIS) is not None
        plane.clock.now += 601.0
        await until(lambda: backend.news.put_nowait(IRIS) or backend.pools.of(IRIS) is None)
