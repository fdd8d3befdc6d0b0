"""Asks others: a replica's model server for its queue or its model, Prometheus for the answer to a query.

Every question has a deadline and a limit on the size of its answer. What is not a number in the expected form is
``Unanswered``, which the feeds count; it is never taken for 0.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Mapping
from typing import Any

import httpx
import orjson

_SECONDS, _LONGEST = 3.0, 30.0
_MOST_BYTES = 1_000_000
_DEPTH = re.compile(r"^mlship_queue_depth(?:\{[^}]*\})? (\S+)$", re.MULTILINE)


class Unanswered(Exception):
    """There is no number."""


class Unlistened(Unanswered):
    """It does not do what it was asked for, and need not."""


def address(endpoint: str) -> tuple[str | None, str]:
    """The Unix socket of an endpoint, if it is one, and the URL that paths are put behind."""
    if endpoint.startswith("unix:"):
        return endpoint.removeprefix("unix:"), "http://replica"
    return None, f"http://{endpoint}"


async def document(client: httpx.AsyncClient, url: str) -> dict[str, Any]:
    """A JSON object. Raises Unanswered."""
    try:
        found = orjson.loads(await _get(client, url, {}))
    except orjson.JSONDecodeError as error:
        raise Unanswered(f"it is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise Unanswered(f"it is a {type(found).__name__}, no object")
    return found


async def queue_depth(client: httpx.AsyncClient, url: str) -> float:
    """How many requests wait in a replica, of all its models. Raises Unanswered."""
    found = _DEPTH.findall((await _get(client, f"{url}/metrics", {})).decode("utf-8", "replace"))
    if not found:
        raise Unanswered("it says nothing of a queue")
    return _finite(math.fsum(map(_number, found)))


async def prometheus(client: httpx.AsyncClient, url: str, query: str, options: Mapping[str, str]) -> float:
    """The value of an instant query. Raises Unanswered.

    As KEDA's trigger has it: the answer is a scalar or one series; none at all counts as 0 unless ``ignoreNullValues``
    is false; ``namespace`` and ``queryParameters`` go into the URL, ``timeout`` is in milliseconds. Source: Prometheus'
    HTTP API, GET /api/v1/query; KEDA, prometheus trigger.
    """
    asked = {"query": query, **_pairs(options.get("queryParameters", ""))}
    if options.get("namespace"):
        asked["namespace"] = options["namespace"]
    seconds = min(float(options.get("timeout") or _SECONDS * 1000) / 1000, _LONGEST)
    headers = _pairs(options.get("customHeaders", ""))
    body = await _get(client, f"{url.rstrip('/')}/api/v1/query", asked, headers=headers, seconds=seconds)
    try:
        data = orjson.loads(body)["data"]
        if data["resultType"] == "scalar":
            return _finite(_number(data["result"][1]))
        found = data["result"]
        if not found and options.get("ignoreNullValues", "true").lower() != "false":
            return 0.0
        if len(found) != 1:
            raise Unanswered(f"the query gives {len(found)} series, one is needed")
        return _finite(_number(found[0]["value"][1]))
    except (orjson.JSONDecodeError, KeyError, IndexError, TypeError) as error:
        raise Unanswered(f"this is no answer of Prometheus: {body[:100]!r}") from error


def _pairs(text: str) -> dict[str, str]:
    """``name=value,name=value``."""
    found = (part.partition("=") for part in text.split(",") if "=" in part)
    return {name.strip(): value.strip() for name, _, value in found}


async def _get(
    client: httpx.AsyncClient,
    url: str,
    query: Mapping[str, str],
    *,
    headers: Mapping[str, str] | None = None,
    seconds: float = _SECONDS,
) -> bytes:
    parts: list[bytes] = []
    size = 0
    try:
        async with (
            asyncio.timeout(seconds),
            client.stream("GET", url, params=dict(query), headers=headers, timeout=seconds) as answer,
        ):
            async for part in answer.aiter_bytes():
                parts.append(part)
                size += len(part)
                if size > _MOST_BYTES:
                    raise Unanswered(f"the answer is longer than {_MOST_BYTES} bytes")
            if answer.is_error:
                raise Unanswered(f"it answers {answer.status_code}: {b''.join(parts)[:200]!r}")
    except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
        raise Unanswered(str(error) or type(error).__name__) from error
    return b"".join(parts)


def _number(text: object) -> float:
    try:
        return float(str(text))
    except ValueError as error:
        raise Unanswered(f"{str(text)[:40]!r} is no number") from error


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise Unanswered(f"the answer is {value}")
    return value
