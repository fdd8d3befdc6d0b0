"""One JSON file per supervised process, from which a control plane adopts what the one before it left running.

A record is written before the first start and again, with the pid, right after each start. It is replaced as a whole by
a rename, so a control plane killed at any moment leaves a complete one. A record that does not read as one is discarded
as a whole; the process it belonged to is then found by its mark (``pids.marked``).
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
from collections.abc import Iterator
from typing import Any

from mlship import errors
from mlship.backends.local import jobs
from mlship.plan import observed

_VERSION = 1


@dataclasses.dataclass(frozen=True, slots=True)
class Record:
    """``pid`` is None until the first start. ``served``: it has been ready. ``log_start``: where its output begins."""

    key: str
    job: jobs.Job
    pid: int | None = None
    born: str = ""
    port: int | None = None
    served: bool = False
    level: int = 0
    restarts: int = 0
    log_start: int = 0
    started_at: float = 0.0
    last_exit: observed.Exit | None = None
    startup: observed.Startup | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Records:
    """The records in one folder."""

    folder: pathlib.Path

    def path(self, key: str) -> pathlib.Path:
        """Where the record of ``key`` lies."""
        return self.folder / f"process-{hashlib.sha256(key.encode()).hexdigest()[:20]}.json"

    def write(self, record: Record) -> None:
        """Replace the record of ``record.key``. Raises ``errors.BackendError``."""
        value = dataclasses.asdict(record) | {"version": _VERSION, "job": jobs.to_json(record.job)}
        write_atomically(self.path(record.key), json.dumps(value))

    def remove(self, key: str) -> None:
        """Remove the record of ``key`` if there is one. Raises ``errors.BackendError``."""
        remove(self.path(key))

    def read(self) -> Iterator[Record | pathlib.Path]:
        """Each record, or the path of a file that is none. Raises ``errors.BackendError`` for an unreadable folder."""
        try:
            paths = sorted(self.folder.glob("process-*.json"))
        except OSError as error:
            raise _failed("read the records in", self.folder, error) from error
        for path in paths:
            yield self._read_one(path)

    def _read_one(self, path: pathlib.Path) -> Record | pathlib.Path:
        try:
            record = _decode(json.loads(path.read_text(encoding="utf-8")))
        except (KeyError, TypeError, ValueError, AttributeError):
            return path
        except OSError as error:
            raise _failed("read the record", path, error) from error
        return record if self.path(record.key) == path else path


def write_atomically(path: pathlib.Path, text: str) -> None:
    """Replace the file at ``path``, mode 0600, by ``text``. Raises ``errors.BackendError``."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        partial.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise _failed("write the record", path, error) from error


def remove(path: pathlib.Path) -> None:
    """Remove the file at ``path`` if there is one. Raises ``errors.BackendError``."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise _failed("remove", path, error) from error


def _failed(what: str, path: pathlib.Path, error: OSError) -> errors.BackendError:
    return errors.BackendError(
        f"cannot {what} {path}: {error.strerror or error}.",
        hint=f"Check the free space and the permissions of {path.parent}.",
    )


def _decode(value: dict[str, Any]) -> Record:
    if value.pop("version") != _VERSION:
        raise ValueError("a record of another version")
    ended, startup = value.pop("last_exit"), value.pop("startup", None)
    job = jobs.from_json(value.pop("job"))
    record = Record(
        **value,
        job=job,
        last_exit=None if ended is None else observed.Exit(**ended),
        startup=None if startup is None else _startup(startup),
    )
    if not isinstance(record.key, str) or not isinstance(record.pid, int | None) or not isinstance(record.born, str):
        raise TypeError("a record whose key, pid or birth is something else")
    return record


def _startup(value: dict[str, Any]) -> observed.Startup:
    phases = tuple((str(name), float(seconds)) for name, seconds in value.pop("phases"))
    return observed.Startup(how=observed.How(value.pop("how")), phases=phases, **value)
