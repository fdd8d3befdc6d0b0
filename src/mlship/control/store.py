"""What the store keeps and promises: objects with versions, a watchable log of changes, and the journal's entries.

The promises, which ``ledger`` keeps on SQLite and tests/unit/control/test_ledger.py checks:
``resourceVersion`` is one counter for the whole store and only grows; ``generation`` grows when annotations that say
how to run a service change, or anything outside metadata and status changes; a write of the status never touches the
rest and the other way round; a write that changes nothing is no write; a stale ``resourceVersion`` is refused with
both versions; what was acknowledged survives a crash.
Objects are plain JSON values in the Kubernetes API's shape and are never shared: whoever gets one may change it.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable, Collection, Mapping
from typing import Any, Protocol

from mlship import errors

Object = dict[str, Any]


@dataclasses.dataclass(frozen=True, slots=True, order=True)
class Key:
    """Identity of an object. ``resource`` is ``plural.group``; ``namespace`` is empty for cluster-wide kinds."""

    resource: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.resource} {self.namespace}/{self.name}" if self.namespace else f"{self.resource} {self.name}"


class Part(enum.StrEnum):
    """Which half of an object a write is about."""

    MAIN = "main"
    STATUS = "status"


class Change(enum.StrEnum):
    """What happened to an object, in the words of a Kubernetes watch."""

    ADDED = "ADDED"
    MODIFIED = "MODIFIED"
    DELETED = "DELETED"


@dataclasses.dataclass(frozen=True, slots=True)
class Event:
    """One entry of the change log. ``previous`` is the object before; None when it was added."""

    change: Change
    version: int
    key: Key
    object: Object
    previous: Object | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Page:
    """Part of a list in the order of namespace and name. ``last`` is where to go on, None at the end."""

    items: tuple[Object, ...]
    version: int
    last: tuple[str, str] | None = None
    remaining: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Names:
    """(namespace, name) of every object of a kind, in order, and the version they were listed at."""

    pairs: tuple[tuple[str, str], ...]
    version: int


@dataclasses.dataclass(frozen=True, slots=True)
class Precondition:
    """What must hold of the stored object for a write to happen; empty is no condition."""

    version: str = ""
    uid: str = ""


ANY = Precondition()


class Watcher(Protocol):
    """A place in the change log."""

    cursor: int

    async def next(self, seconds: float) -> tuple[Event, ...]:
        """The changes behind the cursor, oldest first; none when none came within ``seconds``.

        Raises SpecError (Expired) when the log no longer reaches back to the cursor.
        """
        ...

    def close(self) -> None: ...


class Store(Protocol):
    """The one place where objects live. Every method may raise BackendError when the disk fails."""

    async def create(self, key: Key, raw: Mapping[str, Any], *, dry_run: bool = False) -> Object:
        """Add an object. Raises SpecError (AlreadyExists)."""
        ...

    async def get(self, key: Key) -> Object:
        """The object. Raises SpecError (NotFound)."""
        ...

    async def page(
        self,
        resource: str,
        *,
        namespace: str | None = None,
        targets: Collection[str] | None = None,
        where: Callable[[Object], bool] | None = None,
        after: tuple[str, str] | None = None,
        limit: int | None = None,
    ) -> Page:
        """Objects of a kind for which ``where`` holds, behind ``after`` in (namespace, name), at most ``limit``.

        ``targets``: only those that name one of these, found by an index, so that the others cost nothing.
        """
        ...

    async def names(self, resource: str, *, namespace: str | None = None) -> Names:
        """Who is there, without reading what they are."""
        ...

    async def count(self, resource: str) -> int:
        """How many objects of a kind there are."""
        ...

    async def replace(
        self,
        key: Key,
        raw: Mapping[str, Any],
        *,
        part: Part = Part.MAIN,
        given: Precondition = ANY,
        dry_run: bool = False,
    ) -> Object:
        """Write one half of an object. Raises SpecError (NotFound, Conflict, Invalid)."""
        ...

    async def delete(self, key: Key, *, given: Precondition = ANY, dry_run: bool = False) -> Object:
        """Mark as deleted and remove, unless finalizers or the loop hold it. Raises SpecError (NotFound, Conflict)."""
        ...

    async def remove(self, key: Key, *, uid: str) -> bool:
        """Remove an object marked as deleted whose finalizers are gone; whether it is gone now."""
        ...

    async def watch(self, resource: str | None = None, *, namespace: str | None = None, since: int) -> Watcher:
        """Follow changes behind version ``since``. Raises SpecError (Expired) when the log no longer reaches back."""
        ...

    async def version(self) -> int:
        """The version of the newest write."""
        ...

    async def note(self, key: Key, entry: Mapping[str, Any], *, keep: int) -> None:
        """Append to an object's journal and drop all but the newest ``keep`` entries."""
        ...

    async def amend(self, key: Key, entry: Mapping[str, Any]) -> None:
        """Replace the newest entry of an object's journal."""
        ...

    async def notes(self, key: Key, *, limit: int) -> tuple[Object, ...]:
        """The newest entries of an object's journal, oldest first."""
        ...


class Unprocessable(errors.SpecError):
    """What was asked is understood and cannot be done to this object: 422 rather than 400."""


def key_of(resource: str, body: Object) -> Key:
    """The key of an object of the kind ``resource``."""
    metadata = body["metadata"]
    return Key(resource, metadata.get("namespace", ""), metadata["name"])


def not_found(key: Key) -> errors.SpecError:
    """The error for an object that is not there."""
    return errors.SpecError(f"{_words(key)} not found", reason=errors.Reason.NOT_FOUND)


def already_exists(key: Key, *, deleting: bool) -> errors.SpecError:
    """The error for an object that is there, or still there."""
    hint = "It is being deleted: wait until it is gone." if deleting else "Replace or patch it, or choose another name."
    return errors.SpecError(f"{_words(key)} already exists.", hint=hint, reason=errors.Reason.ALREADY_EXISTS)


def conflict(key: Key, *, what: str, given: str, stored: str) -> errors.SpecError:
    """The error for a write that was made from an older state than the stored one."""
    return errors.SpecError(
        f"{_words(key)} has changed: {what} {given!r} was given, {stored!r} is stored.",
        hint="Read it again, apply the change to what is there now, and write that.",
        reason=errors.Reason.CONFLICT,
    )


def expired(since: int, *, oldest: int, newest: int) -> errors.SpecError:
    """The error for a place in the change log that is not kept (any more)."""
    return errors.SpecError(
        f"resourceVersion {since} is not in the change log, which holds {oldest} to {newest}.",
        hint="List again and watch from the resourceVersion of the list.",
        reason=errors.Reason.EXPIRED,
    )


def _words(key: Key) -> str:
    where = f" in namespace {key.namespace!r}" if key.namespace else ""
    return f'{key.resource} "{key.name}"{where}'
