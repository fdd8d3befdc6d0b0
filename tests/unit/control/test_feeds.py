"""The feeds with an Envoy of text, real processes and real sockets: what is read, how often, and what is told."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import pathlib
import re
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable

import httpx
import pytest

from mlship import aio, errors
from mlship.control import feeds, processes, queries
from mlship.plan import observed, scaling
from mlship.scale import policy as policies

IRIS, OTHER = observed.ServiceKey("default", "iris"), observed.ServiceKey("default", "other")


class Admin:
    """Answers with what it is told to count; keeps what it was asked."""

    def __init__(self) -> None:
        self.totals: dict[observed.ServiceKey, int] = {IRIS: 0, OTHER: 0}
        self.active = 0
        self.asked: list[str] = []
        self.down = False

    async def stats(self, pattern: str) -> str:
        self.asked.append(pattern)
        if self.down:
            raise errors.NotReady("Envoy is gone")
        lines = []
        for key, total in self.totals.items():
            name = f"cluster.{key}/abcd1234/http"
            lines += [f"{name}.upstream_rq_active: {self.active}", f"{name}.upstream_rq_total: {total}"]
        return "\n".join(line for line in lines if re.search(pattern, line.partition(":")[0]))


def by(
    kind: policies.Kind, origin: scaling.Origin, *, target: float = 10.0, least: int = 1, **more: object
) -> scaling.Scaling:
    metric = policies.Metric(kind.value, kind, target)
    policy = policies.Policy(min_replicas=least, max_replicas=9, metrics=(metric,))
    return scaling.Scaling(policy, (scaling.Source(kind.value, origin, **more),))  # type: ignore[arg-type]


TRAFFIC = by(policies.Kind.CONCURRENCY, scaling.Origin.GATEWAY)


def seen(key: observed.ServiceKey, place: str = "unix:/nowhere", pid: int | None = None) -> observed.Observed:
    replica = observed.Replica(
        observed.ReplicaId(key, "r1", 0), observed.Phase.RUNNING, 0.0, ready=True, endpoint=observed.Endpoint(place),
        pid=pid,
    )  # fmt: skip
    return observed.Observed(replicas=(replica,))


@contextlib.asynccontextmanager
async def feeding(admin: Admin, **more: object) -> AsyncIterator[feeds.Feeds]:
    made = feeds.Feeds(admin, **more)  # type: ignore[arg-type]
    failures: list[BaseException] = []
    async with aio.tasks(lambda name, error: failures.append(error)) as owner:
        owner.start(made.run(), name="feeds")
        yield made
    assert failures == []


def value(made: feeds.Feeds, kind: policies.Kind, key: observed.ServiceKey = IRIS) -> float | None:
    demand = made.of(key, now=made._clock())
    return demand.metrics[kind.value].stable if kind.value in demand.metrics else None


async def test_nothing_is_read_when_nothing_is_followed(until: Callable[..., object]) -> None:
    admin = Admin()
    async with feeding(admin) as made:
        fixed = scaling.Scaling(policies.Policy(min_replicas=2, max_replicas=2))
        made.follow(OTHER, fixed, seen(OTHER))
        made.follow(IRIS, None, seen(IRIS))
        made.follow(IRIS, TRAFFIC, observed.Observed())
        await asyncio.sleep(0.05)
        assert admin.asked == []
        made.follow(IRIS, TRAFFIC, seen(IRIS))
        await until(lambda: admin.asked)  # type: ignore[misc]
        assert "default/iris" in admin.asked[0]
        assert "other" not in admin.asked[0]
        assert made.of(OTHER, now=0.0) == observed.Demand()


async def test_traffic_becomes_demand_and_ends_with_the_service(until: Callable[..., object]) -> None:
    admin = Admin()
    admin.active = 3
    async with feeding(admin, waiting=lambda key: 2) as made:
        made.follow(IRIS, TRAFFIC, seen(IRIS))
        await until(lambda: value(made, policies.Kind.CONCURRENCY) == 5.0)  # type: ignore[misc]
        assert made.of(IRIS, now=made._clock()).busy is True
        made.follow(IRIS, None, observed.Observed())
        assert made.of(IRIS, now=made._clock()) == observed.Demand()


async def test_an_envoy_that_does_not_answer_is_unknown_and_asked_again(until: Callable[..., object]) -> None:
    admin = Admin()
    admin.down = True
    async with feeding(admin) as made:
        made.follow(IRIS, TRAFFIC, seen(IRIS))
        await until(lambda: len(admin.asked) >= 2)  # type: ignore[misc]
        assert value(made, policies.Kind.CONCURRENCY) is None
        admin.down = False
        await until(lambda: value(made, policies.Kind.CONCURRENCY) == 0.0)  # type: ignore[misc]


async def test_a_service_that_envoy_does_not_know_is_unknown(until: Callable[..., object]) -> None:
    admin = Admin()
    del admin.totals[IRIS]
    async with feeding(admin) as made:
        made.follow(IRIS, TRAFFIC, seen(IRIS))
        await until(lambda: len(admin.asked) >= 3)  # type: ignore[misc]
        assert value(made, policies.Kind.CONCURRENCY) is None


async def test_a_jump_is_told_at_once(until: Callable[..., object]) -> None:
    admin = Admin()
    async with feeding(admin) as made:
        made.follow(IRIS, TRAFFIC, seen(IRIS))
        await until(lambda: value(made, policies.Kind.CONCURRENCY) == 0.0)  # type: ignore[misc]
        admin.active = 500
        async with asyncio.timeout(30):
            async for key in made.watch():
                assert key == IRIS
                break


async def test_the_beginning_of_a_load_is_told_too(until: Callable[..., object]) -> None:
    admin = Admin()
    async with feeding(admin) as made:
        made.follow(IRIS, TRAFFIC, seen(IRIS))
        await until(lambda: value(made, policies.Kind.CONCURRENCY) == 0.0)  # type: ignore[misc]
        admin.active = 5
        async with asyncio.timeout(30):
            assert await anext(made.watch()) == IRIS
        await until(lambda: len(admin.asked) > 8)  # type: ignore[misc]
        assert not made._pressing, "it goes on and is no news"


async def test_a_reading_that_fails_unexpectedly_ends_nothing(
    until: Callable[..., object], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(feeds, "_LONGEST", 0.01)
    admin = Admin()
    answers = iter([ZeroDivisionError("odd"), None])

    async def stats(pattern: str) -> str:
        error = next(answers, None)
        if error is not None:
            raise error
        return await Admin.stats(admin, pattern)

    admin.stats = stats  # type: ignore[method-assign]
    async with feeding(admin) as made:
        made.follow(IRIS, TRAFFIC, seen(IRIS))
        await until(lambda: value(made, policies.Kind.CONCURRENCY) == 0.0)  # type: ignore[misc]
    assert "odd" in caplog.text


@pytest.mark.parametrize("every", [0.25, 0.5, 1.0])
def test_a_reading_that_takes_long_leaves_no_second_of_a_window_unknown(every: float) -> None:
    """A window holds a value for five seconds. A replica that hangs takes three of them, and is one of many."""
    for tenth in range(45):
        cost = tenth / 10
        pause = feeds._pause(every, cost)
        assert pause > 0
        assert cost + pause <= 5.0, cost
        assert cost <= 0.35 or cost + pause >= min(10 * cost, 4.0) - 1e-9, "reading takes a tenth of the time"


async def test_processor_and_memory_of_a_process_with_its_children(until: Callable[..., object]) -> None:
    program = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'while True: pass'])"
    child = subprocess.Popen([sys.executable, "-c", program], start_new_session=True)
    try:
        async with feeding(Admin()) as made:
            made.follow(IRIS, by(policies.Kind.CPU, scaling.Origin.PROCESSES, request=2.0), seen(IRIS, pid=child.pid))
            share = await until(lambda: value(made, policies.Kind.CPU))  # type: ignore[misc]
            assert 0.0 < share <= 0.8
            made.follow(OTHER, by(policies.Kind.MEMORY, scaling.Origin.PROCESSES), seen(OTHER, pid=child.pid))
            size = await until(lambda: value(made, policies.Kind.MEMORY, OTHER))  # type: ignore[misc]
            assert size > 1e6
    finally:
        os.killpg(child.pid, 9)
        child.wait()


def test_a_process_that_is_gone_has_no_usage() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    reader = processes.Reader()
    found = reader.read([child.pid, os.getpid()], 1.0)
    assert set(found) == {os.getpid()}
    assert found[os.getpid()].cores is None
    later = reader.read([os.getpid()], 2.0)[os.getpid()]
    assert later.cores is not None
    assert later.cores >= 0.0


Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Handlers:
    """Connections of a server, all closed before the test ends."""

    def __init__(self, answer: Handler) -> None:
        self._answer = answer
        self._open: list[asyncio.Event] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        over = asyncio.Event()
        self._open.append(over)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await self._answer(reader, writer)
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        over.set()

    async def closed(self) -> None:
        for over in self._open:
            assert await aio.wait_event(over, 10)


@contextlib.asynccontextmanager
async def answering(*bodies: bytes, status: int = 200) -> AsyncIterator[tuple[str, list[str]]]:
    """An HTTP server on a Unix socket: the bodies in turn, the last one for ever; and the paths asked for."""
    left, asked = list(bodies), []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            asked.append(head.split(b" ")[1].decode())
            body = left.pop(0) if len(left) > 1 else left[0]
            writer.write(b"HTTP/1.1 %d X\r\ncontent-length: %d\r\n\r\n%s" % (status, len(body), body))
            await writer.drain()

    handlers = Handlers(answer)
    with tempfile.TemporaryDirectory(prefix="mlship-") as folder:
        path = str(pathlib.Path(folder) / "s")
        server = await asyncio.start_unix_server(handlers, path)
        try:
            yield path, asked
        finally:
            server.close()
            await handlers.closed()


@contextlib.asynccontextmanager
async def loopback(body: bytes, status: int = 200) -> AsyncIterator[str]:
    """The same on a free port of the loopback address."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = b"HTTP/1.1 %d X\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % (status, len(body))
        writer.write(head + body)
        await writer.drain()

    handlers = Handlers(answer)
    server = await asyncio.start_server(handlers, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        await handlers.closed()


METRICS = b"""# TYPE mlship_queue_depth gauge
mlship_queue_depth{model="a"} 3.0
mlship_queue_depth{model="b"} 4.0
mlship_queue_depth_other 100
"""


async def test_the_queues_of_a_replica(until: Callable[..., object]) -> None:
    async with answering(METRICS) as (path, asked), feeding(Admin()) as made:
        made.follow(IRIS, by(policies.Kind.QUEUE, scaling.Origin.REPLICAS), seen(IRIS, f"unix:{path}"))
        await until(lambda: value(made, policies.Kind.QUEUE) == 7.0)  # type: ignore[misc]
        assert set(asked) == {"/metrics"}


async def test_others_that_do_not_answer_hold_up_no_queue(until: Callable[..., object]) -> None:
    async with answering(METRICS) as (path, _), feeding(Admin()) as made, contextlib.AsyncExitStack() as asked:
        for _ in range(feeds._AT_ONCE):
            await asked.enter_async_context(made._at_once)
        made.follow(IRIS, by(policies.Kind.QUEUE, scaling.Origin.REPLICAS), seen(IRIS, f"unix:{path}"))
        await until(lambda: value(made, policies.Kind.QUEUE) == 7.0)  # type: ignore[misc]


async def test_a_replica_that_says_nothing_of_its_queue_is_unknown(until: Callable[..., object]) -> None:
    async with answering(b"nothing 1\n") as (path, asked), feeding(Admin()) as made:
        made.follow(IRIS, by(policies.Kind.QUEUE, scaling.Origin.REPLICAS), seen(IRIS, f"unix:{path}"))
        await until(lambda: asked)  # type: ignore[misc]
        assert value(made, policies.Kind.QUEUE) is None


def vector(*values: str) -> bytes:
    rows = ",".join(f'{{"metric":{{}},"value":[1,"{one}"]}}' for one in values)
    return f'{{"status":"success","data":{{"resultType":"vector","result":[{rows}]}}}}'.encode()


@pytest.mark.parametrize(
    ("body", "status", "options", "expected"),
    [
        (vector("12.5"), 200, {}, 12.5),
        (b'{"data":{"resultType":"scalar","result":[1,"3"]}}', 200, {}, 3.0),
        (vector(), 200, {}, 0.0),
        (vector(), 200, {"ignoreNullValues": "false"}, None),
        (vector("1", "2"), 200, {}, None),
        (vector("NaN"), 200, {}, None),
        (vector("+Inf"), 200, {}, None),
        (vector("many"), 200, {}, None),
        (b"<html>", 200, {}, None),
        (b'{"data":{}}', 200, {}, None),
        (b"[]", 200, {}, None),
        (b"bad query", 400, {}, None),
        (b" " * 1_100_000, 200, {}, None),
    ],
)
async def test_the_answers_of_prometheus(
    body: bytes, status: int, options: dict[str, str], expected: float | None, until: Callable[..., object]
) -> None:
    async with loopback(body, status) as url, feeding(Admin()) as made:
        wanted = by(
            policies.Kind.EXTERNAL, scaling.Origin.PROMETHEUS, address=url, query="up", interval=0.01,
            options=tuple(options.items()),
        )  # fmt: skip
        made.follow(IRIS, wanted, observed.Observed())

        def reading() -> object:
            found = made.of(IRIS, now=made._clock()).metrics["external"]
            return found if found.stable is not None or found.failures >= 2 else None

        found = await until(reading)  # type: ignore[misc]
        assert found.stable == expected
        assert found.whole is (expected is not None)


async def test_what_else_a_trigger_says_is_sent() -> None:
    heads: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        if len(heads) == 1:
            body = vector("1")
            writer.write(b"HTTP/1.1 200 X\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))
            await writer.drain()
        else:
            await reader.read()

    handlers = Handlers(answer)
    server = await asyncio.start_server(handlers, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/base/"
    told = {"customHeaders": "X-A=1, X-B=two", "queryParameters": "dedup=true", "namespace": "team", "timeout": "50"}
    async with httpx.AsyncClient(headers={"connection": "close"}) as client:
        assert await queries.prometheus(client, url, "up", {**told, "timeout": "5000"}) == 1.0
        head = heads[0].decode().lower()
        assert "get /base/api/v1/query?query=up&dedup=true&namespace=team " in head
        assert "x-a: 1\r\n" in head
        assert "x-b: two\r\n" in head
        with pytest.raises(queries.Unanswered):
            await queries.prometheus(client, url, "up", told)
    server.close()
    await handlers.closed()


async def test_a_prometheus_that_is_not_there_is_counted_and_no_longer_asked_once_unfollowed(
    until: Callable[..., object],
) -> None:
    async with feeding(Admin()) as made:
        wanted = by(
            policies.Kind.EXTERNAL, scaling.Origin.PROMETHEUS, address="http://127.0.0.1:1", query="up", interval=0.01
        )
        made.follow(IRIS, wanted, observed.Observed())
        await until(lambda: made.of(IRIS, now=0.0).metrics["external"].failures >= 3)  # type: ignore[misc]
        made.follow(IRIS, None, observed.Observed())
        assert made._asking == {}


async def test_a_question_that_cannot_even_be_asked_is_counted_and_asked_again(until: Callable[..., object]) -> None:
    async with feeding(Admin()) as made:
        wanted = by(
            policies.Kind.EXTERNAL, scaling.Origin.PROMETHEUS, address="http://127.0.0.1:1", query="up", interval=0.01,
            options=(("customHeaders", "X-Tenant=ünit"),),
        )  # fmt: skip
        made.follow(IRIS, wanted, observed.Observed())
        await until(lambda: made.of(IRIS, now=0.0).metrics["external"].failures >= 3)  # type: ignore[misc]


async def test_work_that_a_query_shows_is_told_at_once(until: Callable[..., object]) -> None:
    async with loopback(vector("7")) as url, feeding(Admin()) as made:
        wanted = by(policies.Kind.EXTERNAL, scaling.Origin.PROMETHEUS, address=url, query="up", least=0, interval=0.01)
        made.follow(IRIS, wanted, observed.Observed())
        news = made.watch()
        async with asyncio.timeout(10):
            assert await anext(news) == IRIS
        await until(lambda: len(made._asking) == 1 and not made._pressing)  # type: ignore[misc]
        await asyncio.sleep(0.1)
        assert not made._pressing, "as much as before is no news"


async def test_an_address_that_is_none_is_unanswered() -> None:
    async with httpx.AsyncClient() as client:
        with pytest.raises(queries.Unanswered):
            await queries.prometheus(client, "http://[::", "up", {})


async def test_figures_are_measured_while_somebody_looks_and_no_longer(
    until: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeds, "_GLANCE", 1.5)
    admin = Admin()
    admin.active = 4
    async with feeding(admin) as made:
        found = await made.figures({IRIS: seen(IRIS, pid=os.getpid()), OTHER: observed.Observed()})
        assert found[IRIS].concurrency == 4.0
        assert found[IRIS].rps == 0.0
        assert found[IRIS].memory is not None
        assert dataclasses.astuple(found[OTHER]) == (None,) * 5
        await until(lambda: not made._services)  # type: ignore[misc]
