"""The logs of a service: one file a replica, ``REVISION-ORDINAL.log``, those of replicas that are gone included."""

from __future__ import annotations

import asyncio
import functools
import pathlib
from collections.abc import AsyncIterator, Callable, Collection, Iterable
from typing import TypeVar

from mlship import errors
from mlship.backends import base
from mlship.backends.local import logfiles
from mlship.plan import observed

LOOK_EVERY = 0.2
T = TypeVar("T")


def file_name(replica: observed.ReplicaId) -> str:
    """The name of a replica's log file."""
    return f"{replica.revision}-{replica.ordinal}.log"


async def read(
    service: observed.ServiceKey,
    folder: pathlib.Path,
    *,
    tail: int,
    follow: bool,
    secrets: Collection[str],
) -> AsyncIterator[base.LogLine]:
    """The last ``tail`` lines of each file in ``folder``, the oldest file first, then with ``follow`` those to come.

    Raises ``errors.SpecError`` (NotFound) when there are none, ``errors.BackendError`` when they cannot be read.
    """
    paths = await _in_thread(functools.partial(_paths, folder))
    if not paths:
        raise errors.SpecError(
            f"there are no logs of {service} on this machine.",
            hint="A replica writes them from its first start on.",
            reason=errors.Reason.NOT_FOUND,
        )
    readers: dict[pathlib.Path, logfiles.Follower] = {}
    for path in paths:
        lines, readers[path] = await _in_thread(functools.partial(logfiles.open_at_end, path, tail, whole=follow))
        for text in lines:
            yield _line(service, path, logfiles.clean(text, secrets))
    while follow:
        await asyncio.sleep(LOOK_EVERY)
        for path in await _in_thread(functools.partial(_paths, folder)):
            reader = readers.setdefault(path, logfiles.Follower(path))
            for text in await _in_thread(reader.lines):
                yield _line(service, path, logfiles.clean(text, secrets))


def prune(folder: pathlib.Path, replicas: Iterable[observed.ReplicaId], keep: int) -> None:
    """Remove the logs of replicas that are gone, but for the ``keep`` newest. Raises OSError."""
    logfiles.prune(folder, living=[folder / file_name(replica) for replica in replicas], keep=keep)


def _paths(folder: pathlib.Path) -> list[pathlib.Path]:
    return sorted(folder.glob("*-*.log"), key=lambda path: path.stat().st_mtime)


def _line(service: observed.ServiceKey, path: pathlib.Path, text: str) -> base.LogLine:
    revision, _, ordinal = path.stem.rpartition("-")
    return base.LogLine(observed.ReplicaId(service, revision, int(ordinal) if ordinal.isdigit() else 0), text)


async def _in_thread(read: Callable[[], T]) -> T:
    try:
        return await asyncio.to_thread(read)
    except OSError as error:
        raise errors.BackendError(f"cannot read the log {error.filename}: {error.strerror}.") from error
