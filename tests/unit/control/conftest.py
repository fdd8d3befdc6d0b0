"""Shared worlds for the control plane's tests: a real store on a real file, and objects as users write them."""

from __future__ import annotations

import asyncio
import dataclasses
import pathlib
import time
from collections.abc import AsyncIterator, Callable, Sequence

import httpx
import pytest

from mlship import aio, errors, home
from mlship.api import problems
from mlship.backends import base
from mlship.control import (
    facts,
    journal,
    ledger,
    listeners,
    loop,
    metrics,
    parts,
    resources,
    rest_api,
    rules,
    seams,
    sqlite,
    starts,
    store,
)
from mlship.plan import actions, causes, observed, routes

GROUP = "serving.kserve.io"


def _resource(kind: str, version: str, *, namespaced: bool = True, drained: bool = False) -> resources.Resource:
    age = resources.Column("Age", ".metadata.creationTimestamp", type="date")
    url = resources.Column("URL", ".status.url")
    return resources.Resource(
        group=GROUP, version=version, kind=kind, plural=f"{kind.lower()}s", singular=kind.lower(),
        short_names=("isvc",) if drained else (), namespaced=namespaced, columns=(url, age), drained=drained,
    )  # fmt: skip


@pytest.fixture
def catalog() -> resources.Catalog:
    return resources.Catalog(
        [
            _resource("InferenceService", "v1beta1", drained=True),
            _resource("ServingRuntime", "v1alpha1"),
            _resource("ClusterServingRuntime", "v1alpha1", namespaced=False),
        ]
    )


@pytest.fixture
def open_ledger(tmp_path: pathlib.Path, catalog: resources.Catalog) -> Callable[..., object]:
    """Opens the ledger of a file; the same file again gives the same objects."""

    async def opened(name: str = "state.db", **settings: object) -> ledger.Ledger:
        database = sqlite.Database(tmp_path / name)
        await database.open()
        drained = frozenset(one.id for one in catalog.all if one.drained)
        targets = rules.catalog().targets()
        return ledger.Ledger(database, drained=drained, targets=targets, **settings)  # type: ignore[arg-type]

    return opened


@pytest.fixture
async def kept(open_ledger: Callable[..., object]) -> AsyncIterator[ledger.Ledger]:
    found = await open_ledger()  # type: ignore[misc]
    yield found
    await found.close()


@pytest.fixture
def until() -> Callable[..., object]:
    """Waits for a condition with a deadline, giving the loop its turns."""

    async def wait(condition: Callable[[], object], seconds: float = 30.0) -> object:
        async with asyncio.timeout(seconds):
            while not (found := condition()):
                await asyncio.sleep(0.005)
        return found

    return wait


@pytest.fixture
def service_key() -> Callable[..., store.Key]:
    return lambda name="iris", namespace="default": store.Key(f"inferenceservices.{GROUP}", namespace, name)


@pytest.fixture
def service() -> Callable[..., store.Object]:
    """An InferenceService as a user writes it."""

    def made(
        name: str = "iris", namespace: str = "default", uri: str = "/models/iris", **metadata: object
    ) -> store.Object:
        return {
            "apiVersion": f"{GROUP}/v1beta1",
            "kind": "InferenceService",
            "metadata": {"name": name, "namespace": namespace, **metadata},
            "spec": {"predictor": {"model": {"modelFormat": {"name": "sklearn"}, "storageUri": uri}}},
        }

    return made


class SmallBackend:
    """A backend whose replicas are ready as soon as they are started; what it is told is kept in ``begun``."""

    def __init__(self) -> None:
        self.replicas: dict[observed.ServiceKey, dict[observed.ReplicaId, observed.Replica]] = {}
        self.begun: list[actions.Action] = []
        self.lines: dict[observed.ServiceKey, list[str]] = {}
        self.failing: set[str] = set()
        self.more = asyncio.Event()
        self._news: asyncio.Queue[observed.ServiceKey | Exception] = asyncio.Queue()

    async def observe(self, service: observed.ServiceKey) -> base.Facts:
        return base.Facts(replicas=tuple(self.replicas.get(service, {}).values()))

    async def apply(self, service: observed.ServiceKey, todo: Sequence[actions.Action]) -> None:
        if service.name in self.failing:
            raise errors.BackendError(f"{service} cannot be started")
        held = self.replicas.setdefault(service, {})
        for action in todo:
            self.begun.append(action)
            if isinstance(action, actions.StartReplica):
                held[action.id] = observed.Replica(
                    action.id, observed.Phase.RUNNING, 0.0, ready=True,
                    endpoint=observed.Endpoint(f"unix:/run/{action.id.ordinal}.sock"),
                )  # fmt: skip
            elif isinstance(action, actions.StopReplica):
                held.pop(action.id, None)
        await self._news.put(service)

    def tell(self, news: observed.ServiceKey | Exception) -> None:
        self._news.put_nowait(news)

    async def watch(self) -> AsyncIterator[observed.ServiceKey]:
        for service in list(self.replicas):
            yield service
        while True:
            news = await self._news.get()
            if isinstance(news, Exception):
                raise news
            yield news

    async def logs(
        self, service: observed.ServiceKey, *, tail: int = 100, follow: bool = False
    ) -> AsyncIterator[base.LogLine]:
        if service not in self.lines:
            raise errors.SpecError(f"there are no logs of {service}", reason=errors.Reason.NOT_FOUND)
        replica = observed.ReplicaId(service, "r1", 0)
        for text in self.lines[service][-tail:] if tail else []:
            yield base.LogLine(replica, text)
        while follow:
            await self.more.wait()
            self.more.clear()
            yield base.LogLine(replica, "more")

    async def close(self) -> None:
        return


class SmallGateway:
    """A gateway that carries what is wanted at once; ``begun``: it was told that all services were looked at."""

    def __init__(self) -> None:
        self.wanted: dict[observed.ServiceKey, routes.ServiceRoute] = {}
        self.begun: set[observed.ServiceKey] | None = None
        self._news = asyncio.Event()

    def want(self, service: observed.ServiceKey, route: routes.ServiceRoute | None) -> None:
        before = dict(self.wanted)
        if route is None:
            self.wanted.pop(service, None)
        else:
            self.wanted[service] = route
        if self.wanted != before:
            self._news.set()

    def begin(self) -> None:
        self.begun = set(self.wanted)

    def view(self, service: observed.ServiceKey) -> observed.Gateway:
        route = self.wanted.get(service)
        applied = frozenset(one for split in route.splits for one in split.endpoints) if route else frozenset()
        return observed.Gateway(running=True, url="http://localhost:8080", applied=applied)

    async def watch(self) -> AsyncIterator[None]:
        while True:
            await self._news.wait()
            self._news.clear()
            yield None

    async def close(self) -> None:
        return

    async def stop(self) -> None:
        return


class SmallPlanner:
    """Wants ``spec.replicas`` replicas (1) and calls a service ready when the gateway carries them."""

    def __init__(self) -> None:
        self.failing: set[str] = set()

    def decide(self, world: seams.World, seen: observed.Observed, *, now: float) -> seams.Decision:
        metadata = world.service["metadata"]
        if metadata["name"] in self.failing:
            raise errors.SpecError(f"{metadata['name']} is not understood")
        key = observed.ServiceKey(metadata["namespace"], metadata["name"])
        going = "deletionTimestamp" in metadata
        wanted = 0 if going else world.service["spec"].get("replicas", 1) + len(world.namespaced)
        ids = [observed.ReplicaId(key, "r1", number) for number in range(wanted)]
        here = {replica.id: replica for replica in seen.replicas}
        endpoints = tuple(here[one].endpoint for one in ids if one in here)
        todo: list[actions.Action] = [
            actions.StartReplica(one, actions.ProcessSpec(("serve",))) for one in ids if one not in here
        ]
        todo += [actions.StopReplica(one) for one in here if one not in ids]
        ready = len(endpoints) == wanted and set(endpoints) <= seen.gateway.applied
        status = {
            "url": f"http://{key.name}-{key.namespace}.localhost:8080",
            "observedGeneration": metadata["generation"],
            "conditions": [{"type": "Ready", "status": "True" if ready else "False", "message": "starting"}],
        }
        split = (routes.Split("r1", 100, endpoints),) if endpoints else ()
        return seams.Decision(
            actions=tuple(todo),
            route=None if going else routes.ServiceRoute(key, metadata["creationTimestamp"], 60.0, splits=split),
            status=None if going else status,
            why=(f"{wanted} wanted",),
            finished=going and not here,
            summary=f"{len(todo)} to do",
        )

    def explain(self, world: seams.World, seen: observed.Observed, *, now: float) -> tuple[causes.Cause, ...]:
        return (causes.Cause("iris", "NotReady", "it is starting", "wait"),)


class SmallRules:
    """Refuses a spec with ``bad`` in it, field by field, and has something to say about ``odd``."""

    def review(self, world: seams.World) -> tuple[seams.Notice, ...]:
        spec = world.service.get("spec") or {}
        if "bad" in spec:
            wrong = [problems.refuse(("spec", "bad", n), "is bad", "use good") for n in range(spec["bad"])]
            raise problems.InvalidObject(wrong)
        return (seams.Notice("spec.odd", 'has no effect: "none"'),) if "odd" in spec else ()


@dataclasses.dataclass
class Plane:
    """A control plane on a real Unix socket, with small neighbours."""

    where: home.Home
    kept: ledger.Ledger
    backend: SmallBackend
    gateway: SmallGateway
    planner: SmallPlanner
    turning: loop.Loop
    behind: parts.Parts
    http: httpx.AsyncClient
    stops: list[bool]

    def key(self, name: str = "iris", namespace: str = "default") -> observed.ServiceKey:
        return observed.ServiceKey(namespace, name)


@pytest.fixture
def small() -> Callable[[], tuple[SmallBackend, SmallGateway, SmallPlanner]]:
    return lambda: (SmallBackend(), SmallGateway(), SmallPlanner())


@pytest.fixture
async def plane(tmp_path: pathlib.Path, kept: ledger.Ledger, catalog: resources.Catalog) -> AsyncIterator[Plane]:
    where = home.Home(tmp_path)
    where.sockets.mkdir(parents=True, exist_ok=True)
    backend, gateway, planner = SmallBackend(), SmallGateway(), SmallPlanner()
    meter, book, shared = metrics.Metrics(), journal.Journal(kept), facts.Facts(backend, gateway)
    turning = loop.Loop(
        kept=kept, catalog=catalog, backend=backend, gateway=gateway, facts_of=shared, planner=planner, book=book,
        meter=meter, watched=(watched := starts.Starts(meter, clock=time.time)),
    )  # fmt: skip
    stops: list[bool] = []
    behind = parts.Parts(
        kept=kept, catalog=catalog, rules=SmallRules(), planner=planner, backend=backend, facts=shared, book=book,
        meter=meter, closing=asyncio.Event(), stop=stops.append, about=lambda: {"version": "test"}, clock=time.time,
        starts=watched,
    )  # fmt: skip
    meter.observe(turning.seen)
    server = listeners.server(rest_api.build(behind))
    failures: list[BaseException] = []
    async with aio.tasks(lambda name, error: failures.append(error)) as owner:
        serving = owner.start(server.serve(sockets=[listeners.unix_socket(where.control_socket)]), name="api")
        looping = owner.start(turning.run(), name="loop")
        transport = httpx.AsyncHTTPTransport(uds=str(where.control_socket))
        async with asyncio.timeout(20):
            while not server.started:
                await asyncio.sleep(0.005)
        async with httpx.AsyncClient(transport=transport, base_url="http://test", timeout=20) as http:
            yield Plane(where, kept, backend, gateway, planner, turning, behind, http, stops)
        behind.closing.set()
        await turning.close()
        server.should_exit = True
        await asyncio.wait([serving, looping], timeout=10)
    assert failures == []
