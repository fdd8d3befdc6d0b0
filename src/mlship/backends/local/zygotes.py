"""The zygotes of this control plane: one for each kind of replica, started ahead (``keep``), asked to fork.

A zygote (``python -m mlship.server.zygote``) is our child and ends with us: its one socket is our end of a pair, and
when that closes it ends. Its replicas go on. Blocking, and called in the threads that start programs (``launch``).

Whatever goes wrong here costs time and nothing else: ``fork`` raises ``Unavailable`` and the caller starts the program
itself. A zygote that does not answer is killed, so that it cannot fork later what is then running already; and a child
does nothing before ``Newborn.go``, and ends when its line closes before.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import pathlib
import socket
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Callable, Collection, Mapping

from mlship import forks
from mlship.backends.local import expand

log = logging.getLogger(__name__)

START_SECONDS = 60.0
FORK_SECONDS = 10.0
TRY_AGAIN_AFTER = 60.0
LINGER_SECONDS = 60.0


class Unavailable(Exception):
    """There is no fork to be had now, and why."""


@dataclasses.dataclass(frozen=True, slots=True)
class Newborn:
    """A forked process that waits for ``go``. ``line`` says more about it later (``exits``)."""

    pid: int
    line: socket.socket

    def go(self) -> None:
        """Let it run."""
        with contextlib.suppress(OSError):  # it has ended, which whoever watches it will see
            self.line.send(forks.GO, socket.MSG_NOSIGNAL)
        self.line.setblocking(False)


class Zygotes:
    """The zygotes by family (``families``).

    Args:
        home: the installation's folder, shown in their command lines.
        logs: folder for one log file each.
        inherited: our environment; ``MLSHIP_*`` is not handed on.
        stamp: what is installed, as a value that changes with it: a zygote has imported what was there when it began.
    """

    def __init__(
        self,
        *,
        home: pathlib.Path,
        logs: pathlib.Path,
        inherited: Mapping[str, str],
        clock: Callable[[], float] = time.monotonic,
        stamp: Callable[[], object] | None = None,
    ) -> None:
        self._home = home
        self._logs = logs
        self._inherited = inherited
        self.clock = clock
        self.stamp = stamp or installed
        self._lock = threading.Lock()
        self._held: dict[str, _Zygote] = {}
        self.closed = False

    def fork(self, family: str, command: expand.Command, marks: Mapping[str, str], log_file: int) -> Newborn:
        """A process that will be ``command`` once it is told to go.

        Args:
            command: the model server's command line; its environment is complete but for ``marks``.
            log_file: descriptor its output goes to.

        Raises:
            Unavailable: there is none to be had; nothing of it is left.
        """
        asked = time.monotonic()
        with self._lock:
            if self.closed:
                raise Unavailable("the zygotes are being ended")
            held = self._held.setdefault(family, _Zygote(family, self))
            held.needed_at = self.clock()
        request = forks.Request(
            argv=command.argv[3:],
            title=command.argv,
            env={**command.env, **marks},
            marks=tuple(marks),
            cwd=command.cwd,
            asked=asked,
        )
        return held.fork(forks.encode_request(request), log_file)

    def pids(self) -> dict[str, int]:
        """The zygotes that run, by family."""
        return {family: pid for family, held in list(self._held.items()) if (pid := held.pid) is not None}

    def keep(self, needed: Collection[str]) -> None:
        """Have a zygote ready for each of these families, and end those that nobody needed for a minute."""
        now = self.clock()
        with self._lock:
            if self.closed:
                return
            for family in needed:
                self._held.setdefault(family, _Zygote(family, self)).needed_at = now
            held = dict(self._held)
        for family, one in held.items():
            if family in needed:
                one.warm()
            elif now - one.needed_at >= LINGER_SECONDS and one.retire():
                log.info("no service needs the zygote for %s any more", family)

    def close(self) -> None:
        """End them all. What they have forked goes on."""
        with self._lock:
            self.closed = True
            held = list(self._held.values())
        for one in held:
            one.end()

    def spawn(self, family: str, control: int) -> subprocess.Popen[bytes]:
        """Start a zygote on its end of the socket. Raises OSError."""
        self._logs.mkdir(mode=0o700, parents=True, exist_ok=True)
        environ = {name: value for name, value in self._inherited.items() if not name.startswith("MLSHIP_")}
        environ |= {
            "PYTHONUNBUFFERED": "1",
            # A thread of OpenBLAS would be one too many at a fork; children set their own number.
            **dict.fromkeys(("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
            # ONNX Runtime starts a thread that reports to its maker when it is imported, unless told not to.
            "ORT_DISABLE_TELEMETRY": "1",
            # Its threads wait busily for some 25 ms when they begin and after each call, at the cost of everybody else.
            "OPENBLAS_THREAD_TIMEOUT": self._inherited.get("OPENBLAS_THREAD_TIMEOUT", "18"),
            forks.ROOM: " " * forks.ROOM_BYTES,
        }
        flags = ("--framework", family, "--home", str(self._home), "--", "-" * forks.TITLE_BYTES)
        path = self._logs / f"zygote-{family}.log"
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            return subprocess.Popen(
                [sys.executable, "-m", forks.PROGRAM, *flags],
                env=environ,
                stdin=control,
                stdout=descriptor,
                stderr=descriptor,
                start_new_session=True,
            )
        finally:
            os.close(descriptor)


class _Zygote:
    """One of them. Its lock is held while one thread waits for its answer."""

    def __init__(self, family: str, owner: Zygotes) -> None:
        self._family = family
        self._owner = owner
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._failed_at: float | None = None
        self.needed_at = 0.0
        self._stamp: object = None

    @property
    def pid(self) -> int | None:
        process = self._process
        return None if process is None or process.returncode is not None else process.pid

    def fork(self, request: bytes, log_file: int) -> Newborn:
        with self._lock:
            control = self._running()
            ours, theirs = _pair()
            try:
                with theirs:
                    socket.send_fds(control, [request], [log_file, theirs.fileno()])
                return Newborn(self._born(ours), ours)
            except (OSError, ValueError) as error:
                ours.close()
                self._drop()
                said = "no answer" if isinstance(error, TimeoutError) else str(error)
                raise Unavailable(f"the zygote for {self._family} gave {said}") from error
            except Unavailable:
                ours.close()
                raise

    def _born(self, line: socket.socket) -> int:
        line.settimeout(FORK_SECONDS)
        message = line.recv(forks.LARGEST)
        if not message:
            raise OSError("no answer: it has ended")
        word = forks.decode(message)
        if isinstance(word, forks.Refused):
            raise Unavailable(f"the zygote for {self._family} refused: {word.why}")
        if not isinstance(word, forks.Born):
            raise ValueError(f"an answer that makes no sense: {word}")
        return word.pid

    def _running(self) -> socket.socket:
        """The socket of a zygote that has imported everything; started if there is none."""
        if self._process is not None and self._process.poll() is not None:
            log.info("the zygote for %s has ended with %s", self._family, self._process.returncode)
            self._drop()
        if self._control is not None and self._stamp != self._owner.stamp():
            log.info("what is installed has changed: another zygote for %s", self._family)
            self._drop()
        if self._control is None:
            self._start()
        assert self._control is not None
        return self._control

    def _start(self) -> None:
        now = self._owner.clock()
        if self._owner.closed:
            raise Unavailable("the zygotes are being ended")
        if self._failed_at is not None and now - self._failed_at < TRY_AGAIN_AFTER:
            raise Unavailable(f"the zygote for {self._family} did not start a moment ago")
        self._stamp = self._owner.stamp()
        ours, theirs = _pair()
        try:
            with theirs:
                self._process = self._owner.spawn(self._family, theirs.fileno())
            ours.settimeout(START_SECONDS)
            message = ours.recv(forks.LARGEST)
            if not message:
                raise OSError("it has ended")
            hello = forks.decode(message)
        except (OSError, ValueError) as error:
            ours.close()
            self._failed_at = now
            self._drop()
            raise Unavailable(f"the zygote for {self._family} did not start: {error or 'no answer'}") from error
        ours.settimeout(FORK_SECONDS)
        self._control, self._failed_at = ours, None
        log.info("a zygote for %s runs, pid %s: %s", self._family, self.pid, hello)

    def warm(self) -> None:
        """Have it run. One that cannot be had is told of once, and tried again later."""
        if not self._lock.acquire(blocking=False):
            return  # somebody waits for its answer, and sees for himself
        before = self._failed_at
        try:
            self._running()
        except Unavailable as error:
            if self._failed_at != before:
                log.warning("%s", error)
        finally:
            self._lock.release()

    def retire(self) -> bool:
        """End it, if it runs and nobody waits for its answer; whether it was ended. What it has forked goes on."""
        if self._process is None or not self._lock.acquire(blocking=False):
            return False
        try:
            self._drop()
            return True
        finally:
            self._lock.release()

    def end(self) -> None:
        """End it, at once: it has nothing to lose, and whoever waits for it waits no longer."""
        if (process := self._process) is not None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        with self._lock:
            self._drop()

    def _drop(self) -> None:
        """Have none: kill what is left, so that it forks nothing that nobody waits for."""
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            self._process.wait()
            self._process = None


def installed() -> tuple[int, ...]:
    """When the folders of installed packages last changed: every installation adds, removes or renames in them."""
    paths = sysconfig.get_paths()
    times = []
    for folder in sorted({paths["purelib"], paths["platlib"]}):
        with contextlib.suppress(OSError):
            times.append(pathlib.Path(folder).stat().st_mtime_ns)
    return tuple(times)


def _pair() -> tuple[socket.socket, socket.socket]:
    """Two ends that keep message borders."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
