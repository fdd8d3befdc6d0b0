"""Endpoints -> Envoy clusters. Pure.

A revision of a service is two clusters: one speaks HTTP/1.1, one HTTP/2 for gRPC. A cluster holds its endpoints and
exists while it has some: a service at zero costs Envoy no cluster, and a replica that comes or goes is one file. The
clusters have no endpoint files of their own, since Envoy takes an inotify instance for every file it watches, and a
user has 128 of them.

A pool's revision is two clusters more: in them the hash of a model's name chooses the endpoint, the same one for both
protocols. Which of the two kinds is meant, a route says.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import orjson

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
# What the protocol of a cluster ends in whose endpoint is chosen by a hash.
HASHED = "-hash"

Revisions = dict[str, tuple[observed.Endpoint, ...]]


def endpoints(revisions: Revisions) -> frozenset[observed.Endpoint]:
    """All endpoints of a service."""
    return frozenset(one for listed in revisions.values() for one in listed)


def name(service: observed.ServiceKey, revision: str, protocol: str) -> str:
    """The name of a revision's cluster; ``protocol`` is http or grpc, with or without HASHED."""
    return f"{service.namespace}/{service.name}/{revision}/{protocol}"


def rendered(service: observed.ServiceKey, revisions: Revisions, *, hashed: Collection[str]) -> bytes:
    """All clusters of a service as JSON without brackets; ``hashed`` are the revisions that are a pool's."""
    found = [of(service, one, revisions[one], hashed=one in hashed) for one in sorted(revisions)]
    return orjson.dumps([one for by_name in found for one in by_name.values()])[1:-1]


def of(
    service: observed.ServiceKey, revision: str, endpoints: Iterable[observed.Endpoint], *, hashed: bool = False
) -> dict[str, Resource]:
    """The clusters of a revision by name: those that have an endpoint."""
    listed = tuple(endpoints)
    found: dict[str, Resource] = {}
    for protocol in PROTOCOLS:
        addresses = [one.http if protocol == "http" else one.grpc for one in listed]
        if not any(addresses):
            continue
        called = name(service, revision, protocol)
        found[called] = _cluster(called, protocol, [_endpoint(address) for address in addresses if address])
        if hashed:
            keyed = [
                _endpoint(address, key=one.http) for address, one in zip(addresses, listed, strict=True) if address
            ]
            called += HASHED
            found[called] = _cluster(called, protocol, keyed) | {"lb_policy": "MAGLEV"}
    return found


def _cluster(called: str, protocol: str, endpoints: list[Resource]) -> Resource:
    http: Resource = {"http2_protocol_options": {}} if protocol == "grpc" else {"http_protocol_options": {}}
    return {
        "@type": TYPE + "envoy.config.cluster.v3.Cluster",
        "name": called,
        "connect_timeout": "1s",
        "lb_policy": "LEAST_REQUEST",
        "load_assignment": {
            "cluster_name": called,
            "endpoints": [{"lb_endpoints": endpoints}],
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


def _endpoint(address: str, *, key: str = "") -> Resource:
    """``key`` stands for the endpoint where a hash chooses one: both protocols of a process have the same."""
    found: Resource = {"endpoint": {"address": _address(address)}}
    return found | {"metadata": {"filter_metadata": {"envoy.lb": {"hash_key": key}}}} if key else found


def _address(address: str) -> Resource:
    if address.startswith("unix:"):
        return {"pipe": {"path": address.removeprefix("unix:")}}
    host, _, port = address.rpartition(":")
    return {"socket_address": {"address": host, "port_value": int(port)}}


def read(resources: Iterable[Resource]) -> dict[observed.ServiceKey, Revisions]:
    """The endpoints of every service's revisions in rendered clusters: the way back from ``of``.

    A cluster without endpoints in it, as an earlier version wrote, is left out. ``hashed`` has the rest.
    """
    found: dict[tuple[observed.ServiceKey, str], dict[str, list[str]]] = {}
    for resource in resources:
        if "load_assignment" not in resource:
            continue
        namespace, service, revision, protocol = resource["name"].split("/")
        if protocol.endswith(HASHED):
            continue
        key = observed.ServiceKey(namespace, service)
        found.setdefault((key, revision), {})[protocol] = _addresses(resource["load_assignment"])
    by_service: dict[observed.ServiceKey, Revisions] = {}
    for (key, revision), addresses in found.items():
        http = addresses.get("http", [])
        grpc = addresses.get("grpc") or [""] * len(http)
        pairs = tuple(observed.Endpoint(*pair) for pair in zip(http, grpc, strict=False))
        by_service.setdefault(key, {})[revision] = pairs
    return by_service


def hashed(resources: Iterable[Resource]) -> dict[observed.ServiceKey, frozenset[str]]:
    """The revisions in rendered clusters that are a pool's."""
    found: dict[observed.ServiceKey, frozenset[str]] = {}
    for resource in resources:
        namespace, service, revision, protocol = resource["name"].split("/")
        if protocol.endswith(HASHED):
            key = observed.ServiceKey(namespace, service)
            found[key] = found.get(key, frozenset()) | {revision}
    return found


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
