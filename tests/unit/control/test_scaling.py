"""The loop between planner, feeds and gate: what wakes a service, what is handed on, and what people see of it."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Callable, Mapping

import pytest

from mlship import aio
from mlship.control import (
    facts,
    journal,
    loop,
    metrics,
    parts,
    planner,
    preview,
    resources,
    rules,
    seams,
    starts,
    store,
    top,
)
from mlship.plan import elastic, observed, scaling
from mlship.scale import memory
from mlship.scale import policy as policies

KEY = observed.ServiceKey("default", "iris")
SCALING = scaling.Scaling(policies.Policy(min_replicas=0, max_replicas=4))
SCALED = store.Key("scaledobjects.keda.sh", "default", "scale")


def scaled(target: str = "iris", name: str = "scale", **metadata: object) -> store.Object:
    return {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": {"name": name, "namespace": "default", **metadata},
        "spec": {
            "scaleTargetRef": {"name": target, "kind": "InferenceService"},
            "maxReplicaCount": 4,
            "triggers": [{"type": "cpu", "metricType": "Utilization", "metadata": {"value": "50"}}],
        },
    }


class News:
    """Feeds and gate in one: tells what it is told to, and keeps what it is asked."""

    def __init__(self) -> None:
        self.callers: dict[observed.ServiceKey, int] = {}
        self.open = True
        self.followed: list[tuple[observed.ServiceKey, scaling.Scaling | None]] = []
        self.measured = observed.Demand(busy=True)
        self.given = seams.Figures(rps=12.0, concurrency=3.5, p99=0.25, cpu=0.5, memory=5e8)
        self._news: asyncio.Queue[observed.ServiceKey] = asyncio.Queue()

    def tell(self, key: observed.ServiceKey) -> None:
        self._news.put_nowait(key)

    def waiting(self, service: observed.ServiceKey) -> int:
        return self.callers.get(service, 0)

    def follow(self, service: observed.ServiceKey, wanted: scaling.Scaling | None, seen: observed.Observed) -> None:
        self.followed.append((service, wanted))

    def of(self, service: observed.ServiceKey, *, now: float) -> observed.Demand:
        return self.measured

    async def watch(self) -> AsyncIterator[observed.ServiceKey]:
        while True:
            yield await self._news.get()

    async def figures(
        self, services: Mapping[observed.ServiceKey, observed.Observed]
    ) -> Mapping[observed.ServiceKey, seams.Figures]:
        return dict.fromkeys(services, self.given)


class Planner:
    """Remembers the worlds it sees, and leaves a past behind."""

    def __init__(self) -> None:
        self.worlds: list[seams.World] = []
        self.seen: list[observed.Observed] = []

    def decide(self, world: seams.World, seen: observed.Observed, *, now: float) -> seams.Decision:
        self.worlds.append(world)
        self.seen.append(seen)
        past = elastic.Past(memory.begin(len(self.worlds) % 3, 1.0), now_said="2 replicas: so it is", looked_at=5.0)
        status = {"mlship": {"replicas": {"wanted": 2, "ready": 1}}}
        finished = "deletionTimestamp" in world.service["metadata"]
        return seams.Decision(status=status, past=past, scaling=SCALING, summary="nothing to do", finished=finished)

    def explain(self, world: seams.World, seen: observed.Observed, *, now: float) -> tuple[()]:
        return ()


@dataclasses.dataclass
class Turning:
    kept: store.Store
    planner: Planner
    news: News
    known: facts.Facts
    meter: metrics.Metrics


@pytest.fixture
async def turning(kept, small) -> AsyncIterator[Turning]:
    backend, gateway, _ = small()
    news, deciding, meter = News(), Planner(), metrics.Metrics()
    known = facts.Facts(backend, gateway, feeds=news, gate=news)
    made = loop.Loop(
        kept=kept, catalog=rules.catalog(), backend=backend, gateway=gateway, facts_of=known, planner=deciding,
        book=journal.Journal(kept), meter=meter, feeds=news, gate=news,
    )  # fmt: skip
    meter.observe_scaling(lambda: top.scales(known))
    failures: list[BaseException] = []
    async with aio.tasks(lambda name, error: failures.append(error)) as owner:
        looping = owner.start(made.run(), name="loop")
        yield Turning(kept, deciding, news, known, meter)
        await made.close()
        await asyncio.wait([looping], timeout=10)
    assert failures == []


@pytest.fixture
async def looked(turning: Turning, service, service_key, until) -> Turning:
    await turning.kept.create(service_key(), service())
    await until(lambda: turning.planner.worlds)
    return turning


async def more_looks(turning: Turning, until: Callable[..., object]) -> None:
    count = len(turning.planner.worlds)
    await until(lambda: len(turning.planner.worlds) > count)  # type: ignore[misc]


async def test_a_first_caller_or_a_jump_brings_a_look_at_once(looked: Turning, until) -> None:
    looked.news.callers[KEY] = 3
    looked.news.tell(KEY)
    await more_looks(looked, until)
    demand = looked.planner.seen[-1].demand
    assert (demand.waiting, demand.gated, demand.busy) == (3, True, True)


async def test_a_closed_gate_wakes_nobody(looked: Turning, until) -> None:
    looked.news.open = False
    looked.news.tell(KEY)
    await more_looks(looked, until)
    assert looked.planner.seen[-1].demand.gated is False


async def test_what_a_decision_leaves_goes_into_the_next(looked: Turning, until) -> None:
    assert looked.planner.worlds[0].past is None
    await until(lambda: looked.known.past(KEY))
    before = looked.known.past(KEY)
    looked.news.tell(KEY)
    await more_looks(looked, until)
    assert looked.planner.worlds[-1].past == before
    assert (KEY, SCALING) in looked.news.followed


async def test_a_scaled_object_brings_a_look_at_what_it_targets_and_targeted(looked: Turning, service, until) -> None:
    await looked.kept.create(SCALED, scaled())
    await until(lambda: looked.planner.worlds[-1].scaled)
    await looked.kept.replace(SCALED, scaled("other"))
    await more_looks(looked, until)
    await looked.kept.replace(SCALED, scaled())
    await more_looks(looked, until)
    await looked.kept.delete(SCALED)
    await until(lambda: not looked.planner.worlds[-1].scaled)


async def test_a_service_that_is_gone_is_forgotten_by_all(looked: Turning, service_key, until) -> None:
    await until(lambda: looked.known.past(KEY))
    await looked.kept.delete(service_key())
    await until(lambda: looked.known.past(KEY) is None)
    await until(lambda: (KEY, None) in looked.news.followed)


async def test_rows_and_figures_of_every_service(looked: Turning, until) -> None:
    await until(lambda: looked.known.past(KEY))
    looked.news.callers[KEY] = 1
    looked.news.tell(KEY)
    await more_looks(looked, until)
    (row,) = await top.rows(looked.known, looked.news, namespace="")
    assert row == {
        "namespace": "default", "name": "iris", "ready": 1, "wanted": 2, "min": 0, "max": 4,
        "requestsPerSecond": 12.0, "concurrency": 3.5, "p99Seconds": 0.25, "cpuCores": 0.5, "memoryBytes": 5e8,
        "waiting": 1, "decision": "2 replicas: so it is", "decidedAt": "1970-01-01T00:00:05Z",
    }  # fmt: skip
    assert await top.rows(looked.known, looked.news, namespace="other") == []
    (bare,) = await top.rows(looked.known, None, namespace="default")
    assert bare["requestsPerSecond"] is None
    text = looked.meter.text().decode()
    assert 'mlship_service_replicas_wanted{name="iris",namespace="default"} 2.0' in text
    assert 'mlship_service_replicas_ready{name="iris",namespace="default"} 1.0' in text
    assert 'mlship_service_panic{name="iris",namespace="default"} 0.0' in text
    assert "mlship_scaling_decisions_total" in text


@pytest.mark.parametrize(("before", "after", "direction"), [(None, 1, "none"), (1, 3, "up"), (3, 1, "down")])
def test_decisions_are_counted_by_what_becomes_of_the_number(before, after, direction) -> None:
    meter = metrics.Metrics()
    meter.scaled(None if before is None else memory.begin(before, 1.0), memory.begin(after, 2.0))
    meter.scaled(memory.begin(1, 1.0), None)
    assert meter.decisions.labels(direction)._value.get() == 1


def world(service: store.Object, *found: store.Object) -> seams.World:
    return seams.World({**service, "metadata": {**service["metadata"], "namespace": "default"}}, scaled=found)


def test_of_several_scaled_objects_the_oldest_counts(service) -> None:
    old = scaled(name="old", creationTimestamp="2026-01-01T00:00:00Z")
    new = scaled(name="new", creationTimestamp="2026-02-01T00:00:00Z")
    other = scaled("other", name="other")
    found = planner.desired(world(service(), new, other, old), planner.Reader()).scaled
    assert found is not None
    assert found.name == "old"
    told = planner.told((new, other, old), "iris", read=planner.Reader(), there=True)
    assert [(one.name, one.status["conditions"][0]["status"]) for one in told] == [("old", "True"), ("new", "False")]
    assert "ScaledObject old, which is older" in told[1].status["conditions"][0]["message"]
    known = {**old, "status": told[0].status}
    assert [one.name for one in planner.told((new, known), "iris", read=planner.Reader(), there=True)] == ["new"]
    assert planner.desired(world(service(), other), planner.Reader()).scaled is None
    deployment = scaled("iris-predictor")
    del deployment["spec"]["scaleTargetRef"]["kind"]
    odd = {**scaled(), "spec": None}
    found = planner.desired(world(service(), odd, deployment), planner.Reader()).scaled
    assert found is not None
    assert found.target == "iris"
    assert [one.name for one in planner.told((odd, deployment), "iris", read=planner.Reader(), there=True)] == ["scale"]


def test_a_scaled_object_that_is_not_understood_targets_nothing() -> None:
    assert planner.target_of({"kind": "ScaledObject", "metadata": {"name": "x"}, "spec": {}}) == ""
    assert planner.target_of(scaled()) == "iris"


def test_a_catalog_without_scaled_objects_has_none(catalog: resources.Catalog) -> None:
    assert facts.scalers(catalog) == ""
    assert facts.scalers(rules.catalog()) == "scaledobjects.keda.sh"


async def test_top_over_the_api(plane, service, service_key, until) -> None:
    await plane.kept.create(service_key(), service())
    await until(lambda: plane.key() in plane.behind.facts.sizes)
    answer = await plane.http.get("/mlship/v1/top", params={"namespace": "default"})
    assert [one["name"] for one in answer.json()["services"]] == ["iris"]
    with contextlib.suppress(KeyError):
        assert answer.json()["services"][0]["concurrency"] is None


async def test_the_plan_of_a_scaled_object_is_that_of_the_service_it_targets(kept, small, service, service_key) -> None:
    backend, gateway, _ = small()
    behind = parts.Parts(
        kept=kept, catalog=rules.catalog(), rules=rules.Judge(), planner=planner.Planner(), backend=backend,
        facts=facts.Facts(backend, gateway), book=journal.Journal(kept), meter=(meter := metrics.Metrics()),
        starts=starts.Starts(meter, clock=lambda: 1.0), closing=asyncio.Event(), stop=lambda replicas: None, about=dict,
        clock=lambda: 1.0,
    )  # fmt: skip
    assert (await preview.preview(behind, scaled()))["plans"] == []
    await kept.create(service_key(), service(uri="file:///models/iris"))
    (plan,) = (await preview.preview(behind, scaled()))["plans"]
    assert plan["service"] == "default/iris"
    assert "fetch the model" in plan["summary"]


async def test_top_counts_the_processes_of_what_nobody_scales(small) -> None:
    backend, gateway, _ = small()
    known = facts.Facts(backend, gateway)
    key = observed.ServiceKey("default", "modelmesh.sklearn")
    replicas = tuple(
        observed.Replica(observed.ReplicaId(key, "a", number), observed.Phase.RUNNING, 1.0, ready=number > 0)
        for number in range(3)
    )
    known.newest[key] = observed.Observed(replicas=replicas)
    (row,) = await top.rows(known, None, namespace="default")
    assert (row["ready"], row["wanted"]) == (2, 3)
