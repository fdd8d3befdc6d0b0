"""The line in front of a model: requests in the order they came, and the same requests by what may be joined.

``Batcher`` owns it. A request that leaves is taken out at once and its place is free again; every operation but
``groups`` and ``put_back`` costs the same whatever the line's length.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Hashable, Iterable, Iterator
from typing import Any

from mlship.server import batching, calls


@dataclasses.dataclass(slots=True, eq=False)
class Item:
    """A request: its ``key`` says with whom it may be joined (None: with nobody), times are the event loop's."""

    call: calls.Call
    future: asyncio.Future[Any]
    key: Hashable | None
    rows: int
    since: float
    deadline: float
    queued_ns: int
    waited_ns: int = 0

    @property
    def group(self) -> Hashable:
        """Which group it waits in; one of its own when it has no key."""
        return (id(self),) if self.key is None else self.key


@dataclasses.dataclass(slots=True, eq=False)
class _Group:
    items: dict[int, Item] = dataclasses.field(default_factory=dict)
    rows: int = 0

    @property
    def view(self) -> batching.Group:
        first = next(iter(self.items.values()))
        return batching.Group(rows=self.rows, since=first.since, alone=first.key is None)


class Line:
    """Requests that wait."""

    def __init__(self) -> None:
        self._order: dict[int, Item] = {}
        self._groups: dict[Hashable, _Group] = {}

    def __len__(self) -> int:
        return len(self._order)

    def __iter__(self) -> Iterator[Item]:
        return iter(self._order.values())

    def __contains__(self, item: Item) -> bool:
        return id(item) in self._order

    def add(self, item: Item) -> None:
        """Join the end of the line."""
        self._order[id(item)] = item
        group = self._groups.setdefault(item.group, _Group())
        group.items[id(item)] = item
        group.rows += item.rows

    def put_back(self, items: Iterable[Item]) -> None:
        """To the head of the line, each by itself from now on."""
        behind, self._order = self._order, {}
        for item in items:
            item.key = None
            self.add(item)
        self._order |= behind

    def remove(self, item: Item) -> None:
        """Leave; nothing happens when it is not here."""
        if self._order.pop(id(item), None) is None:
            return
        group = self._groups[item.group]
        del group.items[id(item)]
        group.rows -= item.rows
        if not group.items:
            del self._groups[item.group]

    def head(self) -> tuple[Hashable, batching.Group]:
        """The group of the one who waits longest. The line must not be empty."""
        key = next(iter(self._order.values())).group
        return key, self._groups[key].view

    def groups(self) -> list[tuple[Hashable, batching.Group]]:
        """All groups, by how long their oldest has waited."""
        found = [(key, group.view) for key, group in self._groups.items()]
        return sorted(found, key=lambda each: each[1].since)

    def take(self, key: Hashable, rows: int) -> list[Item]:
        """Take out the oldest of a group: one, and as many of those next to it as have ``rows`` rows together."""
        taken: list[Item] = []
        for item in list(self._groups[key].items.values()):
            rows -= item.rows
            if taken and rows < 0:
                break
            taken.append(item)
            self.remove(item)
            if rows <= 0:
                break
        return taken
