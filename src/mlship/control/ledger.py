"""The store on SQLite: every write and its entry in the change log are one transaction, and watchers read the log.

A watcher holds a number, not a queue: however slow it is, it costs no memory, and when the bounded log has moved past
it, it is told so (Expired) and lists again. Writers wake watchers after the commit, from the database's own thread, so
that a caller that was cancelled meanwhile loses nobody's wake-up.
"""

from __future__ import annotations

import asyncio
import copy
import sys
import time
import types
import uuid
from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeVar

import orjson

from mlship import aio
from mlship.control import objects, resources, sqlite, store

T = TypeVar("T")

KEEP_EVENTS = 2000
_BATCH = 100


class Ledger:
    """``store.Store`` in a database file.

    Args:
        database: an open database; the ledger closes it.
        drained: kinds whose deletion the loop finishes by calling ``remove``.
        targets: of the kinds whose objects name another, the field they do it in.
        clock: Unix seconds.
        keep_events: how many changes the log holds; a watcher further behind must list again.
    """

    def __init__(
        self,
        database: sqlite.Database,
        *,
        drained: frozenset[str] = frozenset(),
        targets: Mapping[str, resources.Path] = types.MappingProxyType({}),
        clock: Callable[[], float] = time.time,
        keep_events: int = KEEP_EVENTS,
    ) -> None:
        self._database = database
        self._drained = drained
        self._targets = targets
        self._clock = clock
        self._keep = keep_events
        self._watchers: set[_Watcher] = set()

    async def create(self, key: store.Key, raw: Mapping[str, Any], *, dry_run: bool = False) -> store.Object:
        def work(connection: sqlite.Connection) -> store.Object:
            if (found := _find(connection, key)) is not None:
                raise store.already_exists(key, deleting="deletionTimestamp" in found["metadata"])
            new = objects.created(raw, key=key, uid=str(uuid.uuid4()), now=self._clock())
            return new if dry_run else self._write(connection, key, new, old=None)

        return await self._change(work)

    async def get(self, key: store.Key) -> store.Object:
        return await self._database.run(lambda connection: _need(connection, key))

    async def page(
        self,
        resource: str,
        *,
        namespace: str | None = None,
        targets: Collection[str] | None = None,
        where: Callable[[store.Object], bool] | None = None,
        after: tuple[str, str] | None = None,
        limit: int | None = None,
    ) -> store.Page:
        def work(connection: sqlite.Connection) -> store.Page:
            version = _version(connection)
            source, clause, values = _listed(resource, namespace, targets)
            rest = f"FROM {source} WHERE {clause} > (?, ?)"
            values = (*values, *(after or ("", "")))
            cut = limit if limit and where is None else -1
            rows = connection.execute(f"SELECT body {rest} ORDER BY namespace, name LIMIT ?", (*values, cut))
            bodies = (orjson.loads(text) for (text,) in rows)
            found = [body for body in bodies if where is None or where(body)]
            items, there = found, len(found)
            if limit and where is None and there == limit:
                there = connection.execute(f"SELECT count(*) {rest}", values).fetchone()[0]
            elif limit:
                items = found[:limit]
            last = None
            if len(items) < there:
                metadata = items[-1]["metadata"]
                last = (metadata.get("namespace", ""), metadata["name"])
            return store.Page(items=tuple(items), version=version, last=last, remaining=there - len(items))

        return await self._database.run(work)

    async def names(self, resource: str, *, namespace: str | None = None) -> store.Names:
        def work(connection: sqlite.Connection) -> store.Names:
            clause, values = _within(resource, namespace)
            order = "ORDER BY namespace, name"
            rows = connection.execute(f"SELECT namespace, name FROM objects WHERE {clause} {order}", values)  # noqa: S608
            return store.Names(tuple((sys.intern(one), name) for one, name in rows), _version(connection))

        return await self._database.run(work)

    async def count(self, resource: str) -> int:
        return await self._database.run(
            lambda connection: int(
                connection.execute("SELECT count(*) FROM objects WHERE resource = ?", (resource,)).fetchone()[0]
            )
        )

    async def replace(
        self,
        key: store.Key,
        raw: Mapping[str, Any],
        *,
        part: store.Part = store.Part.MAIN,
        given: store.Precondition = store.ANY,
        dry_run: bool = False,
    ) -> store.Object:
        def work(connection: sqlite.Connection) -> store.Object:
            old = _need(connection, key)
            objects.check_precondition(key, old, given)
            new = objects.with_status(old, raw) if part is store.Part.STATUS else objects.replaced(old, raw)
            if dry_run or objects.same(old, new):
                return new
            if self._is_over(key, new):
                return self._erase(connection, key, new, old=old)
            return self._write(connection, key, new, old=old)

        return await self._change(work)

    async def delete(
        self, key: store.Key, *, given: store.Precondition = store.ANY, dry_run: bool = False
    ) -> store.Object:
        def work(connection: sqlite.Connection) -> store.Object:
            old = _need(connection, key)
            objects.check_precondition(key, old, given)
            new = objects.marked(old, now=self._clock())
            if dry_run:
                return new
            if self._is_over(key, new):
                return self._erase(connection, key, new, old=old)
            return old if objects.same(old, new) else self._write(connection, key, new, old=old)

        return await self._change(work)

    async def remove(self, key: store.Key, *, uid: str) -> bool:
        def work(connection: sqlite.Connection) -> bool:
            old = _find(connection, key)
            if old is None or old["metadata"]["uid"] != uid:
                return True
            if "deletionTimestamp" not in old["metadata"] or old["metadata"].get("finalizers"):
                return False
            self._erase(connection, key, copy.deepcopy(old), old=old)
            return True

        return await self._change(work)

    async def watch(self, resource: str | None = None, *, namespace: str | None = None, since: int) -> store.Watcher:
        await self._database.run(lambda connection: _check_reach(connection, since))
        watcher = _Watcher(self._database, self._watchers, resource=resource, namespace=namespace, since=since)
        self._watchers.add(watcher)
        return watcher

    async def version(self) -> int:
        return await self._database.run(_version)

    async def note(self, key: store.Key, entry: Mapping[str, Any], *, keep: int) -> None:
        def work(connection: sqlite.Connection) -> None:
            parts = (key.resource, key.namespace, key.name)
            connection.execute(
                "INSERT INTO journal (resource, namespace, name, body) VALUES (?, ?, ?, ?)", (*parts, _dump(entry))
            )
            connection.execute(
                "DELETE FROM journal WHERE resource = ? AND namespace = ? AND name = ? AND id NOT IN (SELECT id FROM "
                "journal WHERE resource = ? AND namespace = ? AND name = ? ORDER BY id DESC LIMIT ?)",
                (*parts, *parts, keep),
            )

        await self._database.run(work)

    async def amend(self, key: store.Key, entry: Mapping[str, Any]) -> None:
        def work(connection: sqlite.Connection) -> None:
            connection.execute(
                "UPDATE journal SET body = ? WHERE id = (SELECT max(id) FROM journal "
                "WHERE resource = ? AND namespace = ? AND name = ?)",
                (_dump(entry), key.resource, key.namespace, key.name),
            )

        await self._database.run(work)

    async def notes(self, key: store.Key, *, limit: int) -> tuple[store.Object, ...]:
        def work(connection: sqlite.Connection) -> tuple[store.Object, ...]:
            rows = connection.execute(
                "SELECT body FROM journal WHERE resource = ? AND namespace = ? AND name = ? ORDER BY id DESC LIMIT ?",
                (key.resource, key.namespace, key.name, limit),
            ).fetchall()
            return tuple(orjson.loads(text) for (text,) in reversed(rows))

        return await self._database.run(work)

    async def close(self) -> None:
        """End every watcher and close the database."""
        for watcher in list(self._watchers):
            watcher.close()
        await self._database.close()

    async def _change(self, work: Callable[[sqlite.Connection], T]) -> T:
        loop = asyncio.get_running_loop()

        def wake() -> None:
            for watcher in self._watchers:
                watcher.wake()

        # Registered on the database's thread, behind the transaction: it runs whatever becomes of the caller.
        return await self._database.run(work, then=lambda: loop.call_soon_threadsafe(wake))

    def _is_over(self, key: store.Key, body: store.Object) -> bool:
        """Whether nothing holds the object any more: neither its deletion's time, nor finalizers, nor the loop."""
        metadata = body["metadata"]
        return "deletionTimestamp" in metadata and not metadata.get("finalizers") and key.resource not in self._drained

    def _write(
        self, connection: sqlite.Connection, key: store.Key, new: store.Object, *, old: store.Object | None
    ) -> store.Object:
        version = _next_version(connection)
        new["metadata"]["resourceVersion"] = str(version)
        connection.execute(
            "INSERT OR REPLACE INTO objects (resource, namespace, name, body, target) VALUES (?, ?, ?, ?, ?)",
            (key.resource, key.namespace, key.name, _dump(new), _target(new, self._targets.get(key.resource, ()))),
        )
        change = store.Change.ADDED if old is None else store.Change.MODIFIED
        self._log(connection, store.Event(change, version, key, new, old))
        return new

    def _erase(
        self, connection: sqlite.Connection, key: store.Key, last: store.Object, *, old: store.Object
    ) -> store.Object:
        version = _next_version(connection)
        last["metadata"]["resourceVersion"] = str(version)
        parts = (key.resource, key.namespace, key.name)
        connection.execute("DELETE FROM objects WHERE resource = ? AND namespace = ? AND name = ?", parts)
        connection.execute("DELETE FROM journal WHERE resource = ? AND namespace = ? AND name = ?", parts)
        self._log(connection, store.Event(store.Change.DELETED, version, key, last, old))
        return last

    def _log(self, connection: sqlite.Connection, event: store.Event) -> None:
        key = event.key
        previous = None if event.previous is None else _dump(event.previous)
        connection.execute(
            "INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?)",
            (event.version, event.change, key.resource, key.namespace, key.name, _dump(event.object), previous),
        )
        connection.execute("DELETE FROM events WHERE version <= ?", (event.version - self._keep,))


class _Watcher:
    """A cursor into the log and a bell. It reads in batches, so a slow reader holds at most one of them."""

    def __init__(
        self,
        database: sqlite.Database,
        siblings: set[_Watcher],
        *,
        resource: str | None,
        namespace: str | None,
        since: int,
    ) -> None:
        self.cursor = since
        self._database = database
        self._siblings = siblings
        self._resource = resource
        self._namespace = namespace
        self._bell = asyncio.Event()
        self._bell.set()

    def wake(self) -> None:
        self._bell.set()

    def close(self) -> None:
        self._siblings.discard(self)
        self._bell.set()

    async def next(self, seconds: float) -> tuple[store.Event, ...]:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        while self in self._siblings and await aio.wait_event(self._bell, max(deadline - loop.time(), 0.001)):
            # Cleared before reading: a write that lands while we read rings again.
            self._bell.clear()
            events, reached, more = await self._database.run(self._read)
            self.cursor = reached
            if more:
                self._bell.set()
            if events:
                return events
        return ()

    def _read(self, connection: sqlite.Connection) -> tuple[tuple[store.Event, ...], int, bool]:
        _check_reach(connection, self.cursor)
        rows = connection.execute(
            "SELECT version, change, resource, namespace, name, body, previous FROM events WHERE version > ? "
            "AND (? IS NULL OR resource = ?) AND (? IS NULL OR namespace = ?) ORDER BY version LIMIT ?",
            (self.cursor, self._resource, self._resource, self._namespace, self._namespace, _BATCH),
        ).fetchall()
        events = tuple(_event(row) for row in rows)
        more = len(rows) == _BATCH
        return events, events[-1].version if more else _version(connection), more


def _event(row: sqlite.Row) -> store.Event:
    version, change, resource, namespace, name, body, previous = row
    return store.Event(
        change=store.Change(change),
        version=version,
        key=store.Key(resource, namespace, name),
        object=orjson.loads(body),
        previous=None if previous is None else orjson.loads(previous),
    )


def _within(resource: str, namespace: str | None) -> tuple[str, tuple[str, ...]]:
    """The condition for the objects of a kind, in all namespaces or one: what the primary key begins with."""
    if namespace is None:
        return "resource = ?", (resource,)
    return "resource = ? AND namespace = ?", (resource, namespace)


def _target(body: store.Object, path: resources.Path) -> str:
    """The name that an object has in a field; empty: it names none."""
    value: Any = body if path else None
    for part in path:
        value = value.get(part) if isinstance(value, dict) else None
    return value if isinstance(value, str) else ""


def _listed(resource: str, namespace: str | None, targets: Collection[str] | None) -> tuple[str, str, tuple[str, ...]]:
    """Where the objects of a list are, the condition for them up to where the list goes on, and its values."""
    clause, values = _within(resource, namespace)
    if targets is None:
        return "objects", f"{clause} AND (namespace, name)", values
    # Left to itself, SQLite takes the primary key or the index's first half, and reads all of the kind: the plus signs
    # keep it from that. An empty name is none, and not in the index.
    named = tuple(targets) or ("",)
    clause += f" AND target IN ({', '.join('?' * len(named))}) AND target <> '' AND (+namespace, +name)"
    return "objects INDEXED BY targets", clause, (*values, *named)


def _find(connection: sqlite.Connection, key: store.Key) -> store.Object | None:
    row = connection.execute(
        "SELECT body FROM objects WHERE resource = ? AND namespace = ? AND name = ?",
        (key.resource, key.namespace, key.name),
    ).fetchone()
    if row is None:
        return None
    body: store.Object = orjson.loads(row[0])
    return body


def _need(connection: sqlite.Connection, key: store.Key) -> store.Object:
    found = _find(connection, key)
    if found is None:
        raise store.not_found(key)
    return found


def _version(connection: sqlite.Connection) -> int:
    return int(connection.execute("SELECT version FROM counter").fetchone()[0])


def _next_version(connection: sqlite.Connection) -> int:
    connection.execute("UPDATE counter SET version = version + 1")
    return _version(connection)


def _check_reach(connection: sqlite.Connection, since: int) -> None:
    newest = _version(connection)
    oldest = connection.execute("SELECT min(version) FROM events").fetchone()[0]
    if since > newest or (since < newest and since + 1 < oldest):
        raise store.expired(since, oldest=oldest or 0, newest=newest)


def _dump(body: Mapping[str, Any]) -> str:
    return orjson.dumps(body).decode()
