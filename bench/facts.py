"""What was measured, as frozen facts that go to JSON and back. Pure.

A ``Sample`` is one load on one server in one round. Nothing here is a mean of anything: ``summary`` makes medians.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from typing import Any


@dataclasses.dataclass(frozen=True, slots=True)
class Sample:
    """One measurement: who, under which load, in which round, and the figures by name (see ``FIGURES``)."""

    subject: str
    load: str
    round: int
    figures: Mapping[str, float]


@dataclasses.dataclass(frozen=True, slots=True)
class Failure:
    """What could not be measured, and why, in words for the table's notes."""

    subject: str
    load: str
    round: int
    reason: str


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
    "offered": "requests due in a second (open loop)",
    "late_ms": "99th percentile of how late the generator itself was (open loop)",
    "cpu_us": "processor time of the server for each answer, microseconds",
    "pss_mib": "memory of the server's processes after the load, MiB, shared pages counted once",
    "peak_mib": "largest of the samples of memory during the load, MiB",
    "seconds": "time from start to first answer",
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


def of(samples: Iterable[Sample], *, subject: str, load: str) -> list[Sample]:
    return [one for one in samples if (one.subject, one.load) == (subject, load)]
