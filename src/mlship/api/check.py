"""The rules across fields: what a schema cannot say. Pure; every problem of the object at once.

``load`` and ``parse`` run it on every object they type, so whoever holds a typed object from there knows that these
rules hold. They are KServe's (section 1.4 of its reference, inference_service_validation.go) and Kubernetes' own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from mlship.api import (
    check_container,
    check_kinds,
    check_scale,
    check_scaled,
    check_storage,
    extras,
    graph,
    kinds,
    meta,
    problems,
    runtime,
    scaledobject,
    service,
)
from mlship.api.problems import Path, Problem

_KEY_RESOURCE = re.compile(r"kbs:///[A-Za-z0-9_-]+/[A-Za-z0-9_-]+/[A-Za-z0-9_.-]+")
_NO_PARALLEL_ENV = ("PIPELINE_PARALLEL_SIZE", "TENSOR_PARALLEL_SIZE")
_TRANSFORMER_CONTAINER = "transformer-container"
_STABLE = "predictor"


def check(found: meta.Object) -> tuple[Problem, ...]:
    """Every broken rule of a typed object, in the order of its fields as far as they have one."""
    return tuple(_check(found))


def foreign(raw: Mapping[str, Any]) -> Iterator[Problem]:
    """Why a document of a known kind without a class is not an object of ours."""
    entry = kinds.KINDS.get(str(raw.get("kind")))
    if entry is not None and entry.model is None:
        yield problems.refuse(("kind",), f"{entry.kind} {entry.reason}", entry.instead)


def _check(found: meta.Object) -> Iterator[Problem]:
    named_as_host = isinstance(found, service.InferenceService | graph.InferenceGraph | extras.TrainedModel)
    yield from meta.check_meta(found.metadata, service=named_as_host)
    if isinstance(found, service.InferenceService):
        yield from _service(found)
    elif isinstance(found, runtime.ServingRuntime | runtime.ClusterServingRuntime):
        yield from check_kinds.check_runtime(found.spec)
    elif isinstance(found, graph.InferenceGraph):
        yield from check_kinds.check_graph(found.spec)
    elif isinstance(found, extras.TrainedModel):
        yield from check_kinds.check_trained_model(found.spec)
    elif isinstance(found, extras.ClusterStorageContainer):
        yield from check_kinds.check_storage_container(found.spec)
    elif isinstance(found, scaledobject.ScaledObject):
        yield from check_scaled.check_scaled_object(found)


def _service(found: service.InferenceService) -> Iterator[Problem]:
    annotations, spec = found.annotations, found.spec
    yield from check_scale.check_annotations(annotations)
    yield from _stop(annotations)
    yield from _accelerate(annotations)
    yield from _warmup(annotations)
    yield from _predictor(spec.predictor, ("spec", "predictor"), annotations)
    yield from _multi_node(spec.predictor, annotations)
    if spec.transformer is not None:
        yield from _containers_only(spec.transformer, ("spec", "transformer"), annotations)
    if spec.explainer is not None:
        yield from _explainer(spec.explainer, ("spec", "explainer"), annotations)
    if spec.canary is not None:
        yield from _canaries(spec, spec.canary, annotations)


def _stop(annotations: Mapping[str, str]) -> Iterator[Problem]:
    value = annotations.get(service.STOP)
    if value is not None and value.lower() not in ("true", "false"):
        path = ("metadata", "annotations", service.STOP)
        yield problems.refuse(path, f'{problems.cap(value, 40)!r} is not "true" or "false"')


def _accelerate(annotations: Mapping[str, str]) -> Iterator[Problem]:
    value = annotations.get(service.ACCELERATE)
    if value is not None and value not in service.ACCELERATE_MODES:
        path = ("metadata", "annotations", service.ACCELERATE)
        reason = f"{problems.cap(value, 40)!r} is not one of {problems.one_of(service.ACCELERATE_MODES)}"
        yield problems.refuse(path, reason, problems.did_you_mean(value, service.ACCELERATE_MODES))


def _warmup(annotations: Mapping[str, str]) -> Iterator[Problem]:
    value = annotations.get(service.WARMUP, "")
    path = ("metadata", "annotations", service.WARMUP)
    if value.lstrip().startswith(("{", "[")):
        try:
            json.loads(value)
        except ValueError as error:
            yield problems.refuse(path, f"is neither the path of a file nor JSON: {error}")
    elif service.WARMUP in annotations and not value.strip():
        yield problems.refuse(path, "is empty", "give a path in the model's folder, or the requests as JSON")


def _predictor(predictor: service.Predictor, path: Path, annotations: Mapping[str, str]) -> Iterator[Problem]:
    yield from _one_implementation(predictor, path)
    for name, block in predictor.blocks():
        yield from _block(block, (*path, name))
        yield from _storage_once(block.storage_uri, predictor, (*path, name))
    yield from check_container.check_pod(predictor, path)
    for index, found in enumerate(predictor.containers or ()):
        if found.name == _TRANSFORMER_CONTAINER and any(one.name == "STORAGE_URI" for one in found.env or ()):
            reason = "the model belongs to the predictor, not to the transformer container"
            yield problems.refuse((*path, "containers", index, "env"), reason, "remove STORAGE_URI")
    yield from check_storage.check_uris(predictor.storage_uris or (), (*path, "storageUris"))
    yield from check_scale.check_component(predictor, path, annotations)


def _one_implementation(predictor: service.Predictor, path: Path) -> Iterator[Problem]:
    """Exactly one. Beside a model block, containers are helpers unless one is called kserve-container."""
    given = [name for name, _ in predictor.blocks()]
    containers = predictor.containers or ()
    if any(found.name == service.SERVING_CONTAINER for found in containers) or (containers and not given):
        given.append("containers")
    if not given:
        hint = "add model with modelFormat and storageUri, or containers with a command"
        yield problems.refuse(path, "nothing is served: there is no model and no container", hint)
    elif len(given) > 1:
        together = ", ".join(given[:-1]) + f" and {given[-1]}"
        yield problems.refuse(path, f"{together} are given", "keep exactly one")


def _block(block: service.PredictorExtension, path: Path) -> Iterator[Problem]:
    if isinstance(block, service.ModelSpec):
        if block.model_format is None:
            hint = "write modelFormat: {name: sklearn}"
            yield problems.refuse((*path, "modelFormat"), "required field is missing", hint)
        elif not block.model_format.name.strip():
            yield problems.refuse((*path, "modelFormat", "name"), "is empty", "write for example sklearn")
    if block.name and path[1] == _STABLE:
        yield problems.refuse((*path, "name"), "a model has no container name", "remove it")
    if block.storage_uri is not None:
        yield from check_storage.check_uri(block.storage_uri, (*path, "storageUri"))
    if block.protocol_version is not None:
        yield from check_kinds.check_protocol(block.protocol_version, (*path, "protocolVersion"))
    yield from check_container.check_body(block, path)
    yield from _confidential(block, path)


def _confidential(block: service.PredictorExtension, path: Path) -> Iterator[Problem]:
    secret = block.confidential
    if secret is None or not secret.enabled:
        return
    if not block.storage_uri:
        yield problems.refuse((*path, "confidential"), "a confidential model needs a storageUri")
    if secret.resource_id and not _KEY_RESOURCE.fullmatch(secret.resource_id):
        yield problems.refuse((*path, "confidential", "resourceId"), "is not of the form kbs:///repo/type/tag")


def _storage_once(uri: str | None, part: service.Predictor, path: Path) -> Iterator[Problem]:
    if uri is not None and part.storage_uris is not None:
        yield problems.refuse((*path, "storageUri"), "storageUri and storageUris are both given", "keep one")


def _containers_only(
    part: service.Transformer | service.Explainer, path: Path, annotations: Mapping[str, str]
) -> Iterator[Problem]:
    if not part.containers and getattr(part, "art", None) is None:
        yield problems.refuse((*path, "containers"), "there is no container", "add one with the command that serves")
    yield from check_container.check_pod(part, path)
    yield from check_storage.check_uris(part.storage_uris or (), (*path, "storageUris"))
    yield from check_scale.check_component(part, path, annotations)


def _explainer(part: service.Explainer, path: Path, annotations: Mapping[str, str]) -> Iterator[Problem]:
    yield from _containers_only(part, path, annotations)
    if part.art is None:
        return
    if part.containers:
        yield problems.refuse(path, "art and containers are given", "keep exactly one")
    if part.art.storage_uri is not None:
        yield from check_storage.check_uri(part.art.storage_uri, (*path, "art", "storageUri"))
    yield from check_container.check_body(part.art, (*path, "art"))


def _multi_node(predictor: service.Predictor, annotations: Mapping[str, str]) -> Iterator[Problem]:
    worker, path = predictor.worker_spec, ("spec", "predictor", "workerSpec")
    if worker is None:
        return
    yield from check_container.check_pod(worker, path)
    if len(worker.containers or ()) > 1:
        yield problems.refuse((*path, "containers"), "a worker has at most one container")
    for name in ("pipeline_parallel_size", "tensor_parallel_size"):
        value = getattr(worker, name)
        if value is not None and value < 1:
            alias = service.WorkerSpec.model_fields[name].alias or name
            yield problems.refuse((*path, alias), f"{value} is not positive")
    if predictor.model is not None:
        yield from _multi_node_model(predictor.model, annotations)


def _multi_node_model(model: service.ModelSpec, annotations: Mapping[str, str]) -> Iterator[Problem]:
    path: Path = ("spec", "predictor", "model")
    for index, variable in enumerate(model.env or ()):
        if variable.name in _NO_PARALLEL_ENV:
            reason = f"{variable.name} is set by workerSpec"
            yield problems.refuse((*path, "env", index, "name"), reason, "set its size in workerSpec")
    if check_storage.scheme_of(model.storage_uri or "") not in ("pvc", "oci"):
        yield problems.refuse((*path, "storageUri"), "a model that spans nodes comes from pvc:// or oci://")
    if annotations.get(check_scale.AUTOSCALER) != "none":
        where: Path = ("metadata", "annotations", check_scale.AUTOSCALER)
        yield problems.refuse(where, "a model that spans nodes is not autoscaled", 'write "none"')


def _canaries(
    spec: service.ServiceSpec, canaries: tuple[service.Canary, ...], annotations: Mapping[str, str]
) -> Iterator[Problem]:
    path: Path = ("spec", "canary")
    if check_scale.mode(annotations) != "Standard":
        yield problems.refuse(path, f"needs the annotation {check_scale.MODE}: Standard")
    total = sum(found.traffic_percent for found in canaries)
    if total > 100:
        yield problems.refuse(path, f"the shares add up to {total}", "keep them at 100 or less")
    names = [spec.predictor.name or ""]
    for index, found in enumerate(canaries):
        here = (*path, index, "predictor")
        if not found.predictor.name:
            yield problems.refuse((*here, "name"), "required field is missing", "every canary has a name of its own")
        elif found.predictor.name in names:
            yield problems.refuse(
                (*here, "name"), f"{found.predictor.name} is already used", "every predictor has its own"
            )
        names.append(found.predictor.name or "")
        yield from _canary_fields(found.predictor, spec.predictor, here)
        yield from _predictor(found.predictor, here, annotations)


def _canary_fields(canary: service.Predictor, stable: service.Predictor, path: Path) -> Iterator[Problem]:
    for name in ("worker_spec", "max_replicas", "scale_target", "scale_metric", "auto_scaling"):
        if getattr(canary, name) is not None:
            alias = service.Predictor.model_fields[name].alias or name
            yield problems.refuse((*path, alias), "is not for a canary: it follows the stable predictor", "remove it")
    least = 1 if stable.min_replicas is None else stable.min_replicas
    if canary.min_replicas is not None and canary.min_replicas > least:
        reason = f"{canary.min_replicas} is more than the {least} of the stable predictor"
        yield problems.refuse((*path, "minReplicas"), reason)
