"""Open-loop load: a request every 1/rate seconds whatever the answers do, latencies free of coordinated omission.

Each request is due at a time fixed beforehand, and its latency counts from then, also while it waits for a connection:
a server that stalls for a second shows in a second's worth of requests, not in one. What is not answered when the load
and its grace are over counts as failed.

Run as a program: one process with its own loop (uvloop), so that its work is not in the way of whoever started it. It
prints one line of JSON. ``late_ms`` is how late the generator itself sent, the 99th percentile over requests for which
a connection was free: when it is not far below the latencies, the generator was the bottleneck.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import dataclasses
import json
import math
import pathlib
import sys
import time
from collections.abc import Sequence
from urllib.parse import urlsplit

import httptools
import uvloop

GRACE_SECONDS = 5.0


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """One request, on ``time.perf_counter``: due, sent, ended; its status, 0 when the connection broke.

    ``waited``: no connection was free when it was due, which is the server's doing and not the generator's. ``said``:
    the beginning of an answer that is not good, or why there is none.
    """

    due: float
    sent: float
    ended: float
    status: int
    waited: bool = False
    said: str = ""


class Connection(asyncio.Protocol):
    """One keep-alive connection with at most one request under way."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._due = self._sent = 0.0
        self._busy = self._waited = False
        self._parts: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def send(self, due: float, request: bytes, *, waited: bool = False) -> None:
        if self._transport is None:
            raise RuntimeError("sent before it was connected")
        self._due, self._sent, self._busy, self._waited = due, time.perf_counter(), True, waited
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.close()

    def on_body(self, data: bytes) -> None:
        self._parts.append(data)

    def on_message_complete(self) -> None:
        answer, self._parts = self._parts, []
        if not self._busy:
            return
        self._busy = False
        status = self._parser.get_status_code()
        if status == 200:
            self._load.good(answer)
        self._tell(status, "" if status == 200 else b"".join(answer)[:300].decode(errors="replace"))
        if self._parser.should_keep_alive():
            self._parser = httptools.HttpResponseParser(self)
            self._load.free(self)
        else:
            self.close()

    def connection_lost(self, error: Exception | None) -> None:
        self._load.lost(self)
        if self._busy:
            self._busy = False
            self._tell(0, f"the connection ended: {error}")

    def _tell(self, status: int, said: str = "") -> None:
        self._load.ended(Outcome(self._due, self._sent, time.perf_counter(), status, self._waited, said))

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


class Load:
    """Requests due at fixed times, over at most ``connections`` connections; the others wait, and their clock runs."""

    def __init__(self, url: str, request: bytes, *, rate: float, seconds: float, connections: int) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "", parts.port or 80
        self._request = request
        self._rate, self._seconds, self._limit = rate, seconds, connections
        self._idle: list[Connection] = []
        self._all: set[Connection] = set()
        self._connecting: set[asyncio.Task[None]] = set()
        self._waiting: collections.deque[float] = collections.deque()
        self._finished = asyncio.Event()
        self.outcomes: list[Outcome] = []
        self.answer: list[bytes] = []  # the last good one's body, in parts
        self.due = 0

    async def run(self, *, grace: float = GRACE_SECONDS, stop: asyncio.Event | None = None) -> None:
        """Send until the time is over or ``stop`` is set, then wait ``grace`` seconds at most for what is under way."""
        total = max(1, round(self._rate * self._seconds))
        began = time.perf_counter()
        while self.due < total and not (stop is not None and stop.is_set()):
            now = time.perf_counter()
            while self.due < total and began + self.due / self._rate <= now:
                self._one(began + self.due / self._rate)
                self.due += 1
            await asyncio.sleep(max(0.0, began + self.due / self._rate - time.perf_counter()))
        until = time.perf_counter() + grace
        while len(self.outcomes) < self.due and time.perf_counter() < until:
            self._finished.clear()
            try:
                async with asyncio.timeout(until - time.perf_counter()):
                    await self._finished.wait()
            except TimeoutError:
                break
        self._close()

    def _one(self, due: float) -> None:
        if self._idle:
            self._idle.pop().send(due, self._request)
            return
        self._waiting.append(due)
        if len(self._all) + len(self._connecting) < self._limit:
            task = asyncio.get_running_loop().create_task(self._connect())
            self._connecting.add(task)
            task.add_done_callback(self._connecting.discard)

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            _, made = await loop.create_connection(lambda: Connection(self), self._host, self._port)
        except OSError as error:
            if self._waiting:
                due = self._waiting.popleft()
                self.ended(Outcome(due, due, time.perf_counter(), 0, said=f"not connected: {error}"))
            return
        self._all.add(made)
        self.free(made)

    def free(self, connection: Connection) -> None:
        if self._waiting:
            connection.send(self._waiting.popleft(), self._request, waited=True)
        else:
            self._idle.append(connection)

    def good(self, answer: list[bytes]) -> None:
        """An answer with status 200 has come."""
        self.answer = answer

    def lost(self, connection: Connection) -> None:
        self._all.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)

    def ended(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)
        self._finished.set()

    def _close(self) -> None:
        for task in list(self._connecting):
            task.cancel()
        # Counted first: closing makes each request under way end as a broken one, which it is not.
        self.outcomes = list(self.outcomes)
        kept = len(self.outcomes)
        for connection in list(self._all):
            connection.close()
        del self.outcomes[kept:]


def percentile(values: Sequence[float], share: float) -> float:
    """The nearest rank: a latency that was measured, never one between two. Not a number for no values."""
    if not values:
        return math.nan
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def figures(outcomes: Sequence[Outcome], *, due: int, seconds: float) -> dict[str, float]:
    """The figures of a load of ``due`` requests over ``seconds``; latencies of answers with status 200, in ms."""
    good = [one for one in outcomes if one.status == 200]
    spent = [(one.ended - one.due) * 1000 for one in good]
    late = [(one.sent - one.due) * 1000 for one in good if not one.waited]
    # What came in the grace is no goodput of the load's own time: the rate is over the time to the last answer.
    window = max(seconds, max((one.ended for one in good), default=0.0) - min((one.due for one in good), default=0.0))
    return {
        "offered": due / seconds,
        "rate": len(good) / window,
        "failed": float(due - len(good)),
        "refused": float(sum(one.status not in (0, 200) for one in outcomes)),
        "lost": float(due - sum(one.status != 0 for one in outcomes)),
        "p50_ms": percentile(spent, 0.5),
        "p99_ms": percentile(spent, 0.99),
        "max_ms": max(spent, default=math.nan),
        "late_ms": percentile(late, 0.99),
    }


def request_of(url: str, body: bytes, headers: Sequence[str]) -> bytes:
    """The request's bytes: the same for every request of a load."""
    parts = urlsplit(url)
    lines = [f"POST {parts.path} HTTP/1.1", f"Host: {parts.netloc}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--body", type=pathlib.Path, required=True, help="file with the body")
    parser.add_argument("--header", action="append", default=[])
    parser.add_argument("--rate", type=float, required=True, help="requests in a second")
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--connections", type=int, default=256)
    parser.add_argument("--keep", type=pathlib.Path, help="where to write the body of the last answer of status 200")
    chosen = parser.parse_args(arguments)
    request = request_of(chosen.url, chosen.body.read_bytes(), chosen.header)

    async def load() -> Load:
        # Made inside the loop: its events belong to it.
        made = Load(chosen.url, request, rate=chosen.rate, seconds=chosen.seconds, connections=chosen.connections)
        await made.run()
        return made

    done = uvloop.run(load())
    if chosen.keep is not None:
        chosen.keep.write_bytes(b"".join(done.answer))
    print(json.dumps(figures(done.outcomes, due=done.due, seconds=chosen.seconds)))


if __name__ == "__main__":
    main(sys.argv[1:])
