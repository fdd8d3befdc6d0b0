"""Is an execution so short that a thread of its own costs more than it gives? Pure: seconds in, a yes or no out.

Handing a call to a worker's thread and its result back costs two wake-ups and, since Python runs one thread at a time,
the wait for the interpreter: more than a small model's whole answer. ``worker.QuickRunner`` asks here before each
execution of a model that says it only computes (``quick``). What was not measured yet runs on a worker; what held up
the event loop because it slept, waiting for something, goes to a worker, for twice as many executions each time that
happens. A processor that was given to somebody else meanwhile is not held against a model.
"""

from __future__ import annotations

import dataclasses

# What the event loop may be held up by one execution: less than the scheduler of a busy machine takes anyway.
BUDGET = 0.001
# What the event loop may be held up by a model that sleeps.
STALL = 0.03
_WEIGHT = 0.2
_FIRST_BAR, _LAST_BAR = 16, 4096
_FORGIVEN_AFTER = 1000


@dataclasses.dataclass(slots=True)
class Pace:
    """How long executions take, by the power of two of their rows. ``budget`` in seconds."""

    budget: float = BUDGET
    means: dict[int, float] = dataclasses.field(default_factory=dict)
    barred: int = 0
    bar: int = _FIRST_BAR
    well: int = 0

    def short(self, rows: int) -> bool:
        """Whether an execution of ``rows`` rows will be within the budget, as far as one can tell."""
        return not self.barred and self.means.get(rows.bit_length(), self.budget) < self.budget

    def aside(self, rows: int, seconds: float) -> None:
        """An execution on a worker took ``seconds`` of its thread's computing time."""
        self._mean(rows, seconds)
        if self.barred:
            self.barred -= 1

    def inline(self, rows: int, seconds: float, *, slept: float) -> None:
        """An execution on the event loop took ``seconds`` of computing, and gave the processor away for ``slept``."""
        self._mean(rows, seconds)
        if slept > STALL:
            self.barred, self.bar, self.well = self.bar, min(2 * self.bar, _LAST_BAR), 0
            return
        self.well += 1
        if self.well >= _FORGIVEN_AFTER:
            self.bar, self.well = _FIRST_BAR, 0

    def _mean(self, rows: int, seconds: float) -> None:
        bucket = rows.bit_length()
        mean = self.means.get(bucket, seconds)
        self.means[bucket] = mean + (seconds - mean) * _WEIGHT
