"""What one change costs the control plane beside N other services, and what each of them costs it at rest.

    python -m bench.control_loop [--sizes 10 100 1000 10000] [--changes 200] [--scaled] [--json FILE]

The real store on a real file, the real loop and planner, and a world (``small_world``) that does at once what it is
asked for. For each N, in processes of their own: N services at zero are stored; the control plane is started; one
service after the other is given a replica (``minReplicas`` 0 to 1) and loses it (the annotation that stops it).
Measured: the time from the write to the action reaching the backend; the processor time of the whole process for each
change, status, journal and routes included; processor time while nothing happens; the time from start until every
service has been looked at, when none has a status yet ("first") and when all have; and the growth of the resident
memory from the empty control plane to the one with N services, over N. With ``--scaled`` each service has a
ScaledObject, and rests stopped.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Collection, Sequence
from typing import Any

import psutil

from bench import conditions, small_world
from mlship import aio
from mlship.control import facts, journal, ledger, loop, metrics, planner, rules, sqlite, store
from mlship.plan import actions, observed, routes

SIZES = (10, 100, 1000, 10000)
_IDLE_SECONDS = 5.0
_DEADLINE = 600.0


class Gateway:
    """Carries what is wanted at once."""

    def __init__(self) -> None:
        self._applied: dict[observed.ServiceKey, frozenset[observed.Endpoint]] = {}
        self._moved: set[observed.ServiceKey] = set()
        self._news = asyncio.Event()

    def want(self, service: observed.ServiceKey, route: routes.ServiceRoute | None) -> None:
        """See ``seams.Gateway``."""
        endpoints = frozenset(one for split in route.splits for one in split.endpoints) if route else frozenset()
        if endpoints == self._applied.get(service, frozenset()):
            return
        if endpoints:
            self._applied[service] = endpoints
        else:
            del self._applied[service]
        self._moved.add(service)
        self._news.set()

    def begin(self) -> None:
        """See ``seams.Gateway``."""

    def view(self, service: observed.ServiceKey) -> observed.Gateway:
        """See ``seams.Gateway``."""
        return observed.Gateway(
            running=True, url="http://localhost:8080", applied=self._applied.get(service, frozenset())
        )

    async def watch(self) -> AsyncIterator[Collection[observed.ServiceKey]]:
        """See ``seams.Gateway``."""
        while True:
            await self._news.wait()
            self._news.clear()
            moved, self._moved = self._moved, set()
            yield moved

    async def close(self) -> None:
        """See ``seams.Gateway``."""

    async def stop(self) -> None:
        """See ``seams.Gateway``."""


def service(name: str, replicas: int = 0, *, stopped: bool = False) -> dict[str, Any]:
    """An InferenceService as a user writes it."""
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {
            "name": name,
            "namespace": "default",
            "labels": {"team": "fraud"},
            "annotations": {
                "autoscaling.knative.dev/initial-scale": "0",
                **({"serving.kserve.io/stop": "true"} if stopped else {}),
            },
        },
        "spec": {
            "predictor": {
                "minReplicas": replicas,
                "model": {
                    "modelFormat": {"name": "sklearn"},
                    "storageUri": f"https://models.example.com/{name}/model.joblib",
                },
            }
        },
    }


def scaled(name: str, target: str) -> dict[str, Any]:
    """A ScaledObject as a user writes it; by the time of day, so that nothing has to be measured."""
    always = {"timezone": "Etc/UTC", "start": "0 0 1 1 *", "end": "0 1 1 1 *", "desiredReplicas": "1"}
    return {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "scaleTargetRef": {"kind": "InferenceService", "name": target},
            "minReplicaCount": 1,
            "maxReplicaCount": 2,
            "triggers": [{"type": "cron", "metadata": always}],
        },
    }


class Plane:
    """A control plane over the small world."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.database = sqlite.Database(folder / "state.db")
        self.catalog = rules.catalog()
        self.begun: dict[observed.ServiceKey, float] = {}
        self.backend = small_world.Backend(self._applied)
        self.gateway = Gateway()
        self._acted = asyncio.Event()

    def _applied(self, service: observed.ServiceKey, todo: Sequence[actions.Action]) -> None:
        if any(isinstance(one, (actions.StartReplica, actions.StopReplica)) for one in todo):
            self.begun[service] = time.perf_counter()
            self._acted.set()

    def key(self, name: str, kind: str = "InferenceService") -> store.Key:
        return store.Key(self.catalog.kind(kind).id, "default", name)

    async def __aenter__(self) -> Plane:
        await self.database.open()
        drained = frozenset(one.id for one in self.catalog.all if one.drained)
        self.kept = ledger.Ledger(self.database, drained=drained, targets=self.catalog.targets())
        self.meter = metrics.Metrics()
        self.turning = loop.Loop(
            kept=self.kept, catalog=self.catalog, backend=self.backend, gateway=self.gateway,
            facts_of=facts.Facts(self.backend, self.gateway), planner=planner.Planner(),
            book=journal.Journal(self.kept), meter=self.meter,
        )  # fmt: skip
        self._tasks = aio.Tasks(_raise)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.turning.close()
        await self._tasks.close()
        await self.kept.close()

    def start(self) -> None:
        """Have the loop run."""
        self._tasks.start(self.turning.run(), name="loop")

    def looks(self) -> float:
        """How many reconciliations there have been."""
        return self.meter.reconciles.labels("ok")._value.get()

    async def settled(self, looks: float) -> None:
        """Wait for so many looks at least, and for a moment without another."""
        async with asyncio.timeout(_DEADLINE):
            while self.looks() < looks:  # noqa: ASYNC110 - a counter that nobody tells of
                await asyncio.sleep(0.001)
            before = -1.0
            while before != self.looks():
                before = self.looks()
                await asyncio.sleep(0.05)

    async def change(self, name: str, replicas: int) -> float:
        """Give a service so many replicas; seconds from the write to its action."""
        who = observed.ServiceKey("default", name)
        self.begun.pop(who, None)
        began = time.perf_counter()
        await self.kept.replace(self.key(name), service(name, 1, stopped=not replicas))
        async with asyncio.timeout(_DEADLINE):
            while who not in self.begun:
                self._acted.clear()
                await self._acted.wait()
        return self.begun[who] - began


def _raise(name: str, error: BaseException) -> None:
    raise RuntimeError(f"{name} ended") from error


async def fill(folder: pathlib.Path, count: int, *, with_scalers: bool = False) -> None:
    async with Plane(folder) as plane:
        for first in range(0, count, 500):
            names = [f"s{number:05d}" for number in range(first, min(count, first + 500))]
            bodies = [(plane.key(name), service(name, stopped=with_scalers)) for name in names]
            if with_scalers:
                bodies += [(plane.key(name, "ScaledObject"), scaled(name, name)) for name in names]
            await asyncio.gather(*(plane.kept.create(key, body) for key, body in bodies))


async def _measure(folder: pathlib.Path, count: int, changes: int) -> dict[str, float]:
    me = psutil.Process()
    async with Plane(folder) as plane:
        gc.collect()
        empty = me.memory_info().rss
        started = await _start(plane, count)
        gc.collect()
        full = me.memory_info().rss
        before, looks = time.process_time(), plane.looks()
        await asyncio.sleep(_IDLE_SECONDS)
        idle = (time.process_time() - before) / _IDLE_SECONDS
        idle_looks = plane.looks() - looks
        spent, busy = [], []
        for number in range(changes):
            name = f"s{number // 2 * 7919 % count:05d}"
            at = time.process_time()
            spent.append(await plane.change(name, (number + 1) % 2))
            # All that follows of it: status, journal, route, and the look at what the route did.
            await asyncio.sleep(0.03)
            busy.append(time.process_time() - at)
        ordered = sorted(spent)
        return {
            "services": count,
            "changes": changes,
            "p50_ms": statistics.median(spent) * 1e3,
            "p99_ms": ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))] * 1e3,
            "cpu_ms": statistics.median(busy) * 1e3,
            "idle_percent": idle * 100,
            "idle_looks": idle_looks,
            "start_s": started,
            "rss_mib": full / 2**20,
            "kb_each": (full - empty) / 1e3 / count,
        }


async def _start(plane: Plane, count: int) -> float:
    """Start the loop; seconds until everything has been looked at."""
    began = time.perf_counter()
    plane.start()
    await plane.settled(count)
    return time.perf_counter() - began - 0.05


async def _first(folder: pathlib.Path, count: int) -> dict[str, float]:
    """The start that finds objects without a status: every one of them is written."""
    async with Plane(folder) as plane:
        return {"first_start_s": await _start(plane, count)}


def _one(count: int, changes: int, *, with_scalers: bool) -> dict[str, float]:
    """One size, its objects stored by a process of its own, so that their making is not in the memory measured."""
    with tempfile.TemporaryDirectory(prefix="mlship-loop-") as name:
        folder = pathlib.Path(name)
        command = [sys.executable, "-m", "bench.control_loop", "--folder", name]
        found: dict[str, float] = {}
        for step in ("--fill", "--first", "--measure"):
            done = subprocess.run(
                [*command, step, str(count), "--changes", str(changes), *(["--scaled"] if with_scalers else [])],
                check=True,
                stdout=subprocess.PIPE,
            )
            found |= json.loads(done.stdout)
        found["database_mib"] = sum(one.stat().st_size for one in folder.iterdir()) / 2**20
        return found


def table(rows: Sequence[dict[str, float]]) -> str:
    """For people."""
    head = ("services", "p50", "p99", "CPU/change", "idle CPU", "first", "start", "RSS", "each")
    lines = ["".join(f"{word:>12}" for word in head)]
    for one in rows:
        cells = (
            f"{one['services']:.0f}",
            f"{one['p50_ms']:.2f} ms",
            f"{one['p99_ms']:.2f} ms",
            f"{one['cpu_ms']:.2f} ms",
            f"{one['idle_percent']:.2f} %",
            f"{one['first_start_s']:.2f} s",
            f"{one['start_s']:.2f} s",
            f"{one['rss_mib']:.0f} MiB",
            f"{one['kb_each']:.1f} kB",
        )
        lines.append("".join(f"{cell:>12}" for cell in cells))
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.control_loop", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--changes", type=int, default=200)
    parser.add_argument("--scaled", action="store_true", help="each service has a ScaledObject")
    parser.add_argument("--json", type=pathlib.Path)
    for hidden, kind in (("--folder", pathlib.Path), ("--fill", int), ("--first", int), ("--measure", int)):
        parser.add_argument(hidden, type=kind, help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    if asked.fill is not None:
        aio.run(fill(asked.folder, asked.fill, with_scalers=asked.scaled))
        print("{}")
    elif asked.first is not None:
        print(json.dumps(aio.run(_first(asked.folder, asked.first))))
    elif asked.measure is not None:
        print(json.dumps(aio.run(_measure(asked.folder, asked.measure, asked.changes))))
    else:
        found = conditions.now()
        rows = [_one(size, asked.changes, with_scalers=asked.scaled) for size in asked.sizes]
        print(f"{conditions.line(found)}\n{table(rows)}")
        if asked.json is not None:
            conditions.keep(asked.json, "control_loop", found, rows=rows)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
