"""Time that passes only when told: what the fake world's events hang on."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable


@dataclasses.dataclass(frozen=True, slots=True)
class _Due:
    at: float
    order: int
    happen: Callable[[], None]


class Timeline:
    """A clock of its own and what falls due on it: one event for each key, a later one replaces it."""

    def __init__(self, now: float) -> None:
        self.now = now
        self._due: dict[Hashable, _Due] = {}
        self._order = 0

    def later(self, seconds: float, key: Hashable, happen: Callable[[], None]) -> None:
        """Have ``happen`` called in so many seconds."""
        self._order += 1
        self._due[key] = _Due(self.now + seconds, self._order, happen)

    def cancel(self, key: Hashable) -> None:
        """Have nothing happen to ``key``."""
        self._due.pop(key, None)

    def waits(self, key: Hashable) -> bool:
        """Whether something will happen to ``key``."""
        return key in self._due

    def next(self) -> float | None:
        """When something will happen; None: never."""
        return min((one.at for one in self._due.values()), default=None)

    def advance(self, seconds: float) -> None:
        """Let time pass; what falls due happens in order."""
        until = self.now + seconds
        while self._due:
            key, due = min(self._due.items(), key=lambda item: (item[1].at, item[1].order))
            if due.at > until:
                break
            self.now = max(self.now, due.at)
            del self._due[key]
            due.happen()
        self.now = until
