"""Listening sockets: bound before anything else is done, with a sentence for whoever finds the place taken.

A Unix socket is mode 0600; a socket file whose process is dead is replaced, one that somebody answers on is not.
"""

from __future__ import annotations

import errno
import os
import pathlib
import socket
import stat

import psutil

from mlship import errors

BACKLOG = 2048
# sun_path holds 108 bytes on Linux and 104 on macOS, the terminating NUL included.
_MAX_PATH = 103
_CONNECT_SECONDS = 1.0


def unix(path: pathlib.Path) -> socket.socket:
    """A listening Unix socket at ``path``, mode 0600. Raises BackendError."""
    clear(path)
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        server.bind(str(path))
        path.chmod(0o600)
        server.listen(BACKLOG)
    except OSError as error:
        server.close()
        raise errors.BackendError(f"cannot listen on {path}: {error.strerror}.") from error
    server.setblocking(False)
    return server


def clear(path: pathlib.Path) -> None:
    """Make ``path`` free for a Unix socket.

    Raises:
        BackendError: somebody listens there, something else lies there, or the path is too long or has no folder.
    """
    if len(os.fsencode(path)) > _MAX_PATH:
        raise errors.BackendError(
            f"the socket path {path} has {len(os.fsencode(path))} bytes, the system takes {_MAX_PATH}.",
            hint="Use a shorter one.",
        )
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        if not path.parent.is_dir():
            raise errors.BackendError(f"cannot listen on {path}: there is no folder {path.parent}.") from None
        return
    if not stat.S_ISSOCK(mode):
        raise errors.BackendError(f"cannot listen on {path}: it exists and is not a socket.", hint="Use another path.")
    if _answers(path):
        raise errors.BackendError(
            f"cannot listen on {path}: another process listens there.", hint="End it, or use another path."
        )
    path.unlink(missing_ok=True)


def _answers(path: pathlib.Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(_CONNECT_SECONDS)
        try:
            client.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            return True  # Full backlog or no permission: somebody is there.
    return True


def tcp(host: str, port: int) -> socket.socket:
    """A listening TCP socket; port 0 takes a free one. Raises BackendError, naming who holds the port if possible."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise errors.BackendError(f"cannot listen on {host}:{port}: {error.strerror}.") from error
    server = socket.socket(family, kind, protocol)
    try:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(address)
        server.listen(BACKLOG)
    except OSError as error:
        server.close()
        raise taken(host, port, error) from error
    server.setblocking(False)
    return server


def taken(host: str, port: int, error: OSError) -> errors.BackendError:
    """Why ``host:port`` cannot be listened on."""
    if error.errno != errno.EADDRINUSE:
        return errors.BackendError(f"cannot listen on {host}:{port}: {error.strerror}.")
    holder = who_holds(port)
    by = f"process {holder} holds it" if holder else "another process holds it"
    return errors.BackendError(f"port {port} is taken: {by}.", hint="End it, or use another port.")


def who_holds(port: int) -> str:
    """``1234 (python)``: who listens on a TCP port; empty when it cannot be told."""
    try:
        for connection in psutil.net_connections(kind="tcp"):
            listening = connection.status == psutil.CONN_LISTEN and connection.pid
            if listening and connection.laddr and connection.laddr[1] == port:
                return f"{connection.pid} ({psutil.Process(connection.pid).name()})"
    except psutil.Error:
        return ""
    return ""
