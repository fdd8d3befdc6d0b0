"""What a valid object asks for that this version cannot do on one machine, and what works instead.

The last judgement before an object is stored: ``apply`` refuses on ``refusals`` and shows ``notices``. Nothing that
a user wrote may be without effect in silence, so every field of a service is either honoured, refused here, or
noticed here. The tables live in ``honour_tables``; the conformance page is made of these answers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mlship import errors
from mlship.api import (
    autoscaling,
    check_scale,
    check_storage,
    component,
    container,
    honour_scale,
    honour_tables,
    kinds,
    meta,
    problems,
    runtime,
    scaledobject,
    select,
    service,
)
from mlship.api.problems import Path, Problem

FETCHED = ("", "file", "http", "https", "pvc")
_IMAGE_AND_COMMAND = "images are not run on this machine: the command runs as a process"
_PREDICTOR: Path = ("spec", "predictor")


def judge(
    found: meta.Object,
    *,
    namespaced: Sequence[runtime.ServingRuntime] = (),
    cluster: Sequence[runtime.ClusterServingRuntime] | None = None,
) -> tuple[Problem, ...]:
    """Refusals and notices of a valid object.

    Args:
        found: an object that passed ``check``.
        namespaced: the ServingRuntimes of its namespace.
        cluster: every ClusterServingRuntime, ``runtime.builtin()`` among them. None: the runtimes are not known, and
            whether one fits is not judged; ``select`` will say it.
    """
    entry = kinds.KINDS.get(found.kind)
    if entry is None or entry.stance is not kinds.Stance.SERVED:
        return (problems.refuse(("kind",), f"{found.kind}: {entry.reason}", entry.instead),) if entry else ()
    if isinstance(found, service.InferenceService):
        return (*_service(found), *(_runtime_choice(found, namespaced, cluster) if cluster is not None else ()))
    if isinstance(found, runtime.ServingRuntime | runtime.ClusterServingRuntime):
        return tuple(_runtime(found))
    if isinstance(found, scaledobject.ScaledObject):
        return tuple(honour_scale.judge_scaled_object(found))
    return ()


def refusals(
    found: meta.Object,
    *,
    namespaced: Sequence[runtime.ServingRuntime] = (),
    cluster: Sequence[runtime.ClusterServingRuntime] | None = None,
) -> tuple[Problem, ...]:
    """What cannot be honoured: such an object must not be accepted. Arguments as in ``judge``."""
    judged = judge(found, namespaced=namespaced, cluster=cluster)
    return tuple(problem for problem in judged if problem.severity is problems.Severity.REFUSE)


def notices(
    found: meta.Object,
    *,
    namespaced: Sequence[runtime.ServingRuntime] = (),
    cluster: Sequence[runtime.ClusterServingRuntime] | None = None,
) -> tuple[Problem, ...]:
    """What is accepted and has no, or another, effect here: to be shown. Arguments as in ``judge``."""
    judged = judge(found, namespaced=namespaced, cluster=cluster)
    return tuple(problem for problem in judged if problem.severity is problems.Severity.NOTICE)


def _service(found: service.InferenceService) -> Iterator[Problem]:
    spec = found.spec
    yield from _annotations(found)
    yield from _server_only(found)
    for name in ("transformer", "explainer", "canary"):
        if getattr(spec, name) is not None:
            yield problems.refuse(("spec", name), *honour_tables.PARTS[name])
    yield from _component(spec.predictor, _PREDICTOR)
    yield from honour_scale.judge_component(spec.predictor, _PREDICTOR, found.annotations)
    yield from _pod(spec.predictor, _PREDICTOR)
    if next(spec.predictor.blocks(), None) is not None:
        yield from _model(found)
    else:
        yield from _custom(spec.predictor)
        yield from honour_scale.judge_own_program(spec.predictor, _PREDICTOR, found.annotations)


def _server_only(found: service.InferenceService) -> Iterator[Problem]:
    if not found.spec.predictor.containers:
        return
    for name in (service.ACCELERATE, service.WARMUP):
        if found.annotations.get(name, "off") != "off":
            path: Path = ("metadata", "annotations", name)
            yield problems.notice(path, "has no effect on a container of your own: it is for mlship's model server")


def _annotations(found: service.InferenceService) -> Iterator[Problem]:
    for key, value in found.annotations.items():
        path: Path = ("metadata", "annotations", key)
        if key == check_scale.MODE and value == "ModelMesh":
            yield problems.refuse(path, "ModelMesh is not done by this version", "remove the annotation")
        elif key == check_scale.MODE and check_scale.mode(found.annotations) == "Knative":
            yield problems.notice(path, "on this machine there is no Knative: replicas are processes")
        else:
            yield from _annotation(key, path)
    for key in found.spec.predictor.annotations or {}:
        if key.startswith((autoscaling.KNATIVE, autoscaling.OWN)):
            yield from _annotation(key, (*_PREDICTOR, "annotations", key))
    if "networking.kserve.io/visibility" in found.labels:
        where: Path = ("metadata", "labels", "networking.kserve.io/visibility")
        yield problems.notice(where, "has no effect: the gateway listens on the loopback address unless told otherwise")
    if found.status:
        yield problems.notice(("status",), "is written by mlship; what is given here is not used")


def _annotation(key: str, path: Path) -> Iterator[Problem]:
    """What an annotation that is not honoured is told."""
    if key in honour_tables.ANNOTATIONS:
        yield problems.notice(path, honour_tables.ANNOTATIONS[key])
    elif key not in honour_tables.HONOURED_ANNOTATIONS and key.startswith(honour_tables.OUR_PREFIXES):
        hint = problems.did_you_mean(key, [*honour_tables.ANNOTATIONS, *honour_tables.HONOURED_ANNOTATIONS])
        yield problems.notice(path, "is not known to this version and has no effect", hint)
    elif key.startswith(honour_tables.KNATIVE_PREFIXES):
        yield problems.notice(path, "is for Knative and has no effect on this machine")


def _component(part: component.Component, path: Path) -> Iterator[Problem]:
    for name, (reason, hint) in honour_tables.COMPONENT_REFUSED.items():
        if getattr(part, name) is not None:
            yield problems.refuse((*path, _alias(part, name)), reason, hint)
    for name, reason in honour_tables.COMPONENT_NOTICED.items():
        if getattr(part, name) is not None:
            yield problems.notice((*path, _alias(part, name)), reason)


def _pod(part: container.PodSpec, path: Path) -> Iterator[Problem]:
    for name, (reason, hint) in honour_tables.POD_REFUSED.items():
        if getattr(part, name) is not None:
            yield problems.refuse((*path, _alias(part, name)), reason, hint)
    for name, reason in honour_tables.POD_NOTICED.items():
        if getattr(part, name) is not None:
            yield problems.notice((*path, _alias(part, name)), reason)
    if part.resources is not None:
        yield from _resources(part.resources, (*path, "resources"))


def _model(found: service.InferenceService) -> Iterator[Problem]:
    name, block = next(found.spec.predictor.blocks())
    path = (*_PREDICTOR, name)
    if block.storage_uri is not None:
        yield from _uri(block.storage_uri, (*path, "storageUri"))
    elif block.storage is None and found.spec.predictor.storage_uris is None:
        hint = "write storageUri: a path, file://, http(s):// or pvc://"
        yield problems.refuse((*path, "storageUri"), "there is no model to load", hint)
    for field, (reason, hint) in honour_tables.BLOCK_REFUSED.items():
        if getattr(block, field) is not None:
            yield problems.refuse((*path, _alias(block, field)), reason, hint)
    if block.image is not None:
        yield problems.notice((*path, "image"), "images are not run on this machine: the runtime's own program serves")
    if block.runtime_version is not None:
        reason = "chooses an image; on this machine the installed library serves"
        yield problems.notice((*path, "runtimeVersion"), reason)
    yield from _body(block, path)
    yield from _resources(block.resources or container.Resources(), (*path, "resources"))
    for name, reason in honour_tables.PROBES_NOTICED.items():
        if getattr(block, name) is not None:
            yield problems.notice((*path, _alias(block, name)), reason)
    for index, helper in enumerate(found.spec.predictor.containers or ()):
        reason = f"the container {problems.cap(helper.name, 60)} beside the model is not run by this version"
        yield problems.refuse((*_PREDICTOR, "containers", index), reason, "remove it")


def _runtime_choice(
    found: service.InferenceService,
    namespaced: Sequence[runtime.ServingRuntime],
    cluster: Sequence[runtime.ClusterServingRuntime],
) -> Iterator[Problem]:
    wanted = service.effective(found)
    if wanted.implementation is service.Implementation.CONTAINER:
        return
    try:
        chosen = select.select(wanted, namespaced=namespaced, cluster=cluster)
    except errors.SpecError as error:
        field: Path = ("runtime",) if wanted.runtime else ()
        if not field and wanted.path[-1] == "model":
            field = ("modelFormat",)
        yield problems.refuse((*wanted.path, *field), *problems.said(error))
        return
    if wanted.command or not runtime.is_builtin(chosen.runtime):
        if wanted.batcher is not None:
            yield problems.refuse((*_PREDICTOR, "batcher"), *honour_tables.NO_BATCHER)
        yield from honour_scale.judge_own_program(found.spec.predictor, _PREDICTOR, found.annotations)


def _custom(predictor: service.Predictor) -> Iterator[Problem]:
    if predictor.batcher is not None:
        yield problems.refuse((*_PREDICTOR, "batcher"), *honour_tables.NO_BATCHER)
    containers = predictor.containers or ()
    serving = next((one for one in containers if one.name == service.SERVING_CONTAINER), containers[0])
    for index, found in enumerate(containers):
        path = (*_PREDICTOR, "containers", index)
        if found is not serving:
            reason = f"the container {problems.cap(found.name, 60)} beside {serving.name} is not run by this version"
            yield problems.refuse(path, reason, "remove it")
            continue
        if not found.command:
            reason = "a container without a command cannot run on this machine: images are not run"
            yield problems.refuse((*path, "command"), reason, 'write the program, for example ["python", "serve.py"]')
        elif found.image is not None:
            yield problems.notice((*path, "image"), _IMAGE_AND_COMMAND)
        uri = next((one.value for one in found.env or () if one.name == "STORAGE_URI" and one.value), "")
        if uri:
            yield from _uri(uri, (*path, "env"))
        yield from _body(found, path)
        yield from _resources(found.resources or container.Resources(), (*path, "resources"))


def _body(body: container.ContainerFields, path: Path) -> Iterator[Problem]:
    for index, variable in enumerate(body.env or ()):
        if variable.value_from is not None:
            reason = f"{problems.cap(variable.name, 60)} comes from a cluster object, and there is no cluster"
            yield problems.refuse((*path, "env", index, "valueFrom"), reason, "write value")
    for name, (reason, hint) in honour_tables.CONTAINER_REFUSED.items():
        if getattr(body, name) is not None:
            yield problems.refuse((*path, _alias(body, name)), reason, hint)
    for name, reason in honour_tables.CONTAINER_NOTICED.items():
        if getattr(body, name) is not None:
            yield problems.notice((*path, _alias(body, name)), reason)


def _resources(resources: container.Resources, path: Path) -> Iterator[Problem]:
    for field, amounts in (("requests", resources.requests), ("limits", resources.limits)):
        for name, amount in (amounts or {}).items():
            where = (*path, field, name)
            if name in honour_tables.RESOURCES_NOTICED:
                yield problems.notice(where, honour_tables.RESOURCES_NOTICED[name])
            elif "/" in name and str(amount) not in ("0", "0.0"):
                hint = "remove it; the model runs on the processor" if "gpu" in name else "remove it"
                yield problems.refuse(where, f"{problems.cap(name, 60)} is not given out by the local backend", hint)
            elif "/" not in name:
                yield problems.notice(where, "has no effect on this machine")
    if resources.claims is not None:
        yield problems.refuse((*path, "claims"), "there are no resource claims on this machine", "remove it")


def _uri(uri: str, path: Path) -> Iterator[Problem]:
    scheme = check_storage.scheme_of(uri)
    if not scheme and not uri.startswith("/"):
        hint = "write the absolute path; mlship deploy takes relative ones"
        yield problems.refuse(path, "is relative, and the control plane is in no folder of yours", hint)
    elif scheme not in FETCHED:
        hint = "copy the model to a path, file://, http(s):// or pvc://"
        yield problems.refuse(path, f"{scheme}:// is not fetched by this version", hint)
    elif scheme == "https" and "blob.core.windows.net" in uri.split("/", 3)[2]:
        hint = "copy the model, or give the address of one file that needs no account"
        yield problems.notice(path, "is fetched as one plain file: Azure folders and accounts are not supported", hint)


def _runtime(found: runtime.Runtime) -> Iterator[Problem]:
    spec = found.spec
    yield from _runtime_name(found)
    if spec.multi_model:
        yield problems.refuse(("spec", "multiModel"), "multi-model serving is not done by this version", "remove it")
    if spec.worker_spec is not None:
        yield problems.refuse(("spec", "workerSpec"), *honour_tables.POD_REFUSED["worker_spec"])
    serving = spec.serving()
    for index, other in enumerate(spec.containers):
        path: Path = ("spec", "containers", index)
        if other is serving:
            yield from _runtime_container(found, other, path)
        else:
            yield problems.refuse(path, "a second container is not run by this version", "remove it")
    for name, reason in honour_tables.RUNTIME_NOTICED.items():
        if getattr(spec, name) is not None:
            yield problems.notice(("spec", _alias(spec, name)), reason)


def _runtime_name(found: runtime.Runtime) -> Iterator[Problem]:
    if any(found.name == own.name for own in runtime.builtin()):
        yield problems.refuse(("metadata", "name"), f"{found.name} is mlship's own runtime", "choose another name")
    if isinstance(found, runtime.ClusterServingRuntime) and found.metadata.namespace:
        yield problems.notice(("metadata", "namespace"), "has no effect: it serves every namespace")


def _runtime_container(found: runtime.Runtime, serving: container.Container, path: Path) -> Iterator[Problem]:
    if serving.command:
        if serving.image is not None:
            yield problems.notice((*path, "image"), _IMAGE_AND_COMMAND)
    elif found.name in runtime.KSERVE_BUILTIN:
        reason = f"{found.name} is one of KServe's own runtimes, made of an image"
        hint = "there is nothing to apply: services that name it get one of mlship's own where there is one"
        yield problems.refuse(("metadata", "name"), reason, hint)
    else:
        reason = "has only an image, and images are not run on this machine"
        yield problems.refuse((*path, "command"), reason, "add the command of the program that serves")
    yield from _body(serving, path)
    if serving.resources is not None:
        judged = _resources(serving.resources, (*path, "resources"))
        yield from (problem for problem in judged if problem.severity is problems.Severity.REFUSE)
        yield problems.notice((*path, "resources"), "has no effect in a runtime: the resources of the service count")


def _alias(part: object, name: str) -> str:
    """The name of a field as users write it."""
    fields = getattr(type(part), "model_fields", {})
    return str(fields[name].alias or name) if name in fields else name
