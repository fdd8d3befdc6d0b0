from __future__ import annotations

import pytest

from mlship import errors
from mlship.server.rest import exchange, routing


async def handler(request: exchange.Request) -> exchange.Response:
    return exchange.Response()


TABLE = routing.Table(
    [
        routing.Route("GET", "/", handler),
        routing.Route("GET", "/v2/models/{model}", handler, "metadata"),
        routing.Route("GET", "/v2/models/stats", handler, "statistics"),
        routing.Route("POST", "/v2/models/{model}/infer", handler, "infer"),
        routing.Route("GET", "/v1/models/{model}", handler, "status"),
        routing.Route("POST", "/v1/models/{model}:predict", handler, "predict"),
    ]
)


@pytest.mark.parametrize(
    ("method", "path", "protocol", "names"),
    [
        ("GET", "/", "", {}),
        ("HEAD", "/v2/models/iris", "metadata", {"model": "iris"}),
        ("GET", "/v2/models/iris/", "metadata", {"model": "iris"}),
        ("GET", "/v2/models/stats", "statistics", {}),
        ("GET", "/v2/models/a%2Fb%20c", "metadata", {"model": "a/b c"}),
        ("POST", "/v1/models/iris:predict", "predict", {"model": "iris"}),
        ("POST", "/v1/models/a:b:predict", "predict", {"model": "a:b"}),
        ("GET", "/v1/models/a%3Apredict", "status", {"model": "a:predict"}),
        ("GET", "/v2/models/a:predict", "metadata", {"model": "a:predict"}),
    ],
)
def test_found(method: str, path: str, protocol: str, names: dict[str, str]) -> None:
    route, found = TABLE.find(method, path)
    assert (route.protocol, found) == (protocol, names)


@pytest.mark.parametrize("path", ["/v3", "/v2/models", "/v2/models//infer", "/v2/models/a/b/c", "*", ""])
def test_not_found(path: str) -> None:
    with pytest.raises(errors.SpecError) as caught:
        TABLE.find("GET", path)
    assert caught.value.reason is errors.Reason.NOT_FOUND


@pytest.mark.parametrize(
    ("method", "path", "allow"), [("GET", "/v2/models/iris/infer", "POST"), ("DELETE", "/", "GET")]
)
def test_another_method_is_not_allowed(method: str, path: str, allow: str) -> None:
    with pytest.raises(routing.MethodNotAllowed) as caught:
        TABLE.find(method, path)
    assert caught.value.allow == allow
    assert caught.value.reason.http_status == 405
