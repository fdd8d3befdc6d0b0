"""Watches over HTTP: one JSON line a change, from a version on, with the rules of the Kubernetes API.

An object that begins or ceases to match the selectors appears or disappears for the watcher. The stream ends by its
``timeoutSeconds``, when the control plane goes, or with an ERROR line (410) when the log no longer reaches back.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import orjson

from mlship import errors
from mlship.control import replies, resources, store, tables

LONGEST = 3600.0
_BOOKMARK_EVERY = 30.0
_INITIAL_END = "k8s.io/initial-events-end"
_POLL_CLOSING = 1.0


@dataclasses.dataclass(frozen=True, slots=True)
class Wish:
    """What a watcher asked for. ``since`` None: begin with what is there."""

    where: Callable[[store.Object], bool]
    namespace: str | None
    since: int | None
    seconds: float
    bookmarks: bool = False
    initial_end: bool = False
    as_table: bool = False


def wish(
    query: Mapping[str, str], *, where: Callable[[store.Object], bool], namespace: str | None, accept: str
) -> Wish:
    """The wish that a query states. Raises SpecError when a parameter is no number."""
    initial = query.get("sendInitialEvents") == "true"
    text = query.get("resourceVersion", "")
    since = None if initial or text in ("", "0") else number(text, "resourceVersion")
    seconds = query.get("timeoutSeconds")
    return Wish(
        where=where,
        namespace=namespace,
        since=since,
        seconds=LONGEST if not seconds else min(float(number(seconds, "timeoutSeconds")), LONGEST),
        bookmarks=query.get("allowWatchBookmarks") in ("true", "1"),
        initial_end=initial,
        as_table=tables.wanted(accept),
    )


def number(text: str, name: str) -> int:
    """A query parameter that must be a whole number. Raises SpecError."""
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise errors.SpecError(f"{name}={text[:40]!r} is no whole number")
    return int(text)


async def begin(
    kept: store.Store, resource: resources.Resource, asked: Wish
) -> tuple[tuple[store.Object, ...], store.Watcher]:
    """The objects to begin with and the watcher behind them. Raises SpecError (Expired)."""
    items: tuple[store.Object, ...] = ()
    since = asked.since
    if since is None:
        page = await kept.page(resource.id, namespace=asked.namespace, where=asked.where)
        items, since = page.items, page.version
    return items, await kept.watch(resource.id, namespace=asked.namespace, since=since)


async def lines(
    resource: resources.Resource,
    asked: Wish,
    begun: tuple[tuple[store.Object, ...], store.Watcher],
    *,
    closing: asyncio.Event,
    clock: Callable[[], float],
) -> AsyncIterator[bytes]:
    """The stream's lines."""
    items, watcher = begun

    def line(kind: str, body: store.Object) -> bytes:
        shown: Any = body
        if asked.as_table:
            shown = tables.table(resource, [body], version=body["metadata"]["resourceVersion"], now=clock())
        return orjson.dumps({"type": kind, "object": shown}, option=orjson.OPT_APPEND_NEWLINE)

    try:
        for body in items:
            yield line("ADDED", body)
        if asked.initial_end and asked.bookmarks:
            yield _bookmark(resource, watcher.cursor, annotations={_INITIAL_END: "true"})
        async for event in _events(watcher, asked, closing):
            if event is None:
                if asked.bookmarks:
                    yield _bookmark(resource, watcher.cursor)
            elif shown := _shown(event, asked.where):
                yield line(*shown)
    except errors.SpecError as error:
        yield orjson.dumps({"type": "ERROR", "object": replies.status(error)}, option=orjson.OPT_APPEND_NEWLINE)
    finally:
        watcher.close()


async def _events(watcher: store.Watcher, asked: Wish, closing: asyncio.Event) -> AsyncIterator[store.Event | None]:
    """Events until the time is up; None whenever a bookmark is due."""
    loop = asyncio.get_running_loop()
    end = loop.time() + asked.seconds
    bookmark = loop.time() + _BOOKMARK_EVERY
    while not closing.is_set() and (now := loop.time()) < end:
        for event in await watcher.next(min(end - now, _POLL_CLOSING)):
            yield event
        if loop.time() >= bookmark:
            bookmark = loop.time() + _BOOKMARK_EVERY
            yield None


def _shown(event: store.Event, where: Callable[[store.Object], bool]) -> tuple[str, store.Object] | None:
    """An event as this watcher sees it; None when it does not concern it."""
    before = event.previous is not None and where(event.previous)
    after = event.change is not store.Change.DELETED and where(event.object)
    if after:
        return ("MODIFIED" if before else "ADDED"), event.object
    return ("DELETED", event.object) if before else None


def _bookmark(resource: resources.Resource, version: int, *, annotations: dict[str, str] | None = None) -> bytes:
    metadata: dict[str, Any] = {"resourceVersion": str(version)}
    if annotations:
        metadata["annotations"] = annotations
    body = {"kind": resource.kind, "apiVersion": resource.api_version, "metadata": metadata}
    return orjson.dumps({"type": "BOOKMARK", "object": body}, option=orjson.OPT_APPEND_NEWLINE)
