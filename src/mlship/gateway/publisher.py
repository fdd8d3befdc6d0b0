"""Brings Envoy from what it carries to what is wanted, in an order in which no request is lost.

Two lanes, each one file at a time; what changes meanwhile is in the next. The lane of the clusters writes the
endpoints: waking a service is one write of it and Envoy's word, then the gate lets go on who waits. The lane of the
routes is slower, and publishes what depends on it only when it is confirmed:

    an endpoint comes     clusters, confirmed -> the gate says yes; a route may name the revision
    a route changes       its clusters are confirmed -> routes, confirmed -> clusters that no route names leave
    an endpoint leaves    at once while another of its revision stays; else as follows
    a service rests       routes with the gate, confirmed -> the gate says yes no more -> a moment since its last yes,
                          so that nobody is on the way -> the clusters leave, confirmed -> ``applied`` is empty

A caller that comes in between waits, and is told yes when its service has endpoints again. One that began to wait
before its service got another revision goes on through the old one's cluster, which is given the new endpoints.

Turning the gate on or off is not urgent: a service works either way. So it is published at most a twentieth of the
time, and a fleet that wakes and rests all day keeps Envoy's main thread free for the clusters.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Protocol

from mlship import aio, errors
from mlship.gateway import clusters, files, render
from mlship.plan import observed, routes

# Longer than a worker of Envoy needs from a route's decision, or the gate's yes, to a connection.
SETTLE_SECONDS = 0.2
_CONFIRM_SECONDS = 10.0
_CONFIRM_BYTES_A_SECOND = 500_000
_LAZY_SHARE = 20
_LONGEST_PAUSE = 30.0
_FIRST_PAUSE = 0.5
# From this many services on a file is hashed and written in a thread.
_OFF_THE_LOOP = 100

Shapes = dict[observed.ServiceKey, routes.ServiceRoute]


class Gate(Protocol):
    """The part of ``gate.Gate`` that is used."""

    def tell(self, service: observed.ServiceKey, route: routes.ServiceRoute | None) -> None: ...

    def serve(self, service: observed.ServiceKey, revisions: frozenset[str]) -> None: ...

    def needed(self, service: observed.ServiceKey, *, seconds: float) -> Mapping[str, float | None]: ...


@dataclasses.dataclass(slots=True)
class _Service:
    """What Envoy was given of one service. ``sure``: what of it Envoy has confirmed; ``applied``: may send to.

    ``hashed``: which of the revisions are a pool's. ``adopted``: an earlier control plane published it, routes and all.
    """

    carried: clusters.Revisions = dataclasses.field(default_factory=dict)
    sure: clusters.Revisions = dataclasses.field(default_factory=dict)
    applied: frozenset[observed.Endpoint] = frozenset()
    hashed: frozenset[str] = frozenset()
    written: bytes = b""
    gated_since: float = 0.0
    adopted: bool = False


class Publisher:
    """The two lanes.

    Args:
        version: asks Envoy which version of CLUSTERS or ROUTES is in force; None: it does not say.
        changed: called when ``applied`` has changed.
        published: called with None after each publication, with what went wrong after one that failed.
    """

    def __init__(
        self,
        store: files.Folder,
        gate: Gate,
        *,
        domain: str,
        version: Callable[[str], Awaitable[str | None]],
        changed: Callable[[Collection[observed.ServiceKey]], None],
        published: Callable[[Exception | None], None],
    ) -> None:
        self._store = store
        self._gate = gate
        self._version = version
        self._changed = changed
        self._published = published
        self._wanted: dict[observed.ServiceKey, routes.ServiceRoute] = {}
        self._shapes: Shapes = {}
        self._services: dict[observed.ServiceKey, _Service] = {}
        # The shapes Envoy has confirmed (None: not known) and those it was given since.
        self._shown: Shapes | None = None
        self._given: list[Shapes] = []
        self._blocks = render.Blocks(domain)
        self._due: set[observed.ServiceKey] = set()
        self._unsure: set[observed.ServiceKey] = set()
        self._behind: set[observed.ServiceKey] = set()
        self._timers: dict[observed.ServiceKey, asyncio.TimerHandle] = {}
        self._clusters_due = asyncio.Event()
        self._routes_due = asyncio.Event()
        self._all_seen = False
        self._closing = False
        self._pause_from = 0.0
        self._pause = 0.0

    def adopt(self, resources: Collection[clusters.Resource]) -> None:
        """What an earlier control plane has published: Envoy may send to it, and the gate says yes to it."""
        pools = clusters.hashed(resources)
        for key, revisions in clusters.read(resources).items():
            found = _Service(revisions, dict(revisions), adopted=True, hashed=pools.get(key, frozenset()))
            found.applied = clusters.endpoints(revisions)
            found.written = clusters.rendered(key, revisions, hashed=found.hashed)
            self._services[key] = found
            self._gate.serve(key, frozenset(revisions))

    def applied(self, service: observed.ServiceKey) -> frozenset[observed.Endpoint]:
        """The endpoints Envoy may send requests of a service to."""
        found = self._services.get(service)
        return found.applied if found else frozenset()

    def carried(self, service: observed.ServiceKey) -> frozenset[observed.Endpoint]:
        """The endpoints that a request is sure to be sent to: confirmed, and behind a route that is confirmed."""
        found = self._services.get(service)
        if found is None or (self._shown is None and not found.adopted):
            return frozenset()
        if self._shown is None:
            return clusters.endpoints(found.sure)
        shape = self._shown.get(service)
        named = {split.revision for split in shape.splits} if shape is not None else set()
        return clusters.endpoints({revision: had for revision, had in found.sure.items() if revision in named})

    def behind(self) -> int:
        """How many services are not yet, by Envoy's word, as they are wanted."""
        return len(self._due | self._unsure | self._behind | self._timers.keys()) + (self._shown is None)

    def want(self, service: observed.ServiceKey, route: routes.ServiceRoute | None) -> None:
        """How a service shall be carried from now on; None: not at all."""
        # Who waits may have begun to by a route, or in the name of a revision, that has left since: the same is news.
        waits = None in self._gate.needed(service, seconds=SETTLE_SECONDS).values()
        if self._wanted.get(service) == route and route is not None and not waits:
            return
        if route is None:
            self._wanted.pop(service, None)
            self._shapes.pop(service, None)
        else:
            self._wanted[service] = route
            self._shapes[service] = render.shape(route)
        self._gate.tell(service, route)
        self._serve(service)
        self._look_at(service)

    def begin(self) -> None:
        """Every service has been looked at: routes that nobody wants may leave."""
        self._all_seen = True
        for key in self._services.keys() - self._wanted.keys():
            self._look_at(key)
        self._routes_due.set()

    def close(self) -> None:
        """Have ``run`` return after the question to Envoy that is under way."""
        self._closing = True
        self._clusters_due.set()
        self._routes_due.set()

    async def run(self) -> None:
        """Publish until closed."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._lane(self._clusters_due, self._publish_clusters))
            group.create_task(self._lane(self._routes_due, self._publish_routes))

    def _look_at(self, service: observed.ServiceKey) -> None:
        self._due.add(service)
        self._clusters_due.set()
        if self._shown is None or self._shown.get(service) != self._shapes.get(service):
            self._behind.add(service)
            self._routes_due.set()

    async def _lane(self, due: asyncio.Event, publish: Callable[[], Awaitable[bool]]) -> None:
        failures = 0
        while not self._closing:
            await due.wait()
            due.clear()
            try:
                done = await publish()
            except Exception as error:  # noqa: BLE001 - whoever is told logs it; the lane goes on
                failures += 1
                self._published(error)
                await aio.wait_event(due, min(_FIRST_PAUSE * 2 ** (failures - 1), _LONGEST_PAUSE))
                due.set()
            else:
                failures = 0
                if done:
                    self._published(None)

    # Clusters.

    async def _publish_clusters(self) -> bool:
        due, self._due = self._due, set()
        for key in due:
            self._change(key, self._target(key))
        if not self._unsure:
            return False
        written = sorted(service.written for service in self._services.values() if service.written)
        await self._bring(files.CLUSTERS, lambda: b"[%s]" % b",".join(written))
        if self._closing:
            return False
        # Only this lane changes what is carried: it is as it was written.
        confirmed, self._unsure = self._unsure, set()
        for key in confirmed:
            self._confirmed(key)
        self._changed(confirmed)
        return True

    def _change(self, key: observed.ServiceKey, target: clusters.Revisions) -> None:
        found = self._services.setdefault(key, _Service())
        if target == found.carried:
            if not target and key not in self._unsure:
                self._forget(key)
            return
        found.carried = target
        route = self._wanted.get(key)
        pools = {split.revision for split in route.splits} if route is not None and route.pool is not None else set()
        found.hashed = (found.hashed | pools) & target.keys()
        found.written = clusters.rendered(key, target, hashed=found.hashed)
        found.sure = {revision: had for revision, had in found.sure.items() if target.get(revision) == had}
        found.applied |= clusters.endpoints(target)
        self._unsure.add(key)
        self._serve(key)

    def _confirmed(self, key: observed.ServiceKey) -> None:
        found = self._services[key]
        found.sure = dict(found.carried)
        found.applied = clusters.endpoints(found.carried)
        self._serve(key)
        self._look_at(key)

    def _forget(self, key: observed.ServiceKey) -> None:
        if key not in self._wanted and self._shown is not None and key not in self._shown:
            del self._services[key]

    def _serve(self, key: observed.ServiceKey) -> None:
        """Tell the gate where it may send to: where Envoy has said that it can, and nothing is about to leave."""
        sure = found.sure if (found := self._services.get(key)) else {}
        wanted = self._endpoints(key)
        self._gate.serve(key, frozenset(revision for revision, had in sure.items() if had and wanted.issuperset(had)))

    def _endpoints(self, key: observed.ServiceKey) -> frozenset[observed.Endpoint]:
        route = self._wanted.get(key)
        return frozenset(one for split in route.splits for one in split.endpoints) if route else frozenset()

    def _target(self, key: observed.ServiceKey) -> clusters.Revisions:
        """The endpoints to carry now: what is wanted, and what somebody may still be on the way to."""
        route = self._wanted.get(key)
        found = self._services.get(key)
        have: clusters.Revisions = found.carried if found else {}
        splits = [split for split in route.splits if split.endpoints] if route else []
        target = {split.revision: split.endpoints for split in splits}
        main = max(splits, key=lambda split: split.weight).endpoints if splits else ()
        for revision, until in self._gate.needed(key, seconds=SETTLE_SECONDS).items():
            if revision in target:
                continue
            if until is None and main:
                target[revision] = main
            elif until is not None and revision in have:
                target[revision] = have[revision]
                self._again(key, until)
        for revision, endpoints in have.items():
            if revision not in target and self._may_be_sent_to(key, revision):
                target[revision] = endpoints
        return target

    def _may_be_sent_to(self, key: observed.ServiceKey, revision: str) -> bool:
        """Whether a request may be sent to a revision without the gate's word."""
        if self._shown is None:
            return True
        for shape in [shapes.get(key) for shapes in (self._shown, *self._given)]:
            if shape is None or all(split.revision != revision for split in shape.splits):
                continue
            settled = self._services[key].gated_since + SETTLE_SECONDS
            if shape.gate is None:
                return True
            if _now() < settled:
                self._again(key, settled)
                return True
        return False

    def _again(self, key: observed.ServiceKey, at: float) -> None:
        if key not in self._timers:
            self._timers[key] = asyncio.get_running_loop().call_at(at + 0.001, self._rang, key)

    def _rang(self, key: observed.ServiceKey) -> None:
        del self._timers[key]
        self._look_at(key)

    # Routes.

    async def _publish_routes(self) -> bool:
        if self._shown is not None:
            self._behind = {key for key in self._behind if self._shown.get(key) != self._shapes.get(key)}
        if not self._all_seen or (self._shown is not None and not self._behind):
            return False
        wait = self._pause_from - _now() + self._pause * (1 if self._urgent() else _LAZY_SHARE)
        if wait > 0:
            await aio.wait_event(self._routes_due, wait)
            self._routes_due.set()
            return False
        shapes = self._publishable()
        if shapes is None or shapes == self._shown:
            return False
        began = time.perf_counter()
        await self._show(shapes)
        self._pause_from, self._pause = _now(), time.perf_counter() - began
        return True

    def _urgent(self) -> bool:
        """Whether more has changed than gates."""
        if self._shown is None:
            return True
        pairs = ((self._shown.get(key), self._shapes.get(key)) for key in self._behind)
        return any(a is None or b is None or dataclasses.replace(a, gate=b.gate) != b for a, b in pairs)

    def _publishable(self) -> Shapes | None:
        """The shapes to show now: a service whose new clusters are not confirmed stays as it is; None: not yet."""
        shown = self._shown or {}
        shapes: Shapes = {}
        for key, shape in self._shapes.items():
            old = shown.get(key)
            if shape == old or self._is_carried(key):
                shapes[key] = shape
            elif self._shown is None:
                return None
            elif old is not None:
                shapes[key] = old
        return shapes

    def _is_carried(self, key: observed.ServiceKey) -> bool:
        found = self._services.get(key)
        sure = found.sure if found else {}
        return all(sure.get(split.revision) for split in self._wanted[key].splits if split.endpoints)

    async def _show(self, shapes: Shapes) -> None:
        before = self._shown or {}
        changed = [key for key in shapes.keys() | before.keys() if shapes.get(key) != before.get(key)]
        self._given = [*(given for given in self._given if given != shapes), shapes]
        await self._bring(files.ROUTES, lambda: self._blocks.configuration(routes.assemble(shapes.values())))
        if self._closing:
            return
        known, self._shown, self._given = self._shown is not None, shapes, []
        now = _now()
        for key in changed:
            shape = shapes.get(key)
            if shape is not None and shape.gate is not None and (not known or key in before):
                self._services.setdefault(key, _Service()).gated_since = now
        self._behind = {key for key in self._behind if shapes.get(key) != self._shapes.get(key)}
        # After a start what an earlier control plane has left may leave now, too.
        for key in changed if known else self._services.keys() | shapes.keys():
            self._look_at(key)
        self._changed(changed)

    # Files.

    async def _bring(self, what: str, content: Callable[[], bytes]) -> None:
        """Write a file and wait until Envoy has it in force. Raises BackendError; doing it again is safe."""
        try:
            if len(self._services) < _OFF_THE_LOOP:
                self._store.put(what, content())
            else:
                await asyncio.to_thread(lambda: self._store.put(what, content()))
        except OSError as error:
            raise errors.BackendError(
                f"The gateway's configuration in {self._store.xds} cannot be written: {error.strerror or error}.",
                hint="Free disk space or fix the folder's permissions; traffic keeps its last routes until then.",
            ) from error
        # Envoy reads both files in one thread: who waits for one may have to wait for the other.
        seconds = _CONFIRM_SECONDS + self._store.size() / _CONFIRM_BYTES_A_SECOND
        delay = 0.001
        try:
            async with asyncio.timeout(seconds):
                while await self._version(what) != self._store.version(what) and not self._closing:
                    await asyncio.sleep(delay)
                    delay = min(delay * 1.5, 0.05)
        except TimeoutError as error:
            raise errors.BackendError(
                f"Envoy did not take over the {what} within {seconds:.0f} s.",
                hint="Its log, gateway.log in the folder of the logs, says why.",
            ) from error


def _now() -> float:
    return asyncio.get_running_loop().time()
