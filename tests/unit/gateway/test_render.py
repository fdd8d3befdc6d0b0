"""Decisions of the renderer that no running Envoy would show."""

import dataclasses

import orjson

from mlship.gateway import render
from mlship.plan import observed, routes

IRIS = observed.ServiceKey("default", "iris")
UNIX = observed.Endpoint("unix:/run/a.h", "unix:/run/a.g")


def route(*splits: routes.Split, **facts) -> routes.ServiceRoute:
    return routes.ServiceRoute(IRIS, "2026", 30, splits, **facts)


def configured(*wanted: routes.ServiceRoute):
    blocks = {one.service: render.block(one, domain="localhost") for one in wanted}
    (found,) = orjson.loads(render.configuration(routes.assemble(wanted), blocks))
    return found


def own_routes(one: routes.ServiceRoute) -> list:
    return configured(one)["virtual_hosts"][0]["routes"]


def test_weights_become_weighted_clusters():
    weighted = own_routes(route(routes.Split("old", 90, (UNIX,)), routes.Split("new", 10, (UNIX,))))[-1]["route"]
    assert weighted["weighted_clusters"]["clusters"] == [
        {"name": "default/iris/old/http", "weight": 90},
        {"name": "default/iris/new/http", "weight": 10},
    ]


def test_streams_have_no_timeout_and_unary_calls_have_the_services():
    found = own_routes(route(routes.Split("r", 100, (UNIX,))))
    assert [one["route"]["timeout"] for one in found] == ["0.000s", "30.000s", "30.000s"]


def test_a_long_list_of_services_fits_into_a_direct_response():
    many = [routes.ServiceRoute(observed.ServiceKey("ns", f"model-{i:04}"), "2026", 30) for i in range(3000)]
    text = configured(*many)["virtual_hosts"][-1]["routes"][-1]["direct_response"]["body"]["inline_string"]
    assert "and 2990 more" in text
    assert len(text) < 4096


def test_only_a_gated_service_asks_and_it_asks_in_its_own_name():
    warm = route(routes.Split("r", 100, (UNIX,)))
    assert b"typed_per_filter_config" not in orjson.dumps(configured(warm))
    gated = dataclasses.replace(warm, gate=routes.Gate(patience=5, places=10))
    for one in own_routes(gated):
        assert one["typed_per_filter_config"].keys() == {render.NAME_FILTER, render.GATE_FILTER}
    assert configured(gated)["request_headers_to_remove"] == [render.GATE_HEADER]
    assert b'"value":"default/iris r"' in orjson.dumps(configured(gated))


def test_the_gate_names_the_revisions_that_a_request_may_be_sent_to():
    splits = (routes.Split("old", 0, ()), routes.Split("a", 50, ()), routes.Split("b", 50, ()))
    gated = route(*splits, gate=routes.Gate(patience=5, places=10))
    assert b'"value":"default/iris a b"' in orjson.dumps(configured(gated))


def test_endpoints_patience_and_what_is_said_meanwhile_do_not_change_the_routes():
    asleep = route(routes.Split("r", 100, ()), gate=routes.Gate(patience=5, places=10), message="it starts")
    awake = route(routes.Split("r", 100, (UNIX,)), gate=routes.Gate(patience=9, places=1, hopeless="gone"))
    assert render.shape(asleep) == render.shape(awake)
    assert render.shape(awake) != render.shape(dataclasses.replace(awake, gate=None))
    assert render.shape(route(message="a")) != render.shape(route(message="b"))


def test_the_shown_url_of_a_wildcard_address_is_this_machine():
    assert render.Listen(host="0.0.0.0", port=80).url == "http://localhost:80"
    assert render.Listen(host="10.1.2.3").url == "http://10.1.2.3:8080"
