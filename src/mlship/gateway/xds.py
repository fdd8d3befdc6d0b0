"""Publishes route tables to Envoy and knows when Envoy has applied them.

Envoy watches files. A publication is a short sequence in which no step can send a request to something that is not
there: endpoints, then the clusters of the old and the new routes together, then the routes, then the clusters that
are still needed. Each file carries a version; Envoy's admin interface tells which version of which file is in force.

``view(service).applied`` is what the plan's draining rests on: the endpoints Envoy may still send requests to. It
holds the union of old and new endpoints while a publication is under way, and forgets the old ones only when Envoy
has confirmed. After a restart of the control plane it is read back from the files.
"""

from __future__ import annotations

import asyncio
import contextlib
import pathlib
from collections.abc import AsyncIterator, Callable
from typing import Protocol

import orjson

from mlship import errors, home
from mlship.gateway import admin, bootstrap, files, ports, render
from mlship.plan import actions, observed, routes

KEY = "gateway"
_APPLY_DEADLINE = 10.0


class Keeper(Protocol):
    """What keeps Envoy running: the backend's supervisor."""

    async def ensure(self, key: str, spec: actions.ProcessSpec, *, probe_socket: str, log: pathlib.Path) -> None: ...

    async def stop(self, key: str) -> None: ...

    def is_ready(self, key: str) -> bool: ...

    def holds(self, key: str) -> bool: ...


class Gateway:
    """The gateway of one installation.

    Args:
        where: the installation's paths.
        listen: host, port and domain.
        keeper: runs Envoy and restarts it when it dies.
        envoy: the program; its wheel knows the path.
        on_event: called with one sentence for the log about anything that went wrong or came back.
    """

    def __init__(
        self,
        where: home.Home,
        *,
        listen: render.Listen,
        keeper: Keeper,
        envoy: pathlib.Path,
        on_event: Callable[[str], None],
    ) -> None:
        self._home = where
        self.listen = listen
        self._keeper = keeper
        self._envoy = envoy
        self._on_event = on_event
        self._store = files.Folder(where.envoy)
        self._admin_socket = where.sockets / "envoy-admin.sock"
        self._admin = admin.Admin(self._admin_socket)
        self._applied: dict[observed.ServiceKey, frozenset[observed.Endpoint]] = {}
        self._changed = asyncio.Event()
        self._publishing = asyncio.Lock()
        self._ready = False
        self._answered = False

    async def start(self) -> None:
        """Write the bootstrap, adopt what an earlier control plane published, see to it that Envoy runs.

        Raises ``errors.BackendError`` when the port is taken by somebody else.
        """
        # An Envoy of ours from before, adopted or being started anew, is who holds the port.
        if not self._keeper.holds(KEY):
            ports.check(self.listen.host, self.listen.port)
        await asyncio.to_thread(self._prepare)
        self._applied = self._store.read_applied()
        configuration = self._home.envoy / "bootstrap.json"
        spec = actions.ProcessSpec(
            argv=(
                str(self._envoy),
                "-c", str(configuration),
                "--disable-hot-restart",
                "--log-level", "warning",
                "--concurrency", "2",
                "--drain-time-s", "5",
            ),
            probe=actions.Probe(path="/ready"),
            stop_grace=10.0,
        )  # fmt: skip
        await self._keeper.ensure(KEY, spec, probe_socket=str(self._admin_socket), log=self._home.logs / "gateway.log")

    def _prepare(self) -> None:
        self._home.sockets.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._store.prepare()
        resources = bootstrap.configuration(
            listen=self.listen, admin_socket=str(self._admin_socket), xds_folder=str(self._store.xds)
        )
        files.write(self._home.envoy / "bootstrap.json", orjson.dumps(resources, option=orjson.OPT_INDENT_2))
        if not (self._store.xds / "rds.json").exists():
            empty = render.render(routes.RouteTable(), listen=self.listen, endpoint_folder=str(self._store.endpoints))
            self._store.write_routes(empty.routes)
            self._store.write_clusters({})

    def notice(self) -> None:
        """Envoy came up or went down: the supervisor's word."""
        ready = self._keeper.is_ready(KEY)
        if ready != self._ready:
            self._ready = ready
            self._answered = True
            self._on_event("Envoy answers." if ready else "Envoy does not answer; the supervisor restarts it.")
        self._changed.set()

    def view(self, service: observed.ServiceKey) -> observed.Gateway:
        """The gateway as ``plan`` sees it for one service."""
        running = self._keeper.is_ready(KEY)
        applied = self._applied.get(service, frozenset()) if running else frozenset()
        return observed.Gateway(
            running=running,
            url=self.listen.url,
            applied=applied,
            message="" if running else self._silence(),
        )

    def _silence(self) -> str:
        if not self._answered:
            return "Envoy is starting."
        return f"Envoy is not answering; its log is {self._home.logs / 'gateway.log'}."

    async def watch(self) -> AsyncIterator[None]:
        """Yields whenever ``view`` may have changed; changes in between are one."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            yield None

    async def publish(self, table: routes.RouteTable) -> None:
        """Make Envoy carry ``table``; returns when it does.

        Raises ``errors.BackendError`` when files cannot be written or Envoy refuses or does not confirm in time;
        publishing again is safe.
        """
        async with self._publishing:
            wanted = render.render(table, listen=self.listen, endpoint_folder=str(self._store.endpoints))
            new = {
                route.service: frozenset(e for split in route.splits for e in split.endpoints)
                for route in table.services
            }
            for service, endpoints in new.items():
                self._applied[service] = self._applied.get(service, frozenset()) | endpoints
            await self._apply(wanted)
            self._applied = {service: endpoints for service, endpoints in new.items() if endpoints}
            self._changed.set()

    async def _apply(self, wanted: render.Resources) -> None:
        store = self._store
        try:
            touched = await asyncio.to_thread(store.write_endpoints, wanted.endpoints)
            both = {**store.clusters_in_use(), **wanted.clusters}
            await self._confirm(store.write_clusters(both), files.CLUSTERS)
            for cluster, version in touched.items():
                await self._confirm(version, cluster)
            await self._confirm(store.write_routes(wanted.routes), files.ROUTES)
            await self._confirm(store.write_clusters(wanted.clusters), files.CLUSTERS)
            await asyncio.to_thread(store.drop_endpoints, keep=wanted.endpoints.keys())
        except OSError as error:
            raise errors.BackendError(
                f"The gateway's configuration in {store.xds} cannot be written: {error.strerror or error}.",
                hint="Free disk space or fix the folder's permissions; traffic keeps its last routes until then.",
            ) from error

    async def _confirm(self, version: str | None, what: str) -> None:
        """Wait until Envoy has version ``version`` of ``what`` in force; None: nothing was written."""
        if version is None:
            return
        delay = 0.001
        try:
            async with asyncio.timeout(_APPLY_DEADLINE):
                while await self._version_in_force(what) != version:
                    await asyncio.sleep(delay)
                    delay = min(delay * 1.5, 0.05)
        except TimeoutError as error:
            raise errors.BackendError(
                f"Envoy did not take over {what} within {_APPLY_DEADLINE:.0f} s.",
                hint=f"Its log says why: {self._home.logs / 'gateway.log'}.",
            ) from error

    async def _version_in_force(self, what: str) -> str | None:
        with contextlib.suppress(admin.Unreachable):  # Envoy may be restarting: the deadline decides
            return await self._admin.version(what)
        return None

    async def stop(self) -> None:
        """End Envoy."""
        await self._keeper.stop(KEY)

    async def close(self) -> None:
        """Let go; Envoy keeps running."""
        await self._admin.close()
