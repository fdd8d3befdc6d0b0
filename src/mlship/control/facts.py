"""Gathers what a decision rests on: the stored objects of a service, and the facts of backend and gateway about it."""

from __future__ import annotations

from mlship import errors
from mlship.backends import base
from mlship.control import resources, seams, store
from mlship.plan import observed, pool

_SERVICE = "InferenceService"
_TRAINED = "TrainedModel"


class Facts:
    """Reads facts and remembers the newest, to tell whose view of the gateway has moved since."""

    def __init__(self, backend: base.Backend, gateway: seams.Gateway) -> None:
        self._backend = backend
        self._gateway = gateway
        self.newest: dict[observed.ServiceKey, observed.Observed] = {}

    async def of(self, key: observed.ServiceKey) -> observed.Observed:
        """Everything that is known about a service now."""
        found = await self._backend.observe(key)
        seen = observed.Observed(
            replicas=found.replicas,
            artifact=found.artifact,
            enlisted=found.enlisted,
            requests=found.requests,
            entries=found.entries,
            gateway=self._gateway.view(found.enlisted.pool if found.enlisted is not None else key),
        )
        self.newest[key] = seen
        return seen

    def moved(self) -> list[observed.ServiceKey]:
        """The services that the gateway treats otherwise than when they were last looked at."""
        carriers = {key: _carrier(key, seen) for key, seen in self.newest.items()}
        views = {carrier: self._gateway.view(carrier) for carrier in set(carriers.values())}
        return [key for key, seen in self.newest.items() if views[carriers[key]] != seen.gateway]

    def forget(self, key: observed.ServiceKey) -> None:
        """The service is gone."""
        self.newest.pop(key, None)


def runtimes(catalog: resources.Catalog) -> frozenset[str]:
    """The ids of the kinds a service may select its runtime from."""
    return frozenset({catalog.kind("ServingRuntime").id, catalog.kind("ClusterServingRuntime").id})


def _carrier(key: observed.ServiceKey, seen: observed.Observed) -> observed.ServiceKey:
    """Whose route carries the traffic."""
    return key if seen.enlisted is None else seen.enlisted.pool


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
    return await around(kept, catalog, await kept.get(stored_key(catalog, key)))


async def around(kept: store.Store, catalog: resources.Catalog, body: store.Object) -> seams.World:
    """``body``, stored or not, with what its plan rests on: the runtimes it may select, or the service it names."""
    if body.get("kind") == _TRAINED:
        return seams.World(body, parent=await _parent(kept, catalog, body))
    if body.get("kind") != _SERVICE:
        return seams.World(body)
    namespaced = await kept.page(catalog.kind("ServingRuntime").id, namespace=body["metadata"]["namespace"])
    cluster = await kept.page(catalog.kind("ClusterServingRuntime").id)
    return seams.World(body, namespaced=namespaced.items, cluster=cluster.items)


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
        where=lambda body: (
            (body.get("spec") or {}).get("inferenceService") == service.name
            and not (staying and "deletionTimestamp" in body["metadata"])
        ),
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
