"""Models in pools behind a real Envoy, and how large ten thousand of them are."""

import httpx
import pytest

from mlship.gateway import clusters, render, xds
from mlship.plan import observed, routes

POOL = observed.ServiceKey("default", "modelmesh.sklearn")
OTHER = observed.ServiceKey("default", "modelmesh.onnx")
FAR = observed.ServiceKey("far", "modelmesh.sklearn")
CREATED = "2026-01-01T00:00:00Z"


def pool(key: observed.ServiceKey, *endpoints: observed.Endpoint, hot: tuple[str, ...] = ()) -> routes.ServiceRoute:
    splits = (routes.Split("aaaa", 100, endpoints),) if endpoints else ()
    return routes.ServiceRoute(key, "", 60, splits, message="the pool is starting", pool=routes.Pool(hot))


def member(
    name: str, via: observed.ServiceKey = POOL, *, message: str = "", timeout: float = 60.0
) -> routes.ServiceRoute:
    key = observed.ServiceKey(via.namespace, name)
    return routes.ServiceRoute(key, CREATED, timeout, message=message, via=via)


def alone(name: str, endpoint: observed.Endpoint) -> routes.ServiceRoute:
    key = observed.ServiceKey("default", name)
    return routes.ServiceRoute(key, CREATED, 5, (routes.Split("bbbb", 100, (endpoint,)),))


def client(gateway: xds.Gateway) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=gateway.listen.url, timeout=10)


@pytest.mark.parametrize(
    ("path", "host", "seen"),
    [
        ("/v2/models/iris/infer", None, "/v2/models/iris/infer"),
        ("/v1/models/iris:predict", None, "/v1/models/iris:predict"),
        ("/v2/repository/models/iris/load", None, "/v2/repository/models/iris/load"),
        ("/serving/default/iris/v2/models/iris/ready", None, "/v2/models/iris/ready"),
        ("/serving/default/iris", None, "/"),
        ("/serving/default/iris/invocations", None, "/v2/models/iris/invocations"),
        ("/serving/default/iris/invocations?x=1", None, "/v2/models/iris/invocations"),
        ("/v2/models/iris/invocations", None, "/v2/models/iris/invocations"),
        ("/invocations", "iris-default.localhost", "/invocations"),
        ("/v2/models/iris/infer", "iris-default.localhost", "/v2/models/iris/infer"),
        ("/v2/models/iris/infer", "iris-predictor-default.localhost:99", "/v2/models/iris/infer"),
    ],
)
@pytest.mark.parametrize("pools", [1, 2])
async def test_a_model_is_found_in_its_pool_by_every_name(gateway, upstream, path, host, seen, pools):
    one, other, single = await upstream("one"), await upstream("other"), await upstream("single")
    table = [pool(POOL, one.endpoint), member("iris"), alone("wine", single.endpoint)]
    if pools == 2:
        table += [pool(OTHER, other.endpoint), member("net", OTHER)]
    await gateway.carry(*table)
    async with client(gateway) as http:
        answer = await http.post(path, headers={"host": host} if host else {})
        assert answer.text == f"one {seen}"
        assert (await http.get("/v2/models/wine")).text.startswith("single")
        assert (await http.get("/serving/default/wine/v2")).text == "single /v2"
        if pools == 2:
            assert (await http.get("/v2/models/net")).text.startswith("other")
            assert (await http.get("/v2/models/nobody")).status_code == 404


async def test_a_model_lives_in_one_process_and_models_are_spread(gateway, upstream):
    first, second = await upstream("first"), await upstream("second")
    names = [f"model-{number}" for number in range(40)]
    await gateway.carry(pool(POOL, first.endpoint, second.endpoint), *(member(name) for name in names))
    async with client(gateway) as http:
        homes = {}
        for name in names:
            said = {
                (await http.get(path)).text.split()[0]
                for path in (
                    f"/v2/models/{name}/infer",
                    f"/v1/models/{name}:predict",
                    f"/serving/default/{name}/v2/models/{name}/ready",
                )
                for _ in range(3)
            }
            host = {"host": f"{name}-default.localhost"}
            for path, headers in (("/invocations", host), (f"/serving/default/{name}/invocations", {})):
                said.add((await http.post(path, headers=headers)).text.split()[0])
            assert len(said) == 1, name
            homes[name] = said.pop()
    assert 8 <= sum(home == "first" for home in homes.values()) <= 32


async def test_rest_and_grpc_of_a_model_meet_in_one_process():
    ends = (observed.Endpoint("unix:/run/a.h", "unix:/run/a.g"), observed.Endpoint("unix:/run/b.h", "unix:/run/b.g"))
    made = clusters.of(POOL, "aaaa", ends, hashed=True)
    keys = [
        [
            one["metadata"]["filter_metadata"]["envoy.lb"]["hash_key"]
            for one in made[f"{POOL}/aaaa/{kind}"]["load_assignment"]["endpoints"][0]["lb_endpoints"]
        ]
        for kind in ("http-hash", "grpc-hash")
    ]
    assert keys == [["unix:/run/a.h", "unix:/run/b.h"]] * 2
    assert made[f"{POOL}/aaaa/http-hash"]["lb_policy"] == "MAGLEV"
    assert made[f"{POOL}/aaaa/http"]["lb_policy"] == "LEAST_REQUEST"


async def test_a_popular_model_goes_to_every_process(gateway, upstream):
    first, second = await upstream("first"), await upstream("second")
    table = [pool(POOL, first.endpoint, second.endpoint, hot=("iris",)), member("iris"), member("wine")]
    await gateway.carry(*table)
    async with client(gateway) as http:
        said = {(await http.get("/v2/models/iris")).text.split()[0] for _ in range(50)}
        still = {(await http.get("/v2/models/wine")).text.split()[0] for _ in range(20)}
    assert said == {"first", "second"}
    assert len(still) == 1


async def test_a_model_that_is_not_served_yet_says_why_and_one_without_a_pool_too(gateway, upstream):
    one = await upstream("one")
    table = [pool(POOL, one.endpoint), member("iris", message="iris is not served yet. Fetching."), member("wine")]
    await gateway.carry(*table, member("lost", FAR))
    async with client(gateway) as http:
        for path, host in (
            ("/v2/models/iris/infer", ""),
            ("/serving/default/iris/v2", ""),
            ("/v2", "iris-default.localhost"),
        ):
            answer = await http.get(path, headers={"host": host} if host else {})
            assert (answer.status_code, answer.json()["error"]) == (503, "iris is not served yet. Fetching.")
        assert (await http.get("/v2/models/wine")).text.startswith("one")
        assert (await http.get("/v2/models/lost")).status_code == 503


async def test_a_pool_without_processes_answers_503_with_its_reason(gateway):
    await gateway.carry(pool(POOL), member("iris"), member("wine"))
    async with client(gateway) as http:
        answer = await http.get("/v2/models/iris/infer")
    assert (answer.status_code, answer.json()["error"]) == (503, "the pool is starting")


async def test_a_server_of_trained_models_spreads_what_is_asked_of_it(gateway, upstream):
    first, second = await upstream("first"), await upstream("second")
    parent = observed.ServiceKey("default", "many")
    route = routes.ServiceRoute(
        parent, CREATED, 60, (routes.Split("cccc", 100, (first.endpoint, second.endpoint)),), pool=routes.Pool()
    )
    await gateway.carry(route, alone("wine", first.endpoint))
    async with client(gateway) as http:
        homes = {}
        for number in range(30):
            path = f"/serving/default/many/v2/models/m{number}/infer"
            said = {(await http.get(path)).text for _ in range(3)}
            assert len(said) == 1
            homes[number] = said.pop().split()[0]
    assert set(homes.values()) == {"first", "second"}


async def test_the_endpoints_of_a_pool_are_known_under_its_key(gateway, upstream):
    one = await upstream("one")
    await gateway.carry(pool(POOL, one.endpoint), member("iris"))
    assert gateway.view(POOL).applied == {one.endpoint}


async def test_after_a_restart_of_the_control_plane_a_pool_is_carried_as_before(gateway, made_gateway, where, upstream):
    class Adopted:
        async def ensure(self, key, spec, *, probe_socket, log):
            return None

        def is_ready(self, key):
            return True

        def holds(self, key):
            return True

    one, two = await upstream("one"), await upstream("two")
    await gateway.carry(pool(POOL, one.endpoint, two.endpoint), member("iris"))
    before = (where.envoy / "xds" / "cds.json").read_bytes()
    again = made_gateway(listen=gateway.listen, keeper=Adopted())
    await again.start()
    assert again.view(POOL).applied == {one.endpoint, two.endpoint}
    await again.carry(pool(POOL, one.endpoint, two.endpoint), member("iris"))
    assert (where.envoy / "xds" / "cds.json").read_bytes() == before
    assert b"http-hash" in before
    await again.close()


async def test_a_pool_without_models_answers_to_no_name(gateway, upstream):
    one, single = await upstream("one"), await upstream("single")
    await gateway.carry(pool(POOL, one.endpoint), alone("wine", single.endpoint), alone("rose", single.endpoint))
    async with client(gateway) as http:
        answer = await http.get("/v2/models/iris")
        assert (answer.status_code, "Services here: rose, wine" in answer.text) == (404, True)
        assert (await http.get("/serving/default/iris/v2")).status_code == 404
        assert (await http.get("/v2/models/wine")).text.startswith("single")


def test_a_model_more_renders_no_other_service_again(monkeypatch):
    end = observed.Endpoint("unix:/run/a.h", "unix:/run/a.g")
    table = [pool(POOL, end), alone("wine", end), *(member(f"iris-{number}") for number in range(12))]
    blocks, block = render.Blocks("localhost"), render.block
    rendered = []
    monkeypatch.setattr(render, "block", lambda route, *, domain: rendered.append(route) or block(route, domain=domain))
    before = blocks.configuration(routes.assemble(table))
    assert blocks.configuration(routes.assemble([*table, member("rose")])) == before
    assert [one.service.name for one in rendered] == ["wine"]


def test_ten_thousand_models_of_one_pool_are_no_more_routes_than_one():
    end = observed.Endpoint("unix:/run/a.h", "unix:/run/a.g")

    def size(count: int, *more: routes.ServiceRoute) -> int:
        members = [member(f"customer-model-{number:05}") for number in range(count)]
        table = routes.assemble([pool(POOL, end), *members, *more])
        return len(render.Blocks("localhost").configuration(table))

    assert size(10_000) < size(11) + 1000
    others = [pool(FAR, end), *(member(f"other-{number:05}", FAR) for number in range(10_000))]
    # Two pools: names are listed, each a few times and nothing else with it.
    assert size(10_000, *others) < 20_000 * 200


async def test_thousands_of_models_in_two_pools_are_found(gateway, upstream):
    one, other = await upstream("one"), await upstream("other")
    members = [member(f"model-of-customer-{number:05}", via) for number in range(3000) for via in (POOL, FAR)]
    nets = [member(f"net-{number:05}", OTHER) for number in range(600)]
    table = [pool(POOL, one.endpoint), pool(FAR, other.endpoint), pool(OTHER, other.endpoint), *members, *nets]
    await gateway.carry(*table)
    async with client(gateway) as http:
        for number in (0, 499, 500, 2999):
            name = f"model-of-customer-{number:05}"
            assert (await http.get(f"/serving/default/{name}/v2/models/{name}")).text.startswith("one")
            assert (await http.get(f"/serving/far/{name}/v2/models/{name}")).text.startswith("other")
            # Both namespaces have the name; the older of equals is the first in order.
            assert (await http.get(f"/v2/models/{name}")).text.startswith("one")
        assert (await http.get("/v2/models/net-00599")).text.startswith("other")
        assert (await http.get("/v2/models/net-00600")).status_code == 404
        host = {"host": "net-00599-default.localhost"}
        assert (await http.get("/v2/models/net-00599", headers=host)).text.startswith("other")


async def test_the_longest_names_there_are_fit_into_a_route(gateway, upstream):
    one = await upstream("one")
    space, name = "s" * 63, "n" * 63
    key = observed.ServiceKey(space, name)
    single = routes.ServiceRoute(key, CREATED, 5, (routes.Split("bbbb", 100, (one.endpoint,)),))
    far = observed.ServiceKey(space, "modelmesh.sklearn")
    await gateway.carry(single, pool(far, one.endpoint), member("m" * 63, far), member("q" * 63, far, message="no"))
    async with client(gateway) as http:
        assert (await http.get(f"/serving/{space}/{name}/v2")).text == "one /v2"
        assert (await http.get(f"/serving/{space}/{'m' * 63}/v2")).text == "one /v2"
        assert (await http.get(f"/serving/{space}/{'q' * 63}/v2")).status_code == 503
