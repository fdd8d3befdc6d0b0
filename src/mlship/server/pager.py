"""Models that are loaded when somebody uses them and leave when memory is short: a repository that is never full.

    listed ──first use──► loading ──► loaded ──memory is short, least recently used──► listed
                            │failed                └─ its entry changed ──► a new one is loaded beside it and swapped
                            └──► refused for a while, then tried again

At start nothing is read but names. A request for a model that is not loaded waits in ``waiting``; everybody who wants
the same model waits for one load of it. Loads are so many at once, evictions are ``budget``'s business, what is on disk
``catalog``'s, what a crash says ``quarantine``'s. All methods belong to the event loop's thread.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import logging
import time
from collections.abc import Callable, Hashable, Sequence
from typing import Any

from mlship import errors
from mlship.server import (
    budget,
    catalog,
    follow,
    loading,
    logs,
    machinery,
    marks,
    memory,
    onuse,
    paging,
    repository,
    serving,
)
from mlship.server.page import Page

LOG = logging.getLogger(__name__)
_KEEP_SECONDS = 1.0


class Pager(follow.Following):
    """A repository of which only what is used is loaded.

    Args:
        listed: the folder of entries.
        total: the memory budget in bytes.
        loads: how many models may be loaded at once; the engine has one thread more for loading.
        crashes: what model each thread is busy with, for the process after this one.
        repository.Repository's own.
    """

    def __init__(
        self,
        engine: machinery.Machinery,
        *,
        listed: catalog.Catalog,
        total: int,
        loads: int,
        queue_size: int,
        crashes: marks.Crashes | None = None,
        **options: Any,
    ) -> None:
        super().__init__(engine, listed=listed, crashes=crashes, queue_size=queue_size, **options)
        self._gate = asyncio.Semaphore(loads)
        self.budget = budget.Budget(total, pages=self._views, evict=self._evict, aside=engine.loader)
        # Whose entries are in the loader's hands.
        self._bringing: dict[repository.Entry, Page] = {}

    def report(self) -> dict[str, Any]:
        """The pool as it is now: totals, and every model that was ever asked for."""
        now = time.monotonic()
        pages = list(self.pages())
        return {
            "budget": self.budget.total,
            "measured": self.budget.measured,
            "models_bytes": sum(page.size for page in pages),
            "free_for_models": self.budget.free_for_models(),
            "registered": len(self._listings),
            "loaded": sum(page.entry.served is not None for page in pages),
            "models": [page.report(now) | self._crashes.report(page.key, page.identity) for page in pages],
        }

    # Loading

    def _bring(self, page: Page) -> None:
        """Begin to load, if that is not under way."""
        if page.task is None:
            page.task = self._tasks.start(self._brought(page), name=f"load {page.listed.source.label}")

    def _called_for(self, page: Page) -> bool:
        return self._is_there(page) and (page.wanted or self._room.waiting(page.key) > 0)

    async def _brought(self, page: Page) -> errors.MlshipError | None:
        try:
            async with self._gate:
                failure = await self._load_listed(page)
        except Exception as error:  # A fault of the server itself must not leave callers waiting.
            LOG.error("load failed", exc_info=error, extra=logs.fields(model=page.name))
            failure = errors.BackendError(f"{page.listed.source.label}: {error!r}")
            page.failed(failure)
        finally:
            page.task, page.wanted = None, False
        outcome = page.entry.served or failure
        if not self._is_there(page):
            return failure
        if outcome is not None:
            self._room.tell(page.key, outcome)
        elif self._room.waiting(page.key):
            self._bring(page)  # It was unloaded before anybody heard of it.
        return failure

    async def _load_listed(self, page: Page) -> errors.MlshipError | None:
        """Load it, if somebody still wants it; again when something else was listed by the time it failed."""
        failure = None
        while self._called_for(page):
            listed = page.listed
            failure = await self._load_page(page)
            if failure is None or page.listed is listed:
                break
            page.hopeful()
        return failure

    async def _load_page(self, page: Page) -> errors.MlshipError | None:
        expected = page.known or paging.expected(on_disk=await self._on_disk(page.listed.source))
        verdict = await self.budget.admit(page, expected, wanted=functools.partial(self._called_for, page))
        if verdict is not paging.Verdict.GO:
            return self._no_room(page, expected, verdict)
        begun, failure = time.monotonic(), None
        self._bringing[page.entry] = page
        try:
            failure = await self._load(page.entry)
        finally:
            del self._bringing[page.entry]
            grown = self.budget.end(page, expected=0 if failure is not None else expected)
        if failure is not None:
            page.failed(failure)
            return failure
        page.hopeful()
        # It may have changed once more meanwhile.
        page.stale = page.listed is not page.held
        page.loads += 1
        page.load_seconds = time.monotonic() - begun
        page.loading_seconds += page.load_seconds
        page.size = page.known = paging.weight(grown=grown, expected=expected, imported=page.imported)
        # What is loaded stays for a while: collections need not walk through it.
        gc.freeze()
        page.used = time.monotonic()
        self._warm(page)
        return await self._outgrown(page)

    async def _on_disk(self, source: loading.Source) -> int:
        found: int = await self._engine.loader.call(functools.partial(memory.on_disk, source.path))
        return found

    def _no_room(self, page: Page, expected: int, verdict: paging.Verdict) -> errors.MlshipError:
        if verdict is paging.Verdict.WAIT:
            return page.no_room()
        error = page.too_large(expected, left=self.budget.free_for_models(), total=self.budget.total)
        page.failed(error)
        return error

    async def _outgrown(self, page: Page) -> errors.MlshipError | None:
        """Let others leave if the model was heavier than expected, or the model itself if that cannot be enough."""
        await self.budget.keep()
        if self.budget.holds() or page.size <= self.budget.free_for_models():
            return None
        error = page.too_large(page.size, left=self.budget.free_for_models(), total=self.budget.total)
        LOG.warning("model is too large", extra=logs.fields(model=page.name, error=error.message))
        await self._take_out(page)
        page.failed(error)
        return error

    def _loading(self, entry: repository.Entry, *, again: bool = False) -> Callable[[], loading.Loaded]:
        page = self._bringing[entry]
        # What is listed may be something else by the time this has been loaded.
        page.coming = page.listed
        work = super()._loading(entry, again=page.comes_back)
        return functools.partial(self._load_marked, page, page.coming.identity, work)

    def _load_marked(self, page: Page, identity: str, work: Callable[[], loading.Loaded]) -> loading.Loaded:
        """On the loader's thread."""
        before = memory.modules()
        with self._crashes.while_loading(page.key, identity):
            loaded = work()
        page.imported = memory.modules() > before
        return loaded

    def _serve(self, entry: repository.Entry, loaded: loading.Loaded) -> serving.Served:
        page = self._bringing.get(entry)
        if page is not None:
            page.held = page.coming
        else:  # Its compiled form comes into its place.
            page = self._pages[entry.source.name][entry.source.version]
        return super()._serve(entry, self._crashes.watched(loaded, page.key, page.held.identity))

    # Leaving

    def _views(self) -> list[paging.Page]:
        return [page.view() for page in set(self._hot.values())]

    async def _evict(self, keys: Sequence[Hashable]) -> None:
        for key in keys:
            page = self._hot.get(key)  # type: ignore[call-overload]
            if page is not None and not page.busy:
                await self._take_out(page)
                page.evictions += 1

    async def _take_out(self, page: Page) -> None:
        page.leaving = True
        self._cool(page)
        try:
            await self._unload_each([page.entry])
        finally:
            page.leaving = False
        # A load that was under way has put it back.
        self._cool(page)
        page.size = 0
        page.entry.reason = onuse.NOT_LOADED

    # What is asked for by name

    async def load(self, name: str, version: str = "") -> None:
        """Read the entry anew and load it; beside the one that is loaded, if that is not the same.

        Raises:
            SpecError: nothing lists it.
            MlshipError: why it could not be loaded; what was loaded before still answers.
        """
        self._changed(name, self._listings.read(name))
        page = self._page(name, version)
        page.hopeful()
        page.stale = page.stale or not page.listed.digest
        if (refusal := self._refusal(page)) is not None:
            raise refusal
        # One that is under way may be of what was listed before.
        for _ in range(2):
            if page.entry.served is not None and not page.stale:
                break
            if (failure := await self._own(self._renewed(page), f"load {name}")) is not None:
                raise failure
        await self._own(self._follow(name), f"renew {name}")
        if page.error is not None:
            raise page.error

    async def unload(self, name: str, version: str = "") -> None:
        """Let a model finish and leave memory. One that is still listed is loaded again when it is used."""
        if name not in self._listings and name not in self._pages:
            self._listings.get(name)
        self._changed(name, self._listings.read(name))
        if name not in self._listings:
            await self._own(self._let_go(name), f"unload {name}")
            return
        for page in list(self._pages.get(name, {}).values()):
            if version in ("", page.key[1]) and page.entry.served is not None:
                await self._own(self._take_out(page), f"unload {name}")

    async def keep(self) -> None:
        """Read what is listed, gently, and then hold the budget: for as long as the server runs."""
        await self._read_all()
        seen = self._listings.catalog.changed()
        while True:
            await asyncio.sleep(_KEEP_SECONDS)
            await self.budget.keep()
            if (now := self._listings.catalog.changed()) != seen and await self._relist():
                seen = now

    def drain(self, why: str) -> None:
        self._crashes.over()
        super().drain(why)

    def abandon(self, why: str) -> None:
        self._room.tell_all(errors.NotReady(why))
        super().abandon(why)

    async def close(self) -> None:
        await super().close()
        self._crashes.close()
