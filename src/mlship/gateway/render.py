"""RouteTable -> Envoy resources. Pure: values in, JSON-able dictionaries out; ``xds`` writes them where Envoy looks.

One listener carries everything: REST and gRPC (HTTP/2 without TLS) on the same port. A request finds its service

1. by host or authority: ``NAME-NAMESPACE.DOMAIN``;
2. by path: ``/v2/models/NAME/...``, ``/v1/models/NAME:predict``, ``/v2/repository/models/NAME/...`` and
   ``/serving/NAMESPACE/NAME/...`` (the prefix is cut off);
3. for gRPC, by metadata: ``mlship-service: NAME`` or ``NAMESPACE/NAME`` (``mm-model-id`` and ``seldon-model``, which
   clients of ModelMesh and Seldon send already, work too);
4. by default, when one service exists.

A revision is two EDS clusters, one that speaks HTTP/1.1 and one that speaks HTTP/2 for gRPC. Endpoints have files of
their own, so that a replica coming or going is one small file that Envoy reads, without touching routes or clusters.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping
from typing import Any

from mlship.gateway import render_pool
from mlship.plan import observed, routes

Resource = dict[str, Any]

TYPE = "type.googleapis.com/"
HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
ROUTE_CONFIG = "main"

# Replicas keep idle connections longer than this, so that the gateway is always the side that closes first.
_UPSTREAM_IDLE = "30s"
MATCH_GRPC = {"name": "content-type", "string_match": {"prefix": "application/grpc"}}
_SERVICE_HEADERS = ("mlship-service", "mm-model-id", "seldon-model")
_OVERWRITE = "OVERWRITE_IF_EXISTS_OR_ADD"
_STREAM_METHOD = "/inference.GRPCInferenceService/ModelStreamInfer"
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


@dataclasses.dataclass(frozen=True, slots=True)
class Resources:
    """What Envoy reads: one route configuration, clusters by name, endpoints by cluster name."""

    routes: Resource
    clusters: Mapping[str, Resource]
    endpoints: Mapping[str, Resource]


def cluster_name(service: observed.ServiceKey, revision: str, protocol: str) -> str:
    """The name of a revision's cluster; ``protocol`` is http or grpc."""
    return f"{service.namespace}/{service.name}/{revision}/{protocol}"


def render(table: routes.RouteTable, *, listen: Listen, endpoint_folder: str) -> Resources:
    """The resources of a table. ``endpoint_folder`` is where the endpoint files will lie."""
    clusters: dict[str, Resource] = {}
    endpoints: dict[str, Resource] = {}
    for service in table.services:
        for split in service.splits:
            for protocol in ("http", "grpc") if service.pool is None else render_pool.PROTOCOLS:
                name = cluster_name(service.service, split.revision, protocol)
                clusters[name] = _cluster(name, protocol, endpoint_folder)
                endpoints[name] = _load_assignment(name, protocol, split.endpoints)
    return Resources(routes=_route_configuration(table, listen), clusters=clusters, endpoints=endpoints)


def file_name(cluster: str) -> str:
    """The endpoint file of a cluster: its name, flat. Names hold no underscore, so this cannot collide."""
    return cluster.replace("/", "_") + ".json"


def _cluster(name: str, protocol: str, endpoint_folder: str) -> Resource:
    http: Resource = {"http2_protocol_options": {}} if protocol.startswith("grpc") else {"http_protocol_options": {}}
    return {
        "@type": TYPE + "envoy.config.cluster.v3.Cluster",
        "name": name,
        "type": "EDS",
        "connect_timeout": "1s",
        "lb_policy": "MAGLEV" if protocol.endswith(render_pool.HASHED) else "LEAST_REQUEST",
        "eds_cluster_config": {
            "eds_config": {
                "resource_api_version": "V3",
                "path_config_source": {"path": f"{endpoint_folder}/{file_name(name)}"},
            }
        },
        # Envoy's own defaults (1024 requests, 3 retries at a time) are for a mesh; here the replica's queue limits.
        "circuit_breakers": {
            "thresholds": [
                {
                    "max_connections": 16384,
                    "max_pending_requests": 16384,
                    "max_requests": 65536,
                    "max_retries": 4096,
                }
            ]
        },
        # An endpoint that left the file must take no new request, healthy or not.
        "ignore_health_on_host_removal": True,
        "typed_extension_protocol_options": {
            HTTP_OPTIONS: {
                "@type": TYPE + HTTP_OPTIONS,
                "common_http_protocol_options": {"idle_timeout": _UPSTREAM_IDLE},
                "explicit_http_config": http,
            }
        },
    }


def _load_assignment(name: str, protocol: str, endpoints: Iterable[observed.Endpoint]) -> Resource:
    listed = tuple(endpoints)
    addresses = [endpoint.http if protocol.startswith("http") else endpoint.grpc for endpoint in listed]
    keys = render_pool.hash_keys(listed) if protocol.endswith(render_pool.HASHED) else {}
    return {
        "@type": TYPE + "envoy.config.endpoint.v3.ClusterLoadAssignment",
        "cluster_name": name,
        "endpoints": [{"lb_endpoints": [_endpoint(address, keys) for address in addresses if address]}],
    }


def _endpoint(address: str, keys: Mapping[str, str]) -> Resource:
    found: Resource = {"endpoint": {"address": _address(address)}}
    if address in keys:
        found["metadata"] = {"filter_metadata": {"envoy.lb": {"hash_key": keys[address]}}}
    return found


def _address(address: str) -> Resource:
    if address.startswith("unix:"):
        return {"pipe": {"path": address.removeprefix("unix:")}}
    host, _, port = address.rpartition(":")
    return {"socket_address": {"address": host, "port_value": int(port)}}


def addresses(assignment: Resource) -> tuple[str, ...]:
    """The addresses in a rendered load assignment, in order, as ``observed.Endpoint`` writes them."""
    found: list[str] = []
    for locality in assignment["endpoints"]:
        for item in locality["lb_endpoints"]:
            address = item["endpoint"]["address"]
            if "pipe" in address:
                found.append("unix:" + address["pipe"]["path"])
            else:
                found.append(f"{address['socket_address']['address']}:{address['socket_address']['port_value']}")
    return tuple(found)


def _route_configuration(table: routes.RouteTable, listen: Listen) -> Resource:
    by_key = {route.service: route for route in table.services}
    own = [route for route in table.services if not render_pool.follows(route)]
    pooled = render_pool.sections(table, domain=listen.domain, cluster=cluster_name, retries=_RETRIES)
    hosts = [*(_virtual_host(route, listen.domain) for route in own), *pooled.hosts]
    shared: list[Resource] = []
    for name, key in table.names:
        if not render_pool.follows(by_key[key]):
            shared += _by_name(name, by_key[key])
    for route in own:
        shared += _by_full_path(route)
    shared += pooled.shared
    shared += _last_resort(table, by_key)
    everything = {"name": "everything", "domains": ["*"], "routes": shared}
    return {
        "@type": TYPE + "envoy.config.route.v3.RouteConfiguration",
        "name": ROUTE_CONFIG,
        "virtual_hosts": [*hosts, everything],
        # A port in the Host header must not hide the host.
        "ignore_port_in_host_matching": True,
    }


def hosts_of(service: observed.ServiceKey, domain: str) -> tuple[str, ...]:
    """The host names of a service; the first is the one to show."""
    return (f"{service.name}-{service.namespace}.{domain}", f"{service.name}-predictor-{service.namespace}.{domain}")


def _virtual_host(route: routes.ServiceRoute, domain: str) -> Resource:
    return {
        "name": str(route.service),
        "domains": list(hosts_of(route.service, domain)),
        "routes": [
            *_grpc({"prefix": "/"}, route, []),
            _to(route, {"prefix": "/"}, "http"),
        ],
    }


def _by_name(name: str, route: routes.ServiceRoute) -> list[Resource]:
    found = [
        _to(route, {"path_separated_prefix": f"/v2/models/{name}"}, "http"),
        _to(route, {"path": f"/v1/models/{name}:predict"}, "http"),
        _to(route, {"path": f"/v1/models/{name}:explain"}, "http"),
        _to(route, {"path_separated_prefix": f"/v1/models/{name}"}, "http"),
        _to(route, {"path_separated_prefix": f"/v2/repository/models/{name}"}, "http"),
    ]
    for header in _SERVICE_HEADERS:
        found += _grpc({"prefix": "/"}, route, [{"name": header, "string_match": {"exact": name}}])
    return found


def _by_full_path(route: routes.ServiceRoute) -> list[Resource]:
    prefix = f"/serving/{route.service.namespace}/{route.service.name}"
    cut = {"pattern": {"regex": f"^{re.escape(prefix)}/?"}, "substitution": "/"}
    header = {"name": "mlship-service", "string_match": {"exact": str(route.service)}}
    return [
        _to(route, {"path_separated_prefix": prefix}, "http", regex_rewrite=cut),
        *_grpc({"prefix": "/"}, route, [header]),
    ]


def _last_resort(table: routes.RouteTable, by_key: Mapping[observed.ServiceKey, routes.ServiceRoute]) -> list[Resource]:
    names = [name for name, _ in table.names]
    unknown = {
        "match": {"safe_regex": {"regex": "/(v1|v2)/models/.+|/v2/repository/models/.+|/serving/.+"}},
        "direct_response": _says(404, _nothing_here(names)),
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
            "direct_response": _says(404, grpc_hint + _nothing_here(names)),
        },
        # The gateway answers for itself, in the words of KServe's server.
        _state("/v2/health/live", '{"live":true}'),
        _state("/v2/health/ready", '{"ready":true}'),
        _state("/", '{"status":"alive"}'),
        {"match": {"prefix": "/"}, "direct_response": _says(404, _nothing_here(names))},
    ]


def _state(path: str, body: str) -> Resource:
    json_type = {"header": {"key": "content-type", "value": "application/json"}, "append_action": _OVERWRITE}
    return {
        "match": {"path": path},
        "direct_response": {"status": 200, "body": {"inline_string": body}},
        "response_headers_to_add": [json_type],
    }


def _nothing_here(names: list[str]) -> str:
    if not names:
        return "No service is deployed yet. Deploy one: mlship deploy ./model.pkl"
    shown = ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
    return f"No service answers to this path or host. Services here: {shown}. See 'mlship list' for their URLs."


def _says(status: int, text: str) -> Resource:
    # Envoy refuses direct responses of over 4 KiB.
    return {"status": status, "body": {"inline_string": text[:3500]}}


def _grpc(match: Resource, route: routes.ServiceRoute, headers: list[Resource]) -> list[Resource]:
    conditions = [MATCH_GRPC, *headers]
    stream = _to(route, {"path": _STREAM_METHOD, "headers": conditions}, "grpc", timeout=0.0)
    return [stream, _to(route, {**match, "headers": conditions}, "grpc")]


def _to(
    route: routes.ServiceRoute,
    match: Resource,
    protocol: str,
    *,
    timeout: float | None = None,
    regex_rewrite: Resource | None = None,
) -> Resource:
    """One route to a service, or to the sentence that says why it cannot be reached."""
    if not route.splits:
        return {
            "match": match,
            "direct_response": _says(503, route.message or f"{route.service} has no ready replica."),
            "response_headers_to_add": [{"header": {"key": "retry-after", "value": "1"}}],
        }
    action: Resource = {
        "timeout": f"{route.timeout if timeout is None else timeout:.3f}s",
        "retry_policy": _RETRIES,
    }
    if len(route.splits) == 1:
        hashed = route.pool is not None
        kind = f"{protocol}{render_pool.HASHED}" if hashed else protocol
        action["cluster"] = cluster_name(route.service, route.splits[0].revision, kind)
        if hashed:
            action["hash_policy"] = render_pool.hash_policy(protocol)
    else:
        action["weighted_clusters"] = {
            "clusters": [
                {"name": cluster_name(route.service, split.revision, protocol), "weight": split.weight}
                for split in route.splits
            ]
        }
    if regex_rewrite is not None:
        action["regex_rewrite"] = regex_rewrite
    return {"match": match, "route": action}
