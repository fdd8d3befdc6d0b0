"""The folder Envoy watches. Every file is replaced by a rename, so that Envoy never reads half of one.

A resource's version is the hash of its content: writing the same again writes nothing, and Envoy's admin interface
answers with the same word when it has taken it over.
"""

from __future__ import annotations

import hashlib
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from mlship.gateway import render
from mlship.plan import observed

CLUSTERS = "clusters"
ROUTES = "routes"


def write(path: pathlib.Path, content: bytes) -> None:
    """Replace a file in one step. Raises OSError and leaves the old one when that fails."""
    temporary = path.with_name(path.name + ".tmp")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


class Folder:
    """``root/xds`` with rds.json, cds.json and endpoints/CLUSTER.json."""

    def __init__(self, root: pathlib.Path) -> None:
        self.xds = root / "xds"
        self.endpoints = self.xds / "endpoints"
        self._versions: dict[pathlib.Path, str] = {}
        self._clusters: dict[str, render.Resource] = {}

    def prepare(self) -> None:
        """Make the folders and read what is in force from an earlier run."""
        self.endpoints.mkdir(parents=True, exist_ok=True, mode=0o700)
        for path in [self.xds / "rds.json", self.xds / "cds.json", *self.endpoints.glob("*.json")]:
            if (content := _read(path)) is not None:
                self._versions[path] = content["version_info"]
                if path.name == "cds.json":
                    self._clusters = {cluster["name"]: cluster for cluster in content["resources"]}

    def clusters_in_use(self) -> Mapping[str, render.Resource]:
        """The clusters that were written last."""
        return self._clusters

    def read_applied(self) -> dict[observed.ServiceKey, frozenset[observed.Endpoint]]:
        """The endpoints in the files by service: what Envoy may be sending requests to."""
        by_revision: dict[tuple[str, str, str], dict[str, list[str]]] = {}
        for path in self.endpoints.glob("*.json"):
            content = _read(path)
            for assignment in content["resources"] if content else []:
                namespace, name, revision, protocol = assignment["cluster_name"].split("/")
                found = by_revision.setdefault((namespace, name, revision), {})
                found[protocol] = list(render.addresses(assignment))
        applied: dict[observed.ServiceKey, frozenset[observed.Endpoint]] = {}
        for (namespace, name, _), found in by_revision.items():
            key = observed.ServiceKey(namespace, name)
            http = found.get("http", [])
            grpc = found.get("grpc") or [""] * len(http)
            applied[key] = applied.get(key, frozenset()) | {
                observed.Endpoint(*pair) for pair in zip(http, grpc, strict=False)
            }
        return applied

    def write_endpoints(self, endpoints: Mapping[str, render.Resource]) -> dict[str, str]:
        """Write those that changed; returns their versions by cluster."""
        changed: dict[str, str] = {}
        for cluster, assignment in endpoints.items():
            version = self._put(self.endpoints / render.file_name(cluster), [assignment])
            if version is not None:
                changed[cluster] = version
        return changed

    def write_clusters(self, clusters: Mapping[str, render.Resource]) -> str | None:
        """Write the list of clusters; its version, or None when it is what lies there."""
        version = self._put(self.xds / "cds.json", [clusters[name] for name in sorted(clusters)])
        self._clusters = dict(clusters)
        return version

    def write_routes(self, resource: render.Resource) -> str | None:
        """Write the route configuration; its version, or None when it is what lies there."""
        return self._put(self.xds / "rds.json", [resource])

    def drop_endpoints(self, *, keep: Iterable[str]) -> None:
        """Remove the files of clusters that are gone."""
        kept = {render.file_name(cluster) for cluster in keep}
        for path in self.endpoints.glob("*.json"):
            if path.name not in kept:
                path.unlink(missing_ok=True)
                self._versions.pop(path, None)

    def _put(self, path: pathlib.Path, resources: list[render.Resource]) -> str | None:
        body = orjson.dumps(resources, option=orjson.OPT_SORT_KEYS)
        version = hashlib.sha256(body).hexdigest()[:16]
        if self._versions.get(path) == version:
            return None
        write(path, b'{"version_info":"%s","resources":%s}' % (version.encode(), body))
        self._versions[path] = version
        return version


def _read(path: pathlib.Path) -> dict[str, Any] | None:
    """A file's content; None when it is not there or not ours: it is then written anew."""
    try:
        content = orjson.loads(path.read_bytes())
    except (FileNotFoundError, orjson.JSONDecodeError):
        return None
    return content if isinstance(content, dict) and {"version_info", "resources"} <= content.keys() else None
