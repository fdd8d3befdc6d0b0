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

    @classmethod
    def read(cls, body: store.Object) -> Entry:
        """The inverse of ``json``."""
        return cls(
            at=objects.seconds(body["time"]),
            last=objects.seconds(body["lastTime"]),
            summary=body["summary"],
            actions=tuple(body["actions"]),
            why=tuple(body["why"]),
            error=body["error"],
            count=body["count"],
        )

    @property
    def mark(self) -> int:
        """Equal for entries that tell the same, whenever they were made; never 0."""
        return hash((self.summary, self.actions, self.why, self.error)) or 1

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
    """Writes entries through the store's door and knows the newest of each object.

    Most objects are at rest with an entry that will not be counted up; of those only a hash is held.
    """

    def __init__(self, kept: store.Store, *, keep: int = KEEP) -> None:
        self._store = kept
        self._keep = keep
        self._newest: dict[store.Key, Entry | int] = {}

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
        if key not in self._newest:
            self._newest[key] = await self._recall(key)
        newest = self._newest[key]
        if isinstance(newest, int):
            if newest != entry.mark:
                await self._note(key, entry)
        elif newest.mark != entry.mark:
            await self._note(key, entry)
        else:
            entry = dataclasses.replace(newest, last=now, count=newest.count + 1)
            self._newest[key] = entry
            await self._store.amend(key, entry.json())

    async def _note(self, key: store.Key, entry: Entry) -> None:
        self._newest[key] = _held(entry)
        await self._store.note(key, entry.json(), keep=self._keep)

    async def _recall(self, key: store.Key) -> Entry | int:
        """What an earlier control plane entered last; 0 when there is nothing."""
        found = await self._store.notes(key, limit=1)
        return _held(Entry.read(found[0])) if found else 0

    def forget(self, key: store.Key) -> None:
        """The object is gone."""
        self._newest.pop(key, None)

    async def read(self, key: store.Key, *, limit: int = 50) -> tuple[store.Object, ...]:
        """The newest entries, oldest first."""
        return await self._store.notes(key, limit=limit)


def _held(entry: Entry) -> Entry | int:
    """What must be known of the newest entry to tell the next from it, and to count it up where that is written."""
    return entry if entry.actions or entry.error else entry.mark
