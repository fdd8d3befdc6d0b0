"""The route of a service, and who waits for it: whether callers are held while nobody answers, and what they are told.

Pure; a part of every plan. Callers are held where a replica is to be expected: by a service that may sleep, whenever
it has none that answers, and by any other while it starts. Starting is what a service does that has never answered,
whatever becomes of its tries, and one whose replicas are not there yet: their model is fetched, or they load it. Of one
that has answered, and whose replicas die or fail their probes, callers are told so at once: nobody knows until when.

The route of a service that starts leads to ``routes.STARTING`` and not to the revision that is made. So it is the same
one from the moment the service is known, whatever its model turns out to be; and the service is called ready only when
the route without the gate is in force, which Envoy follows without a control plane.
"""

from __future__ import annotations

from mlship import errors
from mlship.api import service as services
from mlship.plan import observed, pool_program, routes, scaling, status

# Failures of a fetch that may be over at the next try; after any other somebody must act, though it is tried again.
_PASSING = frozenset(
    {errors.Reason.BACKEND_FAILED, errors.Reason.NOT_READY, errors.Reason.OVERLOADED, errors.Reason.DEADLINE}
)


def route(
    state: status.Situation, effective: services.Effective, key: observed.ServiceKey, wanted: scaling.Scaling | None
) -> routes.ServiceRoute:
    """The route of a service. ``wanted`` None: nothing is known of how long a caller may wait, and nobody does."""
    endpoints = tuple(sorted({one.endpoint for one in state.assignment.routed if one.endpoint is not None}))
    splits = (routes.Split(state.assignment.serving, weight=100, endpoints=endpoints),) if endpoints else ()
    gate = None
    if wanted is not None and not endpoints and _expected(state):
        # The replicas of one that goes to rest are let go of behind the gate: their revision stays in the route.
        revision = state.newest if state.sleeps and state.newest else routes.STARTING
        splits = (routes.Split(revision, weight=100, endpoints=()),)
        gate = routes.Gate(patience=wanted.patience, places=wanted.places, hopeless=_hopeless(state))
    return routes.ServiceRoute(
        service=key,
        created=state.service.metadata.creation_timestamp or "",
        timeout=float(max(effective.timeout, 1)),
        splits=splits,
        message="" if endpoints else _unanswered(state),
        gate=gate,
        pool=routes.Pool() if state.target is not None and pool_program.holds_models(state.target.spec) else None,
    )


def _expected(state: status.Situation) -> bool:
    """Whether a caller who comes while nobody answers has somebody to wait for."""
    if state.sleeps or not state.wanted:
        return state.sleeps
    reason, _ = status.waiting_for(state)
    return not status.last_ready(state.service.status) or reason in ("FetchingModel", "Starting")


def _hopeless(state: status.Situation) -> str:
    """Why nobody shall be held: the newest revision cannot come up by itself. Empty: there is hope."""
    reason, message = status.waiting_for(state)
    artifact = state.seen.artifact
    final = artifact is None or artifact.retry_at is None or artifact.reason not in _PASSING
    if reason in ("ModelLoadFailed", "CrashLoop") or (reason == "ModelFetchFailed" and final):
        service = state.service
        return f"{service.namespace}/{service.name} cannot start. {message} `{status.why_command(service)}` says more."
    return ""


def _unanswered(state: status.Situation) -> str:
    """What callers are told while no replica can answer."""
    reason, message = status.waiting_for(state)
    what = "is stopped" if reason == "Stopped" else "has no ready replica"
    said = f" {message}" if message else ""
    return (
        f"{state.service.namespace}/{state.service.name} {what}.{said} `{status.why_command(state.service)}` says more."
    )
