"""Keeps a process within its memory: measures, asks ``paging`` who leaves, has them leave, and measures again.

One decision at a time: two loads that begin together must not count the same free bytes twice. What models leave
behind in the allocator without the process becoming smaller is room for the next ones; up to a tenth of the budget it
is counted as such (``slack``). Belongs to ``pager``, on the event loop; what takes milliseconds is done on ``aside``.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable, Sequence

from mlship.server import memory, paging, worker

_WAIT_SECONDS = 0.02
_PATIENCE_SECONDS = 5.0
_RETURNED_ENOUGH = 0.75
_LITTLE = 4 * 1024 * 1024
_MOST_SLACK = 0.1

Pages = Callable[[], Sequence[paging.Page]]
Evict = Callable[[Sequence[Hashable]], Awaitable[None]]


class Budget:
    """The memory of this process.

    Args:
        total: bytes that the process may have of its own, its libraries included.
        pages: the models that are loaded.
        evict: has models leave; those in use by then may stay.
        aside: a thread for what takes milliseconds.
    """

    def __init__(self, total: int, *, pages: Pages, evict: Evict, aside: worker.Workers) -> None:
        self.total = total
        self._pages, self._evict, self._aside = pages, evict, aside
        self._meter = memory.Meter()
        self._trimmer = memory.Trimmer()
        self._ledger = paging.Ledger()
        self._coming: dict[Hashable, int] = {}
        self._turn = asyncio.Lock()
        self._slack = 0

    @property
    def measured(self) -> int:
        """The private bytes of this process."""
        return self._meter.read()

    def _view(self, own: int, *, listed: bool) -> paging.View:
        return paging.View(
            measured=self._meter.read() - self._slack,
            budget=self.total,
            own=own,
            coming=sum(self._coming.values()),
            pages=self._pages() if listed else (),
        )

    def holds(self) -> bool:
        """Whether the process is within its budget now; then every model in it has its place. Looks at no model."""
        return self._meter.read() - self._slack <= self.total

    def free_for_models(self) -> int:
        """What is left for models when all of them have gone."""
        return self.total - (self._meter.read() - self._slack - sum(page.size for page in self._pages()))

    async def admit(self, key: Hashable, own: int, *, wanted: Callable[[], bool]) -> paging.Verdict:
        """Make room for ``own`` bytes and begin to count the load of ``key``; GO: it may begin, and ``end`` follows.

        Args:
            wanted: whether anybody still waits for it; WAIT is the answer when nobody does, or none came for a while.
        """
        end = time.monotonic() + _PATIENCE_SECONDS
        while True:
            async with self._turn:
                verdict = await self._make_room(own)
                if verdict is paging.Verdict.GO:
                    self._coming[key] = own
                    self._ledger.begin(key, self._meter.read(), expected=own)
            if verdict is not paging.Verdict.WAIT or not wanted() or time.monotonic() >= end:
                return verdict
            await asyncio.sleep(_WAIT_SECONDS)

    def end(self, key: Hashable, *, expected: int) -> int:
        """The load of ``key`` has ended; the bytes that the process grew by for it.

        Args:
            expected: what it was to take, of which some was there already; 0: it failed and has taken nothing.
        """
        del self._coming[key]
        grown = self._ledger.end(key, self._meter.read())
        self._slack = max(0, self._slack - max(0, expected - grown))
        return grown

    async def keep(self) -> None:
        """Have models leave when the process has become larger than it may be, whatever made it so."""
        async with self._turn:
            await self._make_room(0)

    async def _make_room(self, own: int) -> paging.Verdict:
        if paging.fits(self._view(own, listed=False)):
            return paging.Verdict.GO
        view = self._view(own, listed=True)
        decision = paging.decide(view)
        if decision.evict:
            leaving = set(decision.evict)
            promised = sum(page.size for page in view.pages if page.key in leaving)
            await self._free(decision.evict, promised=promised)
        return decision.verdict

    async def _free(self, keys: Sequence[Hashable], *, promised: int) -> None:
        before = self._meter.read()
        await self._evict(keys)
        after = await self._aside.call(self._give_back)
        if promised - (before - after) > max(_LITTLE, promised * (1 - _RETURNED_ENOUGH)):
            after = await self._aside.call(self._look_closer)
        self._ledger.left(before - after)
        self._slack = min(int(self.total * _MOST_SLACK), self._slack + max(0, promised - (before - after)))

    def _give_back(self) -> int:
        self._trimmer.trim()
        return self._meter.read()

    def _look_closer(self) -> int:
        self._trimmer.thaw()
        self._meter.calibrate()
        return self._meter.read()
