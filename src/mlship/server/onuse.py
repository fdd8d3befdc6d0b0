"""Models that are loaded on use, as whoever uses them sees them: which there are, which are loaded, who waits for one.

The half of a pool that answers questions; ``pager`` is the half that loads and lets go. What a request asks of a model
that is loaded is one look into a table, however many are listed. All methods belong to the event loop's thread.
"""

from __future__ import annotations

import abc
import time
from collections.abc import Callable, Iterator
from typing import Any

from mlship import errors
from mlship.server import (
    catalog,
    listings,
    machinery,
    marks,
    repository,
    serving,
    states,
    statistics,
    waiting,
)
from mlship.server.page import Key, Page

CHECK_SECONDS = 1.0
NOT_LOADED = "not loaded; it is when it is used"
_ROOMS = 4


class OnUse(repository.Repository, abc.ABC):
    """A repository of models that need not be loaded to be there.

    Args:
        listed: the folder of entries.
        crashes: what model each thread is busy with, for the process after this one.
        repository.Repository's own.
    """

    def __init__(
        self,
        engine: machinery.Machinery,
        *,
        listed: catalog.Catalog,
        queue_size: int,
        crashes: marks.Crashes | None = None,
        **options: Any,
    ) -> None:
        super().__init__(engine, queue_size=queue_size, **options)
        self._crashes = crashes or marks.Crashes.none()
        self._room = waiting.Room(each=queue_size, total=_ROOMS * queue_size)
        self._listings = listings.Listings(listed)
        self._pages: dict[str, dict[str, Page]] = {}
        # The loaded ones: by the name alone the version that a name means, and by name and version.
        self._hot: dict[str | Key, Page] = {}

    @abc.abstractmethod
    def _look(self, name: str) -> None:
        """See whether what lists ``name`` has changed; what follows from that is done beside the requests."""

    @abc.abstractmethod
    def _changed(self, name: str, listing: catalog.Listing | None) -> None:
        """Note what is listed under ``name`` now."""

    @abc.abstractmethod
    def _bring(self, page: Page) -> None:
        """Begin to load, if that is not under way."""

    # What there is

    @property
    def names(self) -> list[str]:
        return self._listings.names

    def knows(self, name: str) -> bool:
        return name in self._listings

    def versions(self, name: str) -> list[str]:
        return [entry.source.version for entry in self._listings.get(name).entries]

    def index(self, *, ready: bool = False) -> list[states.Status]:
        found = [status for name in self.names for status in self._statuses(name)]
        return [status for status in found if status.state is states.State.READY or not ready]

    def _statuses(self, name: str) -> list[states.Status]:
        try:
            listing = self._listings.known(name) or self._listings.read(name)
        except errors.SpecError as error:
            return [states.Status(name=name, version="", state=states.State.UNAVAILABLE, reason=str(error))]
        return [self._status(name, entry.source.version) for entry in listing.entries] if listing is not None else []

    def _status(self, name: str, version: str) -> states.Status:
        page = self._pages.get(name, {}).get(version)
        if page is None:
            return states.Status(name=name, version=version, state=states.State.UNAVAILABLE, reason=NOT_LOADED)
        return page.entry.status

    def status(self, name: str, version: str = "") -> states.Status:
        return self._status(name, self._listings.entry(name, version).source.version)

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
            page.check_at = now + CHECK_SECONDS
            self._look(name)
        return served

    def check(self, name: str, version: str = "") -> None:
        if ((name, version) if version else name) in self._hot:
            return
        # Also while the server drains: what is under way may need a model that nobody has asked for before.
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

    def _page(self, name: str, version: str) -> Page:
        """The page of a listed model, looked at anew if that was not just done. Raises SpecError."""
        pages = self._pages.get(name)
        if pages and time.monotonic() >= min(page.check_at for page in pages.values()):
            self._look(name)
        found = self._listings.entry(name, version)
        page = self._pages.get(name, {}).get(found.source.version)
        if page is None:
            return self._add(found)
        if page.gone:  # It is listed again before it was let go.
            self._changed(name, self._listings.known(name))
        return page

    def _add(self, found: catalog.Entry) -> Page:
        self.register(found.source)
        entry = self._entry(found.source.name, found.source.version)
        entry.wanted, entry.reason = False, NOT_LOADED
        page = Page(found, entry, known=found.memory, check_at=time.monotonic() + CHECK_SECONDS)
        self._pages.setdefault(found.source.name, {})[found.source.version] = page
        return page
