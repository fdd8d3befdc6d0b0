"""The only place that starts tasks: every task has an owner that waits for it, and its failure reaches somebody.

``asyncio.TaskGroup`` owns tasks that live and die together (one failure ends all). ``Tasks`` is for owners whose
tasks are independent of each other, such as one per service: a failure is handed to ``on_error`` and the others go on.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, TypeVar

S = TypeVar("S")
T = TypeVar("T")


class Tasks:
    """Owns independent tasks. ``close`` cancels what still runs and waits for its end.

    Args:
        on_error: called with the task's name and the exception of a task that failed.
    """

    def __init__(self, on_error: Callable[[str, BaseException], None]) -> None:
        self._on_error = on_error
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closed = False

    def start(self, coroutine: Coroutine[Any, Any, T], *, name: str) -> asyncio.Task[T]:
        """Start a task owned by this object. Raises RuntimeError once closed."""
        if self._closed:
            coroutine.close()
            raise RuntimeError(f"cannot start {name}: its owner is closed")
        task = asyncio.get_running_loop().create_task(coroutine, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return task

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._on_error(task.get_name(), error)

    def __len__(self) -> int:
        return len(self._tasks)

    async def close(self) -> None:
        """Cancel every task and wait until all have ended."""
        self._closed = True
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@contextlib.asynccontextmanager
async def tasks(on_error: Callable[[str, BaseException], None]) -> AsyncIterator[Tasks]:
    """A ``Tasks`` that is closed on the way out."""
    owner = Tasks(on_error)
    try:
        yield owner
    finally:
        await owner.close()


async def wait_event(event: asyncio.Event, seconds: float) -> bool:
    """Wait until ``event`` is set, at most ``seconds``; returns whether it was set."""
    # Not asyncio.wait_for: before Python 3.12 it loses a cancellation that comes at the moment the event is set.
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True


async def both(first: Awaitable[T], second: Awaitable[S]) -> tuple[T, S]:
    """Wait for both at the same time, and for both to end before the failure of one is raised, the first's first."""
    one, two = await asyncio.gather(first, second, return_exceptions=True)
    if isinstance(one, BaseException):
        raise one
    if isinstance(two, BaseException):
        raise two
    return one, two


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run ``main`` on uvloop: the entry of every long-lived program of mlship."""
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)
