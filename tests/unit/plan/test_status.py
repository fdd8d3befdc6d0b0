"""What a status says, and when it does not change."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import pytest

from mlship.api import service as services
from mlship.plan import actions, observed, replicas, revision, status

KEY = observed.ServiceKey("default", "iris")
NEW = observed.Replica(
    observed.ReplicaId(KEY, "new", 0),
    observed.Phase.RUNNING,
    since=0.0,
    ready=True,
    endpoint=observed.Endpoint("unix:/run/new-0"),
)
OLD = dataclasses.replace(NEW, id=observed.ReplicaId(KEY, "old", 0), endpoint=observed.Endpoint("unix:/run/old-0"))
TARGET = revision.Target(actions.ProcessSpec(argv=("x",)), name="new", digest="d", startable=True)


def service(stored: dict[str, Any] | None = None, namespace: str = "default") -> services.InferenceService:
    return services.InferenceService.model_validate(
        {
            "apiVersion": "serving.kserve.io/v1beta1",
            "kind": "InferenceService",
            "metadata": {"name": "iris", "namespace": namespace, "generation": 7},
            "spec": {"predictor": {"model": {"modelFormat": {"name": "sklearn"}, "storageUri": "file:///m"}}},
            "status": stored,
        }
    )


def situation(
    *found: observed.Replica, applied: tuple[observed.Replica, ...] = (NEW,), **more: Any
) -> status.Situation:
    places = frozenset(one.endpoint for one in applied if one.endpoint)
    gateway = more.pop("gateway", observed.Gateway(running=True, url="http://localhost:8080", applied=places))
    seen = observed.Observed(replicas=found, artifact=more.pop("artifact", None), gateway=gateway)
    wanted = more.setdefault("wanted", 1)
    target = more.setdefault("target", TARGET)
    name = target.name if target else ""
    made = replicas.assign(KEY, seen, target=name, startable=True, wanted=wanted)
    settings = {"service": service(), "stopped": False, "now": 1_767_225_600.0, "uri": "file:///m", **more}
    return status.Situation(seen=seen, assignment=made, **settings)


def conditions(state: status.Situation) -> dict[str, tuple[str, str]]:
    return {one["type"]: (one["status"], one.get("reason", "")) for one in status.build(state)["conditions"]}


def test_ready_needs_the_newest_revision_its_route_and_all_its_replicas() -> None:
    assert conditions(situation(NEW))["Ready"] == ("True", "")
    assert conditions(situation(NEW, applied=()))["Ready"] == ("Unknown", "RouteNotApplied")
    assert conditions(situation(NEW, OLD, applied=(NEW, OLD)))["Ready"] == ("Unknown", "RouteNotApplied")
    assert conditions(situation(NEW, wanted=2))["Ready"] == ("Unknown", "Starting")
    assert conditions(situation(OLD, applied=(OLD,)))["Ready"] == ("Unknown", "Starting")
    assert conditions(situation())["Ready"] == ("Unknown", "Starting")


def test_while_the_old_one_serves_the_predictor_is_ready_and_the_newest_is_not() -> None:
    found = conditions(situation(OLD, applied=(OLD,)))
    assert found["PredictorReady"] == ("True", "")
    assert found["IngressReady"] == ("True", "")
    assert found["LatestDeploymentReady"] == ("Unknown", "Starting")


def test_a_gateway_that_is_down_is_told_in_its_own_words() -> None:
    state = situation(NEW, gateway=observed.Gateway(message="Port 8080 is taken."))
    built = status.build(state)
    assert conditions(state)["Ready"] == ("False", "GatewayDown")
    assert "Port 8080 is taken." in str(built["conditions"])
    assert "url" not in built


@pytest.mark.parametrize(
    ("artifact", "reason", "message"),
    [
        (None, "FetchingModel", "will be fetched"),
        (observed.Artifact("file:///m", observed.ArtifactState.FETCHING), "FetchingModel", "Fetching file:///m."),
        (
            observed.Artifact("file:///m", observed.ArtifactState.FETCHING, done=57, total=100),
            "FetchingModel",
            "Fetching file:///m (50 %).",
        ),
        (
            observed.Artifact("file:///m", observed.ArtifactState.FAILED, error="Not there", retry_at=1.0),
            "ModelFetchFailed",
            "Not there. It will be tried again.",
        ),
        (observed.Artifact("file:///m", observed.ArtifactState.FAILED), "ModelFetchFailed", "could not be fetched."),
        (observed.Artifact("file:///x", observed.ArtifactState.READY, "d", "p"), "FetchingModel", "will be fetched"),
    ],
)
def test_the_way_of_the_model(artifact: observed.Artifact | None, reason: str, message: str) -> None:
    unknown = dataclasses.replace(TARGET, name="", startable=False)
    found_reason, found = status.waiting_for(situation(target=unknown, artifact=artifact))
    assert found_reason == reason
    assert message in found


def test_signed_addresses_are_not_shown() -> None:
    unknown = dataclasses.replace(TARGET, name="", startable=False)
    state = situation(target=unknown, uri="https://u:hush@h/m?sig=hush")
    assert "hush" not in str(status.build(state))


@pytest.mark.parametrize(
    ("change", "reason", "transition", "target"),
    [
        ({"last_exit": observed.Exit(0.0, code=65)}, "ModelLoadFailed", "BlockedByFailedLoad", "FailedToLoad"),
        ({"last_exit": observed.Exit(0.0, code=1), "restarts": 3}, "CrashLoop", "BlockedByFailedLoad", "FailedToLoad"),
        ({"last_exit": observed.Exit(0.0, code=1)}, "Restarting", "InProgress", "Loading"),
        ({"phase": observed.Phase.RUNNING, "message": "503"}, "Unready", "InProgress", "Loading"),
        ({"phase": observed.Phase.STARTING}, "Starting", "InProgress", "Loading"),
    ],
)
def test_the_state_of_the_model(change: dict[str, Any], reason: str, transition: str, target: str) -> None:
    sick = dataclasses.replace(NEW, **{"phase": observed.Phase.BACKOFF, "ready": False, **change})
    state = situation(sick, applied=())
    built = status.build(state)
    assert conditions(state)["Ready"][1] == reason
    assert built["modelStatus"]["transitionStatus"] == transition
    assert built["modelStatus"]["states"]["targetModelState"] == target


def test_one_crash_of_two_is_unhealthy_not_unloadable() -> None:
    sick = dataclasses.replace(
        NEW,
        id=observed.ReplicaId(KEY, "new", 1),
        phase=observed.Phase.STARTING,
        ready=False,
        endpoint=observed.Endpoint("unix:/run/new-1"),
        last_exit=observed.Exit(at=1_767_225_599.0, signal=9),
    )
    built = status.build(situation(NEW, sick, wanted=2))
    info = built["modelStatus"]["lastFailureInfo"]
    assert (info["reason"], info["exitCode"]) == ("RuntimeUnhealthy", 137)
    assert info["time"] == "2025-12-31T23:59:59Z"
    assert built["modelStatus"]["copies"] == {"totalCopies": 1, "failedCopies": 1}


def test_a_problem_with_the_spec_is_a_problem_of_the_newest_only() -> None:
    problem = status.Problem("No runtime serves cobol", "NoSupportingRuntime")
    built = status.build(situation(OLD, applied=(OLD,), target=None, problem=problem))
    model = built["modelStatus"]
    assert (model["transitionStatus"], model["states"]["activeModelState"]) == ("InvalidSpec", "Loaded")
    assert model["lastFailureInfo"] == {"reason": "NoSupportingRuntime", "message": "No runtime serves cobol"}
    latest = next(one for one in built["conditions"] if one["type"] == "LatestDeploymentReady")
    assert latest["message"] == "No runtime serves cobol. Revision old keeps serving."


def test_the_time_of_a_condition_is_kept_and_nonsense_is_not() -> None:
    then = "2020-01-01T00:00:00Z"
    before = {"conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": then}, {"type": "x"}, 3, None]}
    built = status.build(situation(NEW, service=service(before)))
    times = {one["type"]: one["lastTransitionTime"] for one in built["conditions"]}
    assert times["Ready"] == then
    assert times["IngressReady"] == "2026-01-01T00:00:00Z"


def test_the_latest_ready_revision_outlives_a_failing_update() -> None:
    before = {"components": {"predictor": {"latestReadyRevision": "old"}}}
    built = status.build(situation(OLD, applied=(OLD,), service=service(before)))
    assert built["components"]["predictor"]["latestReadyRevision"] == "old"
    assert built["components"]["predictor"]["latestCreatedRevision"] == "new"
    assert status.build(situation(NEW))["components"]["predictor"]["latestReadyRevision"] == "new"
    assert built["observedGeneration"] == 7


@pytest.mark.parametrize(
    "stored", [None, {}, {"components": []}, {"components": {"predictor": {"latestReadyRevision": 1}}}]
)
def test_a_status_without_a_ready_revision_has_none(stored: dict[str, Any] | None) -> None:
    assert status.last_ready(stored) == ""


def test_times_are_rfc_3339_or_nothing() -> None:
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", status.timestamp(0.0))
    for wrong in (float("nan"), float("inf"), -1e300):
        assert status.timestamp(wrong) == ""


def test_the_command_that_explains_names_other_namespaces() -> None:
    assert status.why_command(service()) == "mlship why iris"
    assert status.why_command(service(namespace="team")) == "mlship why iris -n team"


def test_compiling_is_told_beside_ready_and_is_no_part_of_it() -> None:
    said = observed.Acceleration(observed.Answering.ORIGINAL, "auto", reason="it rained")
    state = situation(dataclasses.replace(NEW, acceleration=said))
    found = conditions(state)
    assert (found["Ready"], found["Accelerated"]) == (("True", ""), ("False", "NotProven"))
    assert status.build(state)["mlship"]["acceleration"]["reason"] == "it rained"
    assert "Accelerated" not in conditions(situation(NEW))
