"""What a pool lists: names first, and of each what its entry says once somebody has asked.

Keeps what ``catalog`` has read, so that a request for a known model reads nothing. Belongs to ``pager``, on the event
loop: an entry is a small file, read in some microseconds.
"""

from __future__ import annotations

from collections.abc import Iterable

from mlship import errors
from mlship.server import catalog, refusals, states


class Listings:
    """The names listed and what was read of them."""

    def __init__(self, listed: catalog.Catalog) -> None:
        self.catalog = listed
        # None: it is listed, and nobody has looked at it yet.
        self._known: dict[str, catalog.Listing | None] = dict.fromkeys(listed.names())

    def __len__(self) -> int:
        return len(self._known)

    def __contains__(self, name: str) -> bool:
        return name in self._known

    @property
    def names(self) -> list[str]:
        """All names, in order."""
        return sorted(self._known)

    @property
    def unread(self) -> list[str]:
        """The names nobody has looked at yet."""
        return [name for name, listing in self._known.items() if listing is None]

    def known(self, name: str) -> catalog.Listing | None:
        """What was read of ``name``; None: nothing was."""
        return self._known.get(name)

    def meant(self, name: str) -> str:
        """The version that a name alone means, as far as was read; empty: none."""
        found = self._known.get(name)
        return newest(found).source.version if found is not None and found.entries else ""

    def get(self, name: str) -> catalog.Listing:
        """What is listed under ``name``, read if it was not. Raises SpecError: nothing, or what is wrong with it."""
        found = self._known.get(name) or self.read(name)
        if found is None or not found.entries:
            raise errors.SpecError(
                f'there is no model "{refusals.shorten(name)}" on this server, which lists {len(self)}.',
                hint="POST /v2/repository/index names them.",
                reason=errors.Reason.NOT_FOUND,
            )
        return found

    def entry(self, name: str, version: str) -> catalog.Entry:
        """A version, the highest one when none is named. Raises SpecError."""
        listing = self.get(name)
        if not version:
            return newest(listing)
        found = next((entry for entry in listing.entries if entry.source.version == version), None)
        if found is None:
            raise errors.SpecError(
                f'model "{name}" has no version "{refusals.shorten(version)}", '
                f"it has {refusals.quoted([entry.source.version for entry in listing.entries])}.",
                reason=errors.Reason.NOT_FOUND,
            )
        return found

    def read(self, name: str) -> catalog.Listing | None:
        """Read what is listed under ``name`` now; None: nothing is. Raises SpecError: what is wrong with it."""
        try:
            found = self.catalog.read(name)
        except errors.SpecError:
            if name not in self._known:
                return None  # What cannot name a model names none.
            raise
        if found is None:
            self._known.pop(name, None)
        else:
            self._known[name] = found
        return found

    def has_changed(self, name: str) -> bool:
        """Whether what lists ``name`` is not what was read. Looks at the file and does not open it."""
        before = self._known.get(name)
        return before is None or self.catalog.stamp(name) != before.stamp

    def relisted(self, now: Iterable[str]) -> list[str]:
        """Take up the names that are new in ``now``; those that are missing there, which stay until they are read."""
        there = set(now)
        for name in there - self._known.keys():
            self._known[name] = None
        return list(self._known.keys() - there)


def newest(listing: catalog.Listing) -> catalog.Entry:
    """The version that a name alone means."""
    return max(listing.entries, key=lambda entry: states.by_number(entry.source.version))
