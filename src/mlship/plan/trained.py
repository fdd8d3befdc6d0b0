"""A TrainedModel: a model in the pool that an InferenceService without a model of its own is. Pure.

Its plan is a member's (``member``); its status is KServe's for the kind: whether the framework is served, whether the
parent is ready and is a server of many models, whether its memory is enough, and Ready for all of them together. It has
no route: its parent's carries ``/v2/models/NAME``.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from mlship.api import extras, meta, pooled, problems, quantity
from mlship.api import service as services
from mlship.plan import member, member_status, observed, pool, pool_program, reconcile, replicas, status

_TRUE, _FALSE = meta.Truth.TRUE, meta.Truth.FALSE


@dataclasses.dataclass(frozen=True, slots=True)
class Desired:
    """What the user wants: the model, and the service it names; None: there is no such service."""

    model: extras.TrainedModel
    parent: services.InferenceService | None
    parent_leaving: bool = False
    deleting: bool = False


def plan(desired: Desired, seen: observed.Observed, now: float) -> reconcile.Plan:
    """Decide about a TrainedModel at ``now``. Never raises, and repeats itself exactly."""
    state = member_status.State(of_trained(desired), seen, now, leaving=desired.deleting)
    return member.steps(state, status_of=lambda given: _status(desired, given))


def of_trained(desired: Desired) -> member_status.Model:
    """What a TrainedModel says of its model."""
    found = desired.model
    body, parent = found.spec.model, found.spec.inference_service
    wrong = next((one for one in _requirements(desired) if one.status is _FALSE), None)
    return member_status.Model(
        body=found,
        key=pool.trained_key(found.namespace, found.name),
        pool=observed.ServiceKey(found.namespace, parent),
        name=found.name,
        format=body.framework,
        uri=body.storage_uri,
        timeout=services.DEFAULT_TIMEOUT_SECONDS,
        memory=quantity.size(body.memory),
        routed=False,
        kind="TrainedModel",
        problem=None if wrong is None else status.Problem(wrong.message, wrong.reason),
        path=f"/serving/{found.namespace}/{parent}/v2/models/{found.name}",
    )


def _requirements(desired: Desired) -> tuple[meta.Condition, ...]:
    """What must hold of the objects, whatever runs."""
    return (_framework(desired), _is_server(desired), _memory(desired))


def _framework(desired: Desired) -> meta.Condition:
    wrong = next(pooled.trained_format(desired.model), None)
    if wrong is not None:
        text = f"{wrong.reason}; {wrong.hint}." if wrong.hint else f"{wrong.reason}."
        return meta.Condition("FrameworkSupported", _FALSE, "FrameworkNotSupported", text)
    parent, framework = desired.parent, desired.model.spec.model.framework
    served = "" if parent is None or not pooled.is_parent(parent) else services.effective(parent).model_format
    if served and served != framework:
        text = f"{parent.name if parent else ''} serves {served} models, this one is of {problems.cap(framework, 40)}."
        return meta.Condition("FrameworkSupported", _FALSE, "FrameworkNotSupported", text)
    return meta.Condition("FrameworkSupported", _TRUE)


def _is_server(desired: Desired) -> meta.Condition:
    name = desired.model.spec.inference_service
    if desired.parent is None:
        text = f"There is no InferenceService {name}; apply one without storageUri."
        return meta.Condition("IsMMSPredictor", _FALSE, "InferenceServiceNotFound", text)
    if not pooled.is_parent(desired.parent):
        text = f"InferenceService {name} has a model of its own; name one without storageUri."
        return meta.Condition("IsMMSPredictor", _FALSE, "NotMultiModel", text)
    return meta.Condition("IsMMSPredictor", _TRUE)


def _memory(desired: Desired) -> meta.Condition:
    parent, needs = desired.parent, desired.model.spec.model.memory
    budget = None if parent is None else pooled.memory(parent.annotations)
    if parent is None or budget is None:
        return meta.Condition("MemoryResourceAvailable", _TRUE)
    share = budget // pool_program.processes_of(parent, services.effective(parent))
    if quantity.size(needs) > share:
        text = f"It needs {needs}, and each process of {parent.name} may hold {share} bytes ({pooled.MEMORY})."
        return meta.Condition("MemoryResourceAvailable", _FALSE, "MemoryResourceNotAvailable", text)
    return meta.Condition("MemoryResourceAvailable", _TRUE)


def _status(desired: Desired, state: member_status.State) -> dict[str, Any]:
    made: dict[str, Any] = {
        "observedGeneration": desired.model.metadata.generation or 0,
        "conditions": member_status.conditions(state, _conditions(desired, state)),
        "modelStatus": member_status.model_status(state),
        "mlship": member_status.own(state),
    }
    if url := member_status.url_of(state):
        made |= {"url": url, "address": {"url": url}}
    return made


def _conditions(desired: Desired, state: member_status.State) -> tuple[meta.Condition, ...]:
    required = (*_requirements(desired), _parent_ready(desired, state))
    reason, message = state.waits_for()
    bad = next((one for one in required if one.status is not _TRUE), None)
    if bad is not None and bad.type != "InferenceServiceReady":
        ready = meta.Condition("Ready", bad.status, bad.reason, bad.message)
    elif reason:
        keeps = " The model before it keeps serving." if state.serves() else ""
        ready = meta.Condition("Ready", member_status.truth(reason), reason, f"{message}{keeps}")
    elif bad is not None:
        ready = meta.Condition("Ready", bad.status, bad.reason, bad.message)
    else:
        ready = meta.Condition("Ready", _TRUE)
    return (ready, *required)


def _parent_ready(desired: Desired, state: member_status.State) -> meta.Condition:
    name, there = desired.model.spec.inference_service, state.seen.enlisted
    if desired.parent is None:
        text = f"There is no InferenceService {name}."
        return meta.Condition("InferenceServiceReady", _FALSE, "InferenceServiceNotFound", text)
    if desired.parent_leaving:
        text = f"InferenceService {name} is being deleted; nothing serves the model until there is another."
        return meta.Condition("InferenceServiceReady", _FALSE, "InferenceServiceDeleted", text)
    conditions = {one.type: one for one in meta.read_conditions(desired.parent.status)}
    said = conditions.get("Ready")
    if there is not None and any(replicas.is_ready(one) for one in there.replicas):
        return meta.Condition("InferenceServiceReady", _TRUE)
    text = said.message if said is not None and said.status is not _TRUE else ""
    return meta.Condition(
        "InferenceServiceReady", meta.Truth.UNKNOWN, "InferenceServiceNotReady", text or f"{name} is starting."
    )
