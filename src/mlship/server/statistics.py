"""Counts and nanoseconds per model, in Triton's statistics form (its ``extension_statistics``).

Kept by the event loop's thread only; read by ``.../stats`` and by gRPC's ModelStatistics.
"""

from __future__ import annotations

import dataclasses
from typing import Any

MAX_BATCH_SIZES = 512


@dataclasses.dataclass(slots=True)
class Duration:
    """How often something happened and how many nanoseconds it took in all."""

    count: int = 0
    ns: int = 0

    def add(self, nanoseconds: int) -> None:
        """It happened once more."""
        self.count += 1
        self.ns += nanoseconds


@dataclasses.dataclass(slots=True)
class Statistics:
    """One version of one model, since it was registered.

    ``inference_count`` counts rows, ``execution_count`` calls of the model, which answer one request or several that
    were joined (each of which counts the whole time of the call as its ``compute_infer``); ``last_inference`` is in
    milliseconds since the epoch. ``success`` and ``fail`` cover a request from its arrival at the model's queue to
    its answer; of the successful ones, ``queue`` is the wait for a worker and ``compute_*`` are validation, model
    and packing. ``batches`` has the calls of the model by their rows, at most ``MAX_BATCH_SIZES`` sizes.
    """

    inference_count: int = 0
    execution_count: int = 0
    last_inference: int = 0
    success: Duration = dataclasses.field(default_factory=Duration)
    fail: Duration = dataclasses.field(default_factory=Duration)
    queue: Duration = dataclasses.field(default_factory=Duration)
    compute_input: Duration = dataclasses.field(default_factory=Duration)
    compute_infer: Duration = dataclasses.field(default_factory=Duration)
    compute_output: Duration = dataclasses.field(default_factory=Duration)
    batches: dict[int, Duration] = dataclasses.field(default_factory=dict)

    def succeeded(self, *, rows: int, now_ms: int, total: int, queue: int, parts: tuple[int, int, int]) -> None:
        """Count a request that was answered; ``parts`` are the nanoseconds of input, inference and output."""
        # Written out: this is done at every request, and five calls cost more than all the rest of it.
        self.inference_count += rows
        self.last_inference = now_ms
        kinds = (self.success, self.queue, self.compute_input, self.compute_infer, self.compute_output)
        for kind, nanoseconds in zip(kinds, (total, queue, *parts), strict=True):
            kind.count += 1
            kind.ns += nanoseconds

    def executed(self, *, rows: int, nanoseconds: int) -> None:
        """Count a call of the model that gave answers, to however many requests, of so many rows together."""
        self.execution_count += 1
        kept = self.batches.get(rows)
        if kept is None:
            if len(self.batches) >= MAX_BATCH_SIZES:
                return
            kept = self.batches[rows] = Duration()
        kept.count += 1
        kept.ns += nanoseconds

    def failed(self, total: int) -> None:
        """Count a request that was let in and not answered."""
        self.fail.add(total)

    def wire(self, *, name: str, version: str) -> dict[str, Any]:
        """The ``model_stats`` element; REST gives it as it is and gRPC's message has the same field names."""
        durations = ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output")
        return {
            "name": name,
            "version": version,
            "last_inference": self.last_inference,
            "inference_count": self.inference_count,
            "execution_count": self.execution_count,
            "inference_stats": {key: dataclasses.asdict(getattr(self, key)) for key in durations},
            "batch_stats": [
                {"batch_size": rows, "compute_infer": dataclasses.asdict(kept)}
                for rows, kept in sorted(self.batches.items())
            ],
        }
