"""The routes of models in pools. Pure; ``render`` puts them behind those of services that have replicas of their own.

A model lives in one process of its pool: its name is hashed to choose the process, so that the pool's memory holds each
model once. A popular one goes to whichever process is least busy instead, and so gets a copy in each.

Ten thousand models must not be ten thousand routes, which each request would walk through. Where there is one pool for
names to mean, whatever is not named otherwise is its: no route changes when a model comes. Where there are several,
names are listed, hundreds in one regular expression. Only models that nothing serves yet have words of their own.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

from mlship.gateway import clusters
from mlship.plan import observed, routes

Resource = dict[str, Any]

SERVICE_HEADER = "mlship-service"
# Says to the processes of a pool that the host means a model, and of which namespace.
NAMESPACE_HEADER = "mlship-namespace"
OVERWRITE = "OVERWRITE_IF_EXISTS_OR_ADD"
MATCH_GRPC = {"name": "content-type", "string_match": {"prefix": "application/grpc"}}
STREAM_METHOD = "/inference.GRPCInferenceService/ModelStreamInfer"
TIMEOUT = 60.0

_CHUNK = 500
_MOST_MESSAGES = 100
_BY_NAME = "/(?:v1|v2|v2/repository)/models"
_NOT_YET = "This model is not served yet; `mlship why NAME` says why."


@dataclasses.dataclass(frozen=True, slots=True)
class Sections:
    """Virtual hosts, and routes for requests that no host of its own takes."""

    hosts: tuple[Resource, ...] = ()
    shared: tuple[Resource, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class _Target:
    """Where a route leads. ``stream``: a gRPC stream, which has no limit."""

    pool: routes.ServiceRoute
    timeout: float = TIMEOUT
    hot: bool = False
    hash_host: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class _Means:
    retries: Resource
    domain: str


def follows(route: routes.ServiceRoute) -> bool:
    """Whether a route is rendered here: a member's, or a pool's that follows from its members."""
    return route.via is not None or (route.pool is not None and "." in route.service.name)


def hash_policy(protocol: str, *, host: str = "") -> list[Resource]:
    """What of a request is hashed: the model's name, from the path, the metadata or the ``host`` (a pattern)."""
    if protocol == "http":
        return [_header(":path", "^.*?/models/([^/:?]+).*$", "\\1")]
    found = {**_header(SERVICE_HEADER, "^.*/", ""), "terminal": True}
    return [found, _header(":authority", host, "\\1")] if host else [found]


def _header(name: str, pattern: str, substitution: str) -> Resource:
    rewrite = {"pattern": {"regex": pattern}, "substitution": substitution}
    return {"header": {"header_name": name, "regex_rewrite": rewrite}}


def sections(
    found: Sequence[routes.ServiceRoute], owned: Collection[observed.ServiceKey], *, domain: str, retries: Resource
) -> Sections:
    """The hosts and routes of all models in pools.

    Args:
        found: the routes of a table that are rendered here, in its order.
        owned: those of them that their bare name means.
        retries: how often a request is tried.
    """
    means = _Means(retries, domain)
    pools = {route.service: route for route in found if route.pool is not None}
    members: dict[observed.ServiceKey, list[routes.ServiceRoute]] = {key: [] for key in pools}
    silent: list[routes.ServiceRoute] = []
    for route in found:
        if route.via is None:
            continue
        if route.message or route.via not in pools:
            silent.append(route)
        else:
            members[route.via].append(route)
    hosts = [_silent_host(route, domain) for route in silent[:_MOST_MESSAGES]]
    shared = [*_silences(silent, owned)]
    for key, pool in pools.items():
        alone = sum(one.namespace == key.namespace for one in pools) == 1
        hosts += _hosts(means, pool, members[key], alone=alone)
        shared += _listed(pool, members[key], owned, everything=alone and len(pools) == 1, spaces=alone)
    # The general ones last: any name may be anybody's. A pool without models has none of them.
    for key, pool in pools.items():
        if members[key] and sum(one.namespace == key.namespace for one in pools) == 1:
            shared += _all_of_namespace(pool)
    if len(pools) == 1 and any(members.values()):
        shared += _all(next(iter(pools.values())))
    return Sections(tuple(hosts), tuple(shared))


# Models that nothing serves yet.


def _silences(silent: Sequence[routes.ServiceRoute], owned: Collection[observed.ServiceKey]) -> Iterator[Resource]:
    for route in silent[:_MOST_MESSAGES]:
        yield from _says([route], route.message or _NOT_YET, owned)
    for chunk in _chunks(silent[_MOST_MESSAGES:]):
        yield from _says(chunk, _NOT_YET, owned)


def _says(
    chunk: Sequence[routes.ServiceRoute], text: str, owned: Collection[observed.ServiceKey]
) -> Iterator[Resource]:
    bare = [route.service.name for route in chunk if route.service in owned]
    full = [f"{route.service.namespace}/{route.service.name}" for route in chunk]
    patterns = [f"/serving/{_one_of(full)}(?:/.*)?"] + ([f"{_BY_NAME}/{_one_of(bare)}(?:[:/].*)?"] if bare else [])
    for pattern in patterns:
        yield _direct({"safe_regex": {"regex": pattern}}, text)
    named = {"prefix": "/", "headers": [MATCH_GRPC, _named(_one_of([*full, *bare]))]}
    yield _direct(named, text)


def _silent_host(route: routes.ServiceRoute, domain: str) -> Resource:
    name, space = route.service.name, route.service.namespace
    return {
        "name": str(route.service),
        "domains": [f"{name}-{space}.{domain}", f"{name}-predictor-{space}.{domain}"],
        "routes": [_direct({"prefix": "/"}, route.message or _NOT_YET)],
    }


def _direct(match: Resource, text: str) -> Resource:
    return {
        "match": match,
        # Envoy refuses direct responses of over 4 KiB.
        "direct_response": {"status": 503, "body": {"inline_string": text[:3500]}},
        "response_headers_to_add": [{"header": {"key": "retry-after", "value": "1"}}],
    }


# Models that a pool serves.


def _hosts(
    means: _Means, pool: routes.ServiceRoute, members: Sequence[routes.ServiceRoute], *, alone: bool
) -> Iterator[Resource]:
    space, domain = pool.service.namespace, means.domain
    target = _Target(pool, hash_host=f"^(.*?)(?:-predictor)?-{space}\\.{re.escape(domain)}.*$")
    if alone:
        domains = [f"*-{space}.{domain}"]
    else:
        names = [route.service.name for route in members]
        domains = [
            host for name in names for host in (f"{name}-{space}.{domain}", f"{name}-predictor-{space}.{domain}")
        ]
    special = [route for route in members if _is_special(pool, route)]
    for timeout, hot, chunk in _groups(pool, special):
        own = dataclasses.replace(target, timeout=timeout, hot=hot)
        listed = [host for name in chunk for host in (f"{name}-{space}.{domain}", f"{name}-predictor-{space}.{domain}")]
        yield _host(means, f"{pool.service}/{chunk[0]}", listed, own)
        gone = set(listed)
        domains = [host for host in domains if host not in gone]
    if domains:
        yield _host(means, str(pool.service), domains, target)


def _host(means: _Means, name: str, domains: Sequence[str], target: _Target) -> Resource:
    everything: Resource = {"prefix": "/"}
    found = [*_grpc(everything, [], target), _by_host(target), _to(everything, "http", target)]
    return {"name": name, "domains": list(domains), "retry_policy": means.retries, "routes": found}


def _by_host(target: _Target) -> Resource:
    """MLflow's path, which names no model: the server is told that the host does, since no path can be made of it."""
    found = _to({"path": "/invocations"}, "http", target)
    if "hash_policy" in found.get("route", {}):
        found["route"]["hash_policy"] = [_header(":authority", target.hash_host, "\\1")]
    header = {"key": NAMESPACE_HEADER, "value": target.pool.service.namespace}
    return {**found, "request_headers_to_add": [{"header": header, "append_action": OVERWRITE}]}


def _listed(
    pool: routes.ServiceRoute,
    members: Sequence[routes.ServiceRoute],
    owned: Collection[observed.ServiceKey],
    *,
    everything: bool,
    spaces: bool,
) -> Iterator[Resource]:
    """Routes that list names: of models that are special, and of all where no general route can mean them."""
    special = [route for route in members if _is_special(pool, route)]
    plain = [route for route in members if not _is_special(pool, route)]
    by_full, by_bare = (special if spaces else [*special, *plain]), (special if everything else [*special, *plain])
    for timeout, hot, names in _groups(pool, by_full):
        yield from _full(_one_of(names), _Target(pool, timeout, hot))
    for timeout, hot, names in _groups(pool, [route for route in by_bare if route.service in owned]):
        yield from _bare(_one_of(names), _Target(pool, timeout, hot))


def _all_of_namespace(pool: routes.ServiceRoute) -> Iterator[Resource]:
    yield from _full("[^/]+", _Target(pool))


def _all(pool: routes.ServiceRoute) -> Iterator[Resource]:
    yield from _bare("[^/]+?", _Target(pool))


def _bare(names: str, target: _Target) -> Iterator[Resource]:
    yield _to({"safe_regex": {"regex": f"{_BY_NAME}/{names}(?:[:/].*)?"}}, "http", target)
    yield from _grpc({"prefix": "/"}, [_named(names)], target)


def _full(names: str, target: _Target) -> Iterator[Resource]:
    space = f"/serving/{target.pool.service.namespace}"
    cut = {"pattern": {"regex": f"^{space}/[^/]+/?"}, "substitution": "/"}
    # What names no model by itself is told which.
    whose = {"pattern": {"regex": f"^{space}/([^/]+)/invocations$"}, "substitution": r"/v2/models/\1/invocations"}
    yield _to({"safe_regex": {"regex": f"{space}/{names}/invocations"}}, "http", target, rewrite=whose)
    yield _to({"safe_regex": {"regex": f"{space}/{names}(?:/.*)?"}}, "http", target, rewrite=cut)
    yield from _grpc({"prefix": "/"}, [_named(f"{target.pool.service.namespace}/{names}")], target)


def _grpc(match: Resource, headers: list[Resource], target: _Target) -> list[Resource]:
    conditions = [MATCH_GRPC, *headers]
    stream = dataclasses.replace(target, timeout=0.0)
    return [
        _to({"path": STREAM_METHOD, "headers": conditions}, "grpc", stream),
        _to({**match, "headers": conditions}, "grpc", target),
    ]


def _to(match: Resource, protocol: str, target: _Target, *, rewrite: Resource | None = None) -> Resource:
    pool = target.pool
    if not pool.splits:
        return _direct(match, pool.message or f"No process of the pool {pool.service} answers.")
    kind = protocol if target.hot else f"{protocol}{clusters.HASHED}"
    action: Resource = {
        "cluster": clusters.name(pool.service, pool.splits[0].revision, kind),
        "timeout": f"{target.timeout:.3f}s",
    }
    if not target.hot:
        action["hash_policy"] = hash_policy(protocol, host=target.hash_host)
    if rewrite is not None:
        action["regex_rewrite"] = rewrite
    return {"match": match, "route": action}


# Names.


def _is_special(pool: routes.ServiceRoute, route: routes.ServiceRoute) -> bool:
    return route.timeout != TIMEOUT or (pool.pool is not None and route.service.name in pool.pool.hot)


def _groups(
    pool: routes.ServiceRoute, members: Iterable[routes.ServiceRoute]
) -> Iterator[tuple[float, bool, Sequence[str]]]:
    """Names that are treated alike, in lists of bounded length."""
    hot = set(pool.pool.hot) if pool.pool is not None else set()
    found: dict[tuple[float, bool], list[str]] = {}
    for route in members:
        found.setdefault((route.timeout, route.service.name in hot), []).append(route.service.name)
    for (timeout, popular), names in sorted(found.items()):
        for chunk in _chunks(sorted(names)):
            yield timeout, popular, chunk


def _chunks(items: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for begin in range(0, len(items), _CHUNK):
        yield items[begin : begin + _CHUNK]


def _one_of(names: Iterable[str]) -> str:
    return f"(?:{'|'.join(re.escape(name) for name in names)})"


def _named(pattern: str) -> Resource:
    return {"name": SERVICE_HEADER, "string_match": {"safe_regex": {"regex": pattern}}}
