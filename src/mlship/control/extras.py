"""What the control API has beyond Kubernetes' shapes, under ``/mlship/v1``: why, top, logs, plan, status, shutdown.

Answers are plain JSON documents for ``client``; logs are text lines that flow until the reader or the server goes.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import AsyncIterator
from typing import Any

from starlette import requests, responses

from mlship import aio, errors
from mlship.backends import base
from mlship.control import bodies, facts, parts, planner, preview, replies, seams, store, top, watching
from mlship.plan import causes, coldstart, observed, pool, scaled, status

log = logging.getLogger("mlship.api")

_MOST_LINES = 100_000
_AHEAD = 1000
_POLL_CLOSING = 0.5
_SCALERS, _TRAINED = "scaledobjects", "trainedmodels"
# The kinds with a state that can be explained.
EXPLAINED = ("inferenceservices", _TRAINED, _SCALERS)
# Those that have a model.
SERVING = ("inferenceservices", _TRAINED)


class Extras:
    """The handlers of ``/mlship/v1`` and ``/metrics``."""

    def __init__(self, behind: parts.Parts) -> None:
        self._parts = behind

    async def why(self, request: requests.Request, *, plural: str) -> responses.Response:
        """The causal chain of an object from its condition to the root, its conditions, and its newest plans.

        Of a ScaledObject, its own condition, and then all about what it scales.
        """
        asked = _service(request)
        if plural == _SCALERS:
            return await self._why_scaled(request, asked)
        key, world = await self._explained(asked, plural=plural)
        return replies.json(await self._told(request, key, world))

    async def _why_scaled(self, request: requests.Request, asked: observed.ServiceKey) -> responses.Response:
        behind = self._parts
        body = await behind.kept.get(store.Key(facts.scalers(behind.catalog), asked.namespace, asked.name))
        own = [_cause(one) for one in scaled.causes_of(body)]
        found: dict[str, Any] = {"chain": [], "waking": None, "journal": []}
        target = observed.ServiceKey(asked.namespace, planner.target_of(body))
        try:
            found = await self._told(request, target, await facts.world(behind.kept, behind.catalog, target))
        except errors.SpecError as error:
            # That its target is gone is what its own condition says.
            if error.reason is not errors.Reason.NOT_FOUND:
                raise
        conditions = (body.get("status") or {}).get("conditions", [])
        name = f"{asked.namespace}/{asked.name}"
        return replies.json({**found, "service": name, "chain": [*own, *found["chain"]], "conditions": conditions})

    async def _told(self, request: requests.Request, key: observed.ServiceKey, world: seams.World) -> dict[str, Any]:
        behind = self._parts
        world = dataclasses.replace(world, past=behind.facts.past(key))
        seen = await behind.facts.of(key)
        chain = behind.planner.explain(world, seen, now=behind.clock())
        limit = watching.number(request.query_params.get("limit", "20"), "limit")
        newest = behind.starts.newest(key)
        last = newest[-1] if newest else coldstart.recalled(seen.replicas)
        begun = coldstart.underway(seen, behind.clock())
        journal = await behind.book.read(self._key(key), limit=min(limit, 1000))
        return {
            "service": f"{key.namespace}/{world.service['metadata']['name']}",
            "chain": [_cause(one) for one in (*chain, *_start(last, seen))],
            "waking": None if begun is None else {"doing": begun.doing, "seconds": round(begun.seconds, 3)},
            "conditions": (world.service.get("status") or {}).get("conditions", []),
            "journal": list(journal),
        }

    async def _explained(self, key: observed.ServiceKey, *, plural: str) -> tuple[observed.ServiceKey, seams.World]:
        """The service of that name, else the TrainedModel. Raises SpecError (NotFound)."""
        behind = self._parts
        if plural == _TRAINED:
            key = pool.trained_key(key.namespace, key.name)
            return key, await facts.world(behind.kept, behind.catalog, key)
        try:
            return key, await facts.world(behind.kept, behind.catalog, key)
        except errors.SpecError as error:
            trained = pool.trained_key(key.namespace, key.name)
            if error.reason is not errors.Reason.NOT_FOUND or len(facts.planned(behind.catalog)) < 2:
                raise
            try:
                return trained, await facts.world(behind.kept, behind.catalog, trained)
            except errors.SpecError:
                raise error from None

    async def introduction(self, request: requests.Request, *, plural: str) -> responses.Response:
        """What a service's model takes and gives: ``model`` and ``example``, null when not known. Wakes nobody."""
        key, world = await self._explained(_service(request), plural=plural)
        seen = await self._parts.facts.of(key)
        component = ((world.service.get("status") or {}).get("components") or {}).get("predictor") or {}
        found = await self._parts.introductions.of(
            key,
            seen,
            name=seen.enlisted.name if seen.enlisted is not None else world.service["metadata"]["name"],
            revision=component.get("latestReadyRevision") or "",
        )
        return replies.json(dataclasses.asdict(found))

    async def top(self, request: requests.Request) -> responses.Response:
        """How every service is doing now, of one namespace or of all."""
        behind = self._parts
        found = await top.rows(behind.facts, behind.feeds, namespace=request.query_params.get("namespace", ""))
        return replies.json({"services": found})

    async def logs(self, request: requests.Request) -> responses.Response:
        """The output of a service's replicas, or of its pool's processes, one text line each: ``REPLICA | line``."""
        key = await self._writers(_service(request))
        tail = min(watching.number(request.query_params.get("tail", "100"), "tail"), _MOST_LINES)
        follow = request.query_params.get("follow") in ("true", "1")
        # Asked once before the answer begins: that there are no logs is an error, not an empty stream.
        async for _ in self._parts.backend.logs(key, tail=0):
            break
        lines = self._parts.backend.logs(key, tail=tail, follow=follow)
        return responses.StreamingResponse(_texts(lines, self._parts.closing), media_type="text/plain; charset=utf-8")

    async def _writers(self, key: observed.ServiceKey) -> observed.ServiceKey:
        """Whose replicas write about a service: its own, or those of the pool that it or a TrainedModel is in."""
        for one in (key, pool.trained_key(key.namespace, key.name)):
            found = await self._parts.backend.observe(one)
            if found.enlisted is not None:
                return found.enlisted.pool
        return key

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
        return facts.stored_key(self._parts.catalog, key)


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
