"""The folder Envoy watches: ``cds.json`` and ``rds.json``, each replaced by a rename: Envoy never reads half of one.

A file's version is the hash of its content: writing the same again writes nothing, and Envoy's admin interface answers
with the same word when it has taken it over.
"""

from __future__ import annotations

import hashlib
import pathlib
from typing import Any

import orjson

from mlship.gateway import clusters

CLUSTERS = "clusters"
ROUTES = "routes"
_FILES = {CLUSTERS: "cds.json", ROUTES: "rds.json"}


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
    """``root/xds``. ``what`` is CLUSTERS or ROUTES everywhere."""

    def __init__(self, root: pathlib.Path) -> None:
        self.xds = root / "xds"
        self._versions: dict[str, str] = {}

    def prepare(self) -> list[clusters.Resource]:
        """Make the folder and read what is in force from an earlier run; the clusters."""
        self.xds.mkdir(parents=True, exist_ok=True, mode=0o700)
        found: list[clusters.Resource] = []
        for what in _FILES:
            if (content := _read(self.xds / _FILES[what])) is not None:
                self._versions[what] = content["version_info"]
                if what == CLUSTERS:
                    found = content["resources"]
        return found

    def version(self, what: str) -> str | None:
        """The version that lies there; None: no file that Envoy could read."""
        return self._versions.get(what)

    def put(self, what: str, resources: bytes) -> int:
        """Write a JSON list of resources, unless it is what lies there; the number of bytes written.

        Raises OSError and leaves what lies there.
        """
        version = hashlib.sha256(resources).hexdigest()[:16]
        if self._versions.get(what) == version:
            return 0
        content = b'{"version_info":"%s","resources":%s}' % (version.encode(), resources)
        write(self.xds / _FILES[what], content)
        self._versions[what] = version
        return len(content)


def _read(path: pathlib.Path) -> dict[str, Any] | None:
    """A file's content; None when it is not there or not ours: it is then written anew."""
    try:
        content = orjson.loads(path.read_bytes())
    except (FileNotFoundError, orjson.JSONDecodeError):
        return None
    return content if isinstance(content, dict) and {"version_info", "resources"} <= content.keys() else None
