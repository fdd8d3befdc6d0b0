"""Why a model in a pool is as it is: the chain of ``causes`` for it. Pure.

Its trouble lies in one of four places: what its object says, its bytes, the processes of its pool, or the model itself,
which then says so where it was tried.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mlship.api import meta
from mlship.plan import causes, member_status, observed, replicas

_AGAIN = "Mend the model; a changed file is noticed and tried again."
_QUARANTINED = (
    "Mend the model: loading it ended the process, so it is not tried again before its bytes change. "
    "A service without the ModelMesh annotation gives it a process of its own."
)


def chain(state: member_status.State, stored: Mapping[str, Any] | None, *, kind: str) -> tuple[causes.Cause, ...]:
    """The chain of a member, from the condition to the root. ``stored``: its newest status."""
    body = state.model.body
    conditions = {one.type: one for one in meta.read_conditions(dict(stored or {}))}
    ready = conditions.get("Ready")
    name = f"{kind} {body.namespace}/{body.name}"
    if ready is None or causes.behind(body, stored):
        return (
            causes.Cause(name, "NotLookedAt", "The control plane has not looked at the newest spec yet; try again."),
        )
    if ready.status is meta.Truth.TRUE:
        return (causes.Cause(name, "Ready", causes.since(ready)), *_healthy(state))
    head = causes.Cause(name, "NotReady", causes.with_since(ready))
    return (head, *causes.parts(conditions, ready), *_roots(state, ready))


def _roots(state: member_status.State, ready: meta.Condition) -> Iterator[causes.Cause]:
    if state.model.problem is not None:
        yield causes.explained("spec", "Invalid", ready.message, otherwise="Correct the spec and apply it again.")
        return
    if state.model.stopped:
        yield causes.Cause("annotation serving.kserve.io/stop", "true", fix="Remove the annotation and apply again.")
        return
    yield from causes.of_artifact(state.model.uri, state.seen.artifact)
    there = state.seen.enlisted
    if there is not None:
        if not any(replicas.is_ready(one) for one in there.replicas):
            yield from causes.of_replicas(there.replicas, state.now)
        yield from _failing(state)
    yield from causes.of_gateway(state.seen.gateway)


def _failing(state: member_status.State) -> Iterator[causes.Cause]:
    one = state.failing()
    if one is None:
        return
    word = "quarantined" if one.quarantined else "cannot be loaded"
    yield causes.explained(
        f"model {state.model.name} in {one.replica}",
        word,
        one.reason,
        otherwise=_QUARANTINED if one.quarantined else _AGAIN,
    )


def _healthy(state: member_status.State) -> Iterator[causes.Cause]:
    there = state.seen.enlisted
    if there is None:
        return
    processes = sum(replicas.is_ready(one) for one in there.replicas)
    yield causes.Cause(f"pool {there.pool}", "Serving", f"{processes} of {len(there.replicas)} processes answer.")
    for one in there.placements:
        if one.state is observed.Held.LOADED:
            size = f" It takes {one.size} bytes." if one.size else ""
            yield causes.Cause(f"process {one.replica}", "Loaded", f"It answers from memory.{size}")
    if not state.loaded():
        yield causes.Cause(f"model {state.model.name}", "Standby", "It is loaded when it is asked for.")
    artifact = state.seen.artifact
    if artifact is not None and artifact.error:
        yield from causes.of_artifact(artifact.uri, artifact)
    yield causes.Cause("gateway", "Routing", member_status.url_of(state))
