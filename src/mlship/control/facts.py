"""Gathers what a decision rests on: the stored objects of a service, and the facts of backend and gateway about it."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Collection

from mlship import aio, errors
from mlship.api import scaledobject
from mlship.backends import base
from mlship.control import resources, seams, store
from mlship.plan import elastic, observed, pool, scaling

_SERVICE = "InferenceService"
_TRAINED = "TrainedModel"
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
        # Whose route carries the traffic of a service: its own, or its pool's.
        self._carriers: dict[observed.ServiceKey, observed.ServiceKey] = {}
        self._carried: dict[observed.ServiceKey, dict[observed.ServiceKey, None]] = {}
        self.newest: dict[observed.ServiceKey, observed.Observed] = {}
        self.sizes: dict[observed.ServiceKey, Size] = {}

    async def of(self, key: observed.ServiceKey) -> observed.Observed:
        """Everything that is known about a service now."""
        found = await self._backend.observe(key)
        carrier = found.enlisted.pool if found.enlisted is not None else key
        view = self._gateway.view(carrier)
        seen = observed.Observed(
            replicas=found.replicas,
            artifact=found.artifact,
            enlisted=found.enlisted,
            requests=found.requests,
            entries=found.entries,
            gateway=view,
            demand=self._demand(key, view),
            standby=found.standby,
        )
        self._carry(key, carrier)
        self.newest[key] = seen
        return seen

    def _carry(self, key: observed.ServiceKey, carrier: observed.ServiceKey | None) -> None:
        before = self._carriers.get(key)
        if before == carrier:
            return
        if before is not None:
            del self._carriers[key], self._carried[before][key]
            if not self._carried[before]:
                del self._carried[before]
        if carrier is not None:
            self._carriers[key] = carrier
            self._carried.setdefault(carrier, {})[key] = None

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
        """Those of ``among`` (None: of all) that the gateway treats otherwise than when they were last looked at.

        Of a pool among them, its members.
        """
        carriers = self._carried if among is None else [key for key in among if key in self._carried]
        found: list[observed.ServiceKey] = []
        for carrier in carriers:
            view = self._gateway.view(carrier)
            found += [key for key in self._carried[carrier] if self.newest[key].gateway != view]
        return found

    def forget(self, key: observed.ServiceKey) -> None:
        """The service is gone."""
        self._carry(key, None)
        self.newest.pop(key, None)
        self.sizes.pop(key, None)


def runtimes(catalog: resources.Catalog) -> frozenset[str]:
    """The ids of the kinds a service may select its runtime from."""
    return frozenset({catalog.kind("ServingRuntime").id, catalog.kind("ClusterServingRuntime").id})


def scalers(catalog: resources.Catalog) -> str:
    """The id of the kind that says how another object is scaled; empty when it is not served."""
    return next((one.id for one in catalog.all if one.kind == "ScaledObject"), "")


def planned(catalog: resources.Catalog) -> tuple[resources.Resource, ...]:
    """The kinds whose objects are planned, each under a key of its own."""
    return tuple(one for one in catalog.all if one.kind in (_SERVICE, _TRAINED))


def key_of(kind: str, namespace: str, name: str) -> observed.ServiceKey:
    """The key that an object is planned under."""
    return pool.trained_key(namespace, name) if kind == _TRAINED else observed.ServiceKey(namespace, name)


def stored_key(catalog: resources.Catalog, key: observed.ServiceKey) -> store.Key:
    """Where the object of a planned key is stored."""
    if name := pool.trained_name(key):
        return store.Key(catalog.kind(_TRAINED).id, key.namespace, name)
    return store.Key(catalog.kind(_SERVICE).id, key.namespace, key.name)


async def world(kept: store.Store, catalog: resources.Catalog, key: observed.ServiceKey) -> seams.World:
    """The stored objects about a planned key. Raises SpecError (NotFound) when there is no such object."""
    asked = stored_key(catalog, key)
    if pool.trained_name(key):
        return await around(kept, catalog, await kept.get(asked))
    # Asked together, so that the store answers in one turn.
    service, (namespaced, cluster, scaled) = await aio.both(kept.get(asked), _around(kept, catalog, key))
    return seams.World(service, namespaced=namespaced, cluster=cluster, scaled=scaled)


async def around(kept: store.Store, catalog: resources.Catalog, body: store.Object) -> seams.World:
    """``body``, stored or not, with what its plan rests on: of a service the runtimes it may select and what may scale
    it, of a TrainedModel the service it names; other kinds are given nothing.
    """
    if body.get("kind") == _TRAINED:
        return seams.World(body, parent=await _parent(kept, catalog, body))
    if body.get("kind") != _SERVICE:
        return seams.World(body)
    key = observed.ServiceKey(body["metadata"]["namespace"], body["metadata"]["name"])
    namespaced, cluster, scaled = await _around(kept, catalog, key)
    return seams.World(body, namespaced=namespaced, cluster=cluster, scaled=scaled)


async def _around(
    kept: store.Store, catalog: resources.Catalog, key: observed.ServiceKey
) -> tuple[_Objects, _Objects, _Objects]:
    """The runtimes of a service's namespace, those for all, and what may scale it; asked for in one turn."""

    async def runtimes() -> tuple[_Objects, _Objects]:
        own = kept.page(catalog.kind("ServingRuntime").id, namespace=key.namespace)
        namespaced, cluster = await aio.both(own, kept.page(catalog.kind("ClusterServingRuntime").id))
        return namespaced.items, cluster.items

    (namespaced, cluster), scaled = await aio.both(runtimes(), scalers_of(kept, catalog, key))
    return namespaced, cluster, scaled


async def scalers_of(kept: store.Store, catalog: resources.Catalog, service: observed.ServiceKey) -> _Objects:
    """The ScaledObjects whose target may be a service; there may be one for each, so the others are not read."""
    kind = scalers(catalog)
    if not kind or pool.trained_name(service):
        return ()
    named = (service.name, f"{service.name}{scaledobject.PREDICTOR}")
    return (await kept.page(kind, namespace=service.namespace, targets=named)).items


async def models_of(
    kept: store.Store, catalog: resources.Catalog, service: observed.ServiceKey, *, staying: bool = False
) -> tuple[observed.ServiceKey, ...]:
    """The TrainedModels that name a service; ``staying``: without those that are being deleted."""
    trained = next((one for one in catalog.all if one.kind == _TRAINED), None)
    if trained is None:
        return ()
    page = await kept.page(
        trained.id,
        namespace=service.namespace,
        targets=(service.name,),
        where=lambda body: not (staying and "deletionTimestamp" in body["metadata"]),
    )
    return tuple(pool.trained_key(service.namespace, body["metadata"]["name"]) for body in page.items)


async def _parent(kept: store.Store, catalog: resources.Catalog, body: store.Object) -> store.Object | None:
    named = (body.get("spec") or {}).get("inferenceService")
    if not isinstance(named, str):
        return None
    try:
        return await kept.get(store.Key(catalog.kind(_SERVICE).id, body["metadata"]["namespace"], named))
    except errors.SpecError as error:
        if error.reason is not errors.Reason.NOT_FOUND:
            raise
        return None
