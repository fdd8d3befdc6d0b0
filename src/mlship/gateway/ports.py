"""Is the gateway's port free, and if not, who holds it: asked before Envoy starts, so that the answer is a sentence."""

from __future__ import annotations

import errno
import socket

import psutil

from mlship import errors


def check(host: str, port: int) -> None:
    """Raises ``errors.BackendError`` that names the holder when ``host:port`` cannot be listened on."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # As Envoy does: a port in TIME_WAIT is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise _explain(host, port, error) from error


def _explain(host: str, port: int, error: OSError) -> errors.BackendError:
    if error.errno == errno.EADDRINUSE:
        return errors.BackendError(
            f"Port {port} on {host} is taken by {holder(port)}.",
            hint="Stop that program, or choose another port: --port N, or --port auto for a free one.",
            reason=errors.Reason.CONFLICT,
        )
    if error.errno == errno.EACCES:
        return errors.BackendError(
            f"Port {port} on {host} needs privileges that this user does not have.",
            hint="Choose a port above 1023: --port N, or --port auto.",
        )
    return errors.BackendError(
        f"Port {port} on {host} cannot be listened on: {error.strerror or error}.",
        hint="Check --host: it must be an address of this machine.",
    )


def holder(port: int) -> str:
    """Who listens on a TCP port, for people: ``nginx (pid 4711)``."""
    try:
        connections = psutil.net_connections(kind="tcp")
    except (psutil.AccessDenied, PermissionError):
        connections = []
    for connection in connections:
        if connection.status == psutil.CONN_LISTEN and connection.laddr and connection.laddr.port == port:
            return _name(connection.pid)
    return "another program"


def _name(pid: int | None) -> str:
    if pid is None:
        return "a program of another user"
    try:
        return f"{psutil.Process(pid).name()} (pid {pid})"
    except psutil.Error:
        return f"pid {pid}"


def free(host: str) -> int:
    """A port that is free now."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port
