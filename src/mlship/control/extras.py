"""What the control API has beyond Kubernetes' shapes, under ``/mlship/v1``: why, top, logs, plan, status, shutdown.

Answers are plain JSON documents for ``client``; logs are text lines that flow until the reader or the server goes.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import AsyncIterator

from starlette import requests, responses

from mlship import aio, errors
from mlship.backends import base
from mlship.control import bodies, facts, parts, preview, replies, store, top, watching
from mlship.plan import causes, coldstart, observed, status

log = logging.getLogger("mlship.api")

_MOST_LINES = 100_000
_AHEAD = 1000
_POLL_CLOSING = 0.5


class Extras:
    """The handlers of ``/mlship/v1`` and ``/metrics``."""

    def __init__(self, behind: parts.Parts) -> None:
        self._parts = behind

    async def why(self, request: requests.Request) -> responses.Response:
        """The causal chain of a service from its condition to the root, its conditions, and its newest plans."""
        behind = self._parts
        key = _service(request)
        world = await facts.world(behind.kept, behind.catalog, key)
        world = dataclasses.replace(world, past=behind.facts.past(key))
        seen = await behind.facts.of(key)
        chain = behind.planner.explain(world, seen, now=behind.clock())
        limit = watching.number(request.query_params.get("limit", "20"), "limit")
        newest = behind.starts.newest(key)
        last = newest[-1] if newest else coldstart.recalled(seen.replicas)
        begun = coldstart.underway(seen, behind.clock())
        journal = await behind.book.read(self._key(key), limit=min(limit, 1000))
        return replies.json(
            {
                "service": str(key),
                "chain": [_cause(one) for one in (*chain, *_start(last, seen))],
                "waking": None if begun is None else {"doing": begun.doing, "seconds": round(begun.seconds, 3)},
                "conditions": (world.service.get("status") or {}).get("conditions", []),
                "journal": list(journal),
            }
        )

    async def top(self, request: requests.Request) -> responses.Response:
        """How every service is doing now, of one namespace or of all."""
        behind = self._parts
        found = await top.rows(behind.facts, behind.feeds, namespace=request.query_params.get("namespace", ""))
        return replies.json({"services": found})

    async def logs(self, request: requests.Request) -> responses.Response:
        """The output of a service's replicas, one text line each: ``REPLICA | line``."""
        key = _service(request)
        tail = min(watching.number(request.query_params.get("tail", "100"), "tail"), _MOST_LINES)
        follow = request.query_params.get("follow") in ("true", "1")
        # Asked once before the answer begins: that there are no logs is an error, not an empty stream.
        async for _ in self._parts.backend.logs(key, tail=0):
            break
        lines = self._parts.backend.logs(key, tail=tail, follow=follow)
        return responses.StreamingResponse(_texts(lines, self._parts.closing), media_type="text/plain; charset=utf-8")

    async def plan(self, request: requests.Request) -> responses.Response:
        """What applying the posted object would do; nothing is applied."""
        return replies.json(await preview.preview(self._parts, await bodies.mapping(request)))

    async def status(self, request: requests.Request) -> responses.Response:
        """The control plane about itself."""
        counts: dict[str, int] = {}
        for resource in self._parts.catalog.all:
            counts[resource.kind] = await self._parts.kept.count(resource.id)
        objects = {kind: count for kind, count in counts.items() if count}
        return replies.json({**self._parts.about(), "objects": objects})

    async def shutdown(self, request: requests.Request) -> responses.Response:
        """End the control plane; with ``{"replicas": true}`` also every replica and Envoy."""
        asked = await bodies.document(request) or {}
        replicas = asked.get("replicas", False) if isinstance(asked, dict) else None
        if not isinstance(replicas, bool):
            raise errors.SpecError('the body of a shutdown is {"replicas": true} or {"replicas": false}')
        self._parts.stop(replicas)
        return replies.json({"stopping": True, "replicas": replicas}, code=202)

    async def metrics(self, request: requests.Request) -> responses.Response:
        """The control plane's figures for Prometheus."""
        for resource in self._parts.catalog.all:
            count = await self._parts.kept.count(resource.id)
            self._parts.meter.objects.labels(resource.kind).set(count)
        return responses.Response(self._parts.meter.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    def _key(self, key: observed.ServiceKey) -> store.Key:
        return store.Key(self._parts.catalog.kind("InferenceService").id, key.namespace, key.name)


def _service(request: requests.Request) -> observed.ServiceKey:
    return observed.ServiceKey(request.path_params["namespace"], request.path_params["name"])


def _cause(one: causes.Cause) -> dict[str, str]:
    """A link of the chain: its parts, and ``text``, which is all but the hint in one sentence."""
    text = ": ".join(part for part in (one.subject, one.state, one.message) if part)
    return {"subject": one.subject, "state": one.state, "message": one.message, "hint": one.fix, "text": text}


def _start(last: coldstart.ColdStart | None, seen: observed.Observed) -> tuple[causes.Cause, ...]:
    """The newest start as a last link, where no trouble is to be told of: it is what people ask for next."""
    if last is None or not all(one.ready for one in seen.replicas):
        return ()
    return (causes.Cause(f"last start at {status.timestamp(last.wished_at)}", last.how, coldstart.sentence(last)),)


async def _texts(lines: AsyncIterator[base.LogLine], closing: asyncio.Event) -> AsyncIterator[bytes]:
    """The lines as text, until they end or the server goes."""
    waiting: asyncio.Queue[str | None] = asyncio.Queue(_AHEAD)
    async with aio.tasks(lambda name, error: log.error("%s: %s", name, error, exc_info=error)) as owner:
        owner.start(_pump(lines, waiting), name="read logs")
        while not closing.is_set():
            try:
                async with asyncio.timeout(_POLL_CLOSING):
                    text = await waiting.get()
            except TimeoutError:
                continue
            if text is None:
                return
            yield text.encode(errors="replace")


async def _pump(lines: AsyncIterator[base.LogLine], waiting: asyncio.Queue[str | None]) -> None:
    try:
        async for line in lines:
            await waiting.put(f"{line.replica.revision}-{line.replica.ordinal} | {line.text}\n")
    except errors.MlshipError as error:
        await waiting.put(f"mlship | the logs end here: {error}\n")
    await waiting.put(None)
