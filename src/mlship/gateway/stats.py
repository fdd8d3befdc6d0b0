"""Envoy's statistics -> what each service's clusters have counted. Pure: text in, facts out; ``admin`` asks for it.

The plain text of ``/stats`` with ``histogram_buckets=detailed`` is the cheapest form that holds everything: a line for
each counter and gauge, and for histograms only the bins that are not empty, 10 % wide or less (the widths are those of
circllhist: two significant digits). From the bins follow both the sum of durations and any percentile; the Prometheus
form has the sum, and five times the bytes. Source of the form: Envoy's documentation, operations/admin, GET /stats.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping

from mlship.plan import observed

ACTIVE, PENDING, TOTAL, TIME = (
    "upstream_rq_active",
    "upstream_rq_pending_active",
    "upstream_rq_total",
    "upstream_rq_time",
)
# Envoy makes a cluster's counters with its first request, this one with the cluster.
MEMBERS = "membership_total"
_STATS = f"({ACTIVE}|{PENDING}|{TOTAL}|{TIME}|{MEMBERS})"
# Beyond this a pattern that names each service costs Envoy more than the answer for all of them.
MOST_NAMED = 64

Bin = tuple[float, float]


@dataclasses.dataclass(frozen=True, slots=True)
class Cluster:
    """What one cluster has counted since Envoy knows it.

    ``active`` requests are under way now, those that wait for a connection included; ``total`` were begun. ``bins``:
    how many took a time from the lower bound on, by (lower bound, width) in milliseconds; whole milliseconds, so those
    below one are in the bin of 0.
    """

    active: int = 0
    total: int = 0
    bins: Mapping[Bin, int] = dataclasses.field(default_factory=dict)


def pattern(services: Iterable[observed.ServiceKey]) -> str:
    """The regular expression that finds the clusters of these services, of every revision and protocol."""
    named = sorted({f"{one.namespace}/{one.name}" for one in services})
    which = "|".join(map(re.escape, named)) if len(named) <= MOST_NAMED else "[^/]+/[^/]+"
    return rf"^cluster\.({which})/[^/]+/(http|grpc)\.{_STATS}$"


def parse(text: str) -> dict[observed.ServiceKey, dict[str, Cluster]]:
    """The clusters of each service by name. What is not in the form, or not asked for, is left out."""
    counts: dict[str, dict[str, int]] = {}
    bins: dict[str, dict[Bin, int]] = {}
    inside = ""
    for line in text.splitlines():
        if line.startswith("  totals="):
            if inside:
                bins[inside] = _bins(line[len("  totals=") :])
            continue
        if not line.startswith("cluster."):
            continue
        path, _, value = line.partition(":")
        name, _, stat = path[len("cluster.") :].rpartition(".")
        inside = name if stat == TIME else ""
        value = value.strip()
        if value.isdigit():
            counts.setdefault(name, {})[stat] = int(value)
    found: dict[observed.ServiceKey, dict[str, Cluster]] = {}
    for name, stats in counts.items():
        parts = name.split("/")
        if len(parts) == 4 and (TOTAL in stats or MEMBERS in stats):
            active = stats.get(ACTIVE, 0) + stats.get(PENDING, 0)
            made = Cluster(active=active, total=stats.get(TOTAL, 0), bins=bins.get(name, {}))
            found.setdefault(observed.ServiceKey(parts[0], parts[1]), {})[name] = made
    return found


def _bins(text: str) -> dict[Bin, int]:
    """``20,1:16, 21,1:1`` -> {(20.0, 1.0): 16, (21.0, 1.0): 1}."""
    found: dict[Bin, int] = {}
    for part in text.split(", "):
        where, _, count = part.partition(":")
        low, _, width = where.partition(",")
        try:
            found[float(low), float(width)] = int(count)
        except ValueError:
            continue
    return found
