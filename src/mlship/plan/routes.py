"""How traffic flows: the route of each service and the table the gateway publishes. Pure.

A plan gives the route of its own service; ``assemble`` puts the routes of all services into one table and settles
what only the whole can say: who owns a bare model name that two namespaces use, and what the default route is.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from mlship.plan import observed

# Stands for the revision of a split while none has a replica that answers: who waits is sent to the first one that has.
# No revision has this name: theirs are hexadecimal.
STARTING = "starting"


@dataclasses.dataclass(frozen=True, slots=True)
class Split:
    """A revision's share of a service's traffic. Weights of a route sum to 100."""

    revision: str
    weight: int
    endpoints: tuple[observed.Endpoint, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Gate:
    """The gateway asks before each request whether it may go on; the answer comes when a replica is there.

    ``patience``: seconds a caller is held at most. ``places``: how many are held at once; the next is refused at
    once. ``hopeless``: why nobody shall be held now (the model is gone, replicas crash); empty: there is hope.
    """

    patience: float
    places: int
    hopeless: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Pool:
    """A route is a pool's: each model's requests go to one of its endpoints; those for ``hot`` models go to all."""

    hot: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class ServiceRoute:
    """One service's traffic. No splits: answer 503 with ``message``, which says why and what to do.

    With a ``gate`` there is a split even while it has no endpoints: requests wait until it has some. Its revision is
    ``STARTING`` where none is known, or where the service is ready only without a gate. Without one no request asks
    anybody.

    ``created`` orders services that claim the same bare name: the older keeps it.
    ``timeout`` is the whole request's, in seconds. ``via``: the pool whose route carries the traffic of this service,
    which has no splits of its own; with a ``message`` it is answered so all the same.
    """

    service: observed.ServiceKey
    created: str
    timeout: float
    splits: tuple[Split, ...] = ()
    message: str = ""
    gate: Gate | None = None
    via: observed.ServiceKey | None = None
    pool: Pool | None = None

    @property
    def leads(self) -> bool:
        """Whether it leads to a revision: to replicas of it, or to a gate behind which it is started when asked for."""
        return any(split.revision != STARTING for split in self.splits)


@dataclasses.dataclass(frozen=True, slots=True)
class RouteTable:
    """What the gateway shall carry. ``names``: bare model name -> service; ``default``: the only service, if so."""

    services: tuple[ServiceRoute, ...] = ()
    names: tuple[tuple[str, observed.ServiceKey], ...] = ()
    default: observed.ServiceKey | None = None


def assemble(routes: Iterable[ServiceRoute]) -> RouteTable:
    """The table of all routes, independent of their order."""
    services = tuple(sorted(routes, key=lambda route: route.service))
    owners: dict[str, ServiceRoute] = {}
    named = [route for route in services if not _follows(route)]
    for route in named:
        held = owners.get(route.service.name)
        if held is None or (route.created, route.service) < (held.created, held.service):
            owners[route.service.name] = route
    names = tuple((name, owners[name].service) for name in sorted(owners))
    default = named[0].service if len(named) == 1 else None
    return RouteTable(services=services, names=names, default=default)


def _follows(route: ServiceRoute) -> bool:
    """Whether nobody asks for the route by its name: a pool that follows from its members is asked for theirs."""
    return "." in route.service.name
