"""Local processes keep the promises of a backend."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pathlib
import shutil
import signal
from collections.abc import AsyncIterator, Callable

import backend_suite
import pytest

from mlship import home
from mlship.backends import base
from mlship.backends.local import asking, backend, pids, supervisor
from mlship.plan import actions, observed

REPLICA = str(pathlib.Path(__file__).parents[1] / "unit" / "backends" / "replica.py")


POOL_PROCESS = str(pathlib.Path(__file__).parents[1] / "unit" / "backends" / "pool_process.py")


def _program(*flags: str) -> actions.ProcessSpec:
    argv = ("python", "-S", REPLICA, "$(MLSHIP_HTTP_SOCKET)", *flags)
    return actions.ProcessSpec(argv=argv, probe=actions.Probe("/ready", period=0.05), stop_grace=10.0)


class LocalHarness(backend_suite.Harness):
    """Real processes under a home of their own."""

    good = _program()
    crashing = _program("--say", "boom", "--exit", "3")
    silent = _program("--ready-file", "/nowhere/at/all")
    pool = actions.ProcessSpec(
        argv=("python", "-S", POOL_PROCESS, "$(MLSHIP_MODELS)", "$(MLSHIP_HTTP_SOCKET)"),
        probe=actions.Probe("/v2/health/ready", period=0.05),
        stop_grace=10.0,
    )

    def __init__(self, root: pathlib.Path) -> None:
        self.errors: list[tuple[str, BaseException]] = []
        self.model = root / "model.bin"
        self.model.write_bytes(b"one")
        self.uri, self.missing = self.model.as_uri(), (root / "missing.bin").as_uri()
        self.artifact, self.broken = str(self.model), str(root / "broken.bin")
        (root / "broken.bin").write_bytes(b"bad bytes")
        self.home = home.Home(root / "home")
        self.backend = self.local = backend.LocalBackend(
            self.home,
            environ={"PATH": os.environ["PATH"]},
            on_error=lambda name, error: self.errors.append((name, error)),
            look_every=0.05,
            listen_every=0.05,
        )

    async def until(self, service: observed.ServiceKey, holds: Callable[[base.Facts], bool], what: str) -> base.Facts:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(backend_suite.DEADLINE), contextlib.aclosing(self.local.watch()) as news:
                if holds(facts := await self.backend.observe(service)):
                    return facts
                async for key in news:
                    if key == service and holds(facts := await self.backend.observe(service)):
                        return facts
        raise AssertionError(f"never came: {what}; last seen {await self.backend.observe(service)}")

    def kill(self, replica: observed.Replica) -> None:
        assert replica.pid is not None
        os.kill(replica.pid, signal.SIGKILL)

    async def use(self, member: observed.ServiceKey, replica: observed.Replica) -> None:
        assert replica.endpoint is not None
        await asking.ask(replica.endpoint.http, "GET", f"/use/{member.name}", seconds=10.0)

    def change(self) -> None:
        self.model.write_bytes(b"other bytes")

    async def close(self) -> None:
        await self.local.close()
        for found in pids.marked(supervisor.mark_of(self.home)):
            os.kill(found.pid, signal.SIGKILL)
        shutil.rmtree(self.home.sockets, ignore_errors=True)
        assert self.errors == []


class TestLocalBackend(backend_suite.BackendSuite):
    @pytest.fixture
    async def harness(self, tmp_path: pathlib.Path) -> AsyncIterator[LocalHarness]:
        made = LocalHarness(tmp_path)
        await made.local.start()
        yield made
        await made.close()
