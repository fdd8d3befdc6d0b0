"""Rolling updates and scaling in a row under a steady load: every failed request is counted, and said what it was.

    python -m bench.rolling [--updates 100] [--cycles 10] [--rate 300] [--json FILE]

A service with two replicas behind the real Envoy, its model a scikit-learn pipeline. Short requests come in an open
loop, and beside them a few long ones, which a model of a user's own answers only after half a second: some of those are
under way whenever a replica ends. Each update changes an environment variable, which makes a new revision; the next one
begins when the one before is ready, whether its old replicas have ended or not. Then ``minReplicas`` goes from 1 to 4
and back, again and again. Goal: no failed request.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import dataclasses
import json
import pathlib
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import uvloop

from bench import conditions, installation, models, openloop

GOAL_FAILED = 0
_BODY = b'{"inputs":[{"name":"input-0","shape":[1,4],"datatype":"FP64","data":[5.1,3.5,1.4,0.2]}]}'
_LONGEST = 24 * 3600.0
_READY_SECONDS = 60.0
_SCALED_SECONDS = 120.0
# How many are wanted shall follow minReplicas soon, and the load itself shall ask for no more than one.
_QUICK = {"autoscaling.knative.dev/window": "6s", "autoscaling.knative.dev/target": "1000"}
_SLOW_RATE = 10.0
_SLOW_SECONDS = 0.5
_SLOW = f"""
import time

import numpy as np


class Model:
    def predict(self, x: np.ndarray) -> np.ndarray:
        time.sleep({_SLOW_SECONDS})
        return x
"""


@dataclasses.dataclass(frozen=True, slots=True)
class Failed:
    """One request that was not answered with 200: when after the begin of the load, after which step, and what."""

    kind: str
    at: float
    after: str
    seconds: float
    status: int
    said: str


class Traffic:
    """Loads under way, and what was being done when a request failed."""

    def __init__(self, loads: dict[str, openloop.Load]) -> None:
        self._loads = loads
        self._began = time.perf_counter()
        self._steps: list[tuple[float, str]] = [(self._began, "begin")]
        self._stop = asyncio.Event()

    def step(self, what: str) -> None:
        """From now on this is what is being done."""
        self._steps.append((time.perf_counter(), what))

    async def during(self, work: Callable[[], Awaitable[None]]) -> None:
        """Send while ``work`` is done, and a second before and after it."""

        async def whole() -> None:
            try:
                await asyncio.sleep(1.0)
                await work()
                await asyncio.sleep(1.0)
            finally:
                self._stop.set()

        async with asyncio.TaskGroup() as group:
            for load in self._loads.values():
                group.create_task(load.run(grace=10.0, stop=self._stop))
            group.create_task(whole())

    def failed(self) -> list[Failed]:
        """What failed, and what got no answer at all."""
        found = []
        for kind, load in self._loads.items():
            for one in load.outcomes:
                if one.status != 200:
                    after = [what for at, what in self._steps if at <= one.due][-1:]
                    found.append(
                        Failed(
                            kind, one.due - self._began, "".join(after), one.ended - one.due, one.status, one.said[:300]
                        )
                    )
            if missing := load.due - len(load.outcomes):
                found.append(Failed(kind, -1.0, "", -1.0, 0, f"{missing} without any answer"))
        return found

    def figures(self) -> dict[str, Any]:
        """How many of each kind, and their latencies."""
        return {
            kind: openloop.figures(load.outcomes, due=load.due, seconds=time.perf_counter() - self._began)
            | {"requests": load.due}
            for kind, load in self._loads.items()
        }


def _load(url: str, name: str, rate: float) -> openloop.Load:
    where = f"{url}/v2/models/{name}/infer".replace("localhost", "127.0.0.1")
    request = openloop.request_of(where, _BODY, ["Content-Type: application/json"])
    return openloop.Load(where, request, rate=rate, seconds=_LONGEST, connections=128)


async def rolling(
    made: installation.Installation, uris: dict[str, str], *, updates: int, rate: float
) -> dict[str, Any]:
    """So many updates in a row of each service, both with two replicas."""
    common: dict[str, Any] = {"minReplicas": 2, "maxReplicas": 2, "wait": _READY_SECONDS}
    for name, uri in uris.items():
        await asyncio.to_thread(made.apply, name, uri, **_of(name), **common)
    traffic = Traffic({name: _load(made.url, name, rate if name == "quick" else _SLOW_RATE) for name in uris})
    took: list[float] = []

    async def work() -> None:
        for number in range(updates):
            traffic.step(f"update {number}")
            began = time.perf_counter()
            async with asyncio.TaskGroup() as group:
                for name, uri in uris.items():
                    again = {"env": {"ROUND": str(number)}, **_of(name), **common}
                    group.create_task(asyncio.to_thread(made.apply, name, uri, **again))
            took.append(time.perf_counter() - began)

    await traffic.during(work)
    return _result(traffic, took)


async def scaling(made: installation.Installation, uri: str, *, cycles: int, rate: float) -> dict[str, Any]:
    """1 -> 4 -> 1 replicas, so many times; a step ends when so many get traffic."""
    shape: dict[str, Any] = {"maxReplicas": 4, "annotations": _QUICK}
    await asyncio.to_thread(made.apply, "scaled", uri, minReplicas=1, wait=_READY_SECONDS, **shape)
    traffic = Traffic({"scaled": _load(made.url, "scaled", rate)})
    took: list[float] = []

    async def work() -> None:
        for number in range(cycles):
            for replicas in (4, 1):
                traffic.step(f"cycle {number}, to {replicas}")
                began = time.perf_counter()
                await asyncio.to_thread(made.apply, "scaled", uri, minReplicas=replicas, wait=0, **shape)
                await _counted(made, "scaled", replicas)
                took.append(time.perf_counter() - began)
                await asyncio.sleep(0.5)

    await traffic.during(work)
    return _result(traffic, took)


async def _counted(made: installation.Installation, name: str, replicas: int) -> None:
    """Wait until so many replicas are wanted and get traffic."""
    async with asyncio.timeout(_SCALED_SECONDS):
        while True:
            service = await asyncio.to_thread(made.control.get, "isvc", name)
            count = ((service.get("status") or {}).get("mlship") or {}).get("replicas") or {}
            if (count.get("wanted"), count.get("ready")) == (replicas, replicas):
                return
            await asyncio.sleep(0.05)


def _of(name: str) -> dict[str, Any]:
    return {"model_format": "python"} if name == "slow" else {}


def _result(traffic: Traffic, took: Sequence[float]) -> dict[str, Any]:
    failed = traffic.failed()
    return {
        "requests": traffic.figures(),
        "steps": len(took),
        "step_s": statistics.median(took) if took else 0.0,
        "failed": len(failed),
        "failures": [dataclasses.asdict(one) for one in failed[:200]],
    }


def sources(folder: pathlib.Path) -> dict[str, str]:
    """The two models."""
    slow = folder / "model.py"
    slow.write_text(_SLOW)
    return {"quick": f"file://{models.iris().path}", "slow": f"file://{slow}"}


def table(found: dict[str, Any]) -> str:
    """For people."""
    lines = [f"{'':10}{'requests':>10}{'failed':>8}{'steps':>7}{'a step':>10}{'p50':>10}{'p99':>10}{'max':>10}"]
    for part, one in found.items():
        for kind, figures in one["requests"].items():
            failed = sum(problem["kind"] == kind for problem in one["failures"])
            lines.append(
                f"{kind:10}{figures['requests']:10.0f}{failed:8}{one['steps']:7}{one['step_s']:8.2f} s"
                f"{figures['p50_ms']:7.1f} ms{figures['p99_ms']:7.1f} ms{figures['max_ms']:7.0f} ms  {part}"
            )
        kinds = collections.Counter((one["kind"], one["status"], one["said"][:120]) for one in one["failures"])
        lines += [f"    {count} x {kind}: {status} {said}" for (kind, status, said), count in kinds.most_common()]
    return "\n".join(lines)


def measure(*, updates: int, cycles: int, rate: float) -> dict[str, Any]:
    """Both parts, in an installation of their own."""
    found = {}
    with installation.installed() as made:
        uris = sources(made.where.root.parent)
        if updates:
            found["rolling"] = uvloop.run(rolling(made, uris, updates=updates, rate=rate))
        if cycles:
            found["scaling"] = uvloop.run(scaling(made, uris["quick"], cycles=cycles, rate=rate))
    return found


def main(arguments: Sequence[str]) -> int:
    """The command line; 1 when a request failed."""
    parser = argparse.ArgumentParser(prog="python -m bench.rolling", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--updates", type=int, default=100)
    parser.add_argument("--cycles", type=int, default=10)
    parser.add_argument("--rate", type=float, default=300.0, help="short requests in a second")
    parser.add_argument("--json", type=pathlib.Path)
    asked = parser.parse_args(arguments)
    before = conditions.now()
    found = measure(updates=asked.updates, cycles=asked.cycles, rate=asked.rate)
    print(f"{conditions.line(before)}\n{table(found)}")
    for part in found.values():
        for one in part["failures"][:20]:
            print(json.dumps(one))
    if asked.json is not None:
        conditions.keep(asked.json, "rolling", before, **found)
    return int(any(part["failed"] > GOAL_FAILED for part in found.values()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
