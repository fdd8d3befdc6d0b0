"""The status of a model in a pool, in the shape KServe gives it: conditions, and ``modelStatus`` as ModelMesh had it.

Ready means: the pool answers, the model's entry is in it, and nothing is known that keeps it from being loaded. That a
model is not in memory is no trouble: it is loaded when it is asked for, and ``modelStatus`` calls it Standby until
then. Pure; ``member`` decides, this tells.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

from mlship.api import meta
from mlship.api import runtime as runtimes
from mlship.plan import actions, exits, fetching, observed, replicas, status

DEPLOYMENT_MODE = "ModelMesh"
_TRUE, _FALSE, _UNKNOWN = meta.Truth.TRUE, meta.Truth.FALSE, meta.Truth.UNKNOWN
_PENDING = frozenset({"FetchingModel", "Enlisting", "PoolStarting"})
_Held = observed.Held


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """What an object says of its model.

    ``path`` is where it answers behind the gateway's address. ``memory``: bytes it is said to need. ``routed``:
    whether the model has a route of its own. ``kind`` is the object's, for sentences.
    """

    body: meta.Object
    key: observed.ServiceKey
    pool: observed.ServiceKey
    name: str
    format: str
    uri: str
    timeout: int
    path: str
    accelerate: str = ""
    memory: int | None = None
    stopped: bool = False
    routed: bool = True
    kind: str = "service"
    runtime: runtimes.Runtime | None = None
    problem: status.Problem | None = None

    @property
    def why_command(self) -> str:
        """The command that explains it."""
        space = "" if self.key.namespace == meta.DEFAULT_NAMESPACE else f" -n {self.key.namespace}"
        return f"mlship why {self.name}{space}"


@dataclasses.dataclass(frozen=True, slots=True)
class State:
    """All that a member's plan and status are made of."""

    model: Model
    seen: observed.Observed
    now: float
    leaving: bool = False

    def entry(self) -> actions.Entry | None:
        """The entry it shall have in the pool; None while its bytes are not here."""
        artifact, wanted = self.seen.artifact, self.model
        if artifact is None or artifact.uri != wanted.uri or artifact.state is not observed.ArtifactState.READY:
            return None
        return actions.Entry(
            name=wanted.name,
            format=wanted.format,
            path=artifact.path,
            digest=artifact.digest,
            accelerate=wanted.accelerate,
            memory=wanted.memory,
        )

    def placements(self) -> tuple[observed.Placement, ...]:
        """What the processes of the pool say."""
        return () if self.seen.enlisted is None else self.seen.enlisted.placements

    def loaded(self) -> tuple[observed.Placement, ...]:
        """The processes that answer for it from memory, with the newest bytes or those before."""
        return tuple(one for one in self.placements() if one.state is _Held.LOADED)

    def failing(self) -> observed.Placement | None:
        """A process that could not load the newest bytes; None when none says so, or another one could."""
        newest = None if self.seen.enlisted is None else self.seen.enlisted.digest
        # Who has not looked yet still speaks of the bytes before.
        there = [one for one in self.placements() if one.digest in (newest, "")]
        if any(one.state is _Held.LOADED and not one.reason for one in there):
            return None
        found = [one for one in there if one.reason]
        return min(found, key=lambda one: (not one.quarantined, one.replica), default=None)

    def serves(self) -> bool:
        """Whether a request would be answered, as far as is known."""
        there = self.seen.enlisted
        if there is None or self.model.stopped or not any(replicas.is_ready(one) for one in there.replicas):
            return False
        return self.failing() is None or bool(self.loaded())

    def waits_for(self) -> tuple[str, str]:
        """Why the newest of it is not served: CamelCase reason and sentence. Empty: it is."""
        model = self.model
        if self.leaving:
            return "Deleting", f"The {model.kind} is being deleted."
        if model.problem is not None:
            return model.problem.reason, _sentence(model.problem.message)
        if model.stopped:
            return "Stopped", "The service is stopped by its annotation serving.kserve.io/stop."
        entry, there = self.entry(), self.seen.enlisted
        if entry is None:
            return fetching.trouble(self.seen.artifact, model.uri)
        if there is None or (there.pool, there.mark) != (model.pool, entry.mark):
            return "Enlisting", "It is being put into its pool."
        return pool_trouble(there.replicas) if not _answers(there.replicas) else self._load_trouble()

    def _load_trouble(self) -> tuple[str, str]:
        failed = self.failing()
        if failed is None:
            return "", ""
        if failed.quarantined:
            return (
                "Quarantined",
                f"{_sentence(failed.reason)} It is not tried again until its bytes change or a day has passed.",
            )
        return "ModelLoadFailed", _sentence(failed.reason)


def pool_trouble(found: Iterable[observed.Replica]) -> tuple[str, str]:
    """Why no process of a pool answers: reason and sentence."""
    failures = [failure for one in found if (failure := exits.of(one)) is not None]
    worst = max(failures, key=lambda failure: (failure.final, failure.at), default=None)
    if worst is not None:
        return "PoolRestarting", f"No process of its pool answers; the last one {worst.message}."
    return "PoolStarting", "The processes of its pool are starting."


def _answers(found: Iterable[observed.Replica]) -> bool:
    return any(replicas.is_ready(one) for one in found)


def build(state: State) -> dict[str, Any]:
    """The whole status of a service in a pool."""
    model = state.model
    made: dict[str, Any] = {
        "observedGeneration": model.body.metadata.generation or 0,
        "deploymentMode": DEPLOYMENT_MODE,
        "conditions": conditions(state, tuple(_conditions(state))),
        "modelStatus": model_status(state),
        "components": {"predictor": _component(state)},
    }
    if url := url_of(state):
        made |= {"url": url, "address": {"url": url}}
    if model.runtime is not None:
        cluster = isinstance(model.runtime, runtimes.ClusterServingRuntime)
        made["clusterServingRuntimeName" if cluster else "servingRuntimeName"] = model.runtime.name
    made["mlship"] = own(state)
    return made


def conditions(state: State, made: tuple[meta.Condition, ...]) -> list[dict[str, str]]:
    """Conditions in their wire form, each with the time since when it is so."""
    before = meta.read_conditions(state.model.body.status)
    return [one.as_dict() for one in meta.merge_conditions(before, made, now=status.timestamp(state.now))]


def truth(reason: str) -> meta.Truth:
    """Whether what is waited for is on its way (unknown) or is trouble (false)."""
    return _UNKNOWN if reason in _PENDING else _FALSE


def url_of(state: State) -> str:
    """Where it answers; empty while the gateway's address is not known."""
    base = state.seen.gateway.url.rstrip("/")
    return f"{base}{state.model.path}" if base else ""


def own(state: State) -> dict[str, Any]:
    """mlship's own part: the pool, and counts for lists."""
    there = state.seen.enlisted
    made: dict[str, Any] = {"pool": state.model.pool.name if there is None else there.pool.name}
    if there is not None and not state.waits_for()[0]:
        made["newest"] = {"revision": there.mark, "digest": there.digest}
    return made | {"replicas": {"wanted": 0 if state.model.stopped else 1, "ready": int(state.serves())}}


def model_status(state: State) -> dict[str, Any]:
    """``modelStatus``: what is in memory, what shall be, and what went wrong."""
    transition, target = _transition(state)
    active = target
    if state.loaded():
        active = "Loaded"
    elif state.serves() and state.failing() is None:
        active = "Standby"
    made: dict[str, Any] = {
        "transitionStatus": transition,
        "states": {"activeModelState": active, "targetModelState": target},
        "copies": {
            "totalCopies": len(state.loaded()),
            "failedCopies": sum(1 for one in state.placements() if one.reason),
        },
    }
    reason, message = state.waits_for()
    failed = state.failing()
    if state.model.problem is not None:
        made["lastFailureInfo"] = {"reason": state.model.problem.reason, "message": state.model.problem.message}
    elif reason == "ModelFetchFailed":
        made["lastFailureInfo"] = {"reason": "ModelLoadFailed", "message": message}
    elif failed is not None:
        made["lastFailureInfo"] = {
            "reason": "ModelLoadFailed",
            "message": failed.reason,
            "location": str(failed.replica),
            "modelRevisionName": state.seen.enlisted.mark if state.seen.enlisted else "",
        }
    return made


def _transition(state: State) -> tuple[str, str]:
    if state.model.problem is not None:
        return "InvalidSpec", "FailedToLoad"
    reason, _ = state.waits_for()
    if reason in ("ModelLoadFailed", "Quarantined", "ModelFetchFailed"):
        return "BlockedByFailedLoad", "FailedToLoad"
    if reason == "FetchingModel":
        return "InProgress", "Pending"
    if any(one.state is _Held.LOADING for one in state.placements()):
        return "InProgress", "Loading"
    if reason in ("", "Stopped", "Deleting"):
        return "UpToDate", "Loaded" if state.loaded() and not reason else "Standby"
    return "InProgress", "Pending" if reason == "Enlisting" else "Standby"


def _conditions(state: State) -> Iterable[meta.Condition]:
    reason, message = state.waits_for()
    latest = meta.Condition("LatestDeploymentReady", _TRUE)
    if reason:
        keeps = " The model before it keeps serving." if state.serves() else ""
        latest = meta.Condition("LatestDeploymentReady", truth(reason), reason, f"{message}{keeps}")
    predictor = meta.Condition("PredictorReady", _TRUE)
    if not state.serves():
        predictor = meta.Condition("PredictorReady", truth(reason), reason or "NotServing", message)
    parts = (latest, predictor, _ingress(state))
    bad = next((one for one in parts if one.status is _FALSE), None) or next(
        (one for one in parts if one.status is _UNKNOWN), None
    )
    if bad is None:
        yield meta.Condition("Ready", _TRUE)
    else:
        yield meta.Condition("Ready", bad.status, bad.reason, bad.message)
    yield from parts
    if state.model.stopped:
        yield meta.Condition("Stopped", _TRUE, "Stopped", "The annotation serving.kserve.io/stop is true.")


def _ingress(state: State) -> meta.Condition:
    gateway, there = state.seen.gateway, state.seen.enlisted
    if not gateway.running:
        return meta.Condition("IngressReady", _FALSE, "GatewayDown", gateway.message or "The gateway is not running.")
    ready = {one.endpoint for one in there.replicas if replicas.is_ready(one)} if there is not None else set()
    if not ready:
        return meta.Condition("IngressReady", _UNKNOWN, "NoReplicaReady", "There is no process to route to.")
    if not ready & gateway.reached:
        text = "The gateway has not taken the route over yet."
        return meta.Condition("IngressReady", _UNKNOWN, "RouteNotApplied", text)
    return meta.Condition("IngressReady", _TRUE)


def _component(state: State) -> dict[str, Any]:
    entry = state.entry()
    newest = entry.mark if entry is not None else ""
    reason, _ = state.waits_for()
    ready = newest if newest and not reason else status.last_ready(state.model.body.status)
    made: dict[str, Any] = {"latestCreatedRevision": newest, "latestReadyRevision": ready}
    if url := url_of(state):
        made |= {"url": url, "restUrl": url, "grpcUrl": state.seen.gateway.url.rstrip("/").partition("://")[2]}
    return {key: value for key, value in made.items() if value}


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."
