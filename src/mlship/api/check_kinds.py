"""The rules of the kinds beside InferenceService: runtimes, graphs, trained models, storage containers.

KServe's webhooks (servingruntime, inference_graph_validation.go, trained_model validation).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from mlship import errors
from mlship.api import check_container, check_storage, extras, graph, meta, problems, runtime, service
from mlship.api.problems import Path, Problem

ROOT = "root"


def check_runtime(spec: runtime.RuntimeSpec) -> Iterator[Problem]:
    """Containers, protocols, priorities and argument templates of a runtime."""
    if not spec.containers:
        yield problems.refuse(("spec", "containers"), "is empty", "give one container with the command that serves")
    yield from check_container.check_containers(spec.containers, ("spec", "containers"))
    for index, protocol in enumerate(spec.protocol_versions or ()):
        yield from check_protocol(protocol, ("spec", "protocolVersions", index))
    yield from _priorities(spec)
    for index, found in enumerate(spec.containers):
        for place, arg in enumerate(found.args or ()):
            yield from _template(arg, ("spec", "containers", index, "args", place))


def check_protocol(protocol: str, path: Path) -> Iterator[Problem]:
    """A protocol name."""
    if protocol not in service.PROTOCOLS:
        reason = f"{problems.cap(protocol, 40)!r} is not one of {problems.one_of(service.PROTOCOLS)}"
        yield problems.refuse(path, reason, problems.did_you_mean(protocol, service.PROTOCOLS))


def _priorities(spec: runtime.RuntimeSpec) -> Iterator[Problem]:
    known: dict[str, int] = {}
    for index, found in enumerate(spec.supported_model_formats or ()):
        if found.priority is None or not found.auto_select:
            continue
        first = known.setdefault(found.name, found.priority)
        if first != found.priority:
            reason = f"{found.name} has the priorities {first} and {found.priority} in one runtime"
            yield problems.refuse(("spec", "supportedModelFormats", index, "priority"), reason, "keep one")


def _template(arg: str, path: Path) -> Iterator[Problem]:
    try:
        runtime.check_template(arg)
    except errors.SpecError as error:
        yield problems.refuse(path, *problems.said(error))


def check_graph(spec: graph.GraphSpec) -> Iterator[Problem]:
    """A root, steps with one target each, weights that add up."""
    if ROOT not in spec.nodes:
        hint = problems.did_you_mean(ROOT, spec.nodes) or "name the node where requests enter root"
        yield problems.refuse(("spec", "nodes"), "there is no node called root", hint)
    for name, node in spec.nodes.items():
        steps = node.steps or ()
        path: Path = ("spec", "nodes", name, "steps")
        named = [step.name or f"\0{index}" for index, step in enumerate(steps)]
        yield from check_container.doubles(named, path, "name", "step name")
        for index, step in enumerate(steps):
            yield from _step(step, (*path, index), spec)
        if node.router_type == "Splitter":
            yield from _weights(steps, path)


def _step(step: graph.Step, path: Path, spec: graph.GraphSpec) -> Iterator[Problem]:
    targets = {"nodeName": step.node_name, "serviceName": step.service_name, "serviceUrl": step.service_url}
    given = [name for name, value in targets.items() if value]
    if len(given) != 1:
        said = f"has {problems.one_of(given).replace(' or ', ' and ')}" if given else "has no target"
        yield problems.refuse(path, said, "give exactly one of nodeName, serviceName or serviceUrl")
    if step.node_name and step.node_name not in spec.nodes:
        hint = problems.did_you_mean(step.node_name, spec.nodes)
        yield problems.refuse((*path, "nodeName"), f"there is no node {problems.cap(step.node_name, 60)}", hint)


def _weights(steps: tuple[graph.Step, ...], path: Path) -> Iterator[Problem]:
    without = [index for index, step in enumerate(steps) if step.weight is None]
    for index in without:
        yield problems.refuse((*path, index, "weight"), "is missing; a Splitter needs it in every step")
    total = sum(step.weight or 0 for step in steps)
    if not without and total != 100:
        yield problems.refuse(path, f"the weights add up to {total}", "make it 100")


def check_trained_model(spec: extras.TrainedModelSpec) -> Iterator[Problem]:
    """The parent's name and the URI of the model."""
    if not meta.SERVICE_NAME.fullmatch(spec.inference_service):
        reason = f"{problems.cap(spec.inference_service, 60)!r} is not the name of an InferenceService"
        yield problems.refuse(("spec", "inferenceService"), reason)
    yield from check_storage.check_uri(spec.model.storage_uri, ("spec", "model", "storageUri"))


def check_storage_container(spec: extras.StorageContainerSpec) -> Iterator[Problem]:
    """The container, and URI formats that are a prefix or a working expression."""
    yield from check_container.check_body(spec.container, ("spec", "container"))
    for index, found in enumerate(spec.supported_uri_formats):
        path: Path = ("spec", "supportedUriFormats", index)
        if bool(found.prefix) == bool(found.regex):
            yield problems.refuse(path, "needs a prefix or a regex", "give exactly one")
        try:
            re.compile(found.regex or "")
        except re.error as error:
            yield problems.refuse((*path, "regex"), f"is not a regular expression: {problems.cap(str(error))}")
