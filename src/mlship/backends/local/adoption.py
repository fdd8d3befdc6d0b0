"""What a control plane finds when it starts: recorded processes that run, that do not, and processes without a record.

Blocking, and read before anything is started. A recorded pid counts only with the birth that was recorded with it.
When the one before us was killed between starting a program and noting its pid, the process is found by its mark. A
process with our mark that no record accounts for is killed: nobody knows any more what it is for.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import pathlib
import signal
from collections.abc import Iterable, Sequence

from mlship.backends.local import launch, pids, records

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class Finding:
    """A record, with the pid it was found under. Not ``alive``: it has ended, or never begun if it has no pid."""

    record: records.Record
    alive: bool


def survey(store: records.Records, home: str) -> tuple[Finding, ...]:
    """Compare the records with the processes, and kill and remove what belongs to none.

    Raises ``errors.BackendError`` when the records cannot be read.
    """
    found = tuple(pids.marked(home))
    findings = []
    for record in store.read():
        if isinstance(record, pathlib.Path):
            log.warning("the record %s is damaged: discarding it, and ending its process if it still runs", record)
            records.remove(record)
        else:
            findings.append(_find(record, found))
    for stray in _strays(found, findings):
        log.warning("%s: killing process %d, which no record accounts for", stray.key, stray.pid)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(stray.pid, signal.SIGKILL)
    return tuple(findings)


def _find(record: records.Record, found: Sequence[pids.Marked]) -> Finding:
    if record.pid is not None and record.born and pids.born(record.pid) == record.born:
        return Finding(record, alive=True)
    ours = (process for process in found if process.leader and process.key == record.key)
    for process in ours:
        if process.environ.get(launch.JOB_MARK) == record.job.hash:
            port = process.environ.get("PORT", "") if record.job.spec.needs_port else ""
            begun = dataclasses.replace(
                record, pid=process.pid, born=process.born, port=int(port) if port else None, served=False, log_start=0
            )
            return Finding(begun, alive=True)
    return Finding(record, alive=False)


def _strays(found: Iterable[pids.Marked], findings: Iterable[Finding]) -> list[pids.Marked]:
    """Processes whose key has nothing alive. Those of a key that has are its children, wherever they have moved to."""
    alive = {finding.record.key for finding in findings if finding.alive}
    return [process for process in found if process.key not in alive]
