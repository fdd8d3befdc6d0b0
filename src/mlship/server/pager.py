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
import dataclasses
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
    listings,
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
_READ_AT_ONCE = 16
_READ_PAUSE = 0.005


class Pager(onuse.OnUse):
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
        self._following: set[str] = set()

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

    # What is listed changes

    def _look(self, name: str) -> None:
        """See whether what lists ``name`` has changed; what follows from that is done beside the requests."""
        now = time.monotonic()
        for page in self._pages.get(name, {}).values():
            page.check_at = now + onuse.CHECK_SECONDS
        if self._listings.has_changed(name):
            try:
                self._changed(name, self._listings.read(name))
            except errors.SpecError as error:
                LOG.error("entry cannot be read", extra=logs.fields(model=name, error=str(error)))
        if any((page.stale or page.gone) and not page.leaving for page in self._pages.get(name, {}).values()):
            self._follow_soon(name)

    def _follow_soon(self, name: str) -> None:
        if name not in self._following:
            self._following.add(name)
            self._tasks.start(self._followed(name), name=f"renew {name}")

    def _changed(self, name: str, listing: catalog.Listing | None) -> None:
        listed = {entry.source.version: entry for entry in listing.entries} if listing is not None else {}
        for version, page in self._pages.get(name, {}).items():
            found = listed.get(version)
            page.gone = found is None
            if found is not None and (found != page.listed or not found.digest):
                page.listed, page.known = found, found.memory or page.known
                page.stale = page.entry.served is not None
                page.hopeful()
                self.register(found.source)

    async def _followed(self, name: str) -> None:
        try:
            await self._follow(name)
        finally:
            self._following.discard(name)

    async def _follow(self, name: str) -> None:
        """Bring what is listed now into the place of what is loaded, and let go what is listed no more."""
        if name not in self._listings:
            await self._let_go(name)
            return
        pages = [page for page in self._pages.get(name, {}).values() if page.stale and self._refusal(page) is None]
        for page in pages:
            await self._renewed(page)
        gone = [page for page in self._pages.get(name, {}).values() if page.gone]
        if any(page.entry.served is not None for page in gone):
            newest = self._page(name, "")
            if self._refusal(newest) is None:
                await self._renewed(newest)
            if newest.entry.served is None:
                return  # The old one answers until the new one can.
        await self._let_go(name)

    async def _renewed(self, page: Page) -> None:
        page.wanted = True
        self._bring(page)
        if page.task is not None:
            await asyncio.wait([page.task])

    async def _let_go(self, name: str) -> None:
        """Unload and forget what is listed no more."""
        for page in list(self._pages.get(name, {}).values()):
            if not page.gone or page.leaving:
                continue
            page.leaving = True
            self._cool(page)
            self._room.tell(page.key, errors.SpecError(f"{page.listed.source.label} was removed.", reason=_NOT_FOUND))
            await self._unload_each([page.entry])
            page.size = 0
            self._pages[name].pop(page.key[1], None)
            self._entries.get(name, {}).pop(page.key[1], None)
        for kept in (self._pages, self._entries):
            if not kept.get(name, True):
                del kept[name]

    # Loading

    def _bring(self, page: Page) -> None:
        """Begin to load, if that is not under way."""
        if page.task is None:
            page.task = self._tasks.start(self._brought(page), name=f"load {page.listed.source.label}")

    def _called_for(self, page: Page) -> bool:
        return page.wanted or self._room.waiting(page.key) > 0

    async def _brought(self, page: Page) -> None:
        try:
            async with self._gate:
                # Whoever wanted it may have gone while others were loaded.
                failure = await self._load_page(page) if self._called_for(page) else None
        except Exception as error:  # A fault of the server itself must not leave callers waiting.
            LOG.error("load failed", exc_info=error, extra=logs.fields(model=page.name))
            failure = errors.BackendError(f"{page.listed.source.label}: {error!r}")
            page.failed(failure)
        finally:
            page.task, page.wanted = None, False
        served = page.entry.served
        if served is not None:
            self._room.tell(page.key, served)
        elif failure is not None:
            self._room.tell(page.key, failure)

    async def _load_page(self, page: Page) -> errors.MlshipError | None:
        listed = page.listed
        expected = page.known or paging.expected(on_disk=await self._on_disk(listed.source))
        verdict = await self.budget.admit(page.key, expected, wanted=functools.partial(self._called_for, page))
        if verdict is not paging.Verdict.GO:
            return self._no_room(page, expected, verdict)
        begun, failure = time.monotonic(), None
        try:
            failure = await self._load(page.entry)
        finally:
            grown = self.budget.end(page.key, expected=expected)
        if failure is not None:
            page.failed(failure)
            return failure
        page.hopeful()
        # It may have changed once more meanwhile.
        page.stale = page.listed is not listed
        page.answered = listed.digest
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

    def _loading(self, source: loading.Source) -> Callable[[], loading.Loaded]:
        page = self._pages[source.name][source.version]
        again = dataclasses.replace(source.warmup, again=page.answered_as(page.listed))
        return functools.partial(self._load_marked, source, super()._loading(dataclasses.replace(source, warmup=again)))

    def _load_marked(self, source: loading.Source, work: Callable[[], loading.Loaded]) -> loading.Loaded:
        """On the loader's thread."""
        page = self._pages[source.name][source.version]
        before = memory.modules()
        with self._crashes.while_loading(page.key, page.identity):
            loaded = work()
        page.imported = memory.modules() > before
        return loaded

    def _serve(self, entry: repository.Entry, loaded: loading.Loaded) -> serving.Served:
        page = self._pages[entry.source.name][entry.source.version]
        return super()._serve(entry, self._crashes.watched(loaded, page.key, page.identity))

    def _warm(self, page: Page) -> None:
        self._hot[page.key] = page
        listing = self._listings.known(page.name)
        if listing is not None and listings.newest(listing).source.version == page.key[1]:
            self._hot[page.name] = page

    def _cool(self, page: Page) -> None:
        self._hot.pop(page.key, None)
        if self._hot.get(page.name) is page:
            del self._hot[page.name]

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
        if page.entry.served is None or page.stale:
            await self._own(self._renewed(page), f"load {name}")
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
            if (now := self._listings.catalog.changed()) != seen:
                seen = now
                await self._relist()

    async def _read_all(self) -> None:
        unread = self._listings.unread
        for begin in range(0, len(unread), _READ_AT_ONCE):
            for name in unread[begin : begin + _READ_AT_ONCE]:
                if name in self._listings:
                    self._statuses(name)
            await asyncio.sleep(_READ_PAUSE)

    async def _relist(self) -> None:
        """The folder has changed: take up what is new in it, let go what is not there any more."""
        for name in self._listings.relisted(await self._engine.loader.call(self._listings.catalog.names)):
            if name in self._pages:
                self._look(name)
            else:
                self._listings.read(name)
        await self._read_all()

    def drain(self, why: str) -> None:
        self._crashes.over()
        super().drain(why)

    def abandon(self, why: str) -> None:
        self._room.tell_all(errors.NotReady(why))
        super().abandon(why)

    async def close(self) -> None:
        await super().close()
        self._crashes.close()


_NOT_FOUND = errors.Reason.NOT_FOUND
