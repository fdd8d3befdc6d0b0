"""What the server says of itself and of its models, in the form that REST and gRPC share: names as in the proto."""

from __future__ import annotations

from typing import Any

import mlship
from mlship.protocol import messages
from mlship.server import repository

NAME = "mlship"
# Exactly what works, by the names of Triton's documents where it has one.
EXTENSIONS = ("binary_tensor_data", "model_repository", "statistics", "parameters", "content_type")


def server() -> dict[str, Any]:
    """ServerMetadataResponse."""
    return {"name": NAME, "version": mlship.__version__, "extensions": list(EXTENSIONS)}


def model(models: repository.Repository, name: str, version: str) -> dict[str, Any]:
    """ModelMetadataResponse. Raises SpecError when unknown, NotReady when not ready."""
    served = models.get(name, version)
    return {
        "name": name,
        "versions": [version] if version else models.versions(name),
        "platform": served.platform,
        "inputs": [_tensor(spec) for spec in served.signature.inputs],
        "outputs": [_tensor(spec) for spec in served.signature.outputs],
    }


def acceleration(models: repository.Repository, name: str, version: str) -> dict[str, Any]:
    """What came of compiling a model. Raises SpecError when unknown, NotReady when not ready."""
    served = models.get(name, version)
    return {"name": name, "version": served.source.version, **served.acceleration.report.wire()}


def _tensor(spec: messages.TensorSpec) -> dict[str, Any]:
    # An input that takes anything has no name in the protocol; strings hold whatever it may get.
    tensor: dict[str, Any] = {"name": spec.name, "datatype": spec.datatype or "BYTES", "shape": list(spec.shape)}
    if spec.content_type:
        tensor["parameters"] = {"content_type": spec.content_type}
    return tensor


def index(models: repository.Repository, *, ready: bool) -> list[dict[str, str]]:
    """RepositoryIndexResponse.models."""
    return [
        {"name": status.name, "version": status.version, "state": status.state.value, "reason": status.reason}
        for status in models.index(ready=ready)
    ]


def statistics(models: repository.Repository, name: str, version: str) -> list[dict[str, Any]]:
    """ModelStatisticsResponse.model_stats. Raises SpecError when unknown."""
    return [kept.wire(name=status.name, version=status.version) for status, kept in models.statistics(name, version)]
