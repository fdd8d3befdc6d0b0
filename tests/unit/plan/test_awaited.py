"""Who is held while nobody answers, for how long, and what the others are told."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from mlship.api import service as services
from mlship.plan import observed, reconcile, routes

URI = "file:///models/iris.pkl"
KEY = observed.ServiceKey("default", "iris")
READY = observed.Artifact(URI, observed.ArtifactState.READY, digest="sha256:aa", path="/cache/aa")
FETCHING = observed.Artifact(URI, observed.ArtifactState.FETCHING)
FAILED = observed.Artifact(URI, observed.ArtifactState.FAILED, error="It is not there.", reason="NotFound")
NOW = 1000.0
SLEEPS = {"minReplicas": 0}


def declare(*, status: Any = None, annotations: dict[str, str] | None = None, **more: Any) -> services.InferenceService:
    return services.InferenceService.model_validate(
        {
            "apiVersion": "serving.kserve.io/v1beta1",
            "kind": "InferenceService",
            "metadata": {"name": "iris", "annotations": annotations or {}},
            "spec": {"predictor": {"model": {"modelFormat": {"name": "sklearn"}, "storageUri": URI}, **more}},
            "status": status,
        }
    )


def plan(service: services.InferenceService, *found: observed.Replica, artifact: Any = READY) -> reconcile.Plan:
    seen = observed.Observed(found, artifact=artifact, gateway=observed.Gateway(running=True, url="http://h:1"))
    return reconcile.plan(reconcile.Desired(service), seen, NOW)


def route(*given: Any, **more: Any) -> routes.ServiceRoute:
    made = plan(*given, **more).route
    assert made is not None
    return made


REVISION = plan(declare()).status["components"]["predictor"]["latestCreatedRevision"]
SERVED = {"components": {"predictor": {"latestReadyRevision": REVISION}}}
END = observed.Endpoint("unix:/run/iris.sock")
STARTS = observed.Replica(observed.ReplicaId(KEY, REVISION, 0), observed.Phase.STARTING, since=NOW)
ANSWERS = dataclasses.replace(STARTS, phase=observed.Phase.RUNNING, ready=True, endpoint=END)
SILENT = dataclasses.replace(ANSWERS, ready=False)
DIED = dataclasses.replace(STARTS, phase=observed.Phase.BACKOFF, last_exit=observed.Exit(at=NOW, signal=9), restarts=1)
LOOPS = dataclasses.replace(DIED, restarts=3)
BROKEN = dataclasses.replace(DIED, last_exit=observed.Exit(at=NOW, code=65, last_line="It does not load."))
ON_ITS_WAY = [
    pytest.param((), None, id="the model is not here"),
    pytest.param((), FETCHING, id="it is fetched"),
    pytest.param((), READY, id="no replica yet"),
    pytest.param((STARTS,), READY, id="a replica starts"),
]


@pytest.mark.parametrize("scale", [{}, SLEEPS, {"minReplicas": 3}, {"minReplicas": 1, "maxReplicas": 4}])
@pytest.mark.parametrize(("found", "artifact"), ON_ITS_WAY)
def test_callers_are_held_from_the_first_look_until_a_replica_answers(
    scale: dict[str, Any], found: tuple[observed.Replica, ...], artifact: observed.Artifact | None
) -> None:
    made = route(declare(**scale), *found, artifact=artifact)
    assert made.gate == routes.Gate(patience=60.0, places=1000)
    assert [(split.weight, split.endpoints) for split in made.splits] == [(100, ())]
    assert "has no ready replica" in made.message, "who has waited in vain is told what for"
    assert plan(declare(**scale), *found, artifact=artifact).status["conditions"][0]["status"] != "True"


@pytest.mark.parametrize("scale", [{}, SLEEPS])
def test_a_replica_that_answers_ends_it(scale: dict[str, Any]) -> None:
    made = route(declare(**scale), ANSWERS)
    assert (made.gate, made.splits) == (None, (routes.Split(REVISION, 100, (END,)),))


@pytest.mark.parametrize(("found", "artifact"), ON_ITS_WAY)
def test_the_route_of_a_service_that_starts_is_the_same_all_the_while(
    found: tuple[observed.Replica, ...], artifact: observed.Artifact | None
) -> None:
    assert [split.revision for split in route(declare(), *found, artifact=artifact).splits] == [routes.STARTING]


def test_one_that_may_sleep_has_its_revision_in_the_route_once_it_is_known() -> None:
    assert [split.revision for split in route(declare(**SLEEPS), artifact=None).splits] == [routes.STARTING]
    assert [split.revision for split in route(declare(**SLEEPS)).splits] == [REVISION]


@pytest.mark.parametrize("found", [DIED, SILENT])
def test_whose_first_tries_end_badly_is_still_waited_for(found: observed.Replica) -> None:
    gate = route(declare(), found).gate
    assert gate is not None
    assert gate.hopeless == ""


@pytest.mark.parametrize("found", [DIED, SILENT, LOOPS, BROKEN])
def test_who_has_answered_and_lost_its_replica_says_so_at_once(found: observed.Replica) -> None:
    made = route(declare(status=SERVED), found)
    assert (made.gate, made.splits) == (None, ())
    assert "has no ready replica" in made.message


@pytest.mark.parametrize(("found", "artifact"), ON_ITS_WAY)
def test_who_has_answered_is_waited_for_when_it_starts_again(
    found: tuple[observed.Replica, ...], artifact: observed.Artifact | None
) -> None:
    assert route(declare(status=SERVED), *found, artifact=artifact).gate is not None


@pytest.mark.parametrize("scale", [{}, SLEEPS])
@pytest.mark.parametrize(
    ("found", "artifact", "said"),
    [
        ((LOOPS,), READY, "SIGKILL"),
        ((BROKEN,), READY, "It does not load."),
        ((), FAILED, "It is not there."),
        ((), dataclasses.replace(FAILED, retry_at=NOW + 60), "It is not there."),
    ],
)
def test_without_hope_nobody_is_held_and_all_are_told_why(
    scale: dict[str, Any], found: tuple[observed.Replica, ...], artifact: observed.Artifact, said: str
) -> None:
    gate = route(declare(**scale), *found, artifact=artifact).gate
    assert gate is not None
    assert said in gate.hopeless
    assert "mlship why iris" in gate.hopeless


def test_a_fetch_that_may_succeed_at_its_next_try_is_waited_for() -> None:
    away = dataclasses.replace(FAILED, error="No connection.", reason="BackendFailed", retry_at=NOW + 1)
    made = route(declare(), artifact=away)
    assert made.gate is not None
    assert made.gate.hopeless == ""
    assert "No connection. It will be tried again." in made.message


@pytest.mark.parametrize(
    "service",
    [
        declare(annotations={"serving.kserve.io/stop": "true"}),
        declare(**SLEEPS, annotations={"serving.kserve.io/stop": "true"}),
        declare(**SLEEPS, annotations={"serving.kserve.io/autoscalerClass": "none"}),
        declare(model={"modelFormat": {"name": "cobol"}, "storageUri": URI}),
    ],
    ids=["stopped", "stopped while it may sleep", "held at none", "not understood"],
)
def test_nobody_waits_where_nothing_will_start(service: services.InferenceService) -> None:
    made = route(service)
    assert (made.gate, made.splits) == (None, ())
    assert made.message


def test_the_terms_are_those_that_are_written() -> None:
    written = {"mlship.dev/hold-seconds": "3", "mlship.dev/hold-requests": "2"}
    gate = route(declare(annotations=written)).gate
    assert gate == routes.Gate(patience=3.0, places=2)
