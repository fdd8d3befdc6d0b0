"""What would happen: the plans that follow each other from the facts as they are, played through in the fake world.

``mlship diff`` shows this. Nothing real is touched; everything is taken to go well.
"""

from __future__ import annotations

import dataclasses

from mlship.backends import fake
from mlship.plan import observed, reconcile


def rehearse(
    desired: reconcile.Desired, seen: observed.Observed, now: float, *, limit: int = 50
) -> tuple[reconcile.Plan, ...]:
    """The plans that would follow each other if all went well, those that do nothing left out: what ``diff`` shows.

    Args:
        limit: give up after so many plans; a service that never settles ends there.

    Raises:
        ImpossibleWorld: the facts contradict each other.
    """
    key = observed.ServiceKey(desired.service.namespace, desired.service.name)
    world = fake.Fake(now=now)
    world.seed(key, seen)
    found: list[reconcile.Plan] = []
    for _ in range(limit):
        made = reconcile.plan(desired, world.seen(key), world.time.now)
        world.begin(key, made.actions)
        world.route(key, made.route)
        if made.actions:
            found.append(made)
        service = desired.service.model_copy(update={"status": made.status})
        desired = dataclasses.replace(desired, service=service, past=made.past)
        times = [at for at in (world.time.next(), made.wake_at) if at is not None]
        if made.finished or not times:
            break
        world.time.advance(max(min(times) - world.time.now, 0.0))
    return tuple(found)
