"""The gate behind a real Envoy: who waits, who goes on, who is refused, and what it costs a warm service: nothing."""

import asyncio
import subprocess
import sys

import grpc
import httpx
import pytest

from mlship.control import listeners
from mlship.gateway import gate, xds
from mlship.plan import observed, routes

IRIS = observed.ServiceKey("default", "iris")
OTHER = observed.ServiceKey("default", "other")
WAIT = routes.Gate(patience=20.0, places=100)


def asleep(terms: routes.Gate = WAIT, *, revision: str = "aaaa", message: str = "iris starts.", service=IRIS):
    split = (routes.Split(revision, 100, ()),)
    return routes.ServiceRoute(service, "2026", 5, split, message=message, gate=terms)


def awake(*endpoints: observed.Endpoint, revision: str = "aaaa", service=IRIS):
    return routes.ServiceRoute(service, "2026", 5, (routes.Split(revision, 100, endpoints),))


def client(gateway: xds.Gateway) -> httpx.AsyncClient:
    limits = httpx.Limits(max_connections=200)
    return httpx.AsyncClient(base_url=gateway.listen.url, timeout=15, limits=limits)


async def until(condition, seconds: float = 30.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.002)


async def counter(where, name: str) -> int:
    """One of Envoy's counters of the gate."""
    transport = httpx.AsyncHTTPTransport(uds=str(where.sockets / "envoy-admin.sock"))
    async with httpx.AsyncClient(transport=transport, base_url="http://envoy") as http:
        text = (await http.get(f"/stats?filter=ext_authz.gate.{name}$")).text
    return sum(int(line.rpartition(": ")[2]) for line in text.splitlines())


async def asked(where) -> int:
    return await counter(where, "(ok|denied|error|disabled)")


@pytest.mark.parametrize("callers", [1, 20])
async def test_callers_of_a_service_at_zero_wait_and_go_on(gateway, door, upstream, callers):
    await gateway.carry(asleep())
    async with client(gateway) as http, asyncio.TaskGroup() as group:
        calls = [group.create_task(http.post("/v2/models/iris/infer", content=b"{}")) for _ in range(callers)]
        await until(lambda: door.waiting(IRIS) == callers)
        iris = await upstream("iris")
        gateway.want(IRIS, awake(iris.endpoint))
    assert [call.result().text for call in calls] == ["iris /v2/models/iris/infer"] * callers
    assert door.waiting(IRIS) == 0
    assert b"x-mlship-gate" not in iris.headers


class Heard:
    """Hears when callers begin to wait and when they go on."""

    def __init__(self) -> None:
        self.told: list[tuple[str, observed.ServiceKey, str]] = []

    def wished(self, key: observed.ServiceKey, *, at: float, traceparent: str = "") -> None:
        self.told.append(("wished", key, traceparent))

    def answered(self, key: observed.ServiceKey, *, at: float) -> None:
        self.told.append(("answered", key, ""))


@pytest.mark.parametrize("observer", [Heard()])
async def test_the_first_caller_and_the_way_on_are_told(gateway, door, upstream, observer):
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    await gateway.carry(asleep())
    async with client(gateway) as http, asyncio.TaskGroup() as group:
        group.create_task(http.post("/v2/models/iris/infer", headers={"traceparent": trace}))
        await until(lambda: door.waiting(IRIS) == 1)
        group.create_task(http.post("/v2/models/iris/infer"))
        await until(lambda: door.waiting(IRIS) == 2)
        gateway.want(IRIS, awake((await upstream("iris")).endpoint))
    assert observer.told == [("wished", IRIS, trace), ("answered", IRIS, "")]


async def test_a_body_waits_in_envoy_whatever_its_size(gateway, door, upstream):
    await gateway.carry(asleep())
    async with client(gateway) as http, asyncio.TaskGroup() as group:
        call = group.create_task(http.post("/v2/models/iris/infer", content=b"x" * 3_000_000))
        large = group.create_task(http.post("/v2/models/iris/infer", content=b"x" * 9_000_000))
        await until(lambda: door.waiting(IRIS) == 2)
        iris = await upstream("iris")
        gateway.want(IRIS, awake(iris.endpoint))
    assert (call.result().status_code, large.result().status_code) == (200, 200)
    assert iris.received in (3_000_000, 9_000_000)


async def test_news_of_many_callers_is_one(gateway, door):
    await gateway.carry(asleep())
    heard: list[observed.ServiceKey] = []

    async def listen() -> None:
        async for service in door.watch():
            heard.append(service)  # noqa: PERF401 - it never ends

    listening = asyncio.create_task(listen())
    clock = asyncio.get_running_loop().time
    async with client(gateway) as http, asyncio.TaskGroup() as group:
        begun = clock()
        calls = [group.create_task(http.get("/v2/models/iris")) for _ in range(10)]
        await until(lambda: door.waiting(IRIS) == 10)
        # It is said again each second while somebody waits, in case it was lost.
        assert 1 <= len(heard) <= 1 + int(clock() - begun)
        once = len(heard)
        await until(lambda: len(heard) > once)
        assert set(heard) == {IRIS}
        for call in calls:
            call.cancel()
    await until(lambda: door.waiting(IRIS) == 0)
    listening.cancel()


async def test_who_leaves_frees_the_place(gateway, door):
    await gateway.carry(asleep())
    async with client(gateway) as http:
        for body in (b"{}", b"x" * 3_000_000):
            call = asyncio.create_task(http.post("/v2/models/iris/infer", content=body))
            await until(lambda: door.waiting(IRIS) == 1)
            call.cancel()
            await until(lambda: door.waiting(IRIS) == 0)


async def test_one_too_many_is_refused_at_once(gateway, door):
    await gateway.carry(asleep(routes.Gate(patience=20, places=2)))
    async with client(gateway) as http:
        held = [asyncio.create_task(http.get("/v2/models/iris")) for _ in range(2)]
        await until(lambda: door.waiting(IRIS) == 2)
        refused = await http.get("/v2/models/iris")
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert refused.json() == {"error": "2 requests wait for default/iris already, and no more may; iris starts."}
        assert refused.headers["content-type"] == "application/json"
        head = await http.head("/v2/models/iris")
        assert head.status_code == 503
        for call in held:
            call.cancel()


async def test_patience_ends_and_says_what_was_waited_for(gateway):
    await gateway.carry(asleep(routes.Gate(patience=0.05, places=2)))
    async with client(gateway) as http:
        late = await http.get("/v2/models/iris")
    assert (late.status_code, late.headers["retry-after"]) == (503, "1")
    assert late.json() == {"error": "default/iris had no ready replica within 0.05 s; iris starts."}


async def test_no_hope_is_said_at_once_also_to_those_who_wait(gateway, door):
    await gateway.carry(asleep())
    lost = routes.Gate(patience=20, places=100, hopeless="The model is gone: see 'mlship why iris'.")
    async with client(gateway) as http:
        call = asyncio.create_task(http.get("/v2/models/iris"))
        await until(lambda: door.waiting(IRIS) == 1)
        gateway.want(IRIS, asleep(lost))
        for answer in (await call, await http.get("/v2/models/iris")):
            assert (answer.status_code, answer.json()["error"]) == (503, lost.hopeless)
            assert answer.headers["retry-after"] == "1"


class Asker:
    """A question that Envoy asks by a route it has not let go of yet."""

    def __init__(self) -> None:
        self.number = None
        self.said = []

    def answer(self, said) -> None:
        self.said.append(said)


async def test_who_comes_for_a_service_that_is_gone_is_told_when_its_absence_is_noticed(gateway, door):
    await gateway.carry(asleep())
    await gateway.carry()
    assert door._waiting._services == {}
    late = Asker()
    door.ask(late, "default/iris aaaa")
    assert door.waiting(IRIS) == 1
    # What the loop does when the gate's news leads it to a service that is not stored.
    gateway.want(IRIS, None)
    assert [one.reason for one in late.said] == ["default/iris was deleted."]
    assert door._waiting._services == {}


async def test_a_client_cannot_ask_in_another_services_name(gateway, door):
    await gateway.carry(asleep(), asleep(service=OTHER))
    async with client(gateway) as http:
        call = asyncio.create_task(http.get("/v2/models/iris", headers={"x-mlship-gate": "default/other aaaa"}))
        await until(lambda: door.waiting(IRIS) + door.waiting(OTHER) == 1)
        assert door.waiting(IRIS) == 1
        call.cancel()


async def test_a_warm_service_asks_nobody(gateway, where, upstream):
    iris = await upstream("iris")
    await gateway.carry(awake(iris.endpoint), asleep(service=OTHER))
    before = await asked(where)

    async def caller(http: httpx.AsyncClient) -> None:
        for _ in range(200):
            assert (await http.get("/v2/models/iris")).status_code == 200

    async with client(gateway) as http, asyncio.TaskGroup() as group:
        for _ in range(5):
            group.create_task(caller(http))
    assert iris.asked == 1000
    assert await asked(where) == before


async def test_waking_is_one_file_and_the_gate_goes_later(gateway, where, door, upstream):
    iris = await upstream("iris")
    await gateway.carry(asleep())
    assert await asked(where) == 0
    async with client(gateway) as http:
        call = asyncio.create_task(http.get("/v2/models/iris"))
        await until(lambda: door.waiting(IRIS) == 1)
        gateway.want(IRIS, awake(iris.endpoint))
        assert (await call).status_code == 200
        await gateway.settled()
        assert await asked(where) == 1
        assert (await http.get("/v2/models/iris")).status_code == 200
        assert await asked(where) == 1


async def test_a_service_that_goes_to_rest_under_load_loses_no_request(gateway, door, upstream):
    iris = await upstream("iris")
    await gateway.carry(awake(iris.endpoint))
    statuses: list[int] = []
    done = asyncio.Event()

    async def caller(http: httpx.AsyncClient) -> None:
        while not done.is_set():
            statuses.append((await http.post("/v2/models/iris/infer", content=b"{}")).status_code)

    async def plan() -> None:
        """What the plan does: to rest, and awake again when somebody waits."""
        for _ in range(3):
            gateway.want(IRIS, asleep())
            await until(lambda: door.waiting(IRIS) > 0)
            await until(lambda: not gateway.view(IRIS).applied)
            gateway.want(IRIS, awake(iris.endpoint))
            before = len(statuses)
            await until(lambda before=before: len(statuses) > before + 20)
            await gateway.settled()
        done.set()

    async with client(gateway) as http, asyncio.TaskGroup() as group:
        group.create_task(plan())
        for _ in range(4):
            group.create_task(caller(http))
    assert set(statuses) == {200}


async def test_who_waits_for_a_revision_that_is_replaced_gets_the_next(gateway, door, upstream):
    new = await upstream("new")
    await gateway.carry(asleep(), asleep(service=OTHER))
    async with client(gateway) as http:
        call = asyncio.create_task(http.get("/v2/models/iris"))
        await until(lambda: door.waiting(IRIS) == 1)
        await gateway.carry(asleep(revision="bbbb"), asleep(service=OTHER))
        assert door.waiting(IRIS) == 1
        gateway.want(IRIS, awake(new.endpoint, revision="bbbb"))
        assert (await call).text == "new /v2/models/iris"
        await gateway.settled()
        await until(lambda: gateway.view(IRIS).applied == {new.endpoint})


async def test_callers_of_a_service_that_starts_go_on_and_nobody_is_asked_once_it_is_carried(
    gateway, where, door, upstream
):
    await gateway.carry(asleep(revision=routes.STARTING), asleep(service=OTHER))
    async with client(gateway) as http:
        call = asyncio.create_task(http.get("/v2/models/iris"))
        await until(lambda: door.waiting(IRIS) == 1)
        iris = await upstream("iris")
        gateway.want(IRIS, awake(iris.endpoint))
        assert (await call).text == "iris /v2/models/iris"
        # What it is called ready by: only a route without the gate is followed when there is no control plane.
        await until(lambda: gateway.view(IRIS).carried == {iris.endpoint})
        assert b"iris starting" not in (where.root / "envoy" / "xds" / "rds.json").read_bytes()
        await gateway.settled()
        before = await asked(where)
        assert (await http.get("/v2/models/iris")).status_code == 200
        assert await asked(where) == before
        assert f"/{routes.STARTING}/".encode() not in (where.root / "envoy" / "xds" / "cds.json").read_bytes()


async def test_who_asks_in_the_name_of_a_route_that_is_gone_is_let_in_at_the_next_look(gateway, door, where, upstream):
    iris = await upstream("iris")
    await gateway.carry(asleep(revision=routes.STARTING))
    await gateway.carry(awake(iris.endpoint))
    # A worker of Envoy's may follow the routes before for a moment after Envoy has said that it has the new ones.
    reader, writer = await asyncio.open_unix_connection(str(where.sockets / xds.GATE_SOCKET))
    writer.write(b"GET / HTTP/1.1\r\nhost: gate\r\nx-mlship-gate: default/iris starting\r\n\r\n")
    await until(lambda: door.waiting(IRIS) == 1)
    gateway.want(IRIS, awake(iris.endpoint))
    async with asyncio.timeout(10):
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
    writer.close()
    await writer.wait_closed()


async def test_who_asks_for_a_service_that_is_gone_is_told_at_the_next_look(gateway, door, where):
    await gateway.carry(asleep())
    await gateway.carry()
    reader, writer = await asyncio.open_unix_connection(str(where.sockets / xds.GATE_SOCKET))
    writer.write(b"GET / HTTP/1.1\r\nhost: gate\r\nx-mlship-gate: default/iris aaaa\r\n\r\n")
    await until(lambda: door.waiting(IRIS) == 1)
    gateway.want(IRIS, None)
    async with asyncio.timeout(10):
        assert (await reader.readuntil(b"deleted.")).startswith(b"HTTP/1.1 425")
    writer.close()
    await writer.wait_closed()


async def test_what_is_gated_is_still_gated_for_the_next_control_plane(
    gateway, made_gateway, door, where, upstream, adopted
):
    await gateway.carry(asleep())
    again = made_gateway(listen=gateway.listen, keeper=adopted)
    await again.start()
    async with client(gateway) as http:
        # Before it has looked at a service it holds whom it is asked about.
        call = asyncio.create_task(http.get("/v2/models/iris"))
        await until(lambda: door.waiting(IRIS) == 1)
        iris = await upstream("iris")
        again.want(IRIS, awake(iris.endpoint))
        assert (await call).status_code == 200
    await again.close()


_A_GATE = """
import asyncio, pathlib, sys
from mlship.control import listeners
from mlship.gateway import gate
from mlship.plan import observed

async def main():
    door = gate.Gate()
    await door.start(listeners.unix_socket(pathlib.Path(sys.argv[1])))
    while door.waiting(observed.ServiceKey("default", "iris")) < 50:
        await asyncio.sleep(0.01)
    print("50 wait", flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


async def test_a_gate_that_dies_costs_those_who_wait_a_refusal_and_warm_services_nothing(gateway, where, upstream):
    warm = await upstream("warm")
    socket = where.sockets / xds.GATE_SOCKET
    socket.unlink()
    dying = subprocess.Popen([sys.executable, "-c", _A_GATE, str(socket)], stdout=subprocess.PIPE)
    assert dying.stdout is not None
    try:
        await until(socket.exists)
        await gateway.carry(asleep(), awake(warm.endpoint, service=OTHER))
        async with client(gateway) as http:
            held = [asyncio.create_task(http.get("/v2/models/iris")) for _ in range(50)]
            assert await asyncio.to_thread(dying.stdout.readline) == b"50 wait\n"
            dying.kill()
            for answer in [*await asyncio.gather(*held), await http.get("/v2/models/iris")]:
                assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
                assert "control plane" in answer.json()["error"]
            assert (await http.get("/v2/models/other")).status_code == 200
            door = gate.Gate()
            await door.start(listeners.unix_socket(socket))
            call = asyncio.create_task(http.get("/v2/models/iris"))
            await until(lambda: door.waiting(IRIS) == 1)
            door.serve(IRIS, frozenset({"aaaa"}))
            # It says yes, and nothing is there: what Envoy then says itself tells when to come back, too.
            lost = await call
            assert (lost.status_code, lost.headers["retry-after"]) == (503, "1")
            await door.close()
    finally:
        dying.kill()
        await asyncio.to_thread(dying.wait, 10)
        dying.stdout.close()


async def test_grpc_waits_too_unary_and_streams(gateway, door, where):
    async def one(request: bytes, context) -> bytes:
        return b"one"

    async def many(requests, context):
        async for request in requests:
            yield b"got " + request

    handlers = {
        "ModelInfer": grpc.unary_unary_rpc_method_handler(one),
        "ModelStreamInfer": grpc.stream_stream_rpc_method_handler(many),
    }
    server = grpc.aio.server()
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("inference.GRPCInferenceService", handlers)])
    endpoint = observed.Endpoint(f"unix:{where.sockets}/iris.h", f"unix:{where.sockets}/iris.g")
    server.add_insecure_port(endpoint.grpc)
    await server.start()
    prefix = "/inference.GRPCInferenceService/"
    await gateway.carry(asleep(routes.Gate(patience=20, places=2)), asleep(service=OTHER))
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{gateway.listen.port}") as channel:
            name = [("mlship-service", "iris")]
            unary = channel.unary_unary(prefix + "ModelInfer")
            call = unary(b"x", metadata=name)
            stream = channel.stream_stream(prefix + "ModelStreamInfer")(metadata=[("seldon-model", "iris")])
            await stream.write(b"a")
            await until(lambda: door.waiting(IRIS) == 2)
            with pytest.raises(grpc.aio.AioRpcError) as full:
                await unary(b"x", metadata=name)
            assert full.value.code() is grpc.StatusCode.UNAVAILABLE
            assert full.value.details().startswith("2 requests wait for default/iris already")
            gateway.want(IRIS, awake(endpoint))
            assert await call == b"one"
            assert await stream.read() == b"got a"
            await stream.write(b"b")
            assert await stream.read() == b"got b"
            await stream.done_writing()
    finally:
        await server.stop(None)
