"""Gathers what a decision rests on: the stored objects of a service, and the facts of backend and gateway about it."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Collection

from mlship import aio
from mlship.backends import base
from mlship.control import resources, seams, store
from mlship.plan import elastic, observed, scaling

_Objects = tuple[store.Object, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Size:
    """How many replicas a service shall have and has that get traffic; how that is decided, and what it remembers."""

    wanted: int = 0
    ready: int = 0
    past: elastic.Past | None = None
    scaling: scaling.Scaling | None = None


class Facts:
    """Reads facts and remembers the newest, to tell whose view of the gateway has moved since.

    ``sizes`` is what the last decision about each service has said of its scale, and left for the next one.
    """

    def __init__(
        self,
        backend: base.Backend,
        gateway: seams.Gateway,
        *,
        feeds: seams.Feeds | None = None,
        gate: seams.Gate | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._backend = backend
        self._gateway = gateway
        self._feeds = feeds
        self._gate = gate
        self._clock = clock
        self.newest: dict[observed.ServiceKey, observed.Observed] = {}
        self.sizes: dict[observed.ServiceKey, Size] = {}

    async def of(self, key: observed.ServiceKey) -> observed.Observed:
        """Everything that is known about a service now."""
        found = await self._backend.observe(key)
        view = self._gateway.view(key)
        seen = observed.Observed(
            replicas=found.replicas,
            artifact=found.artifact,
            gateway=view,
            demand=self._demand(key, view),
            standby=found.standby,
        )
        self.newest[key] = seen
        return seen

    def _demand(self, key: observed.ServiceKey, view: observed.Gateway) -> observed.Demand:
        demand = observed.Demand() if self._feeds is None else self._feeds.of(key, now=self._clock())
        if self._gate is None:
            return demand
        gated = self._gate.open and view.running
        return dataclasses.replace(demand, waiting=self._gate.waiting(key), gated=gated)

    def past(self, key: observed.ServiceKey) -> elastic.Past | None:
        """What the last decision about a service has left."""
        known = self.sizes.get(key)
        return None if known is None else known.past

    def decided(self, key: observed.ServiceKey, decision: seams.Decision) -> None:
        """Keep what a decision says of the scale."""
        own = (decision.status or {}).get("mlship") or {}
        counts = own.get("replicas") or {}
        self.sizes[key] = Size(
            wanted=counts.get("wanted", 0), ready=counts.get("ready", 0), past=decision.past, scaling=decision.scaling
        )

    def moved(self, among: Collection[observed.ServiceKey] | None = None) -> list[observed.ServiceKey]:
        """Those of ``among`` (None: of all) that the gateway treats otherwise than when they were last looked at."""
        known = self.newest if among is None else [key for key in among if key in self.newest]
        return [key for key in known if self._gateway.view(key) != self.newest[key].gateway]

    def forget(self, key: observed.ServiceKey) -> None:
        """The service is gone."""
        self.newest.pop(key, None)
        self.sizes.pop(key, None)


def runtimes(catalog: resources.Catalog) -> frozenset[str]:
    """The ids of the kinds a service may select its runtime from."""
    return frozenset({catalog.kind("ServingRuntime").id, catalog.kind("ClusterServingRuntime").id})


def scalers(catalog: resources.Catalog) -> str:
    """The id of the kind that says how another object is scaled."""
    return catalog.kind("ScaledObject").id


async def world(kept: store.Store, catalog: resources.Catalog, key: observed.ServiceKey) -> seams.World:
    """The stored objects about a service. Raises SpecError (NotFound) when there is no such service."""
    asked = store.Key(catalog.kind("InferenceService").id, key.namespace, key.name)
    # Asked together, so that the store answers in one turn.
    service, (namespaced, cluster, scaled) = await aio.both(kept.get(asked), _around(kept, catalog, key.namespace))
    return seams.World(service, namespaced=namespaced, cluster=cluster, scaled=scaled)


async def around(kept: store.Store, catalog: resources.Catalog, body: store.Object) -> seams.World:
    """``body``, stored or not, with the runtimes it may select and what may scale it; other kinds are given none."""
    if body.get("kind") != "InferenceService":
        return seams.World(body)
    namespaced, cluster, scaled = await _around(kept, catalog, body["metadata"]["namespace"])
    return seams.World(body, namespaced=namespaced, cluster=cluster, scaled=scaled)


async def _around(kept: store.Store, catalog: resources.Catalog, namespace: str) -> tuple[_Objects, _Objects, _Objects]:
    """The runtimes of a namespace, those for all, and what may scale a service of it; asked for in one turn."""
    (namespaced, cluster), scaled = await aio.both(
        aio.both(
            kept.page(catalog.kind("ServingRuntime").id, namespace=namespace),
            kept.page(catalog.kind("ClusterServingRuntime").id),
        ),
        kept.page(scalers(catalog), namespace=namespace),
    )
    return namespaced.items, cluster.items, scaled.items
