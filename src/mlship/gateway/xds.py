"""The gateway: Envoy, kept running, told what to carry, and known for what it carries.

Envoy watches two files, which ``publisher`` brings up to date one change after the other; each carries a version, and
Envoy's admin interface tells which version is in force.

``view(service).applied`` is what the plan's draining rests on: the endpoints Envoy may still send requests to. It
holds the union of old and new endpoints while a publication is under way, and forgets the old ones only when Envoy
has confirmed. After a restart of the control plane it is read back from the files.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import pathlib
from collections.abc import AsyncIterator, Callable, Collection
from typing import Protocol

import orjson

from mlship import aio, home
from mlship.gateway import admin, bootstrap, clusters, files, ports, publisher, render
from mlship.plan import actions, observed, routes

KEY = "gateway"
GATE_SOCKET = "gate.sock"
_CLOSE_SECONDS = 3.0
_LOOK_SECONDS = 0.05


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
        gate: answers, at ``GATE_SOCKET``, what Envoy asks about services at zero.
        envoy: the program; its wheel knows the path.
        on_event: called with one sentence for the log about anything that went wrong or came back.
        published: called with None after each publication, with what went wrong after one that failed.
    """

    def __init__(
        self,
        where: home.Home,
        *,
        listen: render.Listen,
        keeper: Keeper,
        gate: publisher.Gate,
        envoy: pathlib.Path,
        on_event: Callable[[str], None],
        published: Callable[[Exception | None], None],
    ) -> None:
        self._home = where
        self.listen = listen
        self._keeper = keeper
        self._envoy = envoy
        self._on_event = on_event
        self._store = files.Folder(where.envoy)
        self._admin_socket = where.sockets / "envoy-admin.sock"
        self._admin = admin.Admin(self._admin_socket)
        self._changed = asyncio.Event()
        # Whose view may have changed since somebody asked; None: everybody's.
        self._news: set[observed.ServiceKey] | None = None
        self._publisher = publisher.Publisher(
            self._store, gate, domain=listen.domain, version=self._version, changed=self._moved,
            published=published,
        )  # fmt: skip
        self._owner = aio.Tasks(lambda name, error: published(error if isinstance(error, Exception) else None))
        self._running: asyncio.Task[None] | None = None
        self._ready = False
        self._answered = False

    async def start(self) -> None:
        """Write the bootstrap, adopt what an earlier control plane published, see to it that Envoy runs.

        Raises ``errors.BackendError`` when the port is taken by somebody else.
        """
        # An Envoy of ours from before, adopted or being started anew, is who holds the port.
        if not self._keeper.holds(KEY):
            ports.check(self.listen.host, self.listen.port)
        configuration = self._home.envoy / "bootstrap.json"
        content = self._bootstrap()
        self._publisher.adopt(await asyncio.to_thread(self._prepare, configuration, content))
        spec = actions.ProcessSpec(
            argv=(
                str(self._envoy),
                "-c", str(configuration),
                "--disable-hot-restart",
                "--log-level", "warning",
                "--concurrency", "2",
                "--drain-time-s", "5",
                "--drain-strategy", "immediate",
            ),
            # Envoy reads its configuration once: another one, of another version of mlship, is another program to run.
            env=(("MLSHIP_BOOTSTRAP", hashlib.sha256(content).hexdigest()[:16]),),
            probe=actions.Probe(path="/ready"),
            stop_grace=10.0,
        )  # fmt: skip
        await self._keeper.ensure(KEY, spec, probe_socket=str(self._admin_socket), log=self._home.logs / "gateway.log")
        self._running = self._owner.start(self._publisher.run(), name="publish to Envoy")

    def _bootstrap(self) -> bytes:
        resources = bootstrap.configuration(
            listen=self.listen,
            admin_socket=str(self._admin_socket),
            gate_socket=str(self._home.sockets / GATE_SOCKET),
            xds_folder=str(self._store.xds),
        )
        return orjson.dumps(resources, option=orjson.OPT_INDENT_2)

    def _prepare(self, configuration: pathlib.Path, content: bytes) -> list[clusters.Resource]:
        self._home.sockets.mkdir(parents=True, exist_ok=True, mode=0o700)
        found = self._store.prepare()
        files.write(configuration, content)
        if self._store.version(files.CLUSTERS) is None:
            self._store.put(files.CLUSTERS, b"[]")
        if self._store.version(files.ROUTES) is None:
            self._store.put(files.ROUTES, render.Blocks(self.listen.domain).configuration(routes.RouteTable()))
        return found

    def notice(self) -> None:
        """Envoy came up or went down: the supervisor's word."""
        ready = self._keeper.is_ready(KEY)
        if ready != self._ready:
            self._ready = ready
            self._answered = True
            self._on_event("Envoy answers." if ready else "Envoy does not answer; the supervisor restarts it.")
        self._news = None
        self._changed.set()

    def view(self, service: observed.ServiceKey) -> observed.Gateway:
        """The gateway as ``plan`` sees it for one service."""
        running = self._keeper.is_ready(KEY)
        applied = self._publisher.applied(service) if running else frozenset()
        carried = self._publisher.carried(service) if running else frozenset()
        return observed.Gateway(
            running=running,
            url=self.listen.url,
            applied=applied,
            carried=carried,
            message="" if running else self._silence(),
        )

    def _silence(self) -> str:
        if not self._answered:
            return "Envoy is starting."
        return f"Envoy is not answering; its log is {self._home.logs / 'gateway.log'}."

    async def watch(self) -> AsyncIterator[Collection[observed.ServiceKey] | None]:
        """Yields the services whose ``view`` may have changed, None for all; changes in between are one."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            news, self._news = self._news, set()
            yield news

    def _moved(self, services: Collection[observed.ServiceKey]) -> None:
        if self._news is not None:
            self._news.update(services)
        self._changed.set()

    def want(self, service: observed.ServiceKey, route: routes.ServiceRoute | None) -> None:
        """How a service shall be carried from now on; None: not at all. At once; ``view`` tells when it is so."""
        self._publisher.want(service, route)

    def begin(self) -> None:
        """Every service has been looked at: routes that nobody wants may leave."""
        self._publisher.begin()

    def behind(self) -> int:
        """How many services Envoy does not carry yet as is wanted."""
        return self._publisher.behind()

    async def _version(self, what: str) -> str | None:
        with contextlib.suppress(admin.Unreachable):  # Envoy may be restarting: the deadline decides
            return await self._admin.version(what)
        return None

    async def drain(self) -> None:
        """Envoy takes no new connections; requests on those there are, are carried on, and end them."""
        with contextlib.suppress(admin.Unreachable):  # There is nobody whose requests could be lost.
            await self._admin.drain()

    async def delivered(self, seconds: float) -> bool:
        """Wait until callers have all that they were answered, at most ``seconds``; whether they have."""
        try:
            async with asyncio.timeout(seconds):
                while await self._admin.undelivered():  # noqa: ASYNC110 - Envoy knows, and tells only who asks
                    await asyncio.sleep(_LOOK_SECONDS)
        except TimeoutError:
            return False
        except admin.Unreachable:  # What has gone delivers no more.
            pass
        return True

    async def stop(self) -> None:
        """End Envoy."""
        await self._keeper.stop(KEY)

    async def close(self) -> None:
        """Let go; Envoy keeps running."""
        self._publisher.close()
        if self._running is not None:
            await asyncio.wait([self._running], timeout=_CLOSE_SECONDS)
        await self._owner.close()
        await self._admin.close()
