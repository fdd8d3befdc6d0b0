"""``mlship top``: how busy the services are, and what was decided last about their replicas."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from mlship import home
from mlship.cli import session

_HEAD = (
    "NAMESPACE", "NAME", "READY", "RANGE", "REQ/S", "CONCURRENT", "P99", "CPU", "MEMORY", "WAITING", "LAST DECISION",
)  # fmt: skip
_EVERY = 1.0
_CLEAR = "\x1b[H\x1b[2J"


def top(where: home.Home, *, namespace: str, watch: bool, output: str) -> None:
    """The table once, or again and again until the user ends it."""
    with session.control(where) as control:
        while True:
            found = control.top(namespace=namespace)["services"]
            if output != "text":
                session.out(session.document(found, form=output))
            elif not found:
                session.tell("No services. Deploy one: mlship deploy ./model.pkl")
            else:
                if watch:
                    session.out(_CLEAR)
                show(found)
            if not watch:
                return
            try:
                time.sleep(_EVERY)
            except KeyboardInterrupt:
                return


def show(found: Sequence[Mapping[str, Any]]) -> None:
    """The table."""
    session.table(_HEAD, [row(one) for one in found])


def row(one: Mapping[str, Any]) -> tuple[str, ...]:
    """A line; ``-`` is what is not known."""
    least, most = one["min"], one["max"]
    return (
        one["namespace"],
        one["name"],
        f"{one['ready']}/{one['wanted']}",
        f"{least}-{most}" if least != most else str(least),
        _number(one["requestsPerSecond"]),
        _number(one["concurrency"]),
        _seconds(one["p99Seconds"]),
        _number(one["cpuCores"]),
        _bytes(one["memoryBytes"]),
        str(one["waiting"]),
        one["decision"] or "-",
    )


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.0f}" if value >= 100 else f"{value:.2g}" if value < 10 else f"{value:.3g}"


def _seconds(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value * 1000:.0f} ms" if value < 10 else f"{value:.0f} s"


def _bytes(value: float | None) -> str:
    if value is None:
        return "-"
    for size, unit in ((2**30, "Gi"), (2**20, "Mi")):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value / 2**10:.3g} Ki"
