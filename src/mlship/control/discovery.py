"""What the control API says of itself: version, groups and resources, so that kubectl and SDKs find their way.

Shapes: Kubernetes' discovery documents (APIGroupList, APIResourceList).
"""

from __future__ import annotations

import platform
import sys
from typing import Any

import mlship
from mlship.control import resources

# The Kubernetes release whose API conventions are followed; clients compare it, nothing else depends on it.
_MAJOR, _MINOR = "1", "31"
_VERBS = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]


def version() -> dict[str, str]:
    """``GET /version``."""
    return {
        "major": _MAJOR,
        "minor": _MINOR,
        "gitVersion": f"v{_MAJOR}.{_MINOR}.0+mlship-{mlship.__version__}",
        "gitCommit": "",
        "gitTreeState": "",
        "buildDate": "",
        "goVersion": "",
        "compiler": sys.implementation.name,
        "platform": f"{sys.platform}/{platform.machine()}",
    }


def core_versions() -> dict[str, Any]:
    """``GET /api``."""
    return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}


def core_resources() -> dict[str, Any]:
    """``GET /api/v1``: of the core kinds only namespaces are known, and those are only names."""
    namespaces = {
        "name": "namespaces",
        "singularName": "namespace",
        "namespaced": False,
        "kind": "Namespace",
        "verbs": ["get", "list"],
        "shortNames": ["ns"],
    }
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "v1", "resources": [namespaces]}


def groups(catalog: resources.Catalog) -> dict[str, Any]:
    """``GET /apis``."""
    return {
        "kind": "APIGroupList",
        "apiVersion": "v1",
        "groups": [_group(group, versions) for group, versions in catalog.versions().items()],
    }


def group(catalog: resources.Catalog, name: str) -> dict[str, Any] | None:
    """``GET /apis/GROUP``; None when it is not served."""
    versions = catalog.versions().get(name)
    return None if versions is None else {"kind": "APIGroup", "apiVersion": "v1", **_group(name, versions)}


def group_resources(catalog: resources.Catalog, name: str, api_version: str) -> dict[str, Any] | None:
    """``GET /apis/GROUP/VERSION``; None when it is not served."""
    found = [one for one in catalog.all if (one.group, one.version) == (name, api_version)]
    if not found:
        return None
    listed = [entry for one in found for entry in (_resource(one), _status(one))]
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": f"{name}/{api_version}",
        "resources": listed,
    }


def namespace(name: str) -> dict[str, Any]:
    """A namespace as an object."""
    return {"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": name}, "status": {"phase": "Active"}}


def _group(name: str, versions: list[str]) -> dict[str, Any]:
    listed = [{"groupVersion": f"{name}/{one}", "version": one} for one in versions]
    return {"name": name, "versions": listed, "preferredVersion": listed[0]}


def _resource(one: resources.Resource) -> dict[str, Any]:
    return {
        "name": one.plural,
        "singularName": one.singular,
        "namespaced": one.namespaced,
        "group": one.group,
        "version": one.version,
        "kind": one.kind,
        "verbs": _VERBS,
        "shortNames": list(one.short_names),
        # A kind that is only refused by name has no objects that anybody could ask for.
        **({"categories": [resources.ALL]} if one.served else {}),
    }


def _status(one: resources.Resource) -> dict[str, Any]:
    return {
        "name": f"{one.plural}/status",
        "singularName": "",
        "namespaced": one.namespaced,
        "kind": one.kind,
        "verbs": ["get", "patch", "update"],
    }
