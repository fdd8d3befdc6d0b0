"""Those who wait for a model that is being loaded: bounded, and each of them ends exactly once.

The line in front of a model that is not there yet; ``batcher`` is the one in front of a model that is. Who waits is
told the model, why it could not be loaded, or that the time is over; who leaves before is told nothing and frees the
place. Owned by ``pager``; all methods belong to the event loop's thread.
"""

from __future__ import annotations

import asyncio
import contextvars
import dataclasses
from collections.abc import Callable

from mlship import errors
from mlship.server import serving

Key = tuple[str, str]
# Is called once: with the model, or with what raising it would say.
Done = Callable[[serving.Served | errors.MlshipError], None]
_RETRY_SECONDS = 1.0


@dataclasses.dataclass(slots=True, eq=False)
class Waiter:
    """One who waits; ``done`` None: it was told, or has left."""

    key: Key
    done: Done | None
    context: contextvars.Context
    timer: asyncio.TimerHandle | None = None


class Room:
    """Waiters by model.

    Args:
        each: how many may wait for one model.
        total: how many may wait in all, so that slow models cannot fill the memory with requests.
    """

    def __init__(self, *, each: int, total: int) -> None:
        self._each, self._total = each, total
        self._inside = 0
        self._by_key: dict[Key, dict[Waiter, None]] = {}
        # Requests that are still being read: they have a place already.
        self._expected: dict[Key, int] = {}

    def waiting(self, key: Key) -> int:
        """How many wait for a model."""
        return len(self._by_key.get(key, ()))

    def full(self, key: Key) -> bool:
        """Whether nobody more may wait for it."""
        return self._inside >= self._total or self.waiting(key) + self._expected.get(key, 0) >= self._each

    def _admit(self, key: Key) -> None:
        if self.full(key):
            raise errors.Overloaded(
                f'model "{key[0]}" is being loaded, and {self.waiting(key)} requests wait for it '
                f"({self._inside} for models being loaded in all).",
                hint="Repeat later, or raise --queue-size.",
                retry_after=_RETRY_SECONDS,
            )

    def enter(self, key: Key, *, deadline: float, done: Done) -> Waiter:
        """Wait for ``key`` until ``deadline`` by the loop's clock; ``done`` is never called from within this call.

        Raises:
            Overloaded: there is no place.
        """
        self._admit(key)
        waiter = Waiter(key, done, contextvars.copy_context())
        loop = asyncio.get_running_loop()
        waiter.timer = loop.call_at(deadline, self._expire, waiter)
        self._by_key.setdefault(key, {})[waiter] = None
        self._inside += 1
        return waiter

    def expect(self, key: Key) -> Callable[[], None]:
        """Keep a place for a request that is still being read; what gives it back. Raises Overloaded."""
        self._admit(key)
        self._expected[key] = self._expected.get(key, 0) + 1
        self._inside += 1

        def has_come() -> None:
            self._inside -= 1
            self._expected[key] -= 1
            if not self._expected[key]:
                del self._expected[key]

        return has_come

    def leave(self, waiter: Waiter) -> None:
        """Wait no more; nothing happens when it was told already."""
        if waiter.done is None:
            return
        waiter.done = None
        if waiter.timer is not None:
            waiter.timer.cancel()
        waiters = self._by_key[waiter.key]
        del waiters[waiter]
        if not waiters:
            del self._by_key[waiter.key]
        self._inside -= 1

    def tell(self, key: Key, outcome: serving.Served | errors.MlshipError) -> None:
        """End everybody who waits for ``key``."""
        for waiter in list(self._by_key.get(key, ())):
            self._end(waiter, outcome)

    def tell_all(self, error: errors.MlshipError) -> None:
        """End everybody."""
        for key in list(self._by_key):
            self.tell(key, error)

    def _end(self, waiter: Waiter, outcome: serving.Served | errors.MlshipError) -> None:
        done = waiter.done
        self.leave(waiter)
        if done is not None:
            waiter.context.run(done, outcome)

    def _expire(self, waiter: Waiter) -> None:
        error = errors.Overloaded(
            f'model "{waiter.key[0]}": the request\'s time was over while the model was being loaded.',
            hint="Repeat: it is loaded soon; or give the request more time (its own timeout, or --request-timeout).",
            reason=errors.Reason.DEADLINE,
        )
        self._end(waiter, error)
