"""What the shell needs from its neighbours, as protocols: the planner and the gateway. (The backend has its own.)

The composition root puts the real ones in; tests put in worlds of their own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from typing import Any, Protocol

from mlship.control import store
from mlship.plan import actions, causes, elastic, observed, pool, routes, scaling


@dataclasses.dataclass(frozen=True, slots=True)
class Told:
    """The status that a ScaledObject shall have, and which object of its name is meant."""

    name: str
    uid: str
    status: dict[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class Decision:
    """A plan as the loop needs it.

    ``status`` is the whole status in JSON form; None leaves it as it is. ``wake_at`` is Unix seconds. ``finished``:
    a deleted service has nothing left. ``why`` holds one sentence per reason, ``summary`` is one sentence for all.
    ``scaling`` tells the feeds what to measure; None: nothing. ``past`` is for the next decision about the service.
    ``membership``: the pool that the service is in, and what it says of it; None: it is in none.
    ``scalers``: the ScaledObjects that target it and whose status says something else.
    """

    actions: tuple[actions.Action, ...] = ()
    route: routes.ServiceRoute | None = None
    status: dict[str, Any] | None = None
    wake_at: float | None = None
    why: tuple[str, ...] = ()
    finished: bool = False
    summary: str = ""
    scaling: scaling.Scaling | None = None
    past: elastic.Past | None = None
    membership: pool.Membership | None = None
    scalers: tuple[Told, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class World:
    """The stored objects a decision about one service rests on, and what the decision before has left.

    ``scaled`` are the ScaledObjects that may target it; ``parent``: of a TrainedModel, the service it names.
    """

    service: store.Object
    namespaced: tuple[store.Object, ...] = ()
    cluster: tuple[store.Object, ...] = ()
    scaled: tuple[store.Object, ...] = ()
    past: elastic.Past | None = None
    parent: store.Object | None = None


class Planner(Protocol):
    """Decides; pure but for the time it is given."""

    def decide(self, world: World, seen: observed.Observed, *, now: float) -> Decision:
        """What to do about a service. Raises SpecError when a stored object is no longer understood."""
        ...

    def explain(self, world: World, seen: observed.Observed, *, now: float) -> Sequence[causes.Cause]:
        """Why the service is as it is, from the condition down to the root."""
        ...


@dataclasses.dataclass(frozen=True, slots=True)
class Notice:
    """A field that is accepted and has no effect here."""

    field: str
    text: str


class Rules(Protocol):
    """Judges an object before it is stored."""

    def review(self, world: World) -> Sequence[Notice]:
        """What is accepted without effect of ``world.service``, here an object of any kind, among the stored runtimes.

        Raises SpecError with every problem when the object is refused.
        """
        ...


@dataclasses.dataclass(frozen=True, slots=True)
class Figures:
    """How a service is doing now, for people. None: not known.

    Requests/s and requests at a time over the last seconds, the 99th percentile of their latency in seconds, cores and
    bytes of all its replicas.
    """

    rps: float | None = None
    concurrency: float | None = None
    p99: float | None = None
    cpu: float | None = None
    memory: float | None = None


class Feeds(Protocol):
    """What measures how much services are used."""

    def follow(self, service: observed.ServiceKey, wanted: scaling.Scaling | None, seen: observed.Observed) -> None:
        """Measure this from now on, on these replicas; None: nothing any more."""
        ...

    def of(self, service: observed.ServiceKey, *, now: float) -> observed.Demand:
        """What is known now: from memory, at once."""
        ...

    def watch(self) -> AsyncIterator[observed.ServiceKey]:
        """The services that have more load than they can wait for a regular look with."""
        ...

    async def figures(
        self, services: Mapping[observed.ServiceKey, observed.Observed]
    ) -> Mapping[observed.ServiceKey, Figures]:
        """How these are doing, those that need no scaler included: measured for a moment when they are not followed."""
        ...


class Gate(Protocol):
    """What holds requests to services at zero."""

    def waiting(self, service: observed.ServiceKey) -> int:
        """How many callers it holds."""
        ...

    def watch(self) -> AsyncIterator[observed.ServiceKey]:
        """The services that a first caller began to wait for."""
        ...

    @property
    def open(self) -> bool:
        """Whether Envoy can ask it."""
        ...


class Gateway(Protocol):
    """What carries the traffic."""

    def want(self, service: observed.ServiceKey, route: routes.ServiceRoute | None) -> None:
        """How a service shall be carried from now on; None: not at all. At once: it is carried in the background."""
        ...

    def begin(self) -> None:
        """Every stored service was looked at: what nobody wants may leave, and routes may be published."""
        ...

    def view(self, service: observed.ServiceKey) -> observed.Gateway: ...

    def watch(self) -> AsyncIterator[Collection[observed.ServiceKey] | None]:
        """The services whose ``view`` may have changed, each change at least once; None: any of them."""
        ...

    async def close(self) -> None: ...

    async def stop(self) -> None: ...
