"""Route tables -> Envoy's route configuration, as bytes. Pure.

One listener carries everything: REST and gRPC (HTTP/2 without TLS) on the same port. A request finds its service

1. by host or authority: ``NAME-NAMESPACE.DOMAIN``;
2. by path: ``/v2/models/NAME/...``, ``/v1/models/NAME:predict``, ``/v2/repository/models/NAME/...`` and
   ``/serving/NAMESPACE/NAME/...`` (the prefix is cut off);
3. for gRPC, by metadata: ``mlship-service: NAME`` or ``NAMESPACE/NAME`` (``bootstrap`` has what clients of ModelMesh
   and Seldon send already, ``mm-model-id`` and ``seldon-model``, stand for it);
4. by default, when one service exists.

Models in pools are found the same ways, by routes that they share (``render_pool``).

What a service contributes is rendered once and kept by whoever publishes (``Block``); a table is its blocks in a row,
so that a change of one service among thousands costs Python a join and no rendering.

A route of a service that is gated says two things more: that the gate is asked (the filter is off everywhere else), and
in whose name: its own name, which a filter copies into a header over whatever a client sent, and no replica sees.
"""

from __future__ import annotations

import dataclasses
import re
import zlib
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import orjson

from mlship.gateway import clusters, render_pool
from mlship.plan import observed, routes

Resource = dict[str, Any]

TYPE = clusters.TYPE
ROUTE_CONFIG = "main"
SERVICE_HEADER = render_pool.SERVICE_HEADER
# How the gate is told which service a question is about, and through which revisions it may be sent on.
GATE_HEADER = "x-mlship-gate"
# W3C Trace Context: of the request that a question is about.
TRACE_HEADER = "traceparent"
GATE_FILTER = "mlship.gate"
# What the gate refuses with, mapped to 503 before anybody sees it: Envoy takes a 5xx for a failure of the gate itself.
REFUSED = 425
MATCH_GRPC = render_pool.MATCH_GRPC
OVERWRITE = render_pool.OVERWRITE
# A prediction may be asked for twice: it changes nothing. So a replica that dies with requests in flight costs none.
_RETRIES = {
    "retry_on": "connect-failure,refused-stream,reset",
    "num_retries": 3,
    "retry_host_predicate": [
        {
            "name": "envoy.retry_host_predicates.previous_hosts",
            "typed_config": {"@type": TYPE + "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"},
        }
    ],
    "host_selection_retry_max_attempts": 5,
    "retry_back_off": {"base_interval": "0.005s", "max_interval": "0.1s"},
}


@dataclasses.dataclass(frozen=True, slots=True)
class Listen:
    """Where the gateway listens. ``domain`` is what hosts end in."""

    host: str = "127.0.0.1"
    port: int = 8080
    domain: str = "localhost"

    @property
    def url(self) -> str:
        """The address to show: a wildcard host is shown as this machine's loopback name."""
        host = {"0.0.0.0": "localhost", "::": "localhost", "127.0.0.1": "localhost"}.get(self.host, self.host)  # noqa: S104
        return f"http://{host}:{self.port}"


Block = bytes
"""What one service contributes: its virtual host, its routes by bare name, those by namespace and name.

JSON without the brackets around it, a line each, packed: it is held for every service and read when routes are
published, and one service's is so much like itself that a sixth is left of it.
"""


def shape(route: routes.ServiceRoute) -> routes.ServiceRoute:
    """What of a route the route configuration depends on: routes of the same shape render to the same bytes."""
    splits = tuple(dataclasses.replace(split, endpoints=()) for split in route.splits)
    gate = None if route.gate is None or not splits else routes.Gate(patience=0, places=0)
    return dataclasses.replace(route, splits=splits, gate=gate, message="" if splits else route.message)


def block(route: routes.ServiceRoute, *, domain: str) -> Block:
    """Render what a service contributes."""
    found = (_list([_virtual_host(route, domain)]), _list(_by_name(route.service.name, route)))
    return zlib.compress(b"\n".join((*found, _list(_by_full_path(route)))), level=1)


def parts(packed: Block) -> tuple[bytes, bytes, bytes]:
    """The virtual host, the routes by bare name, and those by namespace and name."""
    host, named, full = zlib.decompress(packed).split(b"\n")
    return host, named, full


def _list(resources: list[Resource]) -> bytes:
    return orjson.dumps(resources)[1:-1]


class Blocks:
    """What was rendered of the table before, to be rendered anew only where it has changed.

    A service has a block of its own. The models in pools have one together: one that comes or goes is rendered with
    the others, which are few routes.
    """

    def __init__(self, domain: str) -> None:
        self._domain = domain
        self._own: dict[observed.ServiceKey, tuple[routes.ServiceRoute, Block]] = {}
        self._pooled_of: object = None
        self._pooled = _Pooled()

    def configuration(self, table: routes.RouteTable) -> bytes:
        """The route configuration as a JSON list of one resource."""
        followers = tuple(route for route in table.services if render_pool.follows(route))
        apart = {route.service for route in followers}
        own: dict[observed.ServiceKey, tuple[routes.ServiceRoute, Block]] = {}
        for route in table.services:
            if route.service not in apart:
                held = self._own.get(route.service)
                fresh = held is None or held[0] != route
                own[route.service] = (route, block(route, domain=self._domain)) if fresh or held is None else held
        self._own = own
        owned = frozenset(key for _, key in table.names if key in apart)
        if self._pooled_of != (followers, owned):
            self._pooled = _pooled(followers, owned, self._domain)
            self._pooled_of = (followers, owned)
        return _configuration(table, {key: found for key, (_, found) in own.items()}, self._pooled)


@dataclasses.dataclass(frozen=True, slots=True)
class _Pooled:
    """What the models in pools contribute together: JSON without the brackets around it."""

    hosts: bytes = b""
    shared: bytes = b""


def _pooled(followers: Sequence[routes.ServiceRoute], owned: Collection[observed.ServiceKey], domain: str) -> _Pooled:
    found = render_pool.sections(followers, owned, domain=domain, retries=_RETRIES)
    return _Pooled(_list(list(found.hosts)), _list(list(found.shared)))


def _configuration(table: routes.RouteTable, blocks: Mapping[observed.ServiceKey, Block], pooled: _Pooled) -> bytes:
    last = _list(_last_resort(table, {route.service: route for route in table.services}))
    read = {key: parts(packed) for key, packed in blocks.items()}
    shared = [read[key][1] for _, key in table.names if key in read]
    shared += [full for _, _, full in read.values()]
    shared += [pooled.shared] if pooled.shared else []
    hosts = [host for host, _, _ in read.values()]
    hosts += [pooled.hosts] if pooled.hosts else []
    # A port in the Host header must not hide the host.
    everything = b'{"name":"everything","domains":["*"],"retry_policy":%s,"routes":[%s]}' % (
        orjson.dumps(_RETRIES),
        b",".join([*shared, last]),
    )
    return (
        b'[{"@type":"%s","name":"%s","ignore_port_in_host_matching":true,"request_headers_to_remove":["%s"],'
        b'"virtual_hosts":[%s]}]'
    ) % (_CONFIGURATION, ROUTE_CONFIG.encode(), GATE_HEADER.encode(), b",".join([*hosts, everything]))


_CONFIGURATION = (TYPE + "envoy.config.route.v3.RouteConfiguration").encode()


def hosts_of(service: observed.ServiceKey, domain: str) -> tuple[str, ...]:
    """The host names of a service; the first is the one to show."""
    return (f"{service.name}-{service.namespace}.{domain}", f"{service.name}-predictor-{service.namespace}.{domain}")


def _virtual_host(route: routes.ServiceRoute, domain: str) -> Resource:
    found: Resource = {
        "name": str(route.service),
        "domains": list(hosts_of(route.service, domain)),
        "retry_policy": _RETRIES,
        "routes": [
            *_grpc({"prefix": "/"}, route, [], asks=False),
            _to(route, {"prefix": "/"}, "http", asks=False),
        ],
    }
    if route.gate is not None:
        found["typed_per_filter_config"] = _ASK_THE_GATE
    return found


def _by_name(name: str, route: routes.ServiceRoute) -> list[Resource]:
    # What is asked for most often has a route of its own; the rest shares one, since every route costs each request.
    other = f"/(v1|v2/repository)/models/{re.escape(name)}(:predict|:explain|/.*)?"
    return [
        _to(route, {"path_separated_prefix": f"/v2/models/{name}"}, "http"),
        _to(route, {"safe_regex": {"regex": other}}, "http"),
        *_grpc({"prefix": "/"}, route, [_named(name)]),
    ]


def _named(name: str) -> Resource:
    return {"name": SERVICE_HEADER, "string_match": {"exact": name}}


def _by_full_path(route: routes.ServiceRoute) -> list[Resource]:
    prefix = f"/serving/{route.service.namespace}/{route.service.name}"
    return [
        _to(route, {"path": prefix}, "http", prefix_rewrite="/"),
        _to(route, {"prefix": prefix + "/"}, "http", prefix_rewrite="/"),
        *_grpc({"prefix": "/"}, route, [_named(str(route.service))]),
    ]


def _last_resort(table: routes.RouteTable, by_key: Mapping[observed.ServiceKey, routes.ServiceRoute]) -> list[Resource]:
    names = [name for name, _ in table.names]
    # Of models in pools the number is not said: one more would be other routes, which otherwise stay.
    counted = not any(render_pool.follows(route) for route in table.services)
    nothing = _nothing_here(names, counted=counted)
    unknown = {
        "match": {"safe_regex": {"regex": "/(v1|v2)/models/.+|/v2/repository/models/.+|/serving/.+"}},
        "direct_response": _says(404, nothing),
    }
    if table.default is not None:
        only = by_key[table.default]
        if only.via is not None and not only.message:
            only = by_key.get(only.via, only)
        statistics = _to(only, {"path": "/v2/models/stats"}, "http")
        return [statistics, unknown, *_grpc({"prefix": "/"}, only, []), _to(only, {"prefix": "/"}, "http")]
    grpc_hint = "Name the service: gRPC metadata 'mlship-service: NAME' or authority NAME-NAMESPACE.DOMAIN. "
    return [
        unknown,
        {
            "match": {"prefix": "/", "headers": [MATCH_GRPC]},
            "direct_response": _says(404, grpc_hint + nothing),
        },
        # The gateway answers for itself, in the words of KServe's server.
        _state("/v2/health/live", '{"live":true}'),
        _state("/v2/health/ready", '{"ready":true}'),
        _state("/", '{"status":"alive"}'),
        {"match": {"prefix": "/"}, "direct_response": _says(404, nothing)},
    ]


def _state(path: str, body: str) -> Resource:
    json_type = {"header": {"key": "content-type", "value": "application/json"}, "append_action": OVERWRITE}
    return {
        "match": {"path": path},
        "direct_response": {"status": 200, "body": {"inline_string": body}},
        "response_headers_to_add": [json_type],
    }


def _nothing_here(names: list[str], *, counted: bool) -> str:
    if not names:
        return "No service is deployed yet. Deploy one: mlship deploy ./model.pkl"
    more = f"{len(names) - 10} more" if counted else "more"
    shown = ", ".join(names[:10]) + (f" and {more}" if len(names) > 10 else "")
    return f"No service answers to this path or host. Services here: {shown}. See 'mlship list' for their URLs."


def _says(status: int, text: str) -> Resource:
    # Envoy refuses direct responses of over 4 KiB.
    return {"status": status, "body": {"inline_string": text[:3500]}}


def _grpc(match: Resource, route: routes.ServiceRoute, headers: list[Resource], *, asks: bool = True) -> list[Resource]:
    conditions = [MATCH_GRPC, *headers]
    stream = _to(route, {"path": render_pool.STREAM_METHOD, "headers": conditions}, "grpc", timeout=0.0, asks=asks)
    return [stream, _to(route, {**match, "headers": conditions}, "grpc", asks=asks)]


def _to(
    route: routes.ServiceRoute,
    match: Resource,
    protocol: str,
    *,
    timeout: float | None = None,
    prefix_rewrite: str | None = None,
    asks: bool = True,
) -> Resource:
    """One route to a service, or to the sentence that says why it cannot be reached.

    ``asks``: it turns the gate on itself if the service has one.
    """
    if not route.splits:
        text = route.message or f"{route.service} has no ready replica."
        return {"match": match, "direct_response": _says(503, text)}
    action: Resource = {"timeout": f"{route.timeout if timeout is None else timeout:.3f}s"}
    if len(route.splits) == 1:
        hashed = route.pool is not None
        kind = f"{protocol}{clusters.HASHED}" if hashed else protocol
        action["cluster"] = clusters.name(route.service, route.splits[0].revision, kind)
        if hashed:
            action["hash_policy"] = render_pool.hash_policy(protocol)
    else:
        action["weighted_clusters"] = {
            "clusters": [
                {"name": clusters.name(route.service, split.revision, protocol), "weight": split.weight}
                for split in route.splits
            ]
        }
    if prefix_rewrite is not None:
        action["prefix_rewrite"] = prefix_rewrite
    found: Resource = {"match": match, "route": action}
    if route.gate is not None:
        revisions = [split.revision for split in route.splits if split.weight]
        found["name"] = " ".join([str(route.service), *revisions])
        if asks:
            found["typed_per_filter_config"] = _ASK_THE_GATE
    return found


_ASK_THE_GATE = {
    GATE_FILTER: {
        "@type": TYPE + "envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute",
        "check_settings": {},
    }
}
