"""Publishing to a real Envoy: what is routed where, when it is in force, and what a restart remembers."""

import asyncio

import grpc
import httpx
import pytest

from mlship.gateway import xds
from mlship.plan import observed, routes

IRIS = observed.ServiceKey("default", "iris")


def route(service: observed.ServiceKey, *endpoints: observed.Endpoint, revision: str = "aaaa", message: str = ""):
    splits = (routes.Split(revision, 100, endpoints),) if endpoints else ()
    return routes.ServiceRoute(service, created="2026-01-01T00:00:00Z", timeout=5, splits=splits, message=message)


def client(gateway: xds.Gateway, **options) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=gateway.listen.url, timeout=10, **options)


@pytest.mark.parametrize(
    ("path", "host", "seen"),
    [
        ("/v2/models/iris/infer", None, "/v2/models/iris/infer"),
        ("/v2/models/iris", None, "/v2/models/iris"),
        ("/v1/models/iris:predict", None, "/v1/models/iris:predict"),
        ("/v2/repository/models/iris/load", None, "/v2/repository/models/iris/load"),
        ("/serving/default/iris/v2/models/iris/ready", None, "/v2/models/iris/ready"),
        ("/serving/default/iris", None, "/"),
        ("/invocations", "iris-default.localhost", "/invocations"),
        ("/anything", "iris-predictor-default.localhost:9999", "/anything"),
    ],
)
async def test_a_request_finds_its_service(gateway, upstream, path, host, seen):
    iris, other = await upstream("iris"), await upstream("other")
    await gateway.carry(route(IRIS, iris.endpoint), route(observed.ServiceKey("default", "other"), other.endpoint))
    async with client(gateway) as http:
        answer = await http.post(path, headers={"host": host} if host else {})
    assert answer.text == f"iris {seen}"
    assert answer.headers["x-request-id"]


async def test_the_only_service_is_the_default_and_a_second_one_ends_that(gateway, upstream):
    iris = await upstream("iris")
    await gateway.carry(route(IRIS, iris.endpoint))
    async with client(gateway) as http:
        assert (await http.post("/invocations")).text == "iris /invocations"
        assert (await http.get("/v2/models/stats")).text == "iris /v2/models/stats"
        await gateway.carry(route(IRIS, iris.endpoint), route(observed.ServiceKey("b", "x"), iris.endpoint))
        lost = await http.post("/invocations")
        assert lost.status_code == 404
        assert "Services here: iris, x" in lost.json()["error"]
        assert (await http.get("/v2/health/live")).json() == {"live": True}
        ready = await http.get("/v2/health/ready")
        assert (ready.json(), ready.headers["content-type"]) == ({"ready": True}, "application/json")


async def test_a_name_in_two_namespaces_belongs_to_the_older_and_both_have_their_own_path(gateway, upstream):
    old, new = await upstream("old"), await upstream("new")
    young = routes.ServiceRoute(
        observed.ServiceKey("aaa", "iris"), "2026-02-01T00:00:00Z", 5, (routes.Split("b", 100, (new.endpoint,)),)
    )
    await gateway.carry(young, route(IRIS, old.endpoint))
    async with client(gateway) as http:
        assert (await http.get("/v2/models/iris")).text.startswith("old")
        assert (await http.get("/serving/aaa/iris/v2")).text == "new /v2"


async def test_a_service_without_replicas_answers_503_with_the_reason(gateway):
    await gateway.carry(route(IRIS, message="iris is loading; see 'mlship why iris'."))
    async with client(gateway) as http:
        answer = await http.post("/v2/models/iris/infer")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert answer.json() == {"error": "iris is loading; see 'mlship why iris'."}


async def test_an_unknown_model_is_404_even_when_there_is_a_default(gateway, upstream):
    iris = await upstream("iris")
    await gateway.carry(route(IRIS, iris.endpoint))
    async with client(gateway) as http:
        answer = await http.post("/v2/models/irsi/infer")
    assert answer.status_code == 404
    assert "iris" in answer.json()["error"]


async def test_caller_ids_and_trace_context_reach_the_replica(gateway, where, upstream):
    iris = await upstream("iris")
    seen: dict[bytes, bytes] = {}

    async def app(scope, receive, send):
        seen.update(scope["headers"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    iris.server.config.loaded_app = app
    await gateway.carry(route(IRIS, iris.endpoint))
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    async with client(gateway) as http:
        await http.get("/x", headers={"x-request-id": "mine", "traceparent": parent})
    assert seen[b"traceparent"] == parent.encode()
    assert seen[b"x-request-id"] == b"mine"


async def test_grpc_finds_its_service_by_authority_metadata_and_default(gateway, where):
    where.sockets.mkdir(parents=True, exist_ok=True)

    async def answer(request: bytes, context) -> bytes:
        return b"from iris"

    handlers = {"ServerLive": grpc.unary_unary_rpc_method_handler(answer)}
    server = grpc.aio.server()
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("inference.GRPCInferenceService", handlers)])
    socket = where.sockets / "iris.g"
    server.add_insecure_port(f"unix:{socket}")
    await server.start()
    endpoint = observed.Endpoint(f"unix:{where.sockets}/iris.h", f"unix:{socket}")
    other = route(observed.ServiceKey("default", "other"), message="other is loading")
    target = f"127.0.0.1:{gateway.listen.port}"
    method = "/inference.GRPCInferenceService/ServerLive"
    try:
        await gateway.carry(route(IRIS, endpoint))
        async with grpc.aio.insecure_channel(target) as channel:
            assert await channel.unary_unary(method)(b"") == b"from iris"
        await gateway.carry(route(IRIS, endpoint), other)
        async with grpc.aio.insecure_channel(target) as channel:
            call = channel.unary_unary(method)
            for metadata in (("mlship-service", "iris"), ("mlship-service", "default/iris"), ("mm-model-id", "iris")):
                assert await call(b"", metadata=[metadata]) == b"from iris"
            with pytest.raises(grpc.aio.AioRpcError) as lost:
                await call(b"")
            assert "mlship-service" in lost.value.details()
            with pytest.raises(grpc.aio.AioRpcError) as loading:
                await call(b"", metadata=[("mlship-service", "other")])
            assert (loading.value.code(), loading.value.details()) == (grpc.StatusCode.UNAVAILABLE, "other is loading")
        options = [("grpc.default_authority", "iris-default.localhost")]
        async with grpc.aio.insecure_channel(target, options=options) as channel:
            assert await channel.unary_unary(method)(b"") == b"from iris"
    finally:
        await server.stop(None)


async def test_switching_revisions_under_load_loses_nothing(gateway, upstream):
    old, new = await upstream("old"), await upstream("new")
    await gateway.carry(route(IRIS, old.endpoint))
    statuses: list[int] = []
    done = asyncio.Event()

    async def caller(http: httpx.AsyncClient) -> None:
        while not done.is_set():
            statuses.append((await http.get("/v2/models/iris")).status_code)

    async with client(gateway) as http, asyncio.TaskGroup() as group:
        for _ in range(4):
            group.create_task(caller(http))
        for revision, target in [("bbbb", new), ("aaaa", old)] * 5:
            await gateway.carry(route(IRIS, target.endpoint, revision=revision))
            before = target.asked
            async with asyncio.timeout(30):
                while target.asked < before + 5:
                    await asyncio.sleep(0.005)
        done.set()
    assert set(statuses) == {200}


async def test_what_is_carried_is_reached_by_the_very_next_request(gateway, made_gateway, where, upstream, adopted):
    await gateway.carry()
    async with client(gateway) as http:
        for number in range(10):
            key = observed.ServiceKey("default", f"new{number}")
            target = await upstream(f"new{number}")
            gateway.want(key, route(key, target.endpoint))
            assert gateway.view(key).carried == frozenset(), "nobody was told yet"
            async with asyncio.timeout(30):
                while gateway.view(key).carried != {target.endpoint}:
                    await asyncio.sleep(0)
            assert (await http.get(f"/v2/models/new{number}")).status_code == 200
    last = observed.ServiceKey("default", "new9")
    again = made_gateway(listen=gateway.listen, keeper=adopted)
    await again.start()
    assert again.view(last).carried == {target.endpoint}, "what was carried before a restart is carried after it"


async def test_replicas_that_come_and_go_under_load_lose_nothing(gateway, upstream):
    one, two = await upstream("one"), await upstream("two")
    await gateway.carry(route(IRIS, one.endpoint))
    statuses: list[int] = []
    done = asyncio.Event()

    async def caller(http: httpx.AsyncClient) -> None:
        while not done.is_set():
            statuses.append((await http.post("/v2/models/iris/infer", content=b"{}")).status_code)

    async with client(gateway) as http, asyncio.TaskGroup() as group:
        for _ in range(4):
            group.create_task(caller(http))
        for endpoints in [(one.endpoint, two.endpoint), (two.endpoint,), (one.endpoint, two.endpoint)] * 4:
            await gateway.carry(route(IRIS, *endpoints))
            assert gateway.view(IRIS).applied == set(endpoints)
            before = two.asked
            async with asyncio.timeout(30):
                while two.asked < before + 5:
                    await asyncio.sleep(0.005)
        done.set()
    assert set(statuses) == {200}


async def test_a_dead_replica_costs_no_request_while_another_lives(gateway, where, upstream):
    alive = await upstream("alive")
    dead = observed.Endpoint(f"unix:{where.sockets}/nobody.h")
    await gateway.carry(route(IRIS, dead, alive.endpoint))
    async with client(gateway) as http:
        answers = [(await http.post("/v2/models/iris/infer", content=b"{}")).status_code for _ in range(50)]
    assert set(answers) == {200}


async def test_applied_endpoints_are_the_union_until_envoy_confirms_and_survive_a_restart(
    gateway, made_gateway, where, upstream, adopted
):
    old, new = await upstream("old"), await upstream("new")
    await gateway.carry(route(IRIS, old.endpoint))
    assert gateway.view(IRIS).applied == {old.endpoint}
    gateway.want(IRIS, route(IRIS, new.endpoint, revision="bbbb"))
    both = {old.endpoint, new.endpoint}
    async with asyncio.timeout(30):
        while gateway.view(IRIS).applied != both:
            await asyncio.sleep(0)
    await gateway.settled()
    assert gateway.view(IRIS).applied == {new.endpoint}
    again = made_gateway(listen=gateway.listen, keeper=adopted)
    await again.start()
    assert again.view(IRIS).applied == {new.endpoint}
    await again.carry()
    assert again.view(IRIS).applied == frozenset()
    assert b'"resources":[]' in (where.envoy / "xds" / "cds.json").read_bytes()
    await again.close()


async def test_publishing_what_is_in_force_writes_nothing(gateway, made_gateway, where, upstream, adopted):
    iris = await upstream("iris")
    await gateway.carry(route(IRIS, iris.endpoint))
    files = sorted((where.envoy / "xds").rglob("*.json"))
    before = [path.stat().st_mtime_ns for path in files]
    again = made_gateway(listen=gateway.listen, keeper=adopted)
    await again.start()
    await again.carry(route(IRIS, iris.endpoint))
    assert [path.stat().st_mtime_ns for path in files] == before
    await again.close()


async def test_a_folder_that_cannot_be_written_is_a_clear_error_and_traffic_goes_on(gateway, where, upstream):
    iris, more = await upstream("iris"), await upstream("more")
    await gateway.carry(route(IRIS, iris.endpoint))
    xds_folder = where.envoy / "xds"
    kept = xds_folder.rename(xds_folder.with_name("aside"))
    xds_folder.write_text("not a folder")
    gateway.want(IRIS, route(IRIS, iris.endpoint, more.endpoint))
    async with asyncio.timeout(30):
        while not gateway.failures:
            await asyncio.sleep(0.01)
    assert "cannot be written" in str(gateway.failures[0])
    async with client(gateway) as http:
        assert (await http.get("/v2/models/iris")).status_code == 200
    xds_folder.unlink()
    kept.rename(xds_folder)
    await gateway.settled()
    assert gateway.view(IRIS).applied == {iris.endpoint, more.endpoint}


async def test_a_drain_lets_nobody_new_in_and_ends_connections_with_their_answers(gateway, upstream):
    iris = await upstream("iris")
    began, go = asyncio.Event(), asyncio.Event()

    async def app(scope, receive, send):
        began.set()
        await go.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x" * 1_000_000})

    iris.server.config.loaded_app = app
    await gateway.carry(route(IRIS, iris.endpoint))
    async with client(gateway) as http, client(gateway) as late:
        asking = asyncio.create_task(http.get("/v2/models/iris"))
        await began.wait()
        await gateway.drain()
        with pytest.raises(httpx.ConnectError):
            await late.get("/v2/models/iris")
        assert not await gateway.delivered(0.2)
        go.set()
        answer = await asking
        assert (answer.status_code, len(answer.content)) == (200, 1_000_000)
        assert answer.headers["connection"] == "close"
    assert await gateway.delivered(10.0)
    await gateway.stop()
    assert await gateway.delivered(10.0)
    await gateway.drain()
