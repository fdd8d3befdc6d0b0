"""The client against a real control API on a real socket: what it asks for, what it makes of the answers."""

from __future__ import annotations

import asyncio
import pathlib
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence

import pytest

from mlship import client, errors, home
from mlship.api import problems
from mlship.backends import base
from mlship.control import (
    facts,
    journal,
    ledger,
    listeners,
    metrics,
    parts,
    resources,
    rest_api,
    seams,
    sqlite,
    starts,
    store,
)
from mlship.plan import actions, causes, observed

GROUP = "serving.kserve.io"
READY = {"conditions": [{"type": "Ready", "status": "True"}], "observedGeneration": 1}


def service(name: str = "iris", **spec: object) -> dict:
    return {
        "apiVersion": f"{GROUP}/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": name},
        "spec": {"size": 1, **spec},
    }


class Rules:
    def review(self, world: seams.World) -> tuple[seams.Notice, ...]:
        spec = world.service["spec"]
        if "bad" in spec:
            raise problems.InvalidObject([problems.refuse(("spec", "bad"), "is bad", "use good")])
        return (seams.Notice("spec.odd", 'says "nothing"'),) if "odd" in spec else ()


class Planner:
    def decide(self, world: seams.World, seen: observed.Observed, *, now: float) -> seams.Decision:
        return seams.Decision(summary="start 1 replica", why=("it is new",))

    def explain(self, world: seams.World, seen: observed.Observed, *, now: float) -> tuple[causes.Cause, ...]:
        return (causes.Cause("iris", "NotReady", "it does not start", "start it"),)


class Backend:
    async def apply(self, service: observed.ServiceKey, todo: Sequence[actions.Action]) -> None:
        # A client writes; the API asks for nothing but a look at the source.
        assert list(todo) == [actions.LookAtArtifact()]

    async def observe(self, service: observed.ServiceKey) -> base.Facts:
        return base.Facts()

    async def logs(self, service: observed.ServiceKey, *, tail: int = 100, follow: bool = False):
        if service.name == "silent":
            raise errors.SpecError("there are no logs", reason=errors.Reason.NOT_FOUND)
        for number in range(3)[-tail:] if tail else ():
            yield base.LogLine(observed.ReplicaId(service, "r1", 0), f"line {number}")


class Gateway:
    def view(self, service: observed.ServiceKey) -> observed.Gateway:
        return observed.Gateway()


class Server:
    """A control API on a thread of its own, because the client is not asynchronous."""

    def __init__(self, root: pathlib.Path) -> None:
        self.where = home.Home(root)
        self.stops: list[bool] = []
        self._up = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))

    def __enter__(self) -> Server:
        self._thread.start()
        assert self._up.wait(20)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(20)
        assert not self._thread.is_alive()

    def do(self, coroutine) -> object:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(20)

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._end = asyncio.Event()
        self.where.sockets.mkdir(parents=True)
        kinds = (("InferenceService", "v1beta1"), ("ServingRuntime", "v1alpha1"), ("ClusterServingRuntime", "v1alpha1"))
        catalog = resources.Catalog(
            [
                resources.Resource(
                    GROUP,
                    version,
                    kind,
                    f"{kind.lower()}s",
                    kind.lower(),
                    ("isvc",) if kind == "InferenceService" else (),
                    namespaced=not kind.startswith("Cluster"),
                    drained=kind == "InferenceService",
                )
                for kind, version in kinds
            ]
        )
        database = sqlite.Database(self.where.database)
        await database.open()
        drained = frozenset(one.id for one in catalog.all if one.drained)
        self.kept = ledger.Ledger(database, drained=drained, keep_events=50)
        behind = parts.Parts(
            kept=self.kept, catalog=catalog, rules=Rules(), planner=Planner(), backend=Backend(),
            facts=facts.Facts(Backend(), Gateway()), book=journal.Journal(self.kept), meter=metrics.Metrics(),
            closing=asyncio.Event(), stop=self.stops.append, about=lambda: {"version": "test"}, clock=time.time,
            starts=starts.Starts(metrics.Metrics(), clock=time.time),
        )  # fmt: skip
        self.book = behind.book
        application = rest_api.build(behind)
        listener = listeners.loopback(0)
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        servers = [listeners.server(application), listeners.server(rest_api.guard(application, "sesame"))]
        async with asyncio.TaskGroup() as group:
            group.create_task(servers[0].serve(sockets=[listeners.unix_socket(self.where.control_socket)]))
            group.create_task(servers[1].serve(sockets=[listener]))
            async with asyncio.timeout(20):
                while not all(server.started for server in servers):
                    await asyncio.sleep(0.005)
            self._up.set()
            await self._end.wait()
            behind.closing.set()
            for server in servers:
                server.should_exit = True
        await self.kept.close()

    def status(self, name: str, status: dict) -> None:
        key = store.Key(f"inferenceservices.{GROUP}", "default", name)
        self.do(self.kept.replace(key, {"status": status}, part=store.Part.STATUS))

    def remove(self, name: str) -> None:
        key = store.Key(f"inferenceservices.{GROUP}", "default", name)
        uid = self.do(self.kept.delete(key))["metadata"]["uid"]
        self.do(self.kept.remove(key, uid=uid))


@pytest.fixture
def server(tmp_path: pathlib.Path) -> Iterator[Server]:
    with Server(tmp_path / "home") as running:
        yield running


@pytest.fixture
def control(server: Server) -> Iterator[client.Client]:
    with client.Client(server.where) as found:
        yield found


def test_importing_the_client_costs_little():
    code = "import sys, mlship.client; sys.exit(bool({'httpx', 'pydantic', 'starlette'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_apply_creates_configures_and_leaves_alone(control):
    made = control.apply(service())
    assert made.outcome is client.Outcome.CREATED
    assert control.apply(service()).outcome is client.Outcome.UNCHANGED
    changed = control.apply(service(size=2))
    assert (changed.outcome, changed.object["metadata"]["generation"]) == (client.Outcome.CONFIGURED, 2)
    assert control.get("isvc", "iris")["spec"] == {"size": 2}


def test_a_dry_apply_changes_nothing(control):
    assert control.apply(service(), dry_run=True).outcome is client.Outcome.CREATED
    with pytest.raises(client.Refused):
        control.get("isvc", "iris")
    control.apply(service())
    assert control.apply(service(size=3), dry_run=True).outcome is client.Outcome.CONFIGURED
    assert control.apply(service(), dry_run=True).outcome is client.Outcome.UNCHANGED


def test_apply_tells_what_has_no_effect(control):
    assert control.apply(service(odd=1)).notices == ('spec.odd: says "nothing"',)


def test_a_refusal_has_every_cause(control):
    with pytest.raises(client.Refused) as caught:
        control.apply(service(bad=1))
    assert caught.value.reason is errors.Reason.INVALID
    assert caught.value.causes == (client.Cause("spec.bad", "is bad; use good"),)


def test_apply_waits_for_nobody_that_is_being_deleted(control):
    control.apply(service())
    control.delete("isvc", "iris")
    with pytest.raises(client.Refused, match="being deleted") as caught:
        control.apply(service())
    assert caught.value.reason is errors.Reason.ALREADY_EXISTS


def test_kinds_are_what_people_write(control):
    control.apply(service())
    for word in ("isvc", "InferenceService", "inferenceservices", "inferenceservice"):
        assert len(control.list(word)) == 1
    assert control.list("isvc", namespace="other") == []
    assert control.list("isvc", selector="a=b") == []
    with pytest.raises(client.Refused, match="rocket") as caught:
        control.get("rocket", "x")
    assert "InferenceService (inferenceservices, isvc)" in str(caught.value)
    assert control.kind("ISVC") is not None
    assert control.kind("rocket") is None
    assert [one.kind for one in control.served()] == ["InferenceService", "ServingRuntime", "ClusterServingRuntime"]
    table = control.table("isvc", namespace="default")
    assert (table["kind"], [row["cells"][0] for row in table["rows"]]) == ("Table", ["iris"])
    assert control.table("isvc", namespace="default", name="iris")["rows"] == table["rows"]
    with pytest.raises(client.Refused, match="v9"):
        control.apply(service() | {"apiVersion": f"{GROUP}/v9"})


def test_what_is_not_there(control):
    for call in (control.get, control.delete):
        with pytest.raises(client.Refused) as caught:
            call("isvc", "none")
        assert caught.value.reason is errors.Reason.NOT_FOUND


def test_waiting_until_ready_tells_what_happens(server, control):
    control.apply(service())
    seen = []

    def on_change(body: dict) -> None:
        seen.append(client.condition(body, "Ready").get("message", ""))
        if len(seen) == 1:
            server.status("iris", {"conditions": [{"type": "Ready", "status": "False", "message": "starting"}]})
        if len(seen) == 2:
            server.status("iris", READY)

    found = control.wait_ready("iris", deadline=20, on_change=on_change)
    assert client.is_ready(found)
    assert seen == ["", "starting", ""]


def test_the_status_of_an_older_spec_is_not_readiness(server, control):
    control.apply(service())
    server.status("iris", READY)
    control.apply(service(size=2))
    assert not client.is_ready(control.get("isvc", "iris"))
    with pytest.raises(errors.NotReady, match="not ready after 1 s"):
        control.wait_ready("iris", deadline=1)


def test_waiting_ends_when_the_model_does_not_load(server, control):
    control.apply(service())
    server.status(
        "iris",
        {
            "observedGeneration": 1,
            "modelStatus": {
                "transitionStatus": "BlockedByFailedLoad",
                "lastFailureInfo": {"message": "model.pkl is truncated"},
            },
        },
    )
    with pytest.raises(errors.ModelError, match=r"model\.pkl is truncated"):
        control.wait_ready("iris", deadline=20)


def test_waiting_ends_when_the_service_is_deleted(server, control):
    control.apply(service())

    def on_change(body: dict) -> None:
        if "deletionTimestamp" not in body["metadata"]:
            server.remove("iris")

    with pytest.raises(client.Refused, match="deleted meanwhile"):
        control.wait_ready("iris", deadline=20, on_change=on_change)


def test_waiting_until_gone(server, control):
    control.wait_gone("never", deadline=5)
    control.apply(service())
    control.delete("isvc", "iris")
    timer = threading.Timer(0.05, server.remove, ["iris"])
    timer.start()
    control.wait_gone("iris", deadline=20)
    timer.join()
    control.apply(service())
    with pytest.raises(errors.NotReady, match="not gone"):
        control.wait_gone("iris", deadline=1)


def test_watching_from_too_long_ago(server, control):
    control.apply(service())
    for number in range(60):
        server.status("iris", {"n": number})
    with pytest.raises(client.Refused) as caught:
        next(control.watch("isvc", deadline=5, since="1"))
    assert caught.value.reason is errors.Reason.EXPIRED


def test_why_and_logs_and_plan_and_status(server, control):
    control.apply(service())
    key = store.Key(f"inferenceservices.{GROUP}", "default", "iris")
    server.do(server.book.record(key, now=1.0, summary="start 1 replica", actions=["start"], why=["it is new"]))
    why = control.why("iris")
    (cause,) = why["chain"]
    assert (cause["text"], cause["hint"]) == ("iris: NotReady: it does not start", "start it")
    assert why["journal"][0]["summary"] == "start 1 replica"
    assert list(control.logs("iris", tail=2)) == ["r1-0 | line 1", "r1-0 | line 2"]
    with pytest.raises(client.Refused, match="no logs"):
        next(control.logs("silent"))
    plan = control.plan(service(size=5))
    assert plan["changes"] == [{"field": "spec.size", "before": 1, "after": 5}]
    assert plan["plans"][0]["summary"] == "start 1 replica"
    assert (plan["exists"], plan["changed"]) == (True, True)
    with pytest.raises(client.Refused, match="is bad"):
        control.plan(service(bad=1))
    assert control.status()["objects"] == {"InferenceService": 1}


def test_shutdown_says_whether_replicas_go_too(server, control):
    control.shutdown(replicas=True)
    control.shutdown(replicas=False)
    assert server.stops == [True, False]


def test_by_url_and_token(server):
    with client.Client(server.url, token="sesame") as control:
        assert control.status()["version"] == "test"
    with client.Client(server.url, token="wrong") as control, pytest.raises(client.Refused) as caught:
        control.status()
    assert caught.value.reason is errors.Reason.UNAUTHORIZED


def test_nobody_there(tmp_path: pathlib.Path):
    with client.Client(home.Home(tmp_path)) as control, pytest.raises(client.Unreachable, match="mlship up"):
        control.status()
