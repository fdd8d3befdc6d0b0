"""Worlds that cannot be are refused, each for its reason."""

from __future__ import annotations

import dataclasses

import pytest

from mlship.backends import consistency
from mlship.plan import observed

KEY = observed.ServiceKey("default", "iris")
PLACE = observed.Endpoint("unix:/run/a")
FINE = observed.Replica(
    observed.ReplicaId(KEY, "a", 0), observed.Phase.RUNNING, since=0.0, ready=True, endpoint=PLACE, pid=7
)
NEXT = dataclasses.replace(FINE, id=observed.ReplicaId(KEY, "a", 1), endpoint=observed.Endpoint("unix:/run/b"))


def test_a_possible_world_passes() -> None:
    artifact = observed.Artifact("file:///m", observed.ArtifactState.READY, digest="d", path="/p")
    consistency.consistent(KEY, observed.Observed(replicas=(FINE, NEXT), artifact=artifact))


@pytest.mark.parametrize(
    ("seen", "why"),
    [
        (observed.Observed(replicas=(FINE, FINE)), "one id"),
        (observed.Observed(replicas=(FINE, dataclasses.replace(NEXT, endpoint=PLACE))), "one endpoint"),
        (observed.Observed(replicas=(dataclasses.replace(FINE, endpoint=None),)), "is ready but"),
        (observed.Observed(replicas=(dataclasses.replace(FINE, phase=observed.Phase.STARTING),)), "is ready but"),
        (
            observed.Observed(replicas=(dataclasses.replace(FINE, ready=False, phase=observed.Phase.BACKOFF),)),
            "has a process",
        ),
        (
            observed.Observed(
                replicas=(dataclasses.replace(FINE, id=observed.ReplicaId(observed.ServiceKey("x", "y"), "a", 0)),)
            ),
            "does not belong",
        ),
        (observed.Observed(artifact=observed.Artifact("file:///m", observed.ArtifactState.READY)), "without digest"),
    ],
)
def test_an_impossible_world_is_refused(seen: observed.Observed, why: str) -> None:
    with pytest.raises(consistency.ImpossibleWorld, match=why):
        consistency.consistent(KEY, seen)
