"""The line in front of a model: requests in the order they came, and the same requests by what may be joined.

``Batcher`` owns it. A request that leaves is taken out at once and its place is free again. Who may be joined with
whom is looked at no sooner than somebody asks: a request that is the only one waiting is never looked at. Every
operation but ``groups`` and ``put_back`` costs the same whatever the line's length.
"""

from __future__ import annotations

import contextvars
import dataclasses
from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import NamedTuple

from mlship import errors
from mlship.server import batching, calls


class Answer(NamedTuple):
    """What a request got: ``result`` of the model, and the nanoseconds it waited for a slot."""

    result: calls.Result
    queue_ns: int


# Is called once with what became of a request, in the context of who submitted it.
Done = Callable[[Answer | errors.MlshipError], None]


@dataclasses.dataclass(slots=True, eq=False)
class Item:
    """A request inside. Times are the event loop's; ``done`` None: it has its answer, or nobody wants one any more.

    ``alone``: it is never joined with others. ``key``: with whom it may be, once that was looked at.
    """

    call: calls.Call
    done: Done | None
    rows: int
    since: float
    deadline: float
    queued_ns: int
    context: contextvars.Context
    alone: bool = False
    waited_ns: int = 0
    key: Hashable = None

    def settle(self, outcome: Answer | errors.MlshipError) -> None:
        """Tell who waits; the second one to settle finds it done, and nothing happens."""
        if self.done is not None:
            done, self.done = self.done, None
            self.context.run(done, outcome)


@dataclasses.dataclass(slots=True, eq=False)
class _Group:
    alone: bool
    items: dict[Item, None] = dataclasses.field(default_factory=dict)
    rows: int = 0

    @property
    def view(self) -> batching.Group:
        return batching.Group(
            rows=self.rows, since=next(iter(self.items)).since, alone=self.alone, requests=len(self.items)
        )


class Line:
    """Requests that wait.

    Args:
        key_of: what two calls must have in common to be joined; None for one that is joined with nobody.
    """

    def __init__(self, key_of: Callable[[calls.Call], Hashable | None]) -> None:
        self._key_of = key_of
        self._order: dict[Item, None] = {}
        # Those of them that nobody has looked at yet, and the others by their keys.
        self._new: dict[Item, None] = {}
        self._groups: dict[Hashable, _Group] = {}

    def __len__(self) -> int:
        return len(self._order)

    def __iter__(self) -> Iterator[Item]:
        return iter(self._order)

    def __contains__(self, item: Item) -> bool:
        return item in self._order

    def add(self, item: Item) -> None:
        """Join the end of the line."""
        self._order[item] = None
        self._new[item] = None

    def put_back(self, items: Iterable[Item]) -> None:
        """To the head of the line, each by itself from now on."""
        behind, self._order = self._order, {}
        for item in items:
            item.alone = True
            self.add(item)
        self._order |= behind

    def remove(self, item: Item) -> None:
        """Leave; nothing happens when it is not here."""
        if item not in self._order:
            return
        del self._order[item]
        if item in self._new:
            del self._new[item]
            return
        group = self._groups[item.key]
        del group.items[item]
        group.rows -= item.rows
        if not group.items:
            del self._groups[item.key]

    def _look(self) -> None:
        for item in self._new:
            key = None if item.alone else self._key_of(item.call)
            item.key = (id(item),) if key is None else key
            group = self._groups.get(item.key)
            if group is None:
                group = self._groups[item.key] = _Group(alone=key is None)
            group.items[item] = None
            group.rows += item.rows
        self._new.clear()

    def sole(self) -> Item | None:
        """The only one who waits, taken out; None when there are several or none."""
        if len(self._order) != 1:
            return None
        item = next(iter(self._order))
        self.remove(item)
        return item

    def head(self) -> tuple[Hashable, batching.Group]:
        """The group of the one who waits longest. The line must not be empty."""
        self._look()
        key = next(iter(self._order)).key
        return key, self._groups[key].view

    def groups(self) -> list[tuple[Hashable, batching.Group]]:
        """All groups, by how long their oldest has waited."""
        self._look()
        found = [(key, group.view) for key, group in self._groups.items()]
        return sorted(found, key=lambda each: each[1].since)

    def take(self, key: Hashable, rows: int, *, most: int | None = None) -> list[Item]:
        """Take out the oldest of a group: one, and as many of those next to it as have ``rows`` rows together.

        Args:
            key: as ``head`` or ``groups`` gave it.
            most: no more requests than so many, one at least; None: no limit.
        """
        taken: list[Item] = []
        for item in list(self._groups[key].items):
            rows -= item.rows
            if taken and rows < 0:
                break
            taken.append(item)
            self.remove(item)
            if rows <= 0 or len(taken) == most:
                break
        return taken
