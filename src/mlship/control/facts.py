"""Gathers what a decision rests on: the stored objects of a service, and the facts of backend and gateway about it."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable

from mlship.backends import base
from mlship.control import resources, seams, store
from mlship.plan import elastic, observed, scaling


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
            replicas=found.replicas, artifact=found.artifact, gateway=view, demand=self._demand(key, view)
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

    def moved(self) -> list[observed.ServiceKey]:
        """The services that the gateway treats otherwise than when they were last looked at."""
        return [key for key, seen in self.newest.items() if self._gateway.view(key) != seen.gateway]

    def forget(self, key: observed.ServiceKey) -> None:
        """The service is gone."""
        self.newest.pop(key, None)
        self.sizes.pop(key, None)


def runtimes(catalog: resources.Catalog) -> frozenset[str]:
    """The ids of the kinds a service may select its runtime from."""
    return frozenset({catalog.kind("ServingRuntime").id, catalog.kind("ClusterServingRuntime").id})


def scalers(catalog: resources.Catalog) -> str:
    """The id of the kind that says how another object is scaled; empty when it is not served."""
    return next((one.id for one in catalog.all if one.kind == "ScaledObject"), "")


async def world(kept: store.Store, catalog: resources.Catalog, key: observed.ServiceKey) -> seams.World:
    """The stored objects about a service. Raises SpecError (NotFound) when there is no such service."""
    service = await kept.get(store.Key(catalog.kind("InferenceService").id, key.namespace, key.name))
    return await around(kept, catalog, service)


async def around(kept: store.Store, catalog: resources.Catalog, body: store.Object) -> seams.World:
    """``body``, stored or not, with the runtimes it may select and what may scale it; other kinds are given none."""
    if body.get("kind") != "InferenceService":
        return seams.World(body)
    namespaced = await kept.page(catalog.kind("ServingRuntime").id, namespace=body["metadata"]["namespace"])
    cluster = await kept.page(catalog.kind("ClusterServingRuntime").id)
    scaled: tuple[store.Object, ...] = ()
    if kind := scalers(catalog):
        scaled = (await kept.page(kind, namespace=body["metadata"]["namespace"])).items
    return seams.World(body, namespaced=namespaced.items, cluster=cluster.items, scaled=scaled)
