"""Shared worlds for the control plane's tests: a real store on a real file, and objects as users write them."""

from __future__ import annotations

import asyncio
import pathlib
from collections.abc import AsyncIterator, Callable

import pytest

from mlship.control import ledger, resources, sqlite, store

GROUP = "serving.kserve.io"


def _resource(kind: str, version: str, *, namespaced: bool = True, drained: bool = False) -> resources.Resource:
    age = resources.Column("Age", ".metadata.creationTimestamp", type="date")
    url = resources.Column("URL", ".status.url")
    return resources.Resource(
        group=GROUP, version=version, kind=kind, plural=f"{kind.lower()}s", singular=kind.lower(),
        short_names=("isvc",) if drained else (), namespaced=namespaced, columns=(url, age), drained=drained,
    )  # fmt: skip


@pytest.fixture
def catalog() -> resources.Catalog:
    return resources.Catalog(
        [
            _resource("InferenceService", "v1beta1", drained=True),
            _resource("ServingRuntime", "v1alpha1"),
            _resource("ClusterServingRuntime", "v1alpha1", namespaced=False),
        ]
    )


@pytest.fixture
def open_ledger(tmp_path: pathlib.Path, catalog: resources.Catalog) -> Callable[..., object]:
    """Opens the ledger of a file; the same file again gives the same objects."""

    async def opened(name: str = "state.db", **settings: object) -> ledger.Ledger:
        database = sqlite.Database(tmp_path / name)
        await database.open()
        drained = frozenset(one.id for one in catalog.all if one.drained)
        return ledger.Ledger(database, drained=drained, **settings)  # type: ignore[arg-type]

    return opened


@pytest.fixture
async def kept(open_ledger: Callable[..., object]) -> AsyncIterator[ledger.Ledger]:
    found = await open_ledger()  # type: ignore[misc]
    yield found
    await found.close()


@pytest.fixture
def until() -> Callable[..., object]:
    """Waits for a condition with a deadline, giving the loop its turns."""

    async def wait(condition: Callable[[], object], seconds: float = 10.0) -> object:
        async with asyncio.timeout(seconds):
            while not (found := condition()):
                await asyncio.sleep(0.005)
        return found

    return wait


@pytest.fixture
def service_key() -> Callable[..., store.Key]:
    return lambda name="iris", namespace="default": store.Key(f"inferenceservices.{GROUP}", namespace, name)


@pytest.fixture
def service() -> Callable[..., store.Object]:
    """An InferenceService as a user writes it."""

    def made(
        name: str = "iris", namespace: str = "default", uri: str = "/models/iris", **metadata: object
    ) -> store.Object:
        return {
            "apiVersion": f"{GROUP}/v1beta1",
            "kind": "InferenceService",
            "metadata": {"name": name, "namespace": namespace, **metadata},
            "spec": {"predictor": {"model": {"modelFormat": {"name": "sklearn"}, "storageUri": uri}}},
        }

    return made
