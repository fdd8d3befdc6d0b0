"""Starts the local control plane as a program of its own, and waits for one to end.

For the commands: ``deploy`` and ``apply`` need a control plane and start it when none answers. It is a session of its
own, so that closing the terminal does not end it, and this module imports nothing of it: it is started by name.
"""

from __future__ import annotations

import fcntl
import json
import os
import pathlib
import sys
import time

from mlship import client, errors, home

_LOCKED = 75
_LINES = 15
_TAIL = 64 * 1024


def ensure_running(
    where: home.Home,
    *,
    port: str = "",
    host: str = "",
    domain: str = "",
    api_port: str = "",
    deadline: float = 30.0,
) -> client.Object:
    """Have a control plane run in ``where``; its status, with ``started`` telling whether it was started just now.

    ``port``: the gateway's, a number or ``auto``; empty leaves it as remembered. Raises SpecError (Conflict) when one
    runs that listens elsewhere than asked, BackendError with the last lines of its log when it does not come up.
    """
    found = _answer(where)
    if found is not None:
        _check_same(found, port=port, host=host, domain=domain)
        return {**found, "started": False}
    given = {"--port": port, "--host": host, "--domain": domain, "--api-port": api_port}
    flags = [text for flag, value in given.items() if value for text in (flag, value)]
    until = time.monotonic() + deadline
    before = where.control_log.stat().st_size if where.control_log.exists() else 0
    pid = _start(where, flags)
    while time.monotonic() < until:
        found = _answer(where)
        if found is not None:
            return {**found, "started": True}
        code = _ended(pid)
        # Another command may have started one at the same time: its is as good as ours.
        if code is not None and code != _LOCKED:
            raise _did_not_start(where, f"ended with code {code}", since=before)
        time.sleep(0.05)
    raise _did_not_start(where, f"did not answer within {deadline:.0f} s", since=before)


def stop(where: home.Home, *, replicas: bool, deadline: float = 120.0) -> bool:
    """End the control plane and, if asked, every replica and Envoy; False when nothing was running.

    Replicas whose control plane is gone are adopted by a new one, to be drained as they should be.

    Raises NotReady when it has not ended after ``deadline`` seconds.
    """
    try:
        with client.Client(where) as control:
            control.shutdown(replicas=replicas)
    except client.Unreachable:
        if is_held(where.control_pid):
            raise
        if not replicas or not any(where.records.glob("process-*.json")):
            return False
        ensure_running(where)
        return stop(where, replicas=True, deadline=deadline)
    until = time.monotonic() + deadline
    while is_held(where.control_pid):
        if time.monotonic() > until:
            raise errors.NotReady(
                f"the control plane has not ended after {deadline:.0f} s.",
                hint=f"Its log is {where.control_log}.",
                reason=errors.Reason.DEADLINE,
            )
        time.sleep(0.05)
    return True


def is_held(lock: pathlib.Path) -> bool:
    """Whether a control plane holds this lock file."""
    try:
        descriptor = os.open(lock, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def last_lines(log: pathlib.Path, *, lines: int = _LINES, since: int = 0) -> list[str]:
    """The end of the control plane's log for people: the messages of JSON lines, other lines as they are.

    ``since``: the size of the log before what is of interest was written.
    """
    try:
        with log.open("rb") as file:
            size = log.stat().st_size
            # A log that is smaller than it was has been rotated: all of it is new.
            file.seek(max(since if since <= size else 0, size - _TAIL))
            text = file.read().decode(errors="replace")
    except OSError:
        return []
    shown: list[str] = []
    for line in map(_readable, text.splitlines()[-lines:]):
        # What a program says on stderr as it ends stands in its log already.
        if not shown or not line.endswith(shown[-1]):
            shown.append(line)
    return shown


def _readable(line: str) -> str:
    try:
        body = json.loads(line)
    except ValueError:
        return line[:500]
    return str(body.get("message", line))[:500] if isinstance(body, dict) else line[:500]


def _answer(where: home.Home) -> client.Object | None:
    try:
        with client.Client(where, timeout=5.0) as control:
            return control.status()
    except (client.Unreachable, errors.NotReady):
        return None


def _start(where: home.Home, flags: list[str]) -> int:
    """The pid of a control plane on its way: no child that anybody would have to wait for, and no terminal."""
    # -P: a file in the user's folder must not stand in for a module of the standard library.
    argv = [sys.executable, "-P", "-m", "mlship.control.main", "--home", str(where.root), *flags]
    try:
        where.logs.mkdir(parents=True, exist_ok=True, mode=0o700)
        log = (os.POSIX_SPAWN_OPEN, 1, str(where.control_log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        null = (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)
        both = (os.POSIX_SPAWN_DUP2, 1, 2)
        return os.posix_spawn(sys.executable, argv, os.environ, file_actions=(null, log, both), setsid=True)
    except OSError as error:
        raise errors.BackendError(
            f"The control plane cannot be started in {where.root}: {error.strerror or error}.",
            hint="Check the folder and its permissions, or set MLSHIP_HOME to another one.",
        ) from error


def _ended(pid: int) -> int | None:
    """The exit code of our child, None while it runs; for one that was waited for already, that somebody else runs."""
    try:
        found, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return _LOCKED
    return None if found == 0 else os.waitstatus_to_exitcode(status)


def _did_not_start(where: home.Home, what: str, *, since: int) -> errors.BackendError:
    lines = last_lines(where.control_log, since=since)
    told = "\n".join(f"  {line}" for line in lines) or "  (it wrote nothing)"
    return errors.BackendError(
        f"the control plane {what}; the end of its log:\n{told}\nThe whole log is {where.control_log}."
    )


def _check_same(found: client.Object, *, port: str, host: str, domain: str) -> None:
    gateway = found.get("gateway") or {}
    for name, asked in (("port", "" if port == "auto" else port), ("host", host), ("domain", domain)):
        if asked and str(gateway.get(name)) != asked:
            raise errors.SpecError(
                f"the running control plane's {name} is {gateway.get(name)}, not {asked}.",
                hint="Stop it with mlship down, then start it anew.",
                reason=errors.Reason.CONFLICT,
            )
