"""The record of a fetched artifact, from which a control plane that was started again knows what it has.

One JSON file per service beside the records of processes. It is written when an artifact is complete; one that does not
read as a record is discarded, and the bytes are fetched again.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Iterator

from mlship import errors
from mlship.backends.local import records
from mlship.plan import observed


@dataclasses.dataclass(frozen=True, slots=True)
class Kept:
    """What a service's URI brought. ``stamp``: what its source looked like then (``storage.fetch.stamp``)."""

    namespace: str
    name: str
    uri: str
    digest: str
    path: str
    size: int
    stamp: str

    @property
    def service(self) -> observed.ServiceKey:
        return observed.ServiceKey(self.namespace, self.name)


@dataclasses.dataclass(frozen=True, slots=True)
class Shelf:
    """The artifact records in one folder. Its methods raise ``errors.BackendError``."""

    folder: pathlib.Path

    def path(self, service: observed.ServiceKey) -> pathlib.Path:
        """Where the record of ``service`` lies."""
        return self.folder / f"artifact-{hashlib.sha256(str(service).encode()).hexdigest()[:20]}.json"

    def write(self, kept: Kept) -> None:
        """Replace the record of a service."""
        records.write_atomically(self.path(kept.service), json.dumps(dataclasses.asdict(kept)))

    def remove(self, service: observed.ServiceKey) -> None:
        """Remove the record of a service if there is one."""
        records.remove(self.path(service))

    def read(self) -> Iterator[Kept]:
        """Every record; what is none is removed."""
        for path in sorted(self.folder.glob("artifact-*.json")):
            try:
                kept = Kept(**json.loads(path.read_bytes()))
                sound = self.path(kept.service) == path and isinstance(kept.digest, str)
            except (TypeError, ValueError):
                sound = False
            except OSError as error:
                raise errors.BackendError(f"cannot read the record {path}: {error.strerror}.") from error
            if sound:
                yield kept
            else:
                records.remove(path)
