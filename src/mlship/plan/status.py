"""The status of a service, in the shape KServe gives it. Pure.

Three conditions make Ready: PredictorReady (something answers), LatestDeploymentReady (the newest revision does, with
all its replicas) and IngressReady (the gateway has taken the route over). So Ready is never True while the newest
revision does not run, and an update that fails says which revision keeps serving.

Nothing in here changes while the facts do not: a status that is written for no reason would wake everybody who
watches. Hence times come from the facts or from the status before, and progress is told in steps of ten per cent.
"""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Iterable, Mapping
from typing import Any

from mlship.api import meta
from mlship.api import runtime as runtimes
from mlship.api import service as services
from mlship.plan import acceleration, exits, fetching, observed, replicas, revision

DEPLOYMENT_MODE = "Standard"
_TRUE, _FALSE, _UNKNOWN = meta.Truth.TRUE, meta.Truth.FALSE, meta.Truth.UNKNOWN


@dataclasses.dataclass(frozen=True, slots=True)
class Problem:
    """Why a spec cannot be carried out; ``reason`` is KServe's: NoSupportingRuntime, InvalidPredictorSpec ..."""

    message: str
    reason: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """All that a status is made of.

    ``problem``: why the spec cannot be carried out; then ``target`` is None. ``leaving``: the service is being deleted.
    ``least``: from so many ready replicas on it is ready, those beyond are for a load; None: all. ``sleeps``: it may
    have none, and requests are held until it has one. ``scaling`` is what the scaler remembers.
    """

    service: services.InferenceService
    seen: observed.Observed
    assignment: replicas.Assignment
    wanted: int
    stopped: bool
    now: float
    uri: str = ""
    runtime: runtimes.Runtime | None = None
    target: revision.Target | None = None
    memory: revision.Memory | None = None
    problem: Problem | None = None
    leaving: bool = False
    least: int | None = None
    sleeps: bool = False
    scaling: Mapping[str, Any] | None = None

    @property
    def enough(self) -> int:
        """How many ready replicas make it ready."""
        return self.wanted if self.least is None else min(self.least, self.wanted)

    @property
    def asleep(self) -> bool:
        """Whether it rests without a replica, to be woken by a request."""
        return self.sleeps and self.wanted == 0 and self.problem is None

    @property
    def newest(self) -> str:
        """The newest revision; the last one known while the artifact's digest is not."""
        if self.target is not None and self.target.name:
            return self.target.name
        return ""

    @property
    def mine(self) -> tuple[observed.Replica, ...]:
        """The replicas of the newest revision that count."""
        return tuple(
            one
            for one in (*self.assignment.keep, *self.assignment.ending)
            if self.newest and one.id.revision == self.newest
        )

    @property
    def ready(self) -> int:
        """How many of them get traffic."""
        return len(self.assignment.routed) if self.newest and self.assignment.serving == self.newest else 0

    @property
    def failure(self) -> exits.Failure | None:
        """The newest failure of the newest revision, final ones first."""
        found = [failure for one in self.mine if (failure := exits.of(one)) is not None]
        return max(found, key=lambda failure: (failure.final, failure.at, failure.replica), default=None)


def build(state: Situation) -> dict[str, Any]:
    """The whole status."""
    conditions = meta.merge_conditions(
        meta.read_conditions(state.service.status), _conditions(state), now=timestamp(state.now)
    )
    status: dict[str, Any] = {
        "observedGeneration": state.service.metadata.generation or 0,
        "deploymentMode": DEPLOYMENT_MODE,
        "conditions": [condition.as_dict() for condition in conditions],
        "modelStatus": _model_status(state),
        "components": {"predictor": _component(state)},
    }
    if url := url_of(state):
        status |= {"url": url, "address": {"url": url}}
    if state.runtime is not None:
        cluster = isinstance(state.runtime, runtimes.ClusterServingRuntime)
        status["clusterServingRuntimeName" if cluster else "servingRuntimeName"] = state.runtime.name
    status["mlship"] = _own(state)
    return status


def timestamp(seconds: float) -> str:
    """Unix seconds as RFC 3339 in UTC; empty when there is no such time."""
    try:
        return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (OverflowError, ValueError, OSError):
        return ""


def url_of(state: Situation) -> str:
    """Where the service answers (``/v1`` or ``/v2`` goes behind it); empty while the gateway's address is not known."""
    base = state.seen.gateway.url.rstrip("/")
    return f"{base}/serving/{state.service.namespace}/{state.service.name}" if base else ""


def last_ready(stored: dict[str, Any] | None) -> str:
    """The revision that a stored status says was ready last; empty when it says none."""
    found: Any = stored
    for key in ("components", "predictor", "latestReadyRevision"):
        found = found.get(key) if isinstance(found, dict) else None
    return found if isinstance(found, str) else ""


def why_command(service: services.InferenceService) -> str:
    """The command that explains a service."""
    space = "" if service.namespace == meta.DEFAULT_NAMESPACE else f" -n {service.namespace}"
    return f"mlship why {service.name}{space}"


def waiting_for(state: Situation) -> tuple[str, str]:
    """Why the newest revision does not serve with all its replicas: CamelCase reason and sentence. Empty: it does."""
    if state.problem is not None:
        return state.problem.reason, _sentence(state.problem.message)
    if state.wanted > 0:
        serves = state.ready >= (state.wanted if state.failure else state.enough)
        return ("", "") if serves else _artifact_trouble(state) or _replica_trouble(state)
    if state.asleep:
        return _artifact_trouble(state) or ("ScaledToZero", "It sleeps; the first request wakes it.")
    if state.leaving:
        return "Deleting", "The service is being deleted."
    if state.stopped:
        return "Stopped", "The service is stopped by its annotation serving.kserve.io/stop."
    return "ScaledToZero", "It is held at 0 replicas."


def _held(state: Situation) -> tuple[str, str] | None:
    """What makes a service ready that has no ready replica: its requests are held until it has one. None: it is not.

    Only a revision that was ready before is counted on to come up again.
    """
    reason, message = waiting_for(state)
    if state.asleep and reason == "ScaledToZero":
        return reason, message
    proven = bool(state.newest) and state.newest == last_ready(state.service.status)
    if state.sleeps and not state.assignment.routed and reason == "Starting" and proven:
        return "Waking", "It wakes up; requests are held until it answers."
    return None


def _artifact_trouble(state: Situation) -> tuple[str, str] | None:
    if state.target is None or state.target.startable:
        return None
    if state.asleep and state.newest:
        artifact = state.seen.artifact
        if artifact is None or artifact.state is observed.ArtifactState.FETCHING:
            # What it was before a start of the control plane is known, and its bytes are being looked for.
            return None
    return fetching.trouble(state.seen.artifact, state.uri)


def _replica_trouble(state: Situation) -> tuple[str, str]:
    ready = sum(replicas.is_ready(one) for one in state.mine)
    count = f"{ready} of {state.wanted} replicas {'is' if ready == 1 else 'are'} ready; " if state.wanted > 1 else ""
    failure = state.failure
    if failure is not None:
        reason = "Restarting"
        if failure.final:
            reason = "ModelLoadFailed" if failure.code == exits.CANNOT_LOAD else "CrashLoop"
        return reason, f"{count}{_name(failure.replica, count)}: {_sentence(failure.message)}"
    silent = next((one for one in state.mine if one.phase is observed.Phase.RUNNING and not one.ready), None)
    if silent is not None:
        said = f": {silent.message}" if silent.message else ""
        return "Unready", f"{count}{_name(silent.id, count)} runs but is not ready{_sentence(said)}"
    rest = ("the other is" if state.wanted - ready == 1 else "the others are") if ready else "they are"
    rest = f"{rest} starting."
    return "Starting", f"{count}{rest}" if count else "The replica is starting."


def _name(replica: observed.ReplicaId, count: str) -> str:
    return f"replica {replica.ordinal}" if count else "The replica"


def _conditions(state: Situation) -> Iterable[meta.Condition]:
    reason, message = waiting_for(state)
    held = _held(state)
    latest = meta.Condition("LatestDeploymentReady", _TRUE)
    if held is not None:
        reason, message = held
    elif reason:
        keeps = _keeps_serving(state)
        latest = meta.Condition("LatestDeploymentReady", _truth(reason), reason, f"{message}{keeps}")
    parts = (_predictor(state, reason, message, held=held is not None), latest, _ingress(state, held=held is not None))
    bad = next((one for one in parts if one.status is _FALSE), None) or next(
        (one for one in parts if one.status is _UNKNOWN), None
    )
    # The newest revision's trouble says more than the predictor's, which only follows from it.
    if bad is not None and latest.status is not _TRUE and bad.type == "PredictorReady":
        bad = latest
    if bad is None:
        yield meta.Condition("Ready", _TRUE, *(held or ()))
    else:
        yield meta.Condition("Ready", bad.status, bad.reason, bad.message)
    yield from parts
    if (compiled := acceleration.condition(acceleration.of(state.mine))) is not None:
        yield compiled
    if state.stopped:
        yield meta.Condition("Stopped", _TRUE, "Stopped", "The annotation serving.kserve.io/stop is true.")


def _truth(reason: str) -> meta.Truth:
    return _UNKNOWN if reason in ("FetchingModel", "Starting") else _FALSE


def _keeps_serving(state: Situation) -> str:
    serving = state.assignment.serving
    if not serving or serving == state.newest:
        return ""
    return f" Revision {serving} keeps serving."


def _predictor(state: Situation, reason: str, message: str, *, held: bool) -> meta.Condition:
    if held:
        return meta.Condition("PredictorReady", _TRUE, reason, message)
    if state.assignment.routed:
        return meta.Condition("PredictorReady", _TRUE)
    return meta.Condition(
        "PredictorReady", _truth(reason), reason or "NoReplicaReady", message or "No replica is ready."
    )


def _ingress(state: Situation, *, held: bool) -> meta.Condition:
    gateway = state.seen.gateway
    if not gateway.running:
        text = gateway.message or "The gateway is not running."
        return meta.Condition("IngressReady", _FALSE, "GatewayDown", text)
    if held and state.seen.demand.gated:
        return meta.Condition("IngressReady", _TRUE)
    if held:
        return meta.Condition("IngressReady", _FALSE, "GateDown", "The gate that would wake it does not answer.")
    if not state.assignment.routed:
        return meta.Condition("IngressReady", _UNKNOWN, "NoReplicaReady", "There is no ready replica to route to.")
    routed = {one.endpoint for one in state.assignment.routed}
    others = {
        one.endpoint for one in state.assignment.present if one.id.revision != state.assignment.serving and one.endpoint
    }
    if not routed & gateway.reached:
        return meta.Condition(
            "IngressReady", _UNKNOWN, "RouteNotApplied", "The gateway has not taken the route over yet."
        )
    if others & gateway.applied:
        return meta.Condition("IngressReady", _UNKNOWN, "RouteNotApplied", "The gateway is moving traffic over.")
    return meta.Condition("IngressReady", _TRUE)


def _component(state: Situation) -> dict[str, Any]:
    before = last_ready(state.service.status)
    ready = state.newest if state.newest and state.ready >= max(state.enough, 1) else before
    component: dict[str, Any] = {"latestCreatedRevision": state.newest, "latestReadyRevision": ready}
    if url := url_of(state):
        authority = state.seen.gateway.url.rstrip("/").partition("://")[2]
        component |= {"url": url, "restUrl": url, "grpcUrl": authority}
    return {key: value for key, value in component.items() if value}


def _model_status(state: Situation) -> dict[str, Any]:
    transition, target = _transition(state)
    active = "Loaded" if state.assignment.routed else ("Standby" if state.wanted == 0 and not state.problem else target)
    status: dict[str, Any] = {
        "transitionStatus": transition,
        "states": {"activeModelState": active, "targetModelState": target},
        "copies": {
            "totalCopies": len(state.assignment.routed),
            "failedCopies": sum(1 for one in state.mine if exits.of(one) is not None),
        },
    }
    if failed := _failure_info(state):
        status["lastFailureInfo"] = failed
    return status


def _transition(state: Situation) -> tuple[str, str]:
    if state.problem is not None:
        return "InvalidSpec", "FailedToLoad"
    reason, _ = waiting_for(state)
    if state.wanted == 0 and (not state.asleep or reason == "ScaledToZero"):
        return "UpToDate", "Standby"
    if not reason or state.ready:
        return "UpToDate" if not reason else "InProgress", "Loaded"
    if reason in ("ModelLoadFailed", "CrashLoop", "ModelFetchFailed"):
        return "BlockedByFailedLoad", "FailedToLoad"
    return "InProgress", "Pending" if reason == "FetchingModel" else "Loading"


def _failure_info(state: Situation) -> dict[str, Any]:
    if state.problem is not None:
        return {"reason": state.problem.reason, "message": state.problem.message}
    reason, message = waiting_for(state)
    if reason == "ModelFetchFailed":
        return {"reason": "ModelLoadFailed", "message": message}
    failure = state.failure
    if failure is None:
        return {}
    loading = failure.code == exits.CANNOT_LOAD or not state.ready
    info = {
        "reason": "ModelLoadFailed" if loading else "RuntimeUnhealthy",
        "message": failure.message,
        "modelRevisionName": failure.replica.revision,
        "location": str(failure.replica),
        "time": timestamp(failure.at),
        "exitCode": exits.exit_code(failure),
    }
    return {key: value for key, value in info.items() if value not in ("", None)}


def _own(state: Situation) -> dict[str, Any]:
    """mlship's own part: what ``revision`` remembers, and counts for lists."""
    own: dict[str, Any] = {"replicas": {"wanted": state.wanted, "ready": len(state.assignment.routed)}}
    if state.assignment.serving:
        own["serving"] = state.assignment.serving
    if (found := acceleration.of(state.mine)) is not None:
        own["acceleration"] = acceleration.as_dict(found)
    if state.memory is not None:
        own["newest"] = state.memory.as_dict()
    if state.scaling is not None:
        own["scaling"] = dict(state.scaling)
    return own


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."
