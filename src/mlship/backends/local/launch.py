"""One start of a program: its port, its sockets, its log file, its environment, the process itself and its record.

Blocking, and therefore called in a thread (``unit.py``). A replica of our own model server is forked from a zygote
where that goes (``families``, ``zygotes``); all else, and what could not be forked, is executed. Either way it has a
session of its own, so it outlives the control plane; it gets none of our descriptors but, when it is our model server,
its end of a line on which it speaks of its start. Its output goes straight to its log file, opened to append, with no
pipe that could break. Its mark is in its environment before it does anything, and its record has the pid as soon as
there is one.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
import socket
import subprocess
from collections.abc import Mapping

from mlship import errors
from mlship.backends.local import expand, families, jobs, pids, records, zygotes
from mlship.plan import observed

JOB_MARK = "MLSHIP_JOB"
_READY_FLAG = "--ready-fd"


@dataclasses.dataclass(frozen=True, slots=True)
class Launched:
    """``record``: as it was written. ``problem``: the process runs but its record could not be written.

    ``line``: what it says of its start, and, when it was ``forked``, its zygote of its end. ``cold``: why it was not
    forked, when it could.
    """

    record: records.Record
    pid: int
    problem: str = ""
    line: socket.socket | None = None
    forked: bool = False
    cold: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Means:
    """What every start needs. ``zygotes`` None: everything starts cold."""

    store: records.Records
    home: str
    inherited: Mapping[str, str] = dataclasses.field(repr=False)
    zygotes: zygotes.Zygotes | None = None


def launch(record: records.Record, means: Means, *, cpus: int = 0) -> Launched:
    """Start the program of ``record`` and write the record. Raises ``errors.BackendError`` when it cannot start.

    Args:
        cpus: processors that a model server may count on; 0 when nothing is to be said about them.
    """
    job = record.job
    port = _free_port() if job.spec.needs_port else None
    provided = dict(job.provided) | ({} if port is None else {"PORT": str(port)})
    command = expand.command(job.spec, provided=provided, inherited=means.inherited)
    if cpus:
        command = dataclasses.replace(command, argv=families.with_share(job.spec, command.argv, cpus))
    marks = {pids.MARK: f"{means.home}/{record.key}", JOB_MARK: job.hash}
    for path in job.sockets:
        records.remove(pathlib.Path(path))
    descriptor = open_log(job.log)
    try:
        log_start = os.fstat(descriptor).st_size
        newborn, cold = _fork(job, command, marks, descriptor, means)
        if newborn is None:
            pid, line = _spawn(command, marks, descriptor, speaks=families.is_model_server(job.spec))
        else:
            pid, line = newborn.pid, newborn.line
    finally:
        os.close(descriptor)
    born = pids.born(pid) or ""
    problem = ""
    how = observed.How.COLD if newborn is None else observed.How.FORKED
    noted = dataclasses.replace(
        record, pid=pid, born=born, port=port, log_start=log_start, served=False,
        startup=observed.Startup(how, began_at=record.started_at),
    )  # fmt: skip
    try:
        means.store.write(noted)
    except errors.BackendError as error:
        problem = str(error)
    if newborn is not None:
        newborn.go()
    return Launched(noted, pid, problem=problem, line=line, forked=newborn is not None, cold=cold)


def _fork(
    job: jobs.Job, command: expand.Command, marks: Mapping[str, str], log: int, means: Means
) -> tuple[zygotes.Newborn | None, str]:
    """The forked process; without one, why not, if it should have been."""
    family = families.of(job.spec)
    if not family or means.zygotes is None:
        return None, ""
    try:
        return means.zygotes.fork(family, command, marks, log), ""
    except zygotes.Unavailable as error:
        return None, str(error)


def open_log(path: pathlib.Path) -> int:
    """A descriptor that appends to the log at ``path``. Raises ``errors.BackendError``."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise errors.BackendError(
            f"cannot open the log file {path}: {error.strerror}.",
            hint=f"Check the free space and the permissions of {path.parent}.",
        ) from error


def _spawn(
    command: expand.Command, marks: Mapping[str, str], log: int, *, speaks: bool
) -> tuple[int, socket.socket | None]:
    """The pid and, of a program that ``speaks`` of its start, the line it does so on."""
    if not command.argv:
        raise errors.BackendError("cannot start a program: its command is empty.")
    if not speaks:
        return _execute(command, marks, log), None
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        with theirs:
            flags = (_READY_FLAG, str(theirs.fileno()))
            told = dataclasses.replace(command, argv=(*command.argv, *flags))
            pid = _execute(told, marks, log, handed=(theirs.fileno(),))
    except errors.BackendError:
        ours.close()
        raise
    ours.setblocking(False)
    return pid, ours


def _execute(command: expand.Command, marks: Mapping[str, str], log: int, *, handed: tuple[int, ...] = ()) -> int:
    try:
        child = subprocess.Popen(
            command.argv,
            env={**command.env, **marks},
            cwd=command.cwd or None,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            pass_fds=handed,
        )
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        raise _cannot_start(command, error) from error
    # From here on the pid is all we use: exits.py waits for it, and may leave that to another process. Without a
    # return code the object would warn when it is collected, and wait for the child behind our back.
    child.returncode = 0
    return child.pid


def _cannot_start(command: expand.Command, error: Exception) -> errors.BackendError:
    program = command.argv[0]
    if command.cwd and not pathlib.Path(command.cwd).is_dir():
        return errors.BackendError(
            f"cannot start {program}: its working folder {command.cwd} is not there.", hint="Create it or name another."
        )
    if isinstance(error, FileNotFoundError):
        return errors.BackendError(
            f"cannot start {program}: there is no such program on this machine.",
            hint="Install it, or give its full path as the first part of the command.",
        )
    if isinstance(error, PermissionError):
        return errors.BackendError(f"cannot start {program}: it is not executable.", hint=f"Try chmod +x {program}.")
    return errors.BackendError(f"cannot start {program}: {str(error)[:300]}.")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
