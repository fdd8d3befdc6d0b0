"""Has proofs made beside a running server, one at a time: starts ``proving``, waits for it within a deadline, ends it.

Belongs to ``repository``, on the event loop. A proof begins a moment after its model is ready, so that a server which
ends at once, or loads one model after another, is left alone. Where no folder for proofs is given, the proof is kept
in one that ends with the server.
"""

from __future__ import annotations

import asyncio
import functools
import os
import pathlib
import subprocess
import sys
import tempfile

from mlship.server import acceleration, loading, logs, worker
from mlship.server.accelerate import proofs

MODULE = "mlship.server.proving"
AFTER_SECONDS = 1.0
DEADLINE_SECONDS = 600.0
_SAID_BYTES = 4096


class Prover:
    """Makes proofs.

    Args:
        after: seconds between readiness and the beginning of a proof.
        deadline: seconds after which a proof is given up.
    """

    def __init__(self, *, after: float = AFTER_SECONDS, deadline: float = DEADLINE_SECONDS) -> None:
        self._after = after
        self._deadline = deadline
        self._turn = asyncio.Lock()
        self._own: tempfile.TemporaryDirectory[str] | None = None

    def folder(self, source: loading.Source) -> pathlib.Path:
        """Where the proof of ``source`` will be. Raises OSError."""
        if source.proofs is not None:
            return source.proofs
        if self._own is None:
            self._own = tempfile.TemporaryDirectory(prefix="mlship-proofs-")
        return pathlib.Path(self._own.name)

    async def follow(self, source: loading.Source, state: acceleration.Acceleration, *, loader: worker.Workers) -> None:
        """Have the proof made that ``state`` waits for, its verdict put in place on ``loader``, and the log told."""
        try:
            folder = self.folder(source)
            why = await self.prove(source, folder)
        except OSError as error:
            why = f"there is no place for its proof: {error.strerror or error}"
        if not why and not await loader.call(functools.partial(acceleration.taken, state, proofs.Proofs(folder))):
            why = "its proof could not be read back"
        if why:
            state.refuse(why)
        acceleration.told(state, model=source.name, version=source.version)

    async def prove(self, source: loading.Source, folder: pathlib.Path) -> str:
        """Make the proof of ``source`` in ``folder``; why there is none, empty when there is."""
        await asyncio.sleep(self._after)
        async with self._turn:
            try:
                async with asyncio.timeout(self._deadline):
                    return await self._run(source, folder)
            except TimeoutError:
                return f"the proof was given up after {self._deadline:g} s"
            except OSError as error:
                return f"the proof could not be started: {error.strerror or error}"

    async def _run(self, source: loading.Source, folder: pathlib.Path) -> str:
        # Not asyncio's own: on uvloop it forks, which gRPC's threads make noise about.
        starting = asyncio.get_running_loop().run_in_executor(None, _start, command(source, folder))
        try:
            child = await asyncio.shield(starting)
        except asyncio.CancelledError:
            # The thread starts it all the same, and nobody else would know of it.
            starting.add_done_callback(_end)
            raise
        try:
            said = await asyncio.to_thread(_until_end, child)
        finally:
            if child.returncode is None:
                child.kill()
        return "" if child.returncode == 0 else _why(child.returncode, said.decode("utf-8", "replace"))

    def close(self) -> None:
        """Remove what was kept for this server only; the proofs under way have been cancelled before."""
        if self._own is not None:
            self._own.cleanup()


def command(source: loading.Source, folder: pathlib.Path) -> list[str]:
    """The command line that proves ``source``."""
    # The model may be of modules that only this server's search path has, or must not find those of its folder.
    safe = [] if {"", str(pathlib.Path.cwd())} & set(sys.path) else ["-P"]
    options = [part for key, value in source.options.items() for part in ("--model-option", f"{key}={value}")]
    return [
        *(sys.executable, *safe, "-m", MODULE),
        *("--model-path", str(source.path), "--model-name", source.name, "--model-version", source.version),
        *(("--model-format", source.format) if source.format else ()),
        *options,
        *("--accelerate", source.accelerate.value, "--proof-cache", str(folder)),
    ]


def _start(command_line: list[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command_line, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def _end(started: asyncio.Future[subprocess.Popen[bytes]]) -> None:
    """End what was given up while it was being started."""
    if not started.cancelled() and started.exception() is None:
        with started.result() as child:
            child.kill()


def _until_end(child: subprocess.Popen[bytes]) -> bytes:
    """Wait for the end; the last that it said. Ends when the child is killed."""
    assert child.stderr is not None
    said = b""
    with child.stderr:
        while more := os.read(child.stderr.fileno(), _SAID_BYTES):
            said = (said + more)[-_SAID_BYTES:]
    child.wait()
    return said


def _why(code: int, said: str) -> str:
    last = next((line for line in reversed(said.splitlines()) if line.strip()), "")
    return logs.one_line(last, limit=300).rstrip(".") if last else f"the proof ended with exit code {code}"
