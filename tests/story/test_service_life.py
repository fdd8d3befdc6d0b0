"""The life of a service in virtual time: the loop of plan and fake world, told as stories."""

from __future__ import annotations

import dataclasses
from typing import Any

from mlship.api import service as services
from mlship.backends import fake
from mlship.plan import actions, observed, reconcile, routes

URI = "file:///models/iris.pkl"
KEY = observed.ServiceKey("default", "iris")


def declare(*, uri: str = URI, generation: int = 1, stop: bool = False, **predictor: Any) -> services.InferenceService:
    annotations = {"serving.kserve.io/stop": "true"} if stop else {}
    return services.InferenceService.model_validate(
        {
            "apiVersion": "serving.kserve.io/v1beta1",
            "kind": "InferenceService",
            "metadata": {
                "name": "iris",
                "namespace": "default",
                "generation": generation,
                "creationTimestamp": "2026-01-01T00:00:00Z",
                "annotations": annotations,
            },
            "spec": {"predictor": {"model": {"modelFormat": {"name": "sklearn"}, "storageUri": uri}, **predictor}},
        }
    )


class Story:
    """A world, a wish, and the loop between them, stepped by hand."""

    def __init__(self, wish: services.InferenceService, *, world: fake.Fake | None = None) -> None:
        self.world = world or fake.Fake()
        self.wish = wish
        self.deleting = False
        self.status: dict[str, Any] | None = None
        self.done: list[actions.Action] = []
        self.last = reconcile.Plan()

    def look(self) -> reconcile.Plan:
        """One turn of the loop. What is stopped gets no traffic, ever."""
        service = self.wish.model_copy(update={"status": self.status})
        desired = reconcile.Desired(service=service, deleting=self.deleting)
        self.last = reconcile.plan(desired, self.world.seen(KEY), self.world.time.now)
        carried = self.world.carries(KEY) if self.world.gateway_running else frozenset()
        places = {one.id: one.endpoint for one in self.world.facts(KEY).replicas}
        for action in self.last.actions:
            if isinstance(action, actions.StopReplica):
                assert places[action.id] not in carried
        self.world.begin(KEY, self.last.actions)
        self.world.route(KEY, self.last.route)
        self.status = self.last.status
        self.done += self.last.actions
        return self.last

    def settle(self, *, limit: int = 200) -> reconcile.Plan:
        """Go on until nothing is to be done and nothing will happen."""
        for _ in range(limit):
            plan = self.look()
            times = [at for at in (self.world.time.next(), plan.wake_at) if at is not None]
            if not times and not plan.actions:
                return plan
            self.world.time.advance(max(min(times, default=self.world.time.now) - self.world.time.now, 0.0))
        raise AssertionError(f"not settled: {self.last.summary()} {self.last.why}")

    def until(self, **conditions: str) -> reconcile.Plan:
        """Go on until the conditions have these values."""
        for _ in range(200):
            plan = self.look()
            if all(self.condition(name)["status"] == value for name, value in conditions.items()):
                return plan
            times = [at for at in (self.world.time.next(), plan.wake_at) if at is not None]
            self.world.time.advance(max(min(times) - self.world.time.now, 0.0))
        raise AssertionError(f"never {conditions}: {self.status}")

    def condition(self, name: str) -> dict[str, str]:
        assert self.status is not None
        return next(one for one in self.status["conditions"] if one["type"] == name)

    @property
    def running(self) -> list[str]:
        return [
            f"{one.id.revision}-{one.id.ordinal}"
            for one in self.world.facts(KEY).replicas
            if one.phase is observed.Phase.RUNNING
        ]

    @property
    def serving(self) -> str:
        route = self.last.route
        return route.splits[0].revision if route is not None and route.splits else ""

    def replica(self, number: int = 0) -> observed.ReplicaId:
        return self.world.facts(KEY).replicas[number].id


def test_a_deploy_fetches_starts_routes_and_becomes_ready() -> None:
    story = Story(declare())
    first = story.look()
    assert [type(one) for one in first.actions] == [actions.FetchArtifact]
    assert first.summary() == "fetch the model; wait for the model"
    assert first.route is not None
    assert first.route.splits == (routes.Split(routes.STARTING, 100, ()),)
    assert first.route.gate is not None
    assert first.route.gate.hopeless == ""
    assert "mlship why iris" in first.route.message
    story.settle()
    assert story.last.route is not None
    assert story.last.route.gate is None
    assert story.condition("Ready")["status"] == "True"
    assert [type(one) for one in story.done] == [actions.FetchArtifact, actions.StartReplica]
    assert story.status is not None
    assert story.status["url"] == "http://localhost:8080/serving/default/iris"
    assert story.status["clusterServingRuntimeName"] == "mlship-sklearn"
    assert story.status["modelStatus"]["states"] == {"activeModelState": "Loaded", "targetModelState": "Loaded"}
    assert story.status["modelStatus"]["transitionStatus"] == "UpToDate"


def test_an_update_takes_over_when_it_has_the_same_capacity() -> None:
    story = Story(declare(minReplicas=2))
    story.settle()
    before = story.serving
    story.wish = declare(minReplicas=2, uri="file:///models/other.pkl", generation=2)
    counts = []
    for _ in range(60):
        story.look()
        counts.append(len(story.last.route.splits[0].endpoints) if story.last.route and story.last.route.splits else 0)
        if story.world.time.next() is None:
            break
        story.world.time.advance(story.world.time.next() - story.world.time.now)
    assert min(counts) == 2
    assert story.serving != before
    assert all(name.startswith(story.serving) for name in story.running)
    assert story.condition("Ready")["status"] == "True"


def test_a_bad_update_leaves_the_old_revision_serving_and_says_so() -> None:
    story = Story(declare())
    story.settle()
    before = story.serving
    story.world.artifacts.put("file:///models/bad.pkl", "sha256:bad")
    line = 'model "iris" version 1 could not be loaded: UnpicklingError: pickle data was truncated.'
    story.world.outcome("sha256:bad", fake.Outcome(exit=observed.Exit(at=0, code=65, last_line=line)))
    story.wish = declare(uri="file:///models/bad.pkl", generation=2)
    story.until(LatestDeploymentReady="False")
    assert story.serving == before
    ready = story.condition("Ready")
    assert ready["status"] == "False"
    assert ready["reason"] == "ModelLoadFailed"
    assert line in ready["message"]
    assert f"Revision {before} keeps serving." in ready["message"]
    assert story.condition("PredictorReady")["status"] == "True"
    assert story.status is not None
    model = story.status["modelStatus"]
    assert model["transitionStatus"] == "BlockedByFailedLoad"
    assert model["states"] == {"activeModelState": "Loaded", "targetModelState": "FailedToLoad"}
    assert model["lastFailureInfo"]["exitCode"] == 65
    assert model["lastFailureInfo"]["reason"] == "ModelLoadFailed"
    assert story.status["components"]["predictor"]["latestReadyRevision"] == before
    # Going back costs nothing: the old revision is still there.
    story.wish = declare(generation=3)
    story.settle()
    assert story.serving == before
    assert story.running == [f"{before}-0"]
    assert story.condition("Ready")["status"] == "True"


def test_a_crash_takes_the_replica_out_of_the_route_at_once() -> None:
    story = Story(declare(minReplicas=2))
    story.settle()
    story.world.crash(story.replica(0), signal=9)
    plan = story.look()
    assert plan.route is not None
    assert len(plan.route.splits[0].endpoints) == 1
    assert plan.actions == ()
    assert "SIGKILL" in story.condition("Ready")["message"]
    story.settle()
    assert story.condition("Ready")["status"] == "True"
    assert len(story.running) == 2


def test_changed_bytes_under_the_same_uri_are_a_new_revision() -> None:
    story = Story(declare())
    story.settle()
    before = story.serving
    story.world.artifacts.put(URI, "sha256:new")
    story.settle()
    assert story.serving != before
    assert story.running == [f"{story.serving}-0"]


def test_a_changed_source_that_cannot_be_fetched_leaves_everything_as_it_is() -> None:
    story = Story(declare())
    story.settle()
    before = story.serving
    story.world.artifacts.put(URI, "sha256:new")
    story.world.artifacts.lose(URI, error="nothing there (404)", retry_after=30.0)
    story.look()
    story.world.time.advance(2.0)
    plan = story.look()
    assert plan.wake_at is not None
    assert plan.actions == ()
    assert story.serving == before
    assert story.condition("Ready")["status"] == "True"
    assert any("nothing there (404)" in one for one in plan.why)


def test_a_new_control_plane_adopts_what_runs() -> None:
    story = Story(declare(minReplicas=2))
    story.settle()
    before, running = story.serving, story.running
    # All that is left is the status in the store, the processes, and the gateway's routes; the artifact is unknown.
    story.world.artifacts.forget(KEY, URI)
    plan = story.look()
    assert [type(one) for one in plan.actions] == [actions.FetchArtifact]
    assert story.serving == before
    assert story.condition("Ready")["status"] == "True"
    story.settle()
    assert story.running == running
    assert [type(one) for one in story.done].count(actions.StartReplica) == 2


def test_a_new_control_plane_without_memory_stops_nothing() -> None:
    story = Story(declare())
    story.settle()
    before = story.serving
    story.world.artifacts.forget(KEY, URI)
    story.status = None
    plan = story.look()
    assert not any(isinstance(one, actions.StopReplica) for one in plan.actions)
    assert story.serving == before
    assert story.condition("Ready")["status"] == "Unknown"
    story.settle()
    assert story.running == [f"{before}-0"]


def test_deletion_goes_route_replicas_artifact_and_then_is_finished() -> None:
    story = Story(declare())
    story.settle()
    story.deleting = True
    first = story.look()
    assert first.route is None
    assert first.actions == ()
    assert any("no longer routes" in one for one in first.why)
    assert not first.finished
    story.settle()
    assert story.last.finished
    assert [type(one) for one in story.done][-2:] == [actions.StopReplica, actions.ForgetArtifact]


def test_deletion_does_not_wait_for_a_gateway_that_is_down() -> None:
    story = Story(declare())
    story.settle()
    story.world.gateway_running = False
    story.deleting = True
    plan = story.look()
    assert [type(one) for one in plan.actions] == [actions.StopReplica]
    assert any("gateway is not running" in one for one in plan.why)
    story.settle()
    assert story.last.finished


def test_a_stopped_service_drains_and_says_that_it_is_stopped() -> None:
    story = Story(declare())
    story.settle()
    story.wish = declare(stop=True)
    story.settle()
    assert story.running == []
    assert story.condition("Stopped")["status"] == "True"
    assert story.condition("Ready")["status"] == "False"
    assert story.last.route is not None
    assert "is stopped" in story.last.route.message
    story.wish = declare()
    story.settle()
    assert story.condition("Ready")["status"] == "True"


def test_scaling_starts_and_stops_only_the_difference() -> None:
    story = Story(declare())
    story.settle()
    revision = story.serving
    story.wish = declare(minReplicas=3)
    story.settle()
    assert story.serving == revision
    assert len(story.running) == 3
    story.wish = declare(minReplicas=1)
    story.settle()
    assert story.running == [f"{revision}-0"]


def test_another_timeout_restarts_nothing_and_more_arguments_do() -> None:
    story = Story(declare())
    story.settle()
    revision = story.serving
    story.wish = declare(timeout=30, labels={"team": "a"})
    story.settle()
    assert story.serving == revision
    assert story.last.route is not None
    assert story.last.route.timeout == 30.0
    story.wish = declare(
        model={"modelFormat": {"name": "sklearn"}, "storageUri": URI, "env": [{"name": "A", "value": "1"}]}
    )
    story.settle()
    assert story.serving != revision


def test_an_update_on_top_of_a_failing_update_goes_straight_to_the_newest() -> None:
    story = Story(declare())
    story.settle()
    good = story.serving
    story.world.artifacts.put("file:///bad", "sha256:bad")
    story.world.outcome("sha256:bad", fake.Outcome(hangs=True, message="answers 503: loading"))
    story.wish = declare(uri="file:///bad", generation=2)
    for _ in range(5):
        story.look()
        story.world.time.advance(1.0)
    assert story.serving == good
    story.wish = declare(uri="file:///better", generation=3)
    story.settle()
    assert story.running == [f"{story.serving}-0"]
    assert story.serving not in (good, "")
    assert story.condition("Ready")["status"] == "True"


def test_an_unknown_format_is_told_and_what_serves_stays() -> None:
    story = Story(declare())
    story.settle()
    before = story.serving
    story.wish = declare(model={"modelFormat": {"name": "cobol"}, "storageUri": URI}, generation=2)
    plan = story.look()
    assert plan.actions == ()
    assert story.serving == before
    ready = story.condition("Ready")
    assert ready["status"] == "False"
    assert "cobol" in ready["message"]
    assert f"Revision {before} keeps serving." in ready["message"]
    assert story.status is not None
    assert story.status["modelStatus"]["transitionStatus"] == "InvalidSpec"
    assert story.status["modelStatus"]["lastFailureInfo"]["reason"] == "NoSupportingRuntime"


def test_a_crash_loop_is_named_after_some_tries() -> None:
    story = Story(declare())
    story.world.artifacts.put(URI, "sha256:loop")
    ended = observed.Exit(at=0, code=1, last_line="ModuleNotFoundError: No module named 'lightgbm'")
    story.world.outcome("sha256:loop", fake.Outcome(exit=ended))
    story.until(Ready="False")
    assert story.condition("Ready")["reason"] == "Restarting"
    for _ in range(40):
        story.look()
        if story.condition("Ready")["reason"] == "CrashLoop":
            break
        story.world.time.advance(max((story.world.time.next() or 0.0) - story.world.time.now, 0.0))
    assert story.condition("Ready")["reason"] == "CrashLoop"
    assert "exit code 1: ModuleNotFoundError" in story.condition("Ready")["message"]


def test_the_time_of_a_condition_moves_only_when_it_changes() -> None:
    story = Story(declare())
    story.settle()
    since = story.condition("Ready")["lastTransitionTime"]
    story.world.time.advance(3600.0)
    story.look()
    assert story.condition("Ready")["lastTransitionTime"] == since
    written = story.status
    story.world.time.advance(3600.0)
    story.look()
    assert story.status == written
    assert dataclasses.replace(story.last, status={}) == dataclasses.replace(story.look(), status={})
