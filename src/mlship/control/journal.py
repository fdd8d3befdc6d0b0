"""Every plan with its why: what ``mlship why`` prints below the causes.

Only plans that do something, fail, or give another reason than the one before are entered; a repetition counts up the
entry that is there. The entries of an object go when it goes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from mlship.control import objects, store

KEEP = 200


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """One plan. ``at`` and ``last`` are Unix seconds of its first and last occurrence, ``count`` how often it came."""

    at: float
    last: float
    summary: str
    actions: tuple[str, ...] = ()
    why: tuple[str, ...] = ()
    error: str = ""
    count: int = 1

    def same(self, other: Entry) -> bool:
        """Whether both tell the same, whenever they were made."""
        return self._told() == other._told()

    def _told(self) -> tuple[object, ...]:
        return (self.summary, self.actions, self.why, self.error)

    def json(self) -> dict[str, Any]:
        """The entry in the form the API gives."""
        return {
            "time": objects.timestamp(self.at),
            "lastTime": objects.timestamp(self.last),
            "count": self.count,
            "summary": self.summary,
            "actions": list(self.actions),
            "why": list(self.why),
            "error": self.error,
        }


class Journal:
    """Writes entries through the store's door and knows the newest of each object."""

    def __init__(self, kept: store.Store, *, keep: int = KEEP) -> None:
        self._store = kept
        self._keep = keep
        self._newest: dict[store.Key, Entry] = {}

    async def record(
        self,
        key: store.Key,
        *,
        now: float,
        summary: str,
        actions: Sequence[str] = (),
        why: Sequence[str] = (),
        error: str = "",
    ) -> None:
        """Enter a plan. One without actions, error or reason is entered only when it differs from the newest."""
        entry = Entry(at=now, last=now, summary=summary, actions=tuple(actions), why=tuple(why), error=error)
        newest = self._newest.get(key)
        if newest is None or not newest.same(entry):
            self._newest[key] = entry
            await self._store.note(key, entry.json(), keep=self._keep)
            return
        entry = dataclasses.replace(newest, last=now, count=newest.count + 1)
        self._newest[key] = entry
        if entry.actions or entry.error:
            await self._store.amend(key, entry.json())

    def forget(self, key: store.Key) -> None:
        """The object is gone."""
        self._newest.pop(key, None)

    async def read(self, key: store.Key, *, limit: int = 50) -> tuple[store.Object, ...]:
        """The newest entries, oldest first."""
        return await self._store.notes(key, limit=limit)
