"""The life of a service that is scaled, in virtual time: plan, scaler and fake world, with callers at a gate."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from typing import Any

import keda_scaler
from mlship import aio
from mlship.api import scaledobject
from mlship.api import service as services
from mlship.backends import fake
from mlship.control import feeds
from mlship.plan import actions, causes, elastic, observed, reconcile
from mlship.scale import readings, window

URI = "file:///models/iris.pkl"
KEY = observed.ServiceKey("default", "iris")


def declare(*, uri: str = URI, generation: int = 1, stop: bool = False, **predictor: Any) -> services.InferenceService:
    scaled = {"minReplicas": 0, "maxReplicas": 5, "scaleMetric": "concurrency", "scaleTarget": 10}
    model = {"modelFormat": {"name": "sklearn"}, "storageUri": uri}
    annotations = {"serving.kserve.io/stop": "true"} if stop else {}
    return services.InferenceService.model_validate(
        {
            "apiVersion": "serving.kserve.io/v1beta1",
            "kind": "InferenceService",
            "metadata": {"name": "iris", "generation": generation, "annotations": annotations},
            "spec": {"predictor": {"model": model, **scaled, **predictor}},
        }
    )


class Life:
    """A loop stepped by the clock of the world: at every event, at what the plan asked for, and at each second."""

    def __init__(self, wish: services.InferenceService) -> None:
        self.world = fake.Fake()
        self.wish = wish
        self.scaled: scaledobject.ScaledObject | None = None
        self.status: dict[str, Any] | None = None
        self.past: elastic.Past | None = None
        self.load: Callable[[float], float | None] = lambda now: 0.0
        self.waiting = 0
        self.gated = True
        self.done: list[actions.Action] = []
        self.plan = reconcile.Plan()
        self.entries: list[tuple[str, tuple[str, ...]]] = []
        self.writes = 0
        self.numbers: list[int] = []
        self._window = window.Window(60)
        self._began = self.world.time.now

    @property
    def now(self) -> float:
        return self.world.time.now - self._began

    def seen(self) -> observed.Observed:
        series = self._window.series(self.world.time.now, 60)
        reading = readings.of(series, panic=6)
        used = None if series.maximum is None else (series.maximum > 0 or (None if series.coverage < 1 else False))
        demand = observed.Demand({"concurrency": reading}, waiting=self.waiting, busy=used, gated=self.gated)
        return dataclasses.replace(self.world.seen(KEY), demand=demand)

    def look(self) -> reconcile.Plan:
        service = self.wish.model_copy(update={"status": self.status})
        desired = reconcile.Desired(service, scaled=self.scaled, past=self.past)
        carried = self.world.carries(KEY) if self.world.gateway_running else frozenset()
        places = {one.id: one.endpoint for one in self.world.facts(KEY).replicas}
        self.plan = reconcile.plan(desired, self.seen(), self.world.time.now)
        for action in self.plan.actions:
            if isinstance(action, actions.StopReplica):
                assert places[action.id] not in carried, "stopped while it gets traffic"
        self.world.begin(KEY, self.plan.actions)
        self.world.route(KEY, self.plan.route)
        entry = (self.plan.summary(), self.plan.why)
        if not self.entries or self.entries[-1] != entry:
            self.entries.append(entry)
        self.writes += self.status != self.plan.status
        self.status, self.past = self.plan.status, self.plan.past
        self.done += self.plan.actions
        self.numbers.append(self.status["mlship"]["replicas"]["wanted"])
        return self.plan

    def restart(self) -> None:
        """A new control plane: what the feeds knew and the newest memory are gone."""
        self.past = None
        self._window = window.Window(60)

    def run(self, seconds: float) -> None:
        until = self.world.time.now + seconds
        while self.world.time.now < until:
            now = self.world.time.now
            if self.serving or (self.waiting and self.running):
                value = self.load(self.now)
                if value is not None:
                    self._window.add(now, value)
            self.look()
            if self.serving:
                self.waiting = 0
            times = [at for at in (self.world.time.next(), self.plan.wake_at, float(int(now) + 1)) if at is not None]
            self.world.time.advance(min(max(min(times) - now, 0.001), until - now))

    @property
    def serving(self) -> frozenset[observed.Endpoint]:
        return self.world.carries(KEY)

    @property
    def running(self) -> int:
        return sum(one.phase is observed.Phase.RUNNING for one in self.world.facts(KEY).replicas)

    def condition(self, name: str) -> tuple[str, str]:
        assert self.status is not None
        found = next(one for one in self.status["conditions"] if one["type"] == name)
        return found["status"], found.get("reason", "")

    def told(self) -> str:
        service = self.wish.model_copy(update={"status": self.status})
        made = causes.chain(service, self.seen(), self.status, self.world.time.now, past=self.past)
        return "\n".join(map(str, made))


def awake() -> Life:
    life = Life(declare())
    life.run(5)
    assert life.running == 1
    return life


def asleep() -> Life:
    life = awake()
    life.run(90)
    assert life.running == 0
    return life


def test_a_burst_brings_more_replicas_and_its_end_takes_them_away() -> None:
    life = awake()
    life.load = lambda now: 30.0
    life.run(20)
    assert life.running == 5
    assert life.condition("Ready") == ("True", "")
    assert "5 replicas" in life.told()
    life.load = lambda now: 4.0
    life.run(240)
    assert life.running == 1
    assert life.condition("Ready") == ("True", "")
    # The first replica stayed all the time, and only that one.
    starts = [one.id.ordinal for one in life.done if isinstance(one, actions.StartReplica)]
    assert starts.count(0) == 1


def test_what_nobody_uses_goes_to_sleep_and_is_ready_all_the_same() -> None:
    life = awake()
    life.run(90)
    assert life.running == 0
    assert life.condition("Ready") == ("True", "ScaledToZero")
    assert life.status is not None
    assert life.status["modelStatus"]["states"] == {"activeModelState": "Standby", "targetModelState": "Standby"}
    route = life.plan.route
    assert route is not None
    assert route.gate is not None
    assert (route.gate.hopeless, [split.endpoints for split in route.splits]) == ("", [()])
    assert life.plan.wake_at is None
    assert "wakes it" in life.told()


def test_replicas_are_let_go_of_before_they_stop_when_it_goes_to_sleep() -> None:
    life = awake()
    life.world.route_seconds = 5.0
    life.run(60)
    while life.plan.route is None or life.plan.route.gate is None:
        life.run(0.5)
    assert life.running == 1
    assert not any(isinstance(one, actions.StopReplica) for one in life.done)
    assert any("no longer routes" in one for one in life.plan.why)
    life.run(7)
    assert life.running == 0


def test_a_caller_wakes_it_in_one_look() -> None:
    life = asleep()
    life.waiting = 1
    (start,) = life.look().actions
    assert isinstance(start, actions.StartReplica)
    assert "1 caller waits at the gate" in start.why
    assert life.condition("Ready") == ("True", "Waking")
    assert "1 caller is held" in life.told()
    assert life.plan.route is not None
    assert life.plan.route.gate is not None
    assert "has no ready replica" in life.plan.route.message, "who is refused is told what was waited for"
    life.run(5)
    assert life.running == 1
    assert life.plan.route.gate is None
    assert life.plan.route.splits[0].endpoints
    assert life.condition("Ready") == ("True", "")


def test_a_caller_that_comes_while_it_lies_down_turns_it_round() -> None:
    life = awake()
    life.world.route_seconds = 5.0
    life.run(60)
    while life.plan.route is None or life.plan.route.gate is None:
        life.run(0.5)
    life.waiting = 1
    assert life.look().actions == ()
    assert life.plan.route is not None
    assert life.plan.route.splits[0].endpoints
    assert not any(isinstance(one, actions.StopReplica) for one in life.done)


def test_a_new_control_plane_lets_a_sleeper_sleep() -> None:
    life = asleep()
    life.restart()
    life.world.artifacts.forget(KEY, URI)
    life.look()
    assert life.condition("Ready") == ("True", "ScaledToZero")
    life.run(30)
    assert life.running == 0
    assert life.condition("Ready") == ("True", "ScaledToZero")
    life.waiting = 2
    life.run(4)
    assert life.running == 1


def test_a_new_control_plane_shrinks_nothing_before_a_full_window() -> None:
    life = awake()
    life.load = lambda now: 30.0
    life.run(30)
    life.load = lambda now: 0.0
    life.restart()
    life.run(55)
    assert life.running == 5
    life.run(60)
    assert life.running < 5


def test_the_memory_of_a_start_is_taken_up_once() -> None:
    life = awake()
    life.restart()
    life.look()
    assert life.past is not None
    since = life.past.memory.since
    life.run(10)
    assert life.past.memory.since == since


def test_a_metric_that_falls_silent_shrinks_nothing() -> None:
    life = awake()
    life.load = lambda now: 30.0
    life.run(30)
    life.load = lambda now: None
    life.run(300)
    assert life.running == 5
    assert "not known" in life.told()


def test_a_gate_that_is_gone_keeps_it_awake() -> None:
    life = awake()
    life.gated = False
    life.run(200)
    assert life.running == 1


def test_a_sleeper_without_a_gate_is_not_ready() -> None:
    life = asleep()
    life.gated = False
    life.look()
    assert life.condition("Ready") == ("False", "GateDown")


def test_a_model_that_crashes_while_it_wakes_lets_nobody_wait_in_vain() -> None:
    life = asleep()
    line = 'model "iris" version 1 could not be loaded: UnpicklingError: pickle data was truncated.'
    revision = life.status["mlship"]["newest"]["revision"] if life.status else ""
    life.world.outcome(revision, fake.Outcome(exit=observed.Exit(at=0, code=65, last_line=line)))
    life.waiting = 3
    life.run(4)
    assert life.plan.route is not None
    assert life.plan.route.gate is not None
    assert line in life.plan.route.gate.hopeless
    assert life.condition("Ready") == ("False", "ModelLoadFailed")


def test_a_stopped_service_is_not_woken_and_begins_anew() -> None:
    life = asleep()
    life.wish = declare(stop=True, generation=2)
    life.waiting = 1
    life.run(5)
    assert life.running == 0
    assert life.plan.route is not None
    assert life.plan.route.gate is None
    assert life.past is None
    assert life.condition("Ready") == ("False", "Stopped")
    life.waiting = 0
    life.wish = declare(generation=3)
    life.run(5)
    assert life.running == 1


def test_a_new_revision_of_a_sleeper_is_proven_once() -> None:
    life = asleep()
    life.world.artifacts.put("file:///models/other.pkl", "sha256:other")
    life.wish = declare(uri="file:///models/other.pkl", generation=2)
    life.run(6)
    assert life.running == 1
    assert life.condition("Ready") == ("True", "")
    life.run(120)
    assert life.running == 0
    assert life.condition("Ready") == ("True", "ScaledToZero")


def test_an_update_that_fails_keeps_what_serves_from_falling_asleep() -> None:
    life = awake()
    before = life.serving
    life.world.artifacts.put("file:///models/bad.pkl", "sha256:bad")
    life.world.outcome("sha256:bad", fake.Outcome(hangs=True, message="answers 503: loading"))
    life.wish = declare(uri="file:///models/bad.pkl", generation=2)
    life.run(900)
    assert life.serving == before


def test_an_update_under_load_lowers_no_capacity() -> None:
    life = awake()
    life.load = lambda now: 30.0
    life.run(30)
    life.world.artifacts.put("file:///models/other.pkl", "sha256:other")
    life.wish = declare(uri="file:///models/other.pkl", generation=2)
    counts = []
    for _ in range(40):
        life.run(0.5)
        counts.append(len(life.serving))
    assert min(counts) == 5
    assert life.running == 5
    assert len({one.id.revision for one in life.world.facts(KEY).replicas}) == 1


def test_neither_status_nor_journal_change_while_the_number_stands() -> None:
    life = awake()
    life.load = lambda now: 4.0 + now % 3
    life.run(60)
    writes, entries = life.writes, len(life.entries)
    life.run(600)
    assert life.writes == writes
    assert len(life.entries) == entries


def test_a_paused_service_runs_what_the_pause_says() -> None:
    life = awake()
    life.load = lambda now: 30.0
    life.run(30)
    life.scaled = scaled(annotations={"autoscaling.keda.sh/paused-replicas": "2"})
    life.run(10)
    assert life.running == 2


def scaled(**metadata: Any) -> scaledobject.ScaledObject:
    return scaledobject.ScaledObject.model_validate(
        {
            "apiVersion": "keda.sh/v1alpha1",
            "kind": "ScaledObject",
            "metadata": {"name": "iris", **metadata},
            "spec": {
                "scaleTargetRef": {"name": "iris", "kind": "InferenceService"},
                "minReplicaCount": 3,
                "maxReplicaCount": 6,
                "triggers": [{"type": "cpu", "metricType": "Utilization", "metadata": {"value": "50"}}],
            },
        }
    )


def test_a_scaled_object_takes_over_and_gives_back() -> None:
    life = awake()
    life.scaled = scaled()
    life.run(10)
    assert life.running == 3
    life.scaled = None
    life.run(200)
    assert life.running == 0


class NoTraffic:
    """An Envoy that carries nothing."""

    async def stats(self, pattern: str) -> str:
        return ""


class Pushed(Life):
    """Its demand is what the feeds measure, in real time; they follow each of its plans."""

    def __init__(self, scaler: keda_scaler.Scaler, measured: feeds.Feeds) -> None:
        super().__init__(declare())
        trigger = {"type": "external-push", "metadata": {"scalerAddress": scaler.address}}
        target = {"name": "iris", "kind": "InferenceService"}
        times = {"maxReplicaCount": 4, "cooldownPeriod": 60, "pollingInterval": 3600}
        self.scaled = scaledobject.ScaledObject.model_validate(
            {
                "apiVersion": "keda.sh/v1alpha1",
                "kind": "ScaledObject",
                "metadata": {"name": "shop"},
                "spec": {"scaleTargetRef": target, **times, "triggers": [trigger]},
            }
        )
        self.measured = measured

    def seen(self) -> observed.Observed:
        seen = self.world.seen(KEY)
        self.measured.follow(KEY, self.plan.scaling, seen)
        demand = self.measured.of(KEY, now=self.world.time.now)
        # That nobody asks is known here at once: the feeds would need a window of real time for it.
        return dataclasses.replace(seen, demand=dataclasses.replace(demand, gated=True, busy=False))

    async def until_measured(self, value: float, *, active: bool) -> None:
        async with asyncio.timeout(30):
            while True:
                found = self.seen().demand.metrics.get("external-push")
                if found is not None and (found.stable, found.active) == (value, active):
                    return
                await asyncio.sleep(0.01)


async def test_a_scaler_that_pushes_wakes_a_service_from_zero_and_lets_it_rest() -> None:
    failures: list[BaseException] = []
    async with keda_scaler.scaler() as scaler, aio.tasks(lambda name, error: failures.append(error)) as owner:
        measured = feeds.Feeds(NoTraffic())
        owner.start(measured.run(), name="feeds")
        life = Pushed(scaler, measured)
        life.run(5)
        await life.until_measured(0.0, active=False)
        life.run(200)
        assert life.running == 0, life.told()

        scaler.values["jobs"] = [(0, 15.0)]
        scaler.push(True)
        async with asyncio.timeout(30):
            assert await anext(measured.watch()) == KEY
        await life.until_measured(3.0, active=True)
        life.run(5)
        assert life.running == 3, life.told()
        assert life.world.time.now - life._began < 600, "long before the next question"

        scaler.push(False)
        await life.until_measured(3.0, active=False)
        life.run(200)
        assert life.running == 0, life.told()
    assert failures == []
