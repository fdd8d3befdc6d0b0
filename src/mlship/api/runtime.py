"""ServingRuntime and ClusterServingRuntime: which program serves which model format.

A runtime lists formats, protocols and a container. On Kubernetes the container's image counts; the local backend runs
its ``command``. ``builtin`` are mlship's own, present without being applied; ``select`` chooses among all of them.
Arguments are Go templates over the service's metadata, rendered by ``render_args``.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import pydantic

from mlship import errors
from mlship.api import container, fields, meta, problems, shapes
from mlship.api.fields import Bool, Int, Int32, Str, StrMap, opt, req

BUILTIN_LABEL = "mlship.dev/builtin"
COMMAND = ("python", "-m", "mlship.server.main")
MODEL_DIR = "/mnt/models"

# name -> (format, versions). Versions are compared literally (KServe), so each that loads is listed.
_BUILTIN: dict[str, tuple[str, tuple[str, ...]]] = {
    "mlship-sklearn": ("sklearn", ("1", "0")),
    "mlship-xgboost": ("xgboost", ("3", "2", "1")),
    "mlship-lightgbm": ("lightgbm", ("4", "3")),
    "mlship-catboost": ("catboost", ("1",)),
    "mlship-onnx": ("onnx", ("1",)),
    "mlship-python": ("python", ("1",)),
}

# KServe's built-in runtimes, with those of their formats that a runtime of ours serves instead.
KSERVE_BUILTIN: dict[str, tuple[str, ...]] = {
    "kserve-sklearnserver": ("sklearn",),
    "kserve-xgbserver": ("xgboost",),
    "kserve-lgbserver": ("lightgbm",),
    "kserve-mlserver": ("sklearn", "xgboost", "lightgbm"),
    "kserve-predictiveserver": ("sklearn", "xgboost", "lightgbm"),
    "kserve-tritonserver": ("onnx",),
    "kserve-openvino": ("onnx",),
    "kserve-autogluonserver": (),
    "kserve-pmmlserver": (),
    "kserve-paddleserver": (),
    "kserve-tensorflow-serving": (),
    "kserve-torchserve": (),
    "kserve-huggingfaceserver": (),
    "kserve-huggingfaceserver-multinode": (),
    "kserve-vllmserver": (),
}

_TEMPLATE = re.compile(r"\{\{-?\s*(.*?)\s*-?\}\}")
_FIELD = re.compile(r"\.(Name|Namespace)|\.(Labels|Annotations)\.([A-Za-z0-9_]+)")
_INDEX = re.compile(r'index\s+\.(Labels|Annotations)\s+"([^"]+)"')


class SupportedModelFormat(fields.Spec):
    """A format a runtime serves."""

    name: Str = req("Format.")
    version: Str | None = opt("Version of the format.")
    auto_select: Bool | None = opt("Whether a model without a named runtime may get this one.")
    priority: Annotated[Int32, pydantic.Field(ge=1)] | None = opt("Higher is chosen first.")


class StorageHelper(fields.Spec):
    """ModelMesh's downloader."""

    disabled: Bool | None = opt("Whether it is off.")


class BuiltInAdapter(fields.Spec):
    """ModelMesh's adapter."""

    server_type: Str | None = opt("Server type.")
    runtime_management_port: Int | None = opt("Management port.")
    mem_buffer_bytes: Int | None = opt("Memory kept free.")
    model_loading_timeout_millis: Int | None = opt("Loading timeout.")
    env: tuple[container.EnvVar, ...] | None = opt("Environment variables.")


class RuntimePod(fields.Spec):
    """The pod fields a runtime may set."""

    containers: tuple[container.Container, ...] = req("Containers; the first, or kserve-container, serves.")
    volumes: tuple[Annotated[container.Raw, shapes.Shape("Volume")], ...] | None = opt("Volumes.")
    node_selector: StrMap | None = opt("Labels of the nodes that may run it.")
    affinity: Annotated[container.Raw, shapes.Shape("Affinity")] | None = opt("Preferences for nodes.")
    tolerations: tuple[Annotated[container.Raw, shapes.Shape("Toleration")], ...] | None = opt("Tolerated taints.")
    labels: StrMap | None = opt("Labels of the replicas.")
    annotations: StrMap | None = opt("Annotations of the replicas.")
    image_pull_secrets: tuple[Annotated[container.Raw, shapes.Shape("SecretRef")], ...] | None = opt("Secrets.")
    host_ipc: Bool | None = opt("Share the node's IPC.", alias="hostIPC")
    scheduler_name: Str | None = opt("Scheduler.")
    resource_claims: tuple[Annotated[container.Raw, shapes.Shape("PodClaim")], ...] | None = opt("Resource claims.")


class RuntimeWorker(RuntimePod):
    """Worker pods of a runtime that spans nodes."""

    pipeline_parallel_size: Int | None = opt("Nodes.")
    tensor_parallel_size: Int | None = opt("Accelerators per node.")


class RuntimeSpec(RuntimePod):
    """What a runtime serves and how it is started."""

    supported_model_formats: tuple[SupportedModelFormat, ...] | None = opt("Formats it serves.")
    protocol_versions: tuple[Str, ...] | None = opt("Protocols it speaks: v1, v2, grpc-v1, grpc-v2; v1 when absent.")
    disabled: Bool | None = opt("Never chosen when true.")
    multi_model: Bool | None = opt("Whether one replica serves many models (ModelMesh).")
    worker_spec: RuntimeWorker | None = opt("Worker pods.")
    grpc_endpoint: Str | None = opt("ModelMesh: management endpoint.")
    grpc_data_endpoint: Str | None = opt("ModelMesh: data endpoint.")
    http_data_endpoint: Str | None = opt("ModelMesh: HTTP data endpoint.")
    replicas: Int32 | None = opt("ModelMesh: replicas.")
    storage_helper: StorageHelper | None = opt("ModelMesh: downloader.")
    built_in_adapter: BuiltInAdapter | None = opt("ModelMesh: adapter.")

    def serving(self) -> container.Container | None:
        """The container that serves."""
        named = [found for found in self.containers if found.name == "kserve-container"]
        return next(iter(named or self.containers), None)


class ServingRuntime(meta.Object):
    """A program that serves model formats, for one namespace (KServe, serving.kserve.io/v1alpha1)."""

    kind: Literal["ServingRuntime"] = req("ServingRuntime.")
    spec: RuntimeSpec = req("What it serves and how it is started.")


class ClusterServingRuntime(meta.Object):
    """A program that serves model formats, for every namespace (KServe, serving.kserve.io/v1alpha1)."""

    kind: Literal["ClusterServingRuntime"] = req("ClusterServingRuntime.")
    spec: RuntimeSpec = req("What it serves and how it is started.")


Runtime = ServingRuntime | ClusterServingRuntime


@functools.cache
def builtin() -> tuple[ClusterServingRuntime, ...]:
    """mlship's own runtimes, one per adapter."""
    return tuple(_make(name, model_format, versions) for name, (model_format, versions) in _BUILTIN.items())


def is_builtin(runtime: Runtime) -> bool:
    """Whether the local backend starts this runtime as mlship's own model server."""
    return runtime.labels.get(BUILTIN_LABEL) == "true"


def alias(name: str, model_format: str) -> str:
    """The runtime of ours that stands for one of KServe's built-in ones; empty when none does."""
    if model_format not in KSERVE_BUILTIN.get(name, ()):
        return ""
    return next(own for own, (served, _) in _BUILTIN.items() if served == model_format)


def render_args(
    args: Sequence[str], *, name: str, namespace: str, labels: Mapping[str, str], annotations: Mapping[str, str]
) -> tuple[str, ...]:
    """Arguments with ``{{.Name}}``, ``{{.Namespace}}``, ``{{.Labels.x}}`` and ``{{.Annotations.x}}`` filled in.

    Raises ``errors.SpecError`` for a label that is not there and for templates beyond these.
    """
    maps = {"Labels": labels, "Annotations": annotations}

    def replace(match: re.Match[str]) -> str:
        kind, key = _reference(match)
        if kind not in maps:
            return name if kind == "Name" else namespace
        if key not in maps[kind]:
            raise errors.SpecError(
                f"A runtime argument needs metadata.{kind.lower()}.{key}, and {namespace}/{name} has none.",
                hint=f"Add it to the service's metadata.{kind.lower()}.",
            )
        return maps[kind][key]

    return tuple(_TEMPLATE.sub(replace, arg) for arg in args)


def check_template(arg: str) -> None:
    """Raises ``errors.SpecError`` when an argument holds a template that cannot be rendered for any service."""
    for match in _TEMPLATE.finditer(arg):
        _reference(match)


def _reference(match: re.Match[str]) -> tuple[str, str]:
    """What a template refers to: (Name, ""), (Namespace, ""), (Labels, key) or (Annotations, key)."""
    if found := _FIELD.fullmatch(match[1]):
        return found[1] or found[2], found[3] or ""
    if found := _INDEX.fullmatch(match[1]):
        return found[1], found[2]
    raise errors.SpecError(
        f"The template {problems.cap(match[0], 60)} of a runtime argument is not supported.",
        hint="Use {{.Name}}, {{.Namespace}}, {{.Labels.x}} or {{.Annotations.x}}.",
    )


def _make(name: str, model_format: str, versions: Sequence[str]) -> ClusterServingRuntime:
    formats: list[dict[str, Any]] = [
        {"name": model_format, "version": version, "autoSelect": True, "priority": 1} for version in versions
    ]
    return ClusterServingRuntime.model_validate(
        {
            "apiVersion": "serving.kserve.io/v1alpha1",
            "kind": "ClusterServingRuntime",
            "metadata": {"name": name, "labels": {BUILTIN_LABEL: "true"}},
            "spec": {
                "supportedModelFormats": formats,
                "protocolVersions": ["v1", "v2", "grpc-v2"],
                "containers": [
                    {
                        "name": "kserve-container",
                        "command": list(COMMAND),
                        "args": [
                            "--model-name={{.Name}}",
                            f"--model-path={MODEL_DIR}",
                            f"--model-format={model_format}",
                        ],
                    }
                ],
            },
        }
    )
