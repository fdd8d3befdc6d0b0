"""The first request to a service at zero, through Envoy: how long it waits, and that nobody is turned away.

    python -m bench.wakeups [--times 30] [--storm [1000]] [--callers 20] [--json FILE]

For a scikit-learn, an XGBoost and an ONNX model, in the cache already: a request to the sleeping service, its time from
the first byte sent to the last received, on a connection that is there. Then the service goes back to zero (a stable
window of a few seconds, nothing else is sent), until no process of it is left, and again. The phases are those that the
replica logged. ``--storm``: services sleep side by side, and each is woken by 20 callers at once, one after the other,
until there were so many wake-ups. Goals: p50 150 ms, p99 400 ms, no failed request.
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
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import uvloop

from bench import conditions, installation, models, openloop
from mlship import client

GOAL_P50_MS, GOAL_P99_MS, GOAL_FAILED = 150, 400, 0
_SLEEPY = {"autoscaling.knative.dev/window": "6s", "autoscaling.knative.dev/scale-to-zero-pod-retention-period": "0s"}
_ASLEEP_SECONDS = 120.0
_REQUEST_SECONDS = 70.0
_STORM_SERVICES = 50
KINDS = {"sklearn": models.iris, "xgboost": models.xgboost, "onnx": models.onnx}
_DATATYPES = {"sklearn": "FP64", "xgboost": "FP32", "onnx": "FP64"}


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """One request: seconds, status (0: none), and what was said when it was not good."""

    seconds: float
    status: int
    said: str = ""


class Caller:
    """A connection to the gateway that is there before its request."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def to(cls, url: str) -> Caller:
        """Connect."""
        parts = urlsplit(url)
        async with asyncio.timeout(_REQUEST_SECONDS):
            return cls(*await asyncio.open_connection("127.0.0.1", parts.port))

    async def ask(self, request: bytes) -> Answer:
        """Send, and read the whole answer."""
        began = time.perf_counter()
        try:
            async with asyncio.timeout(_REQUEST_SECONDS):
                self._writer.write(request)
                head = await self._reader.readuntil(b"\r\n\r\n")
                status = int(head.split(b" ", 2)[1])
                lines = [line.partition(b":") for line in head.lower().split(b"\r\n")]
                length = next((int(value) for name, _, value in lines if name == b"content-length"), 0)
                body = await self._reader.readexactly(length)
        except (OSError, TimeoutError, asyncio.IncompleteReadError, ValueError) as error:
            return Answer(time.perf_counter() - began, 0, f"{type(error).__name__}: {error}")
        said = "" if status == 200 else body[:300].decode(errors="replace")
        return Answer(time.perf_counter() - began, status, said)

    def close(self) -> None:
        """End the connection."""
        self._writer.close()


def request(url: str, name: str, kind: str) -> bytes:
    """A prediction for one row."""
    row = {"name": "input-0", "shape": [1, 4], "datatype": _DATATYPES[kind], "data": [5.1, 3.5, 1.4, 0.2]}
    where = f"{url}/v2/models/{name}/infer"
    return openloop.request_of(where, json.dumps({"inputs": [row]}).encode(), ["Content-Type: application/json"])


def asleep(service: client.Object) -> bool:
    """Whether nothing of a service runs, and nothing is wanted to."""
    count = ((service.get("status") or {}).get("mlship") or {}).get("replicas") or {}
    return count.get("wanted") == 0 and count.get("ready") == 0


async def sleep(made: installation.Installation, name: str) -> float:
    """Wait until a service is at zero and its route with the gate is in place; seconds."""
    began = time.perf_counter()
    async with asyncio.timeout(_ASLEEP_SECONDS):
        while True:
            if asleep(await asyncio.to_thread(made.control.get, "isvc", name)) and not _replicas(made, name):
                return time.perf_counter() - began
            await asyncio.sleep(0.1)


def _replicas(made: installation.Installation, name: str) -> list[pathlib.Path]:
    """The records of processes of a service."""
    found = []
    for path in made.where.records.glob("*.json"):
        try:
            record = json.loads(path.read_bytes())
        except (OSError, ValueError):
            continue  # it is being replaced or removed
        labels = dict((record.get("job") or {}).get("labels") or ())
        if labels.get("service") == name:
            found.append(path)
    return found


async def prepare(made: installation.Installation, name: str, kind: str) -> None:
    """A service whose model is fetched and proven, back at zero."""
    source = KINDS[kind]()
    shape: dict[str, Any] = {"model_format": kind, "annotations": _SLEEPY, "maxReplicas": 1}
    # One replica first, so that the bytes are in the cache and what is compiled is proven.
    await asyncio.to_thread(made.apply, name, f"file://{source.path}", minReplicas=1, **shape)
    await asyncio.to_thread(made.apply, name, f"file://{source.path}", minReplicas=0, wait=0, **shape)
    await sleep(made, name)


async def one_kind(made: installation.Installation, kind: str, *, times: int) -> dict[str, Any]:
    """So many first requests to a sleeping service of a kind."""
    name = f"wake-{kind}"
    await prepare(made, name, kind)
    answers = []
    for _ in range(times):
        caller = await Caller.to(made.url)
        answers.append(await caller.ask(request(made.url, name, kind)))
        caller.close()
        await sleep(made, name)
    return figures(answers) | {"phases_ms": _phases(made, name)}


def _phases(made: installation.Installation, name: str) -> dict[str, float]:
    """The median of each phase of a start, as the replicas logged them, in ms."""
    found: dict[str, list[float]] = collections.defaultdict(list)
    for path in (made.where.logs / "default" / name).glob("*.log"):
        for line in path.read_text().splitlines():
            entry = json.loads(line) if line.startswith("{") else {}
            if entry.get("event") == "started" and entry.get("how") == "forked":
                for phase, value in entry.items():
                    if isinstance(value, float):
                        found[phase].append(value)
    return {phase: round(statistics.median(values) * 1e3, 1) for phase, values in found.items()}


async def storm(made: installation.Installation, *, wakeups: int, callers: int) -> dict[str, Any]:
    """Services that sleep side by side, each woken by so many callers at once."""
    names = [f"storm-{number:02d}" for number in range(min(_STORM_SERVICES, wakeups))]
    async with asyncio.TaskGroup() as group:
        limit = asyncio.Semaphore(4)
        for name in names:
            group.create_task(_limited(limit, made, name))
    answers: list[Answer] = []
    woken = 0
    while woken < wakeups:
        for name in names[: wakeups - woken]:
            together = [await Caller.to(made.url) for _ in range(callers)]
            answers += await asyncio.gather(*(one.ask(request(made.url, name, "sklearn")) for one in together))
            for one in together:
                one.close()
            woken += 1
        for name in names:
            await sleep(made, name)
    return figures(answers) | {"wakeups": woken, "callers": callers}


async def _limited(limit: asyncio.Semaphore, made: installation.Installation, name: str) -> None:
    async with limit:
        await prepare(made, name, "sklearn")


def figures(answers: Sequence[Answer]) -> dict[str, Any]:
    """What the answers say together."""
    spent = [one.seconds * 1e3 for one in answers if one.status == 200]
    failures = collections.Counter(f"{one.status} {one.said}" for one in answers if one.status != 200)
    return {
        "requests": len(answers),
        "failed": sum(failures.values()),
        "failures": dict(failures.most_common(20)),
        "p50_ms": openloop.percentile(spent, 0.5),
        "p99_ms": openloop.percentile(spent, 0.99),
        "max_ms": max(spent, default=float("nan")),
    }


async def run(made: installation.Installation, *, times: int, wakeups: int, callers: int) -> dict[str, Any]:
    """Both measurements."""
    found = {kind: await one_kind(made, kind, times=times) for kind in KINDS} if times else {}
    if wakeups:
        found["storm"] = await storm(made, wakeups=wakeups, callers=callers)
    return found


def table(found: dict[str, Any]) -> str:
    """For people."""
    lines = [f"{'':10}{'requests':>10}{'failed':>8}{'p50':>10}{'p99':>10}{'max':>10}"]
    for kind, one in found.items():
        lines.append(
            f"{kind:10}{one['requests']:10}{one['failed']:8}{one['p50_ms']:7.0f} ms{one['p99_ms']:7.0f} ms"
            f"{one['max_ms']:7.0f} ms"
        )
        if phases := one.get("phases_ms"):
            lines.append("    " + ", ".join(f"{phase} {value:.0f} ms" for phase, value in phases.items()))
        lines += [f"    {count} x {what[:150]}" for what, count in one["failures"].items()]
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> int:
    """The command line; 1 when a request failed."""
    parser = argparse.ArgumentParser(prog="python -m bench.wakeups", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--times", type=int, default=30, help="wake-ups of each kind of model")
    parser.add_argument("--storm", type=int, nargs="?", const=1000, default=0, metavar="WAKEUPS")
    parser.add_argument("--callers", type=int, default=20)
    parser.add_argument("--json", type=pathlib.Path)
    asked = parser.parse_args(arguments)
    before = conditions.now()
    with installation.installed() as made:
        found = uvloop.run(run(made, times=asked.times, wakeups=asked.storm, callers=asked.callers))
    print(f"{conditions.line(before)}\n{table(found)}")
    if asked.json is not None:
        conditions.keep(asked.json, "wakeups", before, **found)
    return int(any(one["failed"] > GOAL_FAILED for one in found.values()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
