"""What the shell needs from its neighbours, as protocols: the planner and the gateway. (The backend has its own.)

The composition root puts the real ones in; tests put in worlds of their own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Sequence
from typing import Any, Protocol

from mlship.control import store
from mlship.plan import actions, causes, observed, pool, routes, scaling


@dataclasses.dataclass(frozen=True, slots=True)
class Decision:
    """A plan as the loop needs it.

    ``status`` is the whole status in JSON form; None leaves it as it is. ``wake_at`` is Unix seconds. ``finished``:
    a deleted service has nothing left. ``why`` holds one sentence per reason, ``summary`` is one sentence for all.
    ``scaling`` tells the feeds what to measure; None: nothing. ``membership``: the pool that the service is in, and
    what it says of it; None: it is in none.
    """

    actions: tuple[actions.Action, ...] = ()
    route: routes.ServiceRoute | None = None
    status: dict[str, Any] | None = None
    wake_at: float | None = None
    why: tuple[str, ...] = ()
    finished: bool = False
    summary: str = ""
    scaling: scaling.Scaling | None = None
    membership: pool.Membership | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class World:
    """The stored objects a decision about one service rests on. ``parent``: of a TrainedModel, the service it names."""

    service: store.Object
    namespaced: tuple[store.Object, ...] = ()
    cluster: tuple[store.Object, ...] = ()
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


class Feeds(Protocol):
    """What measures how much services are used."""

    def follow(self, service: observed.ServiceKey, wanted: scaling.Scaling | None, seen: observed.Observed) -> None:
        """Measure this from now on, on these replicas; None: nothing any more."""
        ...

    def of(self, service: observed.ServiceKey, *, now: float) -> observed.Demand:
        """What is known now: from memory, at once."""
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

    async def publish(self, table: routes.RouteTable) -> None: ...

    def view(self, service: observed.ServiceKey) -> observed.Gateway: ...

    def watch(self) -> AsyncIterator[None]: ...

    async def close(self) -> None: ...

    async def stop(self) -> None: ...
