"""What a server says about the version of a file: kept beside half a download, compared to learn of a change.

RFC 9110 section 8.8: a strong entity tag names exact bytes; a weak one ("W/") and a modification date only nearly so.
"""

from __future__ import annotations

import dataclasses
import hashlib


@dataclasses.dataclass(frozen=True, slots=True)
class Identity:
    """``etag`` and ``last_modified`` as sent ("" when not), ``total`` bytes of the whole file when said."""

    etag: str
    last_modified: str
    total: int | None

    @property
    def strong_etag(self) -> str:
        """The etag when it names exact bytes, else ""."""
        return "" if self.etag.startswith("W/") else self.etag

    @property
    def validator(self) -> str:
        """What If-Range takes: a strong etag, else the modification date, else ""."""
        return self.strong_etag or self.last_modified

    @property
    def stamp(self) -> str:
        """A token that changes when the bytes may have changed. Constant for a server that says nothing at all."""
        facts = self.etag or f"{self.last_modified}|{self.total}"
        return f"http:{hashlib.sha256(facts.encode()).hexdigest()[:40]}"
