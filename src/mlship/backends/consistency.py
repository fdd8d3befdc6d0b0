"""Which worlds cannot be. Pure: facts in, an exception out when they contradict each other.

The fake backend asks before it begins with facts from elsewhere, and the tests ask after every step: a decision that is
only right in an impossible world proves nothing.
"""

from __future__ import annotations

from mlship.plan import observed

Phase, State = observed.Phase, observed.ArtifactState


class ImpossibleWorld(RuntimeError):
    """Something was asked for that no real world would do: the caller is wrong."""


def consistent(service: observed.ServiceKey, seen: observed.Observed) -> None:
    """Raises ImpossibleWorld when the facts contradict each other."""
    ids = [one.id for one in seen.replicas]
    if len(set(ids)) != len(ids):
        raise ImpossibleWorld(f"{service}: two replicas have one id")
    for one in seen.replicas:
        if one.id.service != service:
            raise ImpossibleWorld(f"{one.id} does not belong to {service}")
        if one.ready and (one.phase is not Phase.RUNNING or one.endpoint is None):
            raise ImpossibleWorld(f"{one.id} is ready but {one.phase}, at {one.endpoint}")
        if one.pid is not None and one.phase in (Phase.INITIAL, Phase.BACKOFF, Phase.EXITED, Phase.STOPPED):
            raise ImpossibleWorld(f"{one.id} is {one.phase} but has a process")
    places = [one.endpoint for one in seen.replicas if one.endpoint is not None]
    if len(set(places)) != len(places):
        raise ImpossibleWorld(f"{service}: two replicas answer at one endpoint")
    artifact = seen.artifact
    if artifact is not None and artifact.state is State.READY and not (artifact.digest and artifact.path):
        raise ImpossibleWorld(f"{service}: its artifact is ready, without digest or path")
