"""Objects for the tests of ``api``: made from plain dicts, the way every object comes in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mlship.api import load, runtime, service


def isvc(predictor: dict[str, Any], *, name: str = "iris", **more: Any) -> dict[str, Any]:
    metadata = {"name": name, **more.pop("metadata", {})}
    spec = {"predictor": predictor, **more}
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": metadata,
        "spec": spec,
    }


def with_model(*, predictor: dict[str, Any] | None = None, metadata: dict[str, Any] | None = None, **model: Any) -> Any:
    body = {"modelFormat": {"name": "sklearn"}, "storageUri": "/models/iris", **model}
    return isvc({**(predictor or {}), "model": body}, metadata=metadata or {})


def serving_runtime(name: str, *, kind: str = "ServingRuntime", **spec: Any) -> dict[str, Any]:
    body = {
        "supportedModelFormats": [{"name": "sklearn", "version": "1", "autoSelect": True}],
        "protocolVersions": ["v1", "v2"],
        "containers": [{"name": "kserve-container", "command": ["serve"]}],
        **spec,
    }
    return {
        "apiVersion": "serving.kserve.io/v1alpha1",
        "kind": kind,
        "metadata": {"name": name},
        "spec": body,
    }


@pytest.fixture
def a_service() -> Callable[..., service.InferenceService]:
    """A valid service with a model; keywords are fields of the model, ``predictor`` and ``metadata`` theirs."""

    def make(**given: Any) -> service.InferenceService:
        found = load.parse(with_model(**given))
        assert isinstance(found, service.InferenceService)
        return found

    return make


@pytest.fixture
def a_runtime() -> Callable[..., runtime.Runtime]:
    """A valid runtime; keywords are fields of its spec, ``kind`` its kind."""

    def make(name: str, **given: Any) -> runtime.Runtime:
        found = load.parse(serving_runtime(name, **given))
        assert isinstance(found, runtime.ServingRuntime | runtime.ClusterServingRuntime)
        return found

    return make


@pytest.fixture
def raw_service() -> Callable[..., dict[str, Any]]:
    """The dict of a service with a model, to be broken."""
    return with_model


@pytest.fixture
def raw_predictor() -> Callable[..., dict[str, Any]]:
    """The dict of a service with this predictor."""
    return isvc


@pytest.fixture
def raw_runtime() -> Callable[..., dict[str, Any]]:
    """The dict of a runtime, to be broken."""
    return serving_runtime
