"""Which models go when memory is short, what each weighs, and when a failed one is tried again: pure.

    measured + coming <= budget ──► GO, nobody leaves
    more than that ─────────────► the least recently used that nobody uses leave, until ``LOW`` of the budget is met
      not enough idle ones ─────► WAIT: those in use may end
      never enough ─────────────► NEVER: the model is larger than what the budget leaves for models

Bytes are those that were measured (``memory``), times are those of one clock in seconds. Asked by ``pager``.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Hashable, Sequence

# Once somebody has to leave, enough leave for the next few to come without anybody leaving.
LOW = 0.95
# What measuring is not sure of: memory that was freed and not given back, requests under way.
SPARE = 0.02
# A model weighs what the process grew by, but no less than this: the server's own objects for it, and its files.
_LEAST, _LEAST_BY_FILE = 24 * 1024, 1.5
_FIRST_RETRY, _LAST_RETRY = 1.0, 60.0


@dataclasses.dataclass(frozen=True, slots=True)
class Page:
    """A loaded model. ``busy``: somebody is inside, it is being replaced, or it is on its way out."""

    key: Hashable
    size: int
    used: float
    busy: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class View:
    """``measured`` bytes of the process; ``own``: expected of the one that asks, ``coming``: of others under way."""

    measured: int
    budget: int
    own: int = 0
    coming: int = 0
    pages: Sequence[Page] = ()

    @property
    def short(self) -> int:
        """Bytes over the budget once everything has come; 0 and less: it fits."""
        return self.measured + self.coming + self.own - self.budget


class Verdict(enum.Enum):
    """What the one that asks may do, after those of the decision have left."""

    GO = "go"
    WAIT = "wait"
    NEVER = "never"


@dataclasses.dataclass(frozen=True, slots=True)
class Decision:
    """``evict``: who leaves, the least recently used first."""

    verdict: Verdict
    evict: tuple[Hashable, ...] = ()


_GO = Decision(Verdict.GO)


def fits(view: View) -> bool:
    """Whether nobody has to leave. Asks nothing of the pages, so they need not be listed for it."""
    return view.short <= 0


def decide(view: View) -> Decision:
    """Who leaves so that the one that asks may come; with ``own`` 0: so that the budget is kept."""
    if fits(view):
        return _GO
    base = view.measured - sum(page.size for page in view.pages)
    if view.own and base + view.own > view.budget * (1 + SPARE):
        return Decision(Verdict.NEVER)
    wanted = view.short + int(view.budget * (1 - LOW))
    leaving: list[Hashable] = []
    freed = 0
    for page in sorted((page for page in view.pages if not page.busy), key=lambda page: page.used):
        if freed >= wanted:
            break
        leaving.append(page.key)
        freed += page.size
    if freed >= view.short - view.budget * SPARE or not view.own:
        return Decision(Verdict.GO, tuple(leaving))
    # Nobody leaves for one that cannot come yet.
    return Decision(Verdict.WAIT)


class Ledger:
    """Whose bytes they are that a process grew by while several models were being loaded at once.

    What it grew by between two looks is shared among those under way in that time, by what each is expected to take: a
    small model beside a large one has little of it. Bytes that are given back meanwhile (a load's scratch space) are
    taken off again in the same way.
    """

    def __init__(self) -> None:
        self._shares: dict[Hashable, float] = {}
        self._expected: dict[Hashable, int] = {}
        self._last = 0

    def __len__(self) -> int:
        return len(self._shares)

    def begin(self, key: Hashable, measured: int, *, expected: int = 1) -> None:
        """``key`` begins to be loaded."""
        self._split(measured)
        self._shares[key] = 0.0
        self._expected[key] = max(expected, 1)

    def end(self, key: Hashable, measured: int) -> int:
        """``key`` has been loaded, or not; the bytes that are its own."""
        self._split(measured)
        del self._expected[key]
        return max(0, round(self._shares.pop(key)))

    def left(self, freed: int) -> None:
        """Others have left and ``freed`` bytes with them: that is nobody's negative growth."""
        self._last -= freed

    def _split(self, measured: int) -> None:
        if self._shares:
            share = (measured - self._last) / sum(self._expected.values())
            for key, expected_of in self._expected.items():
                self._shares[key] += share * expected_of
        self._last = measured


def expected(*, on_disk: int) -> int:
    """The bytes that a model is expected to take of which nothing is known but ``on_disk``, the bytes of its files."""
    return _LEAST + int(_LEAST_BY_FILE * on_disk)


def weight(*, grown: int, expected: int, imported: bool) -> int:
    """The bytes a loaded model is taken to have.

    Memory that others left behind in the allocator is used before the process grows, so that growth is the least it
    has. A load that ``imported`` libraries grew by those as well, and they stay when the model goes.
    """
    return expected if imported else max(grown, expected)


def retry_after(failures: int) -> float:
    """Seconds until a model that has failed to load so many times in a row is tried again."""
    return float(min(_LAST_RETRY, _FIRST_RETRY * 2.0 ** min(max(failures - 1, 0), 30)))
