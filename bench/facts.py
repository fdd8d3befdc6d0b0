"""What was measured, as frozen facts that go to JSON and back. Pure.

A ``Sample`` is one load on one server in one round. Nothing here is a mean of anything: ``summary`` makes medians.
"""

from __future__ import annotations

import dataclasses
import json
import re
import socket
from collections.abc import Iterable, Mapping
from typing import Any


@dataclasses.dataclass(frozen=True, slots=True)
class Sample:
    """One measurement: who, under which load, in which round, and the figures by name (see ``FIGURES``).

    ``part``: which part of its run it is from, where a run was taken in several.
    """

    subject: str
    load: str
    round: int
    figures: Mapping[str, float]
    part: str = "1"


@dataclasses.dataclass(frozen=True, slots=True)
class Failure:
    """What could not be measured, and why, in words for the table's notes."""

    subject: str
    load: str
    round: int
    reason: str
    part: str = "1"


@dataclasses.dataclass(frozen=True, slots=True)
class Run:
    """One run of the harness: the machine, the choices made, every sample and every failure."""

    machine: Mapping[str, Any]
    choices: Mapping[str, Any]
    samples: tuple[Sample, ...] = ()
    failures: tuple[Failure, ...] = ()


FIGURES = {
    "rate": "answers with status 200 in a second",
    "p50_ms": "median latency",
    "p99_ms": "99th percentile of latency",
    "max_ms": "longest latency",
    "failed": "requests without an answer of status 200",
    "refused": "answers of another status (open loop)",
    "lost": "requests without any answer within the load and its grace (open loop)",
    "offered": "requests due in a second (open loop)",
    "late_ms": "99th percentile of how late the generator itself was (open loop)",
    "cpu_us": "processor time of the server for each answer, microseconds",
    "pss_mib": "memory of the server's processes after the load, MiB, shared pages counted once",
    "peak_mib": "largest of the samples of memory during the load, MiB",
    "before_mib": "memory before the overload, warmed up, MiB",
    "after_mib": "memory after the overload, MiB",
    "capacity": "answers in a second in the closed loop, which the overload doubles",
    "queue": "requests that may wait (overload)",
    "bound_ms": "the time in which a full queue is answered at the measured rate (overload)",
    "big_rate": "big requests answered in a second (mixed)",
    "big_failed": "big requests without an answer of status 200 (mixed)",
    "big_p50_ms": "median latency of the big requests (mixed)",
    "big_max_ms": "longest latency of a big request (mixed)",
    "seconds": "time from start to first answer",
    "fork_ms": "age of a further replica's process at its first answer",
    "private_mib": "memory of a further replica that is its own, MiB",
    "first_mib": "memory of the first replica, MiB",
}


def to_json(run: Run) -> str:
    return json.dumps(dataclasses.asdict(run), indent=1) + "\n"


def from_json(text: str) -> Run:
    """Raises ValueError, KeyError or TypeError for what ``to_json`` did not write."""
    data = json.loads(text)
    return Run(
        machine=data["machine"],
        choices=data["choices"],
        samples=tuple(Sample(**one) for one in data["samples"]),
        failures=tuple(Failure(**one) for one in data["failures"]),
    )


def shown(figures: Mapping[str, float]) -> str:
    """Figures as the run says them while it goes on."""
    return ", ".join(f"{name} {value:,.2f}" for name, value in figures.items())


def public(text: str) -> str:
    """``text`` without what is this machine's own: folders, its name, hosts that are not loopback."""
    text = re.sub(r"(https?://)(?!127\.0\.0\.1|localhost)[^\s/]+", r"\1HOST", text)
    text = re.sub(r"(?<![\w.:/])/(?:[^\s/:'\"]+/)+", "", text)
    name = socket.gethostname()
    return re.sub(rf"\b{re.escape(name)}\b", "HOST", text) if name else text


def of(samples: Iterable[Sample], *, subject: str, load: str) -> list[Sample]:
    return [one for one in samples if (one.subject, one.load) == (subject, load)]
