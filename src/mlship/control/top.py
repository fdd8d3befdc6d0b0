"""How every service is doing now: the rows of ``mlship top``, and the same numbers for Prometheus.

From memory: the newest facts and decisions, and what the feeds measure. Services that no scaler follows are measured
for as long as somebody looks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mlship.control import facts, metrics, objects, seams
from mlship.plan import observed


async def rows(known: facts.Facts, feeds: seams.Feeds | None, *, namespace: str) -> list[dict[str, Any]]:
    """A row for each service of a namespace, empty: of all, in the order of their names."""
    chosen = {key: seen for key, seen in known.newest.items() if namespace in ("", key.namespace)}
    figures: Mapping[observed.ServiceKey, seams.Figures] = {}
    if feeds is not None:
        figures = await feeds.figures(chosen)
    return [
        _row(key, chosen[key], known.sizes.get(key) or _counted(chosen[key]), figures.get(key, seams.Figures()))
        for key in sorted(chosen)
    ]


def _counted(seen: observed.Observed) -> facts.Size:
    """The size of a pool, about which no scaler decides: what runs is what shall run."""
    return facts.Size(wanted=len(seen.replicas), ready=sum(one.ready for one in seen.replicas))


def _row(key: observed.ServiceKey, seen: observed.Observed, size: facts.Size, now: seams.Figures) -> dict[str, Any]:
    """Numbers that are not known are null."""
    policy = size.scaling.policy if size.scaling is not None else None
    past = size.past
    return {
        "namespace": key.namespace,
        "name": key.name,
        "ready": size.ready,
        "wanted": size.wanted,
        "min": size.wanted if policy is None else policy.rest,
        "max": size.wanted if policy is None else policy.max_replicas,
        "requestsPerSecond": now.rps,
        "concurrency": now.concurrency,
        "p99Seconds": now.p99,
        "cpuCores": now.cpu,
        "memoryBytes": now.memory,
        "waiting": seen.demand.waiting,
        "decision": "" if past is None else past.now_said,
        "decidedAt": None if past is None or not past.looked_at else objects.timestamp(past.looked_at),
    }


def scales(known: facts.Facts) -> Iterator[metrics.Scale]:
    """The services that a scaler decides about."""
    for key, size in known.sizes.items():
        if size.past is None:
            continue
        seen = known.newest.get(key, observed.Observed())
        yield metrics.Scale(
            key, size.wanted, size.ready, panic=size.past.memory.panic_at is not None, waiting=seen.demand.waiting
        )
