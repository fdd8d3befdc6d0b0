"""Models that are loaded when somebody uses them and leave when memory is short: a repository that is never full.

    listed ──first use──► loading ──► loaded ──memory is short, least recently used──► listed
                            │failed                └─ its entry changed ──► the new one is loaded beside it, then swapped
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
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any

from mlship import errors
from mlship.server import (
    budget,
    catalog,
    loading,
    logs,
    marks,
    memory,
    paging,
    refusals,
    repository,
    serving,
    states,
    statistics,
    waiting,
)
from mlship.server.page import Key, Page

LOG = logging.getLogger(__name__)
_CHECK_SECONDS = 1.0
_KEEP_SECONDS = 1.0
_READ_AT_ONCE = 16
_READ_PAUSE = 0.005
_ROOMS = 4
_NOT_LOADED = "not loaded; it is when it is used"


class Pager(repository.Repository):
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
        engine: repository.machinery.Machinery,
        *,
        listed: catalog.Catalog,
        total: int,
        loads: int,
        queue_size: int,
        crashes: marks.Crashes | None = None,
        **options: Any,
    ) -> None:
        super().__init__(engine, queue_size=queue_size, **options)
        self._catalog = listed
        self._crashes = crashes or marks.Crashes.none()
        self._gate = asyncio.Semaphore(loads)
        self._room = waiting.Room(each=queue_size, total=_ROOMS * queue_size)
        self.budget = budget.Budget(total, pages=self._views, evict=self._evict, aside=engine.loader)
        # None: it is listed, and nobody has looked at it yet.
        self._listings: dict[str, catalog.Listing | None] = dict.fromkeys(listed.names())
        self._pages: dict[str, dict[str, Page]] = {}
        self._following: set[str] = set()
        # The loaded ones: by the name alone the version that a name means, and by name and version.
        self._hot: dict[str | Key, Page] = {}

    # What there is

    @property
    def names(self) -> list[str]:
        return sorted(self._listings)

    def knows(self, name: str) -> bool:
        return name in self._listings

    def versions(self, name: str) -> list[str]:
        return [entry.source.version for entry in self._listing(name).entries]

    def index(self, *, ready: bool = False) -> list[states.Status]:
        found = [status for name in self.names for status in self._statuses(name)]
        return [status for status in found if status.state is states.State.READY or not ready]

    def _statuses(self, name: str) -> list[states.Status]:
        try:
            listing = self._listings[name] or self._read(name)
        except errors.SpecError as error:
            return [states.Status(name=name, version="", state=states.State.UNAVAILABLE, reason=str(error))]
        return [self._status(name, entry.source.version) for entry in listing.entries] if listing is not None else []

    def _status(self, name: str, version: str) -> states.Status:
        page = self._pages.get(name, {}).get(version)
        if page is None:
            return states.Status(name=name, version=version, state=states.State.UNAVAILABLE, reason=_NOT_LOADED)
        return page.entry.status

    def status(self, name: str, version: str = "") -> states.Status:
        return self._status(name, version or self._version(self._listing(name)))

    @property
    def unready(self) -> str:
        return self._draining

    def model_unready(self, name: str, version: str = "") -> str:
        page = self._hot.get((name, version) if version else name) or self._page(name, version)
        if self._draining or page.entry.served is not None:
            return self._draining
        refusal = self._refusal(page)
        return str(refusal) if refusal is not None else ""

    def statistics(self, name: str = "", version: str = "") -> list[tuple[states.Status, statistics.Statistics]]:
        if name:
            self._page(name, version)
        found = [page for page in self.pages() if name in ("", page.name) and version in ("", page.key[1])]
        return [(page.entry.status, page.entry.statistics) for page in found]

    def pages(self) -> Iterator[Page]:
        """Every model that was ever asked for and is still listed, or is still loaded."""
        for versions in self._pages.values():
            yield from versions.values()

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

    # Using it

    def find(self, name: str, version: str = "") -> serving.Served | None:
        page = self._hot.get((name, version) if version else name)
        if page is None or (served := page.entry.served) is None:
            self.check(name, version)
            return None
        now = time.monotonic()
        page.used = now
        page.hits += 1
        if now >= page.check_at:
            page.check_at = now + _CHECK_SECONDS
            self._look(name)
        return served

    def check(self, name: str, version: str = "") -> None:
        if ((name, version) if version else name) in self._hot:
            return
        if self._draining:
            raise errors.NotReady(f"{self._draining}.")
        refusal = self._refusal(self._page(name, version))
        if refusal is not None:
            raise refusal

    def _refusal(self, page: Page) -> errors.MlshipError | None:
        return self._crashes.refusal(page.key, page.identity) or page.refusal(time.monotonic())

    def wait(self, name: str, version: str, *, deadline: float, done: waiting.Done) -> waiting.Waiter:
        """Wait for a model that ``find`` gave None for, which begins to be loaded if it is not already.

        Args:
            deadline: by the event loop's clock.
            done: is told the model, or why there is none, never from within this call.
        Raises as ``find`` does, and Overloaded: too many wait.
        """
        page = self._page(name, version)
        waiter = self._room.enter(page.key, deadline=deadline, done=done)
        page.used = time.monotonic()
        page.misses += 1
        self._bring(page)
        return waiter

    def leave(self, waiter: waiting.Waiter) -> None:
        """Wait no more."""
        self._room.leave(waiter)

    def expect(self, name: str, version: str) -> Callable[[], None]:
        """Keep a place among those who wait for a model that ``find`` gave None for; what gives it back."""
        return self._room.expect(self._page(name, version).key)

    def crowded(self, name: str, version: str) -> bool:
        """Whether nobody more may wait for it."""
        return self._room.full(self._page(name, version).key)

    # What is listed

    def _listing(self, name: str) -> catalog.Listing:
        """What lists ``name``, read if it is not known yet. Raises SpecError."""
        found = self._listings.get(name) or self._read(name)
        if found is None or not found.entries:
            raise errors.SpecError(
                f'there is no model "{refusals.shorten(name)}" on this server, which lists {len(self._listings)}.',
                hint="POST /v2/repository/index names them.",
                reason=errors.Reason.NOT_FOUND,
            )
        return found

    def _read(self, name: str) -> catalog.Listing | None:
        try:
            found = self._catalog.read(name)
        except errors.SpecError:
            if name not in self._listings:
                return None  # What cannot name a model names none.
            raise
        if found is None:
            self._listings.pop(name, None)
        else:
            self._listings[name] = found
        return found

    def _version(self, listing: catalog.Listing) -> str:
        return max((entry.source.version for entry in listing.entries), key=states.by_number)

    def _page(self, name: str, version: str) -> Page:
        """The page of a listed model, looked at anew if that was not just done. Raises SpecError."""
        pages = self._pages.get(name)
        if pages and time.monotonic() >= min(page.check_at for page in pages.values()):
            self._look(name)
        listing = self._listing(name)
        version = version or self._version(listing)
        page = self._pages.get(name, {}).get(version)
        if page is not None and not page.gone:
            return page
        found = next((entry for entry in listing.entries if entry.source.version == version), None)
        if found is None:
            raise errors.SpecError(
                f'model "{name}" has no version "{refusals.shorten(version)}", '
                f"it has {refusals.quoted([entry.source.version for entry in listing.entries])}.",
                reason=errors.Reason.NOT_FOUND,
            )
        return self._add(found)

    def _add(self, found: catalog.Entry) -> Page:
        self.register(found.source)
        entry = self._entry(found.source.name, found.source.version)
        entry.wanted, entry.reason = False, _NOT_LOADED
        page = Page(found, entry, known=found.memory, check_at=time.monotonic() + _CHECK_SECONDS)
        self._pages.setdefault(found.source.name, {})[found.source.version] = page
        return page

    def _look(self, name: str) -> None:
        """See whether what lists ``name`` has changed; what follows from that is done beside the requests."""
        now = time.monotonic()
        for page in self._pages.get(name, {}).values():
            page.check_at = now + _CHECK_SECONDS
        before = self._listings.get(name)
        stamp = self._catalog.stamp(name)
        if before is None or stamp != before.stamp:
            try:
                self._changed(name, self._read(name))
            except errors.SpecError as error:
                LOG.error("entry cannot be read", extra=logs.fields(model=name, error=str(error)))
        if any((page.stale or page.gone) and not page.leaving for page in self._pages.get(name, {}).values()):
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
        finally:
            page.task, page.wanted = None, False
        served = page.entry.served
        if served is not None:
            self._room.tell(page.key, served)
        elif failure is not None:
            self._room.tell(page.key, failure)

    async def _load_page(self, page: Page) -> errors.MlshipError | None:
        source = page.listed.source
        on_disk = await self._engine.loader.call(functools.partial(memory.on_disk, source.path))
        expected = paging.expected(known=page.known, on_disk=on_disk)
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
        page.stale = False
        page.loads += 1
        page.load_seconds = time.monotonic() - begun
        page.loading_seconds += page.load_seconds
        page.size = page.known = paging.weight(grown=grown, expected=expected, imported=page.imported)
        # What is loaded stays for a while: collections need not walk through it.
        gc.freeze()
        page.used = time.monotonic()
        self._warm(page)
        return await self._outgrown(page)

    def _no_room(self, page: Page, expected: int, verdict: paging.Verdict) -> errors.MlshipError:
        if verdict is paging.Verdict.NEVER:
            error = self._too_large(page, expected)
            page.failed(error)
            return error
        return errors.Overloaded(
            f"{page.listed.source.label}: there is no memory for it, the loaded models are all in use.",
            hint="Repeat later, or raise --memory-budget.",
            retry_after=1.0,
        )

    def _too_large(self, page: Page, size: int) -> errors.MlshipError:
        left = self.budget.free_for_models()
        return errors.NotReady(
            f"{page.listed.source.label} takes about {size} bytes, and of the budget of {self.budget.total} "
            f"only {max(0, left)} are left for models.",
            hint=f"Raise --memory-budget by {max(1, size - left)} or more, or serve it on a server of its own.",
        )

    async def _outgrown(self, page: Page) -> errors.MlshipError | None:
        """Let others leave if the model was heavier than expected, or the model itself if that cannot be enough."""
        await self.budget.keep()
        if page.size <= self.budget.free_for_models():
            return None
        error = self._too_large(page, page.size)
        await self._take_out(page)
        page.failed(error)
        return error

    def _loading(self, source: loading.Source) -> Callable[[], loading.Loaded]:
        return functools.partial(self._load_marked, source, super()._loading(source))

    def _load_marked(self, source: loading.Source, work: Callable[[], loading.Loaded]) -> loading.Loaded:
        """On the loader's thread."""
        page = self._pages[source.name][source.version]
        before = memory.modules()
        with self._crashes.loading(page.key, page.identity):
            loaded = work()
        page.imported = memory.modules() > before
        return loaded

    def _serve(self, entry: repository.Entry, loaded: loading.Loaded) -> serving.Served:
        page = self._pages[entry.source.name][entry.source.version]
        return super()._serve(entry, self._crashes.watched(loaded, page.key, page.identity))

    def _warm(self, page: Page) -> None:
        self._hot[page.key] = page
        listing = self._listings.get(page.name)
        if listing is not None and self._version(listing) == page.key[1]:
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
        page.entry.reason = _NOT_LOADED

    # What is asked for by name

    async def load(self, name: str, version: str = "") -> None:
        """Read the entry anew and load it; beside the one that is loaded, if that is not the same.

        Raises:
            SpecError: nothing lists it.
            MlshipError: why it could not be loaded; what was loaded before still answers.
        """
        self._changed(name, self._read(name))
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
            self._listing(name)
        self._changed(name, self._read(name))
        if name not in self._listings:
            await self._own(self._let_go(name), f"unload {name}")
            return
        for page in list(self._pages.get(name, {}).values()):
            if version in ("", page.key[1]) and page.entry.served is not None:
                await self._own(self._take_out(page), f"unload {name}")

    async def keep(self) -> None:
        """Read what is listed, gently, and then hold the budget: for as long as the server runs."""
        await self._read_all()
        seen = self._catalog.changed()
        while True:
            await asyncio.sleep(_KEEP_SECONDS)
            await self.budget.keep()
            if (now := self._catalog.changed()) != seen:
                seen = now
                await self._relist()

    async def _read_all(self) -> None:
        names = [name for name, listing in self._listings.items() if listing is None]
        for begin in range(0, len(names), _READ_AT_ONCE):
            for name in names[begin : begin + _READ_AT_ONCE]:
                if self._listings.get(name, _READ) is None:
                    self._statuses(name)
            await asyncio.sleep(_READ_PAUSE)

    async def _relist(self) -> None:
        """The folder has changed: take up what is new in it, let go what is not there any more."""
        names = set(await self._engine.loader.call(self._catalog.names))
        for name in names - self._listings.keys():
            self._listings[name] = None
        for name in self._listings.keys() - names:
            if name in self._pages:
                self._look(name)
            else:
                self._listings.pop(name, None)
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
_READ = catalog.Listing((0, 0, 0), ())
