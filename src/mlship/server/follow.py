"""What is listed changes while models are loaded: how a pool follows its folder.

    another digest or path ──► loaded beside the old one, then swapped (``pager``)
    another version ─────────► loaded, then the name means it, then the old one is let go
    nothing any more ────────► forgotten at once, and it finishes what it has begun

Who uses a model looks after its entry once in a while; the folder as a whole is looked at by ``pager.keep``. What is
let go is nobody any more from that moment: what is listed under its name meanwhile has a page of its own. All methods
belong to the event loop's thread.
"""

from __future__ import annotations

import abc
import asyncio
import logging
import time
from typing import Any

from mlship import errors
from mlship.server import catalog, logs, onuse
from mlship.server.page import Page

LOG = logging.getLogger(__name__)
_READ_AT_ONCE = 16
_READ_PAUSE = 0.005


class Following(onuse.OnUse, abc.ABC):
    """Models that are loaded on use, and that change on disk."""

    def __init__(self, *positional: Any, **options: Any) -> None:
        super().__init__(*positional, **options)
        self._following: set[str] = set()

    # An entry

    def _look(self, name: str) -> None:
        """See whether what lists ``name`` has changed; what follows from that is done beside the requests."""
        now = time.monotonic()
        for page in self._pages.get(name, {}).values():
            page.check_at = now + onuse.CHECK_SECONDS
        if self._listings.has_changed(name) and self._read(name):
            self._changed(name, self._listings.known(name))
        pages = self._pages.get(name, {}).values()
        if self._is_behind(name) or any((page.stale or page.gone) and not page.leaving for page in pages):
            self._follow_soon(name)

    def _is_behind(self, name: str) -> bool:
        """Whether the name alone still means another version than it does by what is listed."""
        meant = self._hot.get(name)
        return meant is not None and meant.key[1] != self._listings.meant(name)

    def _read(self, name: str) -> bool:
        """Read what lists it; whether that could be understood."""
        try:
            self._listings.read(name)
        except errors.SpecError as error:
            LOG.error("entry cannot be read", extra=logs.fields(model=name, error=str(error)))
            return False
        return True

    def _follow_soon(self, name: str) -> None:
        if name not in self._following:
            self._following.add(name)
            self._tasks.start(self._followed(name), name=f"renew {name}")

    def _changed(self, name: str, listing: catalog.Listing | None) -> None:
        listed = {entry.source.version: entry for entry in listing.entries} if listing is not None else {}
        for version, page in self._pages.get(name, {}).items():
            found = listed.get(version)
            page.gone = found is None
            if found is not None and found != page.listed:
                # What its bytes weighed before says nothing of what they are now.
                page.listed, page.known = found, found.memory
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
        pages = [page for page in self._pages.get(name, {}).values() if page.stale and not page.gone]
        for page in pages:
            if self._refusal(page) is None:
                await self._renewed(page)
        gone = [page for page in self._pages.get(name, {}).values() if page.gone]
        is_needed = self._is_behind(name) or any(page.entry.served is not None for page in gone)
        if is_needed and not await self._meant(name):
            return  # The old one answers until the new one can.
        await self._let_go(name)

    async def _meant(self, name: str) -> bool:
        """Have the name alone mean the version that is listed for it, loaded; False: that one cannot be."""
        version = self._listings.meant(name)
        if not version:
            return True
        page = self._page(name, version)
        if page.entry.served is None and self._refusal(page) is None:
            await self._renewed(page)
        if page.entry.served is not None:
            self._warm(page)
        return page.entry.served is not None

    async def _renewed(self, page: Page) -> errors.MlshipError | None:
        """Load it, or wait for the load that is under way; why there is no other than before."""
        page.wanted = True
        self._bring(page)
        if (task := page.task) is None:
            return None
        await asyncio.wait([task])
        return None if task.cancelled() else task.result()

    async def _let_go(self, name: str) -> None:
        """Forget what is listed no more, and unload it: what is listed under its name meanwhile has nothing of it."""
        leaving = [page for page in self._pages.get(name, {}).values() if page.gone]
        for page in leaving:
            self._forget(page)
        await self._unload_each([page.entry for page in leaving])

    def _forget(self, page: Page) -> None:
        page.leaving = True
        self._cool(page)
        self._room.tell(
            page.key, errors.SpecError(f"{page.listed.source.label} was removed.", reason=errors.Reason.NOT_FOUND)
        )
        name, version = page.key
        for kept in (self._pages, self._entries):
            del kept[name][version]
            if not kept[name]:
                del kept[name]

    # What is loaded

    def _is_there(self, page: Page) -> bool:
        """Whether it is still the one of its name and version: one that was let go has no part in what comes after."""
        return self._pages.get(page.name, {}).get(page.key[1]) is page

    def _warm(self, page: Page) -> None:
        if not self._is_there(page):
            return
        self._hot[page.key] = page
        if self._listings.meant(page.name) == page.key[1]:
            self._hot[page.name] = page

    def _cool(self, page: Page) -> None:
        self._hot.pop(page.key, None)
        if self._hot.get(page.name) is page:
            del self._hot[page.name]

    # The folder

    async def _read_all(self) -> None:
        unread = self._listings.unread
        for begin in range(0, len(unread), _READ_AT_ONCE):
            for name in unread[begin : begin + _READ_AT_ONCE]:
                if name in self._listings:
                    self._statuses(name)
            await asyncio.sleep(_READ_PAUSE)

    async def _relist(self) -> bool:
        """The folder has changed: take up what is new in it, let go what is not there any more; whether that could be
        seen."""
        try:
            names = await self._engine.loader.call(self._listings.catalog.names)
        except errors.SpecError as error:
            LOG.error("model repository cannot be read", extra=logs.fields(error=str(error)))
            return False
        for name in self._listings.relisted(names):
            if name in self._pages:
                self._look(name)
            else:
                self._read(name)
        await self._read_all()
        return True
