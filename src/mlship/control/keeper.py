"""Lets the gateway's Envoy be kept running by the local backend's supervisor, which knows neither.

The two packages may not see each other; this is the adapter between what one asks for and what the other offers.
"""

from __future__ import annotations

import asyncio
import pathlib
from collections.abc import Callable
from typing import Protocol

from mlship import aio, errors
from mlship.backends.local import jobs, supervisor
from mlship.plan import actions, observed


class Supervisor(Protocol):
    """The part of the supervisor that is used."""

    def ensure(self, key: str, job: jobs.Job) -> None: ...

    def stop(self, key: str) -> None: ...

    def subscribe(self, changed: Callable[[str], None]) -> None: ...

    def observe(self, key: str) -> supervisor.Sight | None: ...


class Keeper:
    """``gateway.xds.Keeper`` over a supervisor."""

    def __init__(self, supervising: Supervisor) -> None:
        self._supervisor = supervising

    async def ensure(self, key: str, spec: actions.ProcessSpec, *, probe_socket: str, log: pathlib.Path) -> None:
        """Have ``spec`` run under ``key``; readiness is asked at the Unix socket ``probe_socket``."""
        job = jobs.Job(spec=spec, log=log, address=f"unix:{probe_socket}", sockets=(probe_socket,))
        self._supervisor.ensure(key, job)

    async def stop(self, key: str) -> None:
        """Have ``key`` end."""
        self._supervisor.stop(key)

    def is_ready(self, key: str) -> bool:
        """Whether it runs and has answered its probe."""
        sight = self._supervisor.observe(key)
        return sight is not None and sight.process.phase is observed.Phase.RUNNING and sight.process.ready

    def holds(self, key: str) -> bool:
        """Whether it is there, ready or not."""
        return self._supervisor.observe(key) is not None

    async def end(self, key: str, *, seconds: float) -> None:
        """Have ``key`` end and wait for it. Raises BackendError when it is still there after ``seconds``."""
        gone = asyncio.Event()
        self._supervisor.subscribe(lambda changed: gone.set() if self._supervisor.observe(key) is None else None)
        self._supervisor.stop(key)
        if self._supervisor.observe(key) is not None and not await aio.wait_event(gone, seconds):
            raise errors.BackendError(
                f"{key} has not ended within {seconds:.0f} s.", hint="Try again, or end it by its pid."
            )
