"""TrainedModel and ClusterStorageContainer (typed), and the kinds that are only known by name (raw).

Of these only TrainedModel is served; the others are here so that a file that holds them gets an exact answer.
"""

from __future__ import annotations

from typing import Any, Literal

from mlship.api import fields, meta
from mlship.api.container import Container
from mlship.api.fields import Bool, Quantity, Str, opt, req


class TrainedModelBody(fields.Spec):
    """The model to load."""

    storage_uri: Str = req("Where the model is: a path, file://, http(s):// or pvc://.")
    framework: Str = req("Its format: sklearn, xgboost, lightgbm, catboost or onnx.")
    memory: Quantity = req("Memory it needs: what its server counts with before it has measured.")


class TrainedModelSpec(fields.Spec):
    """A model and the service that loads it."""

    inference_service: Str = req("The service that loads it: one of the same namespace, without a storageUri.")
    model: TrainedModelBody = req("The model to load.")


class TrainedModel(meta.Object):
    """One of several models in a multi-model service (KServe, serving.kserve.io/v1alpha1)."""

    kind: Literal["TrainedModel"] = req("TrainedModel.")
    spec: TrainedModelSpec = req("A model and the service that loads it.")


class UriFormat(fields.Spec):
    """URIs a storage container downloads: by prefix or by regular expression."""

    prefix: Str | None = opt("Prefix of the URI.")
    regex: Str | None = opt("Expression the URI matches.")


class StorageContainerSpec(fields.Spec):
    """A program that downloads models."""

    container: Container = req("The program.")
    supported_uri_formats: tuple[UriFormat, ...] = req("URIs it downloads.")
    workload_type: Str | None = opt("initContainer (default) or localModelDownloadJob.")
    supports_multi_model_download: Bool | None = opt("Whether it takes several URIs.")


class ClusterStorageContainer(meta.Object):
    """A program that downloads models (KServe, serving.kserve.io/v1alpha1)."""

    kind: Literal["ClusterStorageContainer"] = req("ClusterStorageContainer.")
    spec: StorageContainerSpec = req("A program that downloads models.")
    disabled: Bool | None = opt("Whether it is off.")


class RawObject(meta.Object):
    """A kind known by name: metadata is checked, the rest is kept as it is."""

    spec: dict[str, Any] | None = opt("Kept as written.")
