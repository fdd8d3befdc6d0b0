"""Where the control API listens: the Unix socket, and the loopback port with its token.

The lock on ``control.pid`` is taken first, so a socket file that is there belongs to nobody and is replaced. The
socket is created with mode 0600, never widened and narrowed later.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pathlib
import secrets
import socket
from collections.abc import Iterator

import uvicorn
from starlette import types

from mlship import errors

LOCKED = 75  # EX_TEMPFAIL: another control plane holds the home.
_GRACE = 5


class Locked(errors.BackendError):
    """Another control plane runs in this home."""

    def __init__(self, path: pathlib.Path, pid: str) -> None:
        super().__init__(
            f"a control plane runs already in {path.parent} (pid {pid or 'unknown'}).",
            hint="Use it, or stop it with mlship down.",
        )


class Server(uvicorn.Server):
    """uvicorn that leaves signals to the program it is part of."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.contextmanager
def lock(path: pathlib.Path) -> Iterator[None]:
    """Hold the home for this process and write its pid. Raises ``Locked``, or BackendError when it cannot be made.

    The kernel lets go of the lock when the process ends, however it ends; the file stays.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise errors.BackendError(
            f"{path} cannot be opened: {error.strerror or error}.", hint="Check the folder, or set MLSHIP_HOME."
        ) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Locked(path, os.pread(descriptor, 32, 0).decode(errors="replace").strip()) from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def unix_socket(path: pathlib.Path) -> socket.socket:
    """A listening Unix socket that only this user may connect to. Raises BackendError."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        path.unlink(missing_ok=True)
        listener.bind(str(path))
    except OSError as error:
        listener.close()
        raise errors.BackendError(
            f"the control socket {path} cannot be made: {error.strerror or error}.",
            hint="Check the folder and its permissions, or set MLSHIP_HOME to a shorter path.",
        ) from error
    finally:
        os.umask(before)
    return listener


def loopback(port: int) -> socket.socket:
    """A listening socket on the loopback interface; port 0 is any free one. Raises BackendError."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
    except OSError as error:
        listener.close()
        raise errors.BackendError(
            f"port {port} for the control API cannot be listened on: {error.strerror or error}.",
            hint="Choose another with --api-port N, or --api-port auto.",
        ) from error
    return listener


def token(path: pathlib.Path) -> str:
    """The token of the loopback port, made once, readable by this user alone. Raises BackendError."""
    try:
        with contextlib.suppress(FileExistsError):
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(secrets.token_urlsafe(32) + "\n")
        path.chmod(0o600)
        found = path.read_text().strip()
    except OSError as error:
        raise errors.BackendError(f"the token file {path} cannot be used: {error.strerror or error}") from error
    if not found:
        raise errors.BackendError(f"the token file {path} is empty.", hint="Remove it: a new one is made.")
    return found


def server(application: types.ASGIApp) -> Server:
    """An HTTP server for ``application``; its ``serve`` is given the sockets."""
    return Server(
        uvicorn.Config(
            application, log_config=None, access_log=False, lifespan="off", server_header=False, ws="none",
            timeout_graceful_shutdown=_GRACE,
        )
    )  # fmt: skip
