"""From one replica to several under a load that comes at once: when the first new replica answers.

    python -m bench.step [--times 5] [--rate 100] [--json FILE]

A model of a user's own takes 50 ms for each request and says which process it is. The service has one replica, may have
four, and shall have two requests at a time in each (``autoscaling.knative.dev/target``). From one moment on requests
come in an open loop at more than one replica can answer. Measured: the time from the first of them to the first answer
by another process than before, and to the fourth process. Then the service rests until it has one replica again. Goal:
one second to the first new replica.
"""

from __future__ import annotations

import argparse
import asyncio
import pathlib
import statistics
import sys
import time
from collections.abc import Sequence
from typing import Any

import orjson
import uvloop

from bench import conditions, installation, openloop

GOAL_SECONDS = 1.0
_MOST = 4
_BODY = b'{"inputs":[{"name":"x","shape":[1,1],"datatype":"FP64","data":[1.0]}]}'
_MODEL = """
import os
import time

import numpy as np


class Model:
    def predict(self, x: np.ndarray) -> np.ndarray:
        time.sleep(0.05)
        return np.array([os.getpid()])
"""
_ANNOTATIONS = {
    "autoscaling.knative.dev/metric": "concurrency",
    "autoscaling.knative.dev/target": "2",
    "autoscaling.knative.dev/window": "6s",
}
_REST_SECONDS = 180.0


class Load(openloop.Load):
    """A load that notes when each process answered first."""

    def __init__(self, url: str, request: bytes, **more: Any) -> None:
        super().__init__(url, request, **more)
        self.first: dict[int, float] = {}

    def good(self, answer: list[bytes]) -> None:
        """See ``openloop.Load``."""
        super().good(answer)
        pid = int(orjson.loads(b"".join(answer))["outputs"][0]["data"][0])
        self.first.setdefault(pid, time.perf_counter())


def _load(url: str, *, rate: float, seconds: float) -> Load:
    where = f"{url}/v2/models/step/infer".replace("localhost", "127.0.0.1")
    request = openloop.request_of(where, _BODY, ["Content-Type: application/json"])
    return Load(where, request, rate=rate, seconds=seconds, connections=512)


async def once(made: installation.Installation, *, rate: float, seconds: float) -> dict[str, Any]:
    """One step; the service has one replica before it."""
    before = _load(made.url, rate=1.0, seconds=2.0)
    await before.run()
    (old,) = before.first
    load = _load(made.url, rate=rate, seconds=seconds)
    began = time.perf_counter()
    await load.run(grace=30.0)
    times = sorted(at - began for pid, at in load.first.items() if pid != old)
    figures = openloop.figures(load.outcomes, due=load.due, seconds=seconds)
    return {
        "first_s": times[0] if times else None,
        "all_s": times[_MOST - 2] if len(times) >= _MOST - 1 else None,
        "replicas": len(times) + 1,
        "failed": figures["failed"],
        "p99_ms": figures["p99_ms"],
    }


async def rest(made: installation.Installation) -> None:
    """Wait until one replica is left."""
    async with asyncio.timeout(_REST_SECONDS):
        while True:
            service = await asyncio.to_thread(made.control.get, "isvc", "step")
            count = ((service.get("status") or {}).get("mlship") or {}).get("replicas") or {}
            if (count.get("wanted"), count.get("ready")) == (1, 1):
                return
            await asyncio.sleep(0.2)


async def run(made: installation.Installation, *, times: int, rate: float, seconds: float) -> dict[str, Any]:
    """So many steps."""
    source = made.where.root.parent / "model.py"
    source.write_text(_MODEL)
    shape: dict[str, Any] = {"model_format": "python", "annotations": _ANNOTATIONS}
    await asyncio.to_thread(made.apply, "step", f"file://{source}", minReplicas=1, maxReplicas=_MOST, **shape)
    steps = []
    for _ in range(times):
        await rest(made)
        steps.append(await once(made, rate=rate, seconds=seconds))
    first = [one["first_s"] for one in steps if one["first_s"] is not None]
    return {
        "steps": steps,
        "rate": rate,
        "seconds": seconds,
        "first_s": statistics.median(first) if len(first) == len(steps) else None,
        "slowest_s": max(first) if len(first) == len(steps) else None,
        "failed": sum(one["failed"] for one in steps),
    }


def table(found: dict[str, Any]) -> str:
    """For people."""
    lines = [f"{'step':>6}{'first new':>12}{'all':>12}{'replicas':>10}{'failed':>8}{'p99':>12}"]
    for number, one in enumerate(found["steps"], 1):
        lines.append(
            f"{number:6}{_seconds(one['first_s']):>12}{_seconds(one['all_s']):>12}{one['replicas']:10}"
            f"{one['failed']:8.0f}{one['p99_ms']:9.0f} ms"
        )
    return "\n".join([*lines, f"median to the first new replica: {_seconds(found['first_s'])}"])


def _seconds(value: float | None) -> str:
    return "never" if value is None else f"{value:.2f} s"


def main(arguments: Sequence[str]) -> int:
    """The command line; 1 when no replica came."""
    parser = argparse.ArgumentParser(prog="python -m bench.step", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--rate", type=float, default=100.0, help="requests in a second")
    parser.add_argument("--seconds", type=float, default=10.0, help="how long they come")
    parser.add_argument("--json", type=pathlib.Path)
    asked = parser.parse_args(arguments)
    before = conditions.now()
    with installation.installed() as made:
        found = uvloop.run(run(made, times=asked.times, rate=asked.rate, seconds=asked.seconds))
    print(f"{conditions.line(before)}\n{table(found)}")
    if asked.json is not None:
        conditions.keep(asked.json, "step", before, **found)
    return int(found["first_s"] is None)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
