"""One server under measurement: started, watched, ended by its own pid together with every process it made.

Its processes are its descendants and those that have its folder in their command line or environment (a control
plane's replicas are sessions of their own). Whoever was seen once is ended at the end, pid and start time compared.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping

import psutil

from bench import bodies, checks, models, subjects

START_SECONDS = 60.0
_END_SECONDS = 30.0
_ERROR = re.compile(r"[a-z]Error\b|[a-z]Exception\b|[Ee]rror:|\bERROR\b|\bCRITICAL\b")
_MEBIBYTE = 1024 * 1024


class DidNotStart(Exception):
    """The server gave no right answer in time; the message has the end of its output."""


@dataclasses.dataclass(frozen=True, slots=True)
class Special:
    """What a server is started with for one load only: further flags, further variables of its environment."""

    flags: tuple[str, ...] = ()
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)


class Server:
    """A running server. ``url`` takes predictions; ``cold_seconds`` is the time from its start to the first answer."""

    def __init__(self, subject: subjects.Subject, *, name: str, folder: pathlib.Path) -> None:
        self.subject = subject
        self.folder = folder
        self.port, self.grpc_port, self.metrics_port = _free_ports(3)
        if subject.shared_port:
            self.grpc_port = self.port
        self.name = name
        self.url = f"http://127.0.0.1:{self.port}{subject.path.format(name=name)}"
        self.log = folder / "log.txt"
        self.cold_seconds = 0.0
        self._process: subprocess.Popen[bytes] | None = None
        self._seen: dict[int, psutil.Process] = {}

    def start(self, model: models.Model, special: Special | None = None) -> None:
        """Start it and wait for a right answer, and for the compiled form where it has one. Raises DidNotStart."""
        special = special or Special()
        command = [part.format(**self._filled(model)) for part in (*self.subject.command, *special.flags)]
        more = {**self.subject.environment, **special.environment, "BENCH_FOLDER": str(self.folder)}
        rows = model.taken(1)
        body, expected = bodies.body(self.subject.dialect, rows), model.expected(rows)
        began = time.monotonic()
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                command,
                env=_environment(self.subject, model, more),
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                cwd=self.folder,
            )
        self._until(lambda: checks.http(self.url, body, expected, seconds=5) > 0)
        self.cold_seconds = time.monotonic() - began
        if self.subject.compiled:
            url = f"http://127.0.0.1:{self.port}/v2/models/{self.name}/acceleration"
            self._until(lambda: checks.compiled(url))

    def _filled(self, model: models.Model) -> dict[str, str]:
        programs = self.subject.home / "bin"
        return {
            "python": str(programs / "python"),
            "bin": str(programs),
            "model": str(model.path),
            "name": self.name,
            "folder": str(self.folder / "own"),
            "port": str(self.port),
            "grpc_port": str(self.grpc_port),
            "metrics_port": str(self.metrics_port),
        }

    def _until(self, holds: Callable[[], bool]) -> None:
        """Ask until it holds. Raises DidNotStart when it ends, answers wrong, or takes too long."""
        until = time.monotonic() + START_SECONDS
        last = "no answer"
        while time.monotonic() < until:
            if not self.alive:
                raise DidNotStart(self.last_words)
            try:
                if holds():
                    return
            except checks.Wrong as error:
                raise DidNotStart(str(error)) from error
            except checks.NoAnswer as error:
                last = str(error)
            time.sleep(0.02)
        raise DidNotStart(f"no right answer in {START_SECONDS:.0f} s ({last}): {self._tail()}")

    @property
    def alive(self) -> bool:
        """Whether the program that was started still runs."""
        return self._process is not None and self._process.poll() is None

    def _tail(self) -> str:
        return telling(self.log.read_bytes()[-20_000:].decode(errors="replace"))

    def ended_within(self, seconds: float) -> bool:
        """Whether its program has ended, or ends in that time: its sockets are closed a little before it is gone."""
        if self._process is None:
            return True
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        return not self.alive

    @property
    def last_words(self) -> str:
        """Of a program that is gone."""
        return f"ended by itself: {self._tail()}"

    def processes(self) -> list[psutil.Process]:
        """Its processes that live now."""
        found: dict[int, psutil.Process] = {}
        if self._process is not None:
            with contextlib.suppress(psutil.NoSuchProcess):
                root = psutil.Process(self._process.pid)
                found |= {one.pid: one for one in (root, *root.children(recursive=True))}
        mark = os.fsencode(self.folder)
        for one in psutil.process_iter():
            if one.pid not in found and mark in _words(one.pid):
                found[one.pid] = one
        self._seen |= found
        return list(found.values())

    def pss_mib(self, known: Iterable[psutil.Process] | None = None) -> float:
        """Memory of its processes (of those ``known``, without looking); pages shared between them count once."""
        total = 0
        for one in self.processes() if known is None else known:
            with contextlib.suppress(psutil.Error):
                total += one.memory_full_info().pss
        return total / _MEBIBYTE

    def cpu_seconds(self, known: Iterable[psutil.Process] | None = None) -> float:
        """Processor time of its processes until now, user and system."""
        total = 0.0
        for one in self.processes() if known is None else known:
            with contextlib.suppress(psutil.Error):
                times = one.cpu_times()
                total += times.user + times.system
        return total

    def end(self) -> None:
        """End it: asked first, then made to."""
        self.processes()
        if self._process is not None:
            _signal(self._process.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_END_SECONDS)
        self.processes()
        left = [one for one in self._seen.values() if one.is_running()]
        for one in left:
            with contextlib.suppress(psutil.Error):
                one.kill()
        psutil.wait_procs(left, timeout=10)


def telling(log: str) -> str:
    """The lines of a log that say most about an end: the last ones that name an error, else the last ones."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    named = [line for line in lines if _ERROR.search(line)]
    return " / ".join((named or lines)[-3:])[-600:]


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _words(pid: int) -> bytes:
    """A process's command line and its environment when it began; empty for one that has ended or is another's."""
    found = b""
    for file in ("cmdline", "environ"):
        with contextlib.suppress(OSError):
            found += pathlib.Path(f"/proc/{pid}/{file}").read_bytes()
    return found


def _environment(subject: subjects.Subject, model: models.Model, more: Mapping[str, str]) -> dict[str, str]:
    path = f"{subject.home / 'bin'}:{os.environ.get('PATH', '')}"
    quiet = {"BENTOML_DO_NOT_TRACK": "True", "RAY_USAGE_STATS_ENABLED": "0", "PYTHONUNBUFFERED": "1"}
    if subject.is_mlship:
        # This checkout, also when its environment was built by another.
        quiet["PYTHONPATH"] = str(subjects.ROOT.parent / "src")
    return {**os.environ, "PATH": path, "BENCH_MODEL": str(model.path), **quiet, **more}


def _free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago."""
    with contextlib.ExitStack() as held:
        found = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in found:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in found]


@contextlib.contextmanager
def running(subject: subjects.Subject, model: models.Model, special: Special | None = None) -> Iterator[Server]:
    """A started server, ended at the end whatever happened. Raises DidNotStart."""
    # A short path: Ray and the control plane keep Unix sockets below it.
    folder = pathlib.Path(tempfile.mkdtemp(prefix="mb-"))
    server = Server(subject, name=model.name, folder=folder)
    try:
        server.start(model, special)
        yield server
    finally:
        server.end()
        shutil.rmtree(folder, ignore_errors=True)


class Watch:
    """Processor time and memory of a server while a load runs, sampled on a thread: seldom, and only of the processes
    that it had before, so that looking does not show in the latencies."""

    def __init__(self, server: Server, *, every: float = 2.0) -> None:
        self._server = server
        self._every = every
        self._known = server.processes()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self.peak_mib = 0.0
        self.cpu_seconds = 0.0

    def __enter__(self) -> Watch:
        self._before = self._server.cpu_seconds(self._known)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        self.cpu_seconds = max(0.0, self._server.cpu_seconds() - self._before)
        self.peak_mib = max(self.peak_mib, self._server.pss_mib())

    def _sample(self) -> None:
        while not self._done.wait(self._every):
            self.peak_mib = max(self.peak_mib, self._server.pss_mib(self._known))
