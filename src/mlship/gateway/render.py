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

from mlship.plan import observed, routes

Resource = dict[str, Any]

_TYPE = "type.googleapis.com/"
ROUTER = _TYPE + "envoy.extensions.filters.http.router.v3.Router"
HCM = _TYPE + "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
ROUTE_CONFIG = "main"

# Replicas keep idle connections longer than this, so that the gateway is always the side that closes first.
_UPSTREAM_IDLE = "30s"
_MATCH_GRPC = {"name": "content-type", "string_match": {"prefix": "application/grpc"}}
_SERVICE_HEADERS = ("mlship-service", "mm-model-id", "seldon-model")
_STREAM_METHOD = "/inference.GRPCInferenceService/ModelStreamInfer"
# A prediction may be asked for twice: it changes nothing. So a replica that dies with requests in flight costs none.
_RETRIES = {
    "retry_on": "connect-failure,refused-stream,reset",
    "num_retries": 3,
    "retry_host_predicate": [
        {
            "name": "envoy.retry_host_predicates.previous_hosts",
            "typed_config": {"@type": _TYPE + "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"},
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
            for protocol in ("http", "grpc"):
                name = cluster_name(service.service, split.revision, protocol)
                clusters[name] = _cluster(name, protocol, endpoint_folder)
                endpoints[name] = _load_assignment(name, protocol, split.endpoints)
    return Resources(routes=_route_configuration(table, listen), clusters=clusters, endpoints=endpoints)


def file_name(cluster: str) -> str:
    """The endpoint file of a cluster: its name, flat. Names hold no underscore, so this cannot collide."""
    return cluster.replace("/", "_") + ".json"


def _cluster(name: str, protocol: str, endpoint_folder: str) -> Resource:
    http: Resource = {"http2_protocol_options": {}} if protocol == "grpc" else {"http_protocol_options": {}}
    return {
        "@type": _TYPE + "envoy.config.cluster.v3.Cluster",
        "name": name,
        "type": "EDS",
        "connect_timeout": "1s",
        "lb_policy": "LEAST_REQUEST",
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
                "@type": _TYPE + HTTP_OPTIONS,
                "common_http_protocol_options": {"idle_timeout": _UPSTREAM_IDLE},
                "explicit_http_config": http,
            }
        },
    }


def _load_assignment(name: str, protocol: str, endpoints: Iterable[observed.Endpoint]) -> Resource:
    addresses = [endpoint.http if protocol == "http" else endpoint.grpc for endpoint in endpoints]
    return {
        "@type": _TYPE + "envoy.config.endpoint.v3.ClusterLoadAssignment",
        "cluster_name": name,
        "endpoints": [
            {"lb_endpoints": [{"endpoint": {"address": _address(address)}} for address in addresses if address]}
        ],
    }


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
    hosts = [_virtual_host(route, listen.domain) for route in table.services]
    shared: list[Resource] = []
    for name, key in table.names:
        shared += _by_name(name, by_key[key])
    for route in table.services:
        shared += _by_full_path(route)
    shared += _last_resort(table, by_key)
    everything = {"name": "everything", "domains": ["*"], "routes": shared}
    return {
        "@type": _TYPE + "envoy.config.route.v3.RouteConfiguration",
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
        return [unknown, *_grpc({"prefix": "/"}, only, []), _to(only, {"prefix": "/"}, "http")]
    alive = {"match": {"safe_regex": {"regex": "/|/v2/health/(live|ready)"}}, "direct_response": {"status": 200}}
    grpc_hint = "Name the service: gRPC metadata 'mlship-service: NAME' or authority NAME-NAMESPACE.DOMAIN. "
    return [
        unknown,
        {
            "match": {"prefix": "/", "headers": [_MATCH_GRPC]},
            "direct_response": _says(404, grpc_hint + _nothing_here(names)),
        },
        alive,
        {"match": {"prefix": "/"}, "direct_response": _says(404, _nothing_here(names))},
    ]


def _nothing_here(names: list[str]) -> str:
    if not names:
        return "No service is deployed yet. Deploy one: mlship deploy ./model.pkl"
    shown = ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
    return f"No service answers to this path or host. Services here: {shown}. See 'mlship list' for their URLs."


def _says(status: int, text: str) -> Resource:
    # Envoy refuses direct responses of over 4 KiB.
    return {"status": status, "body": {"inline_string": text[:3500]}}


def _grpc(match: Resource, route: routes.ServiceRoute, headers: list[Resource]) -> list[Resource]:
    conditions = [_MATCH_GRPC, *headers]
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
        action["cluster"] = cluster_name(route.service, route.splits[0].revision, protocol)
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


def bootstrap(*, listen: Listen, admin_socket: str, xds_folder: str) -> Resource:
    """Envoy's own configuration: the listener and where to find the rest."""
    return {
        "node": {"id": "mlship", "cluster": "mlship"},
        "admin": {"address": {"pipe": {"path": admin_socket, "mode": 0o600}}},
        "dynamic_resources": {"cds_config": _from_file(f"{xds_folder}/cds.json")},
        "static_resources": {"listeners": [_listener(listen, f"{xds_folder}/rds.json")]},
    }


def _from_file(path: str) -> Resource:
    return {"resource_api_version": "V3", "path_config_source": {"path": path}}


def _listener(listen: Listen, rds_path: str) -> Resource:
    manager = {
        "@type": HCM,
        "stat_prefix": "ingress",
        "codec_type": "AUTO",
        "rds": {"route_config_name": ROUTE_CONFIG, "config_source": _from_file(rds_path)},
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {"@type": ROUTER}}],
        "use_remote_address": True,
        "preserve_external_request_id": True,
        "always_set_request_id_in_response": True,
        "normalize_path": True,
        "merge_slashes": True,
        "path_with_escaped_slashes_action": "REJECT_REQUEST",
        "stream_idle_timeout": "0s",
        "request_headers_timeout": "10s",
        "common_http_protocol_options": {"idle_timeout": "300s", "headers_with_underscores_action": "ALLOW"},
        "http2_protocol_options": {"max_concurrent_streams": 1000},
        "local_reply_config": _local_replies(),
        "access_log": [_log_of_failures()],
        "server_name": "mlship",
    }
    return {
        "name": "ingress",
        "address": {"socket_address": {"address": listen.host, "port_value": listen.port}},
        "filter_chains": [{"filters": [{"name": "hcm", "typed_config": manager}]}],
        "per_connection_buffer_limit_bytes": 4 * 1024 * 1024,
    }


def _local_replies() -> Resource:
    """What Envoy says itself takes the protocol's error form; for gRPC the sentence alone becomes grpc-message."""
    grpc = {"header_filter": {"header": _MATCH_GRPC}}
    failed = {
        "status_code_filter": {
            "comparison": {"op": "GE", "value": {"default_value": 400, "runtime_key": "mlship.error_status"}}
        }
    }
    plain = {"text_format_source": {"inline_string": "%LOCAL_REPLY_BODY%"}, "content_type": "text/plain"}
    error = {"json_format": {"error": "%LOCAL_REPLY_BODY%"}, "content_type": "application/json"}
    return {
        "mappers": [
            {"filter": grpc, "body_format_override": plain},
            {"filter": failed, "body_format_override": error},
        ]
    }


def _log_of_failures() -> Resource:
    return {
        "name": "envoy.access_loggers.stdout",
        "filter": {
            "status_code_filter": {
                "comparison": {"op": "GE", "value": {"default_value": 500, "runtime_key": "mlship.log_status"}}
            }
        },
        "typed_config": {
            "@type": _TYPE + "envoy.extensions.access_loggers.stream.v3.StdoutAccessLog",
            "log_format": {
                "json_format": {
                    "time": "%START_TIME%",
                    "method": "%REQ(:METHOD)%",
                    "path": "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%",
                    "host": "%REQ(:AUTHORITY)%",
                    "status": "%RESPONSE_CODE%",
                    "flags": "%RESPONSE_FLAGS%",
                    "details": "%RESPONSE_CODE_DETAILS%",
                    "duration_ms": "%DURATION%",
                    "cluster": "%UPSTREAM_CLUSTER%",
                    "request_id": "%REQ(X-REQUEST-ID)%",
                }
            },
        },
    }
