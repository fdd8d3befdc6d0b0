"""Tells watchers which services changed. Each watcher has a set of keys: changes coalesce, their number bounds it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable

from mlship.plan import observed


class Changes:
    """Hands each change to every watcher. All methods are for the event loop's thread."""

    def __init__(self) -> None:
        self._watchers: list[_Watcher] = []
        self._closed = False

    def add(self, service: observed.ServiceKey) -> None:
        """The facts about ``service`` changed."""
        for watcher in self._watchers:
            watcher.pending[service] = None
            watcher.wake.set()

    async def watch(self, known: Iterable[observed.ServiceKey]) -> AsyncIterator[observed.ServiceKey]:
        """First the keys of ``known``, then those that change, in the order of their change; ends with ``close``."""
        watcher = _Watcher(known)
        self._watchers.append(watcher)
        try:
            while not self._closed:
                while watcher.pending:
                    service = next(iter(watcher.pending))
                    del watcher.pending[service]
                    yield service
                watcher.wake.clear()
                if not self._closed:
                    await watcher.wake.wait()
        finally:
            self._watchers.remove(watcher)

    def close(self) -> None:
        """End every watch."""
        self._closed = True
        for watcher in self._watchers:
            watcher.wake.set()


class _Watcher:
    def __init__(self, known: Iterable[observed.ServiceKey]) -> None:
        self.pending = dict.fromkeys(known)
        self.wake = asyncio.Event()
