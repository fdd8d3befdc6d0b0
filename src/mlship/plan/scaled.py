"""What becomes of the ScaledObjects of a service: which of them has the say, and the status that each gets. Pure.

The status is KEDA's, as far as there is something to say: the condition Ready, with KEDA's reasons where it has one,
and Paused. A ScaledObject outlives its target, as KEDA has it, and says so; Active and Fallback change with every
decision and are told by the service it scales, in its status and by ``mlship why``.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from typing import Any

from mlship.api import meta, scaledobject
from mlship.plan import causes


class Standing(enum.StrEnum):
    """What a ScaledObject is to the service it targets; the value is the reason of its Ready condition."""

    SCALES = "ScaledObjectReady"
    GONE = "ScaledObjectCheckFailed"
    SECOND = "AnotherScaledObject"
    POOLED = "TargetInPool"


_FIXES = {
    Standing.GONE.value: "Apply the InferenceService, or destroy the ScaledObject.",
    Standing.SECOND.value: "Destroy one of the two.",
    Standing.POOLED.value: "Size the pool by mlship.dev/pool-processes, or take the service out of it.",
}


def ranked(found: Iterable[scaledobject.ScaledObject], service: str) -> tuple[scaledobject.ScaledObject, ...]:
    """Those that target a service, the one that has the say first: the oldest."""
    mine = (one for one in found if one.target == service)
    return tuple(sorted(mine, key=lambda one: (one.metadata.creation_timestamp or "", one.name)))


def standings(mine: Iterable[scaledobject.ScaledObject], *, there: bool, pooled: bool) -> tuple[Standing, ...]:
    """What each of ``ranked`` is to its service. ``pooled``: the service runs in the processes of a pool."""
    if not there:
        return tuple(Standing.GONE for _ in mine)
    if pooled:
        return tuple(Standing.POOLED for _ in mine)
    return tuple(Standing.SECOND if index else Standing.SCALES for index, _ in enumerate(mine))


def status(found: scaledobject.ScaledObject, standing: Standing, *, first: str) -> dict[str, Any]:
    """The status of a ScaledObject. ``first``: the name of the one that has the say about its service."""
    ref = found.spec.scale_target_ref
    kind = ref.kind or "Deployment"
    version = ref.api_version or ("serving.kserve.io/v1beta1" if kind == "InferenceService" else "apps/v1")
    triggers = dict.fromkeys(one.type for one in found.spec.triggers)
    ready = meta.Truth.TRUE if standing is Standing.SCALES else meta.Truth.FALSE
    held = paused(found)
    return {
        "conditions": [
            _condition("Ready", ready, standing.value, _message(found, standing, first)),
            _condition(
                "Paused",
                meta.Truth.TRUE if held else meta.Truth.FALSE,
                "ScaledObjectPaused" if held else "NotPaused",
                held,
            ),
        ],
        "scaleTargetKind": f"{version}.{kind}",
        "triggersTypes": ",".join(triggers),
    }


def causes_of(body: Mapping[str, Any]) -> tuple[causes.Cause, ...]:
    """Why a stored ScaledObject is as it is; what it scales says the rest."""
    name = f"ScaledObject {body['metadata']['namespace']}/{body['metadata']['name']}"
    conditions = {one.type: one for one in meta.read_conditions(body.get("status"))}
    ready, held = conditions.get("Ready"), conditions.get("Paused")
    if ready is None:
        return (causes.Cause(name, "NotLookedAt", "The control plane has not looked at it yet; try again."),)
    if ready.status is not meta.Truth.TRUE:
        return (causes.Cause(name, "NotReady", ready.message, _FIXES.get(ready.reason, "")),)
    if held is not None and held.status is meta.Truth.TRUE:
        return (causes.Cause(name, "Paused", held.message, "Remove the annotation and apply it again."),)
    return (causes.Cause(name, "Ready", ready.message),)


def paused(found: scaledobject.ScaledObject) -> str:
    """What of the scaling an annotation holds, in a sentence; empty: nothing."""
    number = scaledobject.paused_replicas(found)
    if number is not None:
        return f"held at {number} by the annotation {scaledobject.PAUSED_REPLICAS}"
    for name, what in (
        (scaledobject.PAUSED, "nothing is scaled"),
        (scaledobject.PAUSED_IN, "nothing is scaled in"),
        (scaledobject.PAUSED_OUT, "nothing is scaled out"),
    ):
        if found.annotations.get(name, "").lower() == "true":
            return f"{what} while the annotation {name} is true"
    return ""


def _message(found: scaledobject.ScaledObject, standing: Standing, first: str) -> str:
    match standing:
        case Standing.SCALES:
            return f"it scales InferenceService {found.target}"
        case Standing.GONE:
            return f"its target is gone: there is no InferenceService {found.target} in namespace {found.namespace}"
        case Standing.SECOND:
            return f"InferenceService {found.target} is scaled by ScaledObject {first}, which is older"
        case Standing.POOLED:
            return f"InferenceService {found.target} is in a pool, whose processes its members share"


def _condition(kind: str, truth: meta.Truth, reason: str, message: str) -> dict[str, str]:
    """KEDA's conditions have no time of their last change."""
    return {"type": kind, "status": truth.value, "reason": reason} | ({"message": message} if message else {})
