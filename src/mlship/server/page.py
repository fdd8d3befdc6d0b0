"""What is known of one model that is loaded on use: where it is listed, its last use, its weight, how it failed.

One object for each model that was ever asked for, so small that thousands are nothing; those that are only listed have
none. Kept by ``pager``, shown by its report.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from typing import Any

from mlship import errors
from mlship.server import catalog, paging, repository

Key = tuple[str, str]


@dataclasses.dataclass(slots=True, eq=False)
class Page:
    """A version of a model. Times are ``time.monotonic``'s, sizes are bytes.

    ``known``: what it was last found to weigh, or is said to; ``size``: what it weighs now, 0 when it is not loaded.
    ``stale``: its entry has changed since it was loaded. ``gone``: nothing lists it any more. ``leaving``: it is on its
    way out. ``coming``: what was listed when the last load began; ``held``: when that of the loaded one did.
    """

    listed: catalog.Entry
    entry: repository.Entry
    known: int = 0
    size: int = 0
    used: float = 0.0
    check_at: float = 0.0
    loads: int = 0
    evictions: int = 0
    hits: int = 0
    misses: int = 0
    failures: int = 0
    load_seconds: float = 0.0
    loading_seconds: float = 0.0
    retry_at: float = 0.0
    error: errors.MlshipError | None = None
    task: asyncio.Task[errors.MlshipError | None] | None = None
    imported: bool = False
    stale: bool = False
    gone: bool = False
    leaving: bool = False
    wanted: bool = False
    coming: catalog.Entry = dataclasses.field(init=False)
    held: catalog.Entry = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        self.coming = self.held = self.listed

    @property
    def name(self) -> str:
        return self.listed.source.name

    @property
    def key(self) -> Key:
        return (self.listed.source.name, self.listed.source.version)

    @property
    def identity(self) -> str:
        """What tells it from the model that was listed here before."""
        return self.listed.identity

    @property
    def comes_back(self) -> bool:
        """Whether the bytes that are coming are those that were loaded, and warmed up, here before."""
        return self.loads > 0 and bool(self.coming.digest) and self.coming.digest == self.held.digest

    @property
    def busy(self) -> bool:
        """Whether it must not be taken away now."""
        served = self.entry.served
        return self.leaving or self.task is not None or served is None or not served.batcher.idle

    def view(self) -> paging.Page:
        """As the decision sees it."""
        return paging.Page(self.key, self.size, self.used, self.busy)

    def failed(self, error: errors.MlshipError) -> None:
        """It could not be loaded: it is not tried again for every request."""
        self.failures += 1
        self.retry_at = time.monotonic() + paging.retry_after(self.failures)
        self.error = error

    def hopeful(self) -> None:
        """What made it fail is over, or may be."""
        self.failures, self.retry_at, self.error = 0, 0.0, None

    def refusal(self, now: float) -> errors.MlshipError | None:
        """Why it is not tried now; None: it is."""
        if self.error is None or now >= self.retry_at:
            return None
        left = self.retry_at - now
        return errors.NotReady(
            f"{self.listed.source.label} could not be loaded: {self.error.message.rstrip('.')} "
            f"(tried {self.failures} times).",
            hint=self.error.hint or "It is tried again in a while, or at once when its entry or file is replaced.",
            retry_after=max(1.0, left),
        )

    def no_room(self) -> errors.MlshipError:
        """It would fit, but not beside those that are in use just now."""
        return errors.Overloaded(
            f"{self.listed.source.label}: there is no memory for it, the loaded models are all in use.",
            hint="Repeat later, or raise --memory-budget.",
            retry_after=1.0,
        )

    def too_large(self, size: int, *, left: int, total: int) -> errors.MlshipError:
        """It does not fit even by itself: all of these are bytes."""
        return errors.NotReady(
            f"{self.listed.source.label} takes about {size} bytes, and of the budget of {total} "
            f"only {max(0, left)} are left for models.",
            hint=f"Raise --memory-budget by {max(1, size - left)} or more, or serve it on a server of its own.",
        )

    def report(self, now: float) -> dict[str, Any]:
        """Its part of the pool's report; ages in seconds, null for a model that was never used."""
        version, is_loaded = self.listed.source.version, self.entry.served is not None
        return {
            "name": self.name,
            "version": version,
            # Of the bytes that the rest is about: those that fail, or else those that answer.
            "digest": (self.held if is_loaded and self.error is None else self.listed).digest,
            "tags": dict(self.listed.tags),
            "loaded": is_loaded,
            "loading": self.task is not None,
            "bytes": self.size,
            "known_bytes": self.known,
            "loads": self.loads,
            "evictions": self.evictions,
            "hits": self.hits,
            "misses": self.misses,
            "last_used_age": round(now - self.used, 3) if self.used else None,
            "load_seconds": round(self.load_seconds, 6),
            "copies": int(is_loaded),
            "failing": str(self.error) if self.error is not None else "",
            "retry_in": round(max(0.0, self.retry_at - now), 3) if self.error is not None else None,
        }
