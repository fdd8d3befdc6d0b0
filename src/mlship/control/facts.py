"""Gathers what a decision rests on: the stored objects of a service, and the facts of backend and gateway about it."""

from __future__ import annotations

from mlship.backends import base
from mlship.control import resources, seams, store
from mlship.plan import observed


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
            replicas=found.replicas, artifact=found.artifact, gateway=self._gateway.view(key), standby=found.standby
        )
        self.newest[key] = seen
        return seen

    def moved(self) -> list[observed.ServiceKey]:
        """The services that the gateway treats otherwise than when they were last looked at."""
        return [key for key, seen in self.newest.items() if self._gateway.view(key) != seen.gateway]

    def forget(self, key: observed.ServiceKey) -> None:
        """The service is gone."""
        self.newest.pop(key, None)


def runtimes(catalog: resources.Catalog) -> frozenset[str]:
    """The ids of the kinds a service may select its runtime from."""
    return frozenset({catalog.kind("ServingRuntime").id, catalog.kind("ClusterServingRuntime").id})


async def world(kept: store.Store, catalog: resources.Catalog, key: observed.ServiceKey) -> seams.World:
    """The stored objects about a service. Raises SpecError (NotFound) when there is no such service."""
    service = await kept.get(store.Key(catalog.kind("InferenceService").id, key.namespace, key.name))
    return await around(kept, catalog, service)


async def around(kept: store.Store, catalog: resources.Catalog, body: store.Object) -> seams.World:
    """``body``, stored or not, with the runtimes it may select; objects that select none are given none."""
    if body.get("kind") != "InferenceService":
        return seams.World(body)
    namespaced = await kept.page(catalog.kind("ServingRuntime").id, namespace=body["metadata"]["namespace"])
    cluster = await kept.page(catalog.kind("ClusterServingRuntime").id)
    return seams.World(body, namespaced=namespaced.items, cluster=cluster.items)
