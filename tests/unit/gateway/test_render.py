"""Decisions of the renderer that no running Envoy would show."""

from mlship.gateway import render
from mlship.plan import observed, routes

IRIS = observed.ServiceKey("default", "iris")
UNIX = observed.Endpoint("unix:/run/a.h", "unix:/run/a.g")


def table(*splits: routes.Split) -> routes.RouteTable:
    return routes.assemble([routes.ServiceRoute(IRIS, "2026", 30, splits)])


def rendered(*splits: routes.Split) -> render.Resources:
    return render.render(table(*splits), listen=render.Listen(), endpoint_folder="/e")


def test_weights_become_weighted_clusters():
    resources = rendered(routes.Split("old", 90, (UNIX,)), routes.Split("new", 10, (UNIX,)))
    host = resources.routes["virtual_hosts"][0]
    weighted = host["routes"][-1]["route"]["weighted_clusters"]["clusters"]
    assert weighted == [
        {"name": "default/iris/old/http", "weight": 90},
        {"name": "default/iris/new/http", "weight": 10},
    ]


def test_a_port_endpoint_and_one_without_grpc():
    resources = rendered(routes.Split("r", 100, (observed.Endpoint("127.0.0.1:9000"),)))
    assert render.addresses(resources.endpoints["default/iris/r/http"]) == ("127.0.0.1:9000",)
    assert render.addresses(resources.endpoints["default/iris/r/grpc"]) == ()


def test_addresses_reads_back_what_was_rendered():
    assert render.addresses(rendered(routes.Split("r", 100, (UNIX,))).endpoints["default/iris/r/grpc"]) == (UNIX.grpc,)


def test_streams_have_no_timeout_and_unary_calls_have_the_services():
    grpc_routes = [r["route"] for r in rendered(routes.Split("r", 100, (UNIX,))).routes["virtual_hosts"][0]["routes"]]
    assert [route["timeout"] for route in grpc_routes] == ["0.000s", "30.000s", "30.000s"]


def test_a_long_list_of_services_fits_into_a_direct_response():
    many = [routes.ServiceRoute(observed.ServiceKey("ns", f"model-{i:04}"), "2026", 30) for i in range(3000)]
    resources = render.render(routes.assemble(many), listen=render.Listen(), endpoint_folder="/e")
    text = resources.routes["virtual_hosts"][-1]["routes"][-1]["direct_response"]["body"]["inline_string"]
    assert "and 2990 more" in text
    assert len(text) < 4096


def test_the_shown_url_of_a_wildcard_address_is_this_machine():
    assert render.Listen(host="0.0.0.0", port=80).url == "http://localhost:80"
    assert render.Listen(host="10.1.2.3").url == "http://10.1.2.3:8080"
