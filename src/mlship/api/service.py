"""InferenceService v1beta1: what the user declares, exactly as KServe has it.

Typed here and never rewritten: what is left out stays left out. ``effective`` gives the resolved view that the planner
and the backends read, with KServe's defaults (inference_service_defaults.go) applied. Rules across fields are in
``check``; what this version can do with a valid service in ``honour``.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterator, Mapping
from typing import Annotated, Literal

import pydantic

from mlship.api import component, container, fields, meta
from mlship.api.fields import Bool, Int, Int32, Str, StrMap, opt, req

FRAMEWORKS = (
    "sklearn",
    "xgboost",
    "tensorflow",
    "pytorch",
    "triton",
    "onnx",
    "huggingface",
    "pmml",
    "lightgbm",
    "paddle",
)
PROTOCOLS = ("v1", "v2", "grpc-v1", "grpc-v2")
SERVING_CONTAINER = "kserve-container"
STOP = "serving.kserve.io/stop"
# What the model server may compile: mlship's own, so under its own name.
ACCELERATE = "mlship.dev/accelerate"
WARMUP = "mlship.dev/warmup"
ACCELERATE_MODES = ("auto", "exact", "off")
DEFAULT_REPLICAS = 1
DEFAULT_TIMEOUT_SECONDS = 60
# As much as the model server takes; more at once is no limit at all.
MAX_CONCURRENCY = 10**6

# Formats whose protocol is v2 when none is given: as a legacy block, and in ``model``.
_V2_BLOCKS = frozenset({"triton", "onnx", "huggingface"})
_V2_FORMATS = frozenset({"triton", "vLLM"})
_V2_RUNTIMES = frozenset({"kserve-mlserver"})


class ModelFormat(fields.Spec):
    """The format of the model file, as runtimes name it. Case matters."""

    name: Str = req("Format: sklearn, xgboost, lightgbm, catboost, onnx, python ...")
    version: Str | None = opt("Version of the format; compared literally with what runtimes support.")


class Storage(fields.Spec):
    """A model in the storage of a secret entry."""

    path: Str | None = opt("Path in the storage.")
    key: Str | None = opt("Entry of the secret storage-config.")
    parameters: StrMap | None = opt("Storage parameters.")
    schema_path: Str | None = opt("Path of the model schema.")


class Confidential(fields.Spec):
    """Decrypt the model in a trusted environment."""

    enabled: Bool = req("Whether the model is encrypted.")
    resource_id: Str | None = opt("Key, as kbs:///repo/type/tag.")


class ArtifactBlock(container.ContainerFields):
    """An artifact and the container that uses it."""

    storage_uri: Str | None = opt("Where the model is: a path, file://, http(s):// or pvc://.")
    storage: Storage | None = opt("Where the model is, by secret entry.")
    runtime_version: Str | None = opt("Image tag of the runtime.")
    name: Str | None = opt("Must be absent: the container is named by the runtime.")


class PredictorExtension(ArtifactBlock):
    """A model and how to serve it: the body of the legacy framework blocks."""

    protocol_version: Str | None = opt("v1, v2 or grpc-v2; picks the runtime.")
    confidential: Confidential | None = opt("Decrypt the model in a trusted environment.")


class ModelSpec(PredictorExtension):
    """A model, its format, and how to serve it."""

    model_format: ModelFormat | None = opt("Format of the model. Required.")
    runtime: Str | None = opt("Name of a ServingRuntime or ClusterServingRuntime; chosen by format when absent.")


class WorkerSpec(container.PodSpec):
    """Worker pods of a model that spans nodes."""

    ephemeral_containers: tuple[container.EphemeralContainer, ...] | None = opt("Debugging containers.")
    pipeline_parallel_size: Int | None = opt("Nodes.")
    tensor_parallel_size: Int | None = opt("Accelerators per node.")


class Predictor(container.PodSpec, component.Component):
    """The component that serves the model. Exactly one of model, a framework block or containers."""

    name: Annotated[Str, pydantic.Field(pattern=r"^[a-z]([-a-z0-9]*[a-z0-9])?$")] | None = opt(
        "Name of this predictor among canaries."
    )
    model: ModelSpec | None = opt("The model: the modern form.")
    sklearn: PredictorExtension | None = opt("A scikit-learn model (legacy form).")
    xgboost: PredictorExtension | None = opt("An XGBoost model (legacy form).")
    tensorflow: PredictorExtension | None = opt("A TensorFlow model (legacy form).")
    pytorch: PredictorExtension | None = opt("A PyTorch model (legacy form).")
    triton: PredictorExtension | None = opt("A Triton repository (legacy form).")
    onnx: PredictorExtension | None = opt("An ONNX model (legacy form).")
    huggingface: PredictorExtension | None = opt("A Hugging Face model (legacy form).")
    pmml: PredictorExtension | None = opt("A PMML model (legacy form).")
    lightgbm: PredictorExtension | None = opt("A LightGBM model (legacy form).")
    paddle: PredictorExtension | None = opt("A Paddle model (legacy form).")
    worker_spec: WorkerSpec | None = opt("Worker pods of a model that spans nodes.")
    storage_container_name: Str | None = opt("The ClusterStorageContainer that downloads the model.")

    def blocks(self) -> Iterator[tuple[str, PredictorExtension]]:
        """The model blocks that are present, by field name: ``model`` and the legacy ones."""
        for name in ("model", *FRAMEWORKS):
            block = getattr(self, name)
            if block is not None:
                yield name, block


class Transformer(container.PodSpec, component.Component):
    """A component before and behind the predictor."""


class ArtExplainer(ArtifactBlock):
    """An explainer of the Adversarial Robustness Toolbox."""

    type: Str | None = opt("SquareAttack.")
    config: StrMap | None = opt("Settings of the attack.")


class Explainer(container.PodSpec, component.Component):
    """A component that explains predictions."""

    art: ArtExplainer | None = opt("An explainer of the Adversarial Robustness Toolbox.")


class Canary(fields.Spec):
    """A second predictor with a share of the traffic."""

    traffic_percent: Annotated[Int32, pydantic.Field(ge=0, le=100)] = req("Share of the traffic, 0 to 100.")
    predictor: Predictor = req("The predictor; its name is required.")


class ServiceSpec(fields.Spec):
    """What shall be served."""

    predictor: Predictor = req("The component that serves the model.")
    transformer: Transformer | None = opt("A component before and behind the predictor.")
    explainer: Explainer | None = opt("A component that explains predictions.")
    canary: tuple[Canary, ...] | None = opt("More predictors, each with a share of the traffic.")


class InferenceService(meta.Object):
    """A model and the endpoint it shall have (KServe, serving.kserve.io/v1beta1)."""

    kind: Literal["InferenceService"] = req("InferenceService.")
    spec: ServiceSpec = req("What shall be served.")


class Implementation(enum.StrEnum):
    """How a predictor is written."""

    MODEL = "model"
    CONTAINER = "container"


@dataclasses.dataclass(frozen=True, slots=True)
class Effective:
    """A service with every default applied; what the planner and the backends read.

    ``path`` is where the serving block stands in the spec, for messages. For ``Implementation.CONTAINER`` the format
    is empty and ``container`` is the one that serves; ``storage_uri`` then comes from the variable STORAGE_URI.
    ``env`` holds literal values only (``honour`` refuses the others). ``max_replicas`` is never below ``min_replicas``;
    both are 0 when the service is stopped. ``timeout`` is in seconds; ``container_concurrency`` 0 is no limit.
    """

    namespace: str
    name: str
    implementation: Implementation
    path: tuple[str | int, ...]
    model_format: str
    format_version: str
    protocol_version: str
    storage_uri: str
    runtime: str
    runtime_version: str
    command: tuple[str, ...]
    args: tuple[str, ...]
    env: Mapping[str, str]
    working_dir: str
    resources: container.Resources
    min_replicas: int
    max_replicas: int
    timeout: int
    container_concurrency: int
    grace_seconds: int | None
    batcher: component.Batcher | None
    container: container.Container | None
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    stopped: bool


def effective(service: InferenceService) -> Effective:
    """The resolved view of a service that passed ``check``. The service itself is not changed."""
    predictor = service.spec.predictor
    block_name, block = next(predictor.blocks(), ("", None))
    index, custom = _serving(predictor) if block is None else (0, None)
    body: container.ContainerFields = block or custom or container.ContainerFields()
    model = block if isinstance(block, ModelSpec) else None
    env = {variable.name: variable.value or "" for variable in body.env or () if variable.value_from is None}
    stopped = service.annotations.get(STOP, "").lower() == "true"
    least, most = (0, 0) if stopped else _replicas(predictor)
    return Effective(
        namespace=service.namespace,
        name=service.name,
        implementation=Implementation.CONTAINER if block is None else Implementation.MODEL,
        path=("spec", "predictor", block_name) if block else ("spec", "predictor", "containers", index),
        model_format=_format(block_name, model),
        format_version=(model.model_format.version or "") if model and model.model_format else "",
        protocol_version=_protocol(block_name, block),
        storage_uri=(block.storage_uri or "") if block else env.get("STORAGE_URI", ""),
        runtime=(model.runtime or "") if model else "",
        runtime_version=(block.runtime_version or "") if block else "",
        command=body.command or (),
        args=body.args or (),
        env=env,
        working_dir=body.working_dir or "",
        resources=body.resources or container.Resources(),
        min_replicas=least,
        max_replicas=most,
        timeout=DEFAULT_TIMEOUT_SECONDS if predictor.timeout is None else predictor.timeout,
        container_concurrency=min(predictor.container_concurrency or 0, MAX_CONCURRENCY),
        grace_seconds=predictor.termination_grace_period_seconds,
        batcher=predictor.batcher,
        container=custom,
        labels={**service.labels, **(predictor.labels or {})},
        annotations={**service.annotations, **(predictor.annotations or {})},
        stopped=stopped,
    )


def _serving(predictor: Predictor) -> tuple[int, container.Container | None]:
    """KServe: the container named kserve-container, else the first."""
    containers = predictor.containers or ()
    for index, found in enumerate(containers):
        if found.name == SERVING_CONTAINER:
            return index, found
    return 0, containers[0] if containers else None


def _replicas(predictor: Predictor) -> tuple[int, int]:
    least = DEFAULT_REPLICAS if predictor.min_replicas is None else predictor.min_replicas
    return least, max(least, predictor.max_replicas or 0)


def _format(block_name: str, model: ModelSpec | None) -> str:
    if model is None:
        return block_name
    return model.model_format.name if model.model_format else ""


def _protocol(block_name: str, block: PredictorExtension | None) -> str:
    if block is None:
        return "v1"
    if block.protocol_version:
        return block.protocol_version
    if isinstance(block, ModelSpec):
        return "v2" if _format("", block) in _V2_FORMATS or block.runtime in _V2_RUNTIMES else "v1"
    return "v2" if block_name in _V2_BLOCKS else "v1"
