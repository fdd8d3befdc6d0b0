"""Endpoints -> Envoy clusters. Pure.

A revision of a service is two clusters: one speaks HTTP/1.1, one HTTP/2 for gRPC. A cluster holds its endpoints and
exists while it has some: a service at zero costs Envoy no cluster, and a replica that comes or goes is one file. The
clusters have no endpoint files of their own, since Envoy takes an inotify instance for every file it watches, and a
user has 128 of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from mlship.plan import observed

Resource = dict[str, Any]

TYPE = "type.googleapis.com/"
_HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
# Replicas keep idle connections longer than this, so that the gateway is always the side that closes first.
_UPSTREAM_IDLE = "30s"
# Envoy's own defaults (1024 requests, 3 retries at a time) are for a mesh; here the replica's queue limits.
LIMITS = {
    "thresholds": [
        {"max_connections": 16384, "max_pending_requests": 16384, "max_requests": 65536, "max_retries": 4096}
    ]
}
PROTOCOLS = ("http", "grpc")


def name(service: observed.ServiceKey, revision: str, protocol: str) -> str:
    """The name of a revision's cluster; ``protocol`` is http or grpc."""
    return f"{service.namespace}/{service.name}/{revision}/{protocol}"


def of(service: observed.ServiceKey, revision: str, endpoints: Iterable[observed.Endpoint]) -> dict[str, Resource]:
    """The clusters of a revision by name: those that have an endpoint."""
    listed = tuple(endpoints)
    found: dict[str, Resource] = {}
    for protocol in PROTOCOLS:
        addresses = [one.http if protocol == "http" else one.grpc for one in listed]
        if any(addresses):
            called = name(service, revision, protocol)
            found[called] = _cluster(called, protocol, [address for address in addresses if address])
    return found


def _cluster(called: str, protocol: str, addresses: Iterable[str]) -> Resource:
    http: Resource = {"http2_protocol_options": {}} if protocol == "grpc" else {"http_protocol_options": {}}
    return {
        "@type": TYPE + "envoy.config.cluster.v3.Cluster",
        "name": called,
        "connect_timeout": "1s",
        "lb_policy": "LEAST_REQUEST",
        "load_assignment": {
            "cluster_name": called,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _address(one)}} for one in addresses]}],
        },
        "circuit_breakers": LIMITS,
        "typed_extension_protocol_options": {
            _HTTP_OPTIONS: {
                "@type": TYPE + _HTTP_OPTIONS,
                "common_http_protocol_options": {"idle_timeout": _UPSTREAM_IDLE},
                "explicit_http_config": http,
            }
        },
    }


def _address(address: str) -> Resource:
    if address.startswith("unix:"):
        return {"pipe": {"path": address.removeprefix("unix:")}}
    host, _, port = address.rpartition(":")
    return {"socket_address": {"address": host, "port_value": int(port)}}


def read(resources: Iterable[Resource]) -> dict[observed.ServiceKey, dict[str, tuple[observed.Endpoint, ...]]]:
    """The endpoints of every service's revisions in rendered clusters: the way back from ``of``."""
    found: dict[tuple[observed.ServiceKey, str], dict[str, list[str]]] = {}
    for resource in resources:
        namespace, service, revision, protocol = resource["name"].split("/")
        key = observed.ServiceKey(namespace, service)
        found.setdefault((key, revision), {})[protocol] = _addresses(resource["load_assignment"])
    by_service: dict[observed.ServiceKey, dict[str, tuple[observed.Endpoint, ...]]] = {}
    for (key, revision), addresses in found.items():
        http = addresses.get("http", [])
        grpc = addresses.get("grpc") or [""] * len(http)
        pairs = tuple(observed.Endpoint(*pair) for pair in zip(http, grpc, strict=False))
        by_service.setdefault(key, {})[revision] = pairs
    return by_service


def _addresses(assignment: Mapping[str, Any]) -> list[str]:
    found: list[str] = []
    for locality in assignment["endpoints"]:
        for item in locality["lb_endpoints"]:
            address = item["endpoint"]["address"]
            if "pipe" in address:
                found.append("unix:" + address["pipe"]["path"])
            else:
                found.append(f"{address['socket_address']['address']}:{address['socket_address']['port_value']}")
    return found
