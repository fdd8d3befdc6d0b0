"""The rules of containers that the types cannot say: names, variables, ports, mounts, resources.

Kubernetes checks these when it makes the pod, KServe refuses a few more; here they are said before anything starts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from mlship.api import container, problems, quantity
from mlship.api.problems import Path, Problem

MAX_PORT = 65535

_ENV_NAME = re.compile(r"[-._a-zA-Z][-._a-zA-Z0-9]*")
# KServe refuses it for every container: it changes which code the server runs.
_BLOCKED_ENV = frozenset({"PYTHONPATH"})
_COMPONENTS = frozenset({"predictor", "transformer", "explainer", "canary"})
_HELPERS = frozenset({"initContainers", "workerSpec"})
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")


def check_pod(pod: container.PodSpec, path: Path) -> Iterator[Problem]:
    """Every container of a pod, and their names."""
    for field, found in (("containers", pod.containers), ("initContainers", pod.init_containers)):
        yield from check_containers(found or (), (*path, field))


def check_containers(containers: Sequence[container.Container], path: Path) -> Iterator[Problem]:
    """A list of containers: unique, valid names, and each by itself."""
    yield from doubles([found.name for found in containers], path, "name", "container name")
    for index, found in enumerate(containers):
        here = (*path, index)
        if not _LABEL.fullmatch(found.name) or len(found.name) > 63:
            yield problems.refuse(
                (*here, "name"),
                f"{problems.cap(found.name, 80)!r} is not a valid container name: lower case letters, digits and -",
                "the one that serves is called kserve-container",
            )
        yield from check_body(found, here)


def check_body(body: container.ContainerFields, path: Path) -> Iterator[Problem]:
    """What a container holds, whether it stands in a list or is inlined into a model block."""
    yield from _env(body.env or (), (*path, "env"))
    yield from _ports(body.ports or (), (*path, "ports"))
    yield from _probes(body, path)
    mounts = [mount.mount_path for mount in body.volume_mounts or ()]
    yield from doubles(mounts, (*path, "volumeMounts"), "mountPath", "mount path")
    if body.resources is not None:
        yield from check_resources(body.resources, (*path, "resources"))


def _probes(body: container.ContainerFields, path: Path) -> Iterator[Problem]:
    """A port for every probe by network. Of serving containers Knative fills it in, so KServe lets it be left out."""
    serving = path[:1] == ("spec",) and path[1] in _COMPONENTS and not _HELPERS.intersection(path)
    for name, alias in (
        ("readiness_probe", "readinessProbe"),
        ("liveness_probe", "livenessProbe"),
        ("startup_probe", "startupProbe"),
    ):
        probe: container.Probe | None = getattr(body, name)
        if probe is None or (serving and name != "startup_probe"):
            continue
        if probe.http_get is not None and probe.http_get.port is None:
            yield problems.refuse((*path, alias, "httpGet", "port"), "required field is missing")
        if probe.tcp_socket is not None and probe.tcp_socket.port is None:
            yield problems.refuse((*path, alias, "tcpSocket", "port"), "required field is missing")


def check_resources(resources: container.Resources, path: Path) -> Iterator[Problem]:
    """Quantities that are not negative, and requests within their limits."""
    for field, amounts in (("requests", resources.requests), ("limits", resources.limits)):
        for name, amount in (amounts or {}).items():
            if quantity.number(amount) < 0:
                yield problems.refuse((*path, field, name), f"{amount} is negative")
    limits = resources.limits or {}
    for name, amount in (resources.requests or {}).items():
        if name in limits and quantity.number(amount) > quantity.number(limits[name]):
            yield problems.refuse(
                (*path, "requests", name), f"{amount} is more than the limit of {limits[name]}", "raise the limit"
            )


def doubles(names: Sequence[str], path: Path, field: str, what: str) -> Iterator[Problem]:
    """A problem for every name that was there before."""
    seen: dict[str, int] = {}
    for index, name in enumerate(names):
        if name in seen:
            reason = f"the {what} {problems.cap(name, 60)} is already used by {problems.show_path((*path, seen[name]))}"
            yield problems.refuse((*path, index, field), reason)
        seen.setdefault(name, index)


def _env(env: Sequence[container.EnvVar], path: Path) -> Iterator[Problem]:
    yield from doubles([variable.name for variable in env], path, "name", "variable")
    for index, variable in enumerate(env):
        here = (*path, index)
        if not _ENV_NAME.fullmatch(variable.name):
            yield problems.refuse(
                (*here, "name"),
                f"{problems.cap(variable.name, 60)!r} is not a valid variable name: letters, digits, _, - and .",
            )
        if variable.name in _BLOCKED_ENV:
            yield problems.refuse(
                (*here, "name"), f"{variable.name} may not be set: it changes which code the server runs", "remove it"
            )
        yield from _value_from(variable, here)


def _value_from(variable: container.EnvVar, path: Path) -> Iterator[Problem]:
    if variable.value_from is None:
        return
    if variable.value:
        yield problems.refuse(path, f"{variable.name} has a value and a valueFrom", "keep one")
    if len(variable.value_from) != 1:
        yield problems.refuse((*path, "valueFrom"), f"has {len(variable.value_from)} sources", "give exactly one")


def _ports(ports: Sequence[container.Port], path: Path) -> Iterator[Problem]:
    keys = [f"{port.container_port}/{port.protocol or 'TCP'}" for port in ports]
    yield from doubles(keys, path, "containerPort", "port")
    for index, port in enumerate(ports):
        if not 1 <= port.container_port <= MAX_PORT:
            yield problems.refuse((*path, index, "containerPort"), f"{port.container_port} is not in 1 to {MAX_PORT}")
        if port.protocol not in (None, "TCP", "UDP", "SCTP"):
            reason = f"{problems.cap(port.protocol, 40)} is not one of TCP, UDP or SCTP"
            yield problems.refuse((*path, index, "protocol"), reason, "write TCP, or leave it out")
