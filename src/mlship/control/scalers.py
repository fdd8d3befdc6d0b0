"""Follows a scaler of KEDA's protocol for one service: asks it each interval, and listens to one that pushes.

Part of the feeds. What it says goes into ``followed.Answer``, its newest word on whether there is work wherever that
came from; the loop is told at once when there is work and there was none, and when there is more. A scaler that does
not answer makes its metric unknown, and its failures are counted. A stream that ends is opened again, ever more seldom;
meanwhile, and with a scaler that has none, asking goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import logging
from collections.abc import AsyncGenerator, Callable
from typing import Protocol

from mlship import aio
from mlship.control import followed, queries, workqueue
from mlship.plan import observed, scaling

log = logging.getLogger("mlship.feeds")

# Why scalers cannot be asked, and what helps.
MISSING = ("the package grpcio, which asks scalers, is not installed here", "pip install 'mlship[keda]'")
_AGAIN = workqueue.Backoff(first=0.5, last=30.0)
# A stream that lasted so long was no failure.
_LASTED = 10.0
# A scaler that has no stream may get one when it is replaced.
_UNLISTENED = 300.0
# Between two questions, however often a scaler pushes.
_BREATH = 0.2


class Scaler(Protocol):
    """``external_scaler.Scaler``."""

    async def active(self) -> bool: ...

    async def share(self) -> float: ...

    def words(self) -> AsyncGenerator[bool, None]: ...

    async def close(self) -> None: ...


def installed() -> bool:
    """Whether scalers can be asked here: the extra ``keda``."""
    return importlib.util.find_spec("grpc") is not None


class Follower:
    """One scaler of one service.

    Args:
        one: where its answers go.
        at_once: how many may be asked at the same time, of all services.
        wake: called when there is work, or more of it, than was known.
    """

    def __init__(
        self,
        service: observed.ServiceKey,
        source: scaling.Source,
        one: followed.Followed,
        *,
        at_once: asyncio.Semaphore,
        wake: Callable[[], None],
    ) -> None:
        self._service = service
        self._source = source
        self._one = one
        self._at_once = at_once
        self._wake = wake
        self._words = 0
        self._due = asyncio.Event()

    async def run(self) -> None:
        """Follow it until cancelled."""
        while True:
            try:
                await self._follow(self._opened())
            except queries.Unanswered as error:
                self._failed(None, error)
            except Exception as error:
                task = asyncio.current_task()
                if task is not None and task.cancelling():
                    # Before Python 3.13 a group that fails loses a cancellation that comes while it waits for the rest.
                    raise asyncio.CancelledError from error
                # What it said last would otherwise hold for ever.
                log.error("following the scaler of %s failed", self._service, exc_info=error)
                self._failed(None, queries.Unanswered(str(error)))
            await asyncio.sleep(self._source.interval)

    async def _follow(self, scaler: Scaler) -> None:
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(scaler.close)
            group = await stack.enter_async_context(asyncio.TaskGroup())
            if self._source.pushes:
                group.create_task(self._listen_forever(scaler), name=f"listen to the scaler of {self._service}")
            # Here, not in a task: a group that waits for its tasks already counts their failure as a cancellation.
            await self._ask_forever(scaler)

    def _opened(self) -> Scaler:
        # It brings protobuf along, which only those need who have a scaler.
        from mlship.control import external_scaler

        source = self._source
        try:
            return external_scaler.opened(
                source.address, asker=source.asker, namespace=self._service.namespace, options=dict(source.options)
            )
        except ImportError as error:
            raise queries.Unanswered(": ".join(MISSING)) from error

    # Asking.

    async def _ask_forever(self, scaler: Scaler) -> None:
        while True:
            async with self._at_once:
                await self._ask(scaler)
            await asyncio.sleep(min(_BREATH, self._source.interval))
            await aio.wait_event(self._due, self._source.interval)

    async def _ask(self, scaler: Scaler) -> None:
        """Ask for both. A word that was pushed is newer than the answer to a question from before it."""
        pushed, words = self._due.is_set(), self._words
        self._due.clear()
        active: bool | None = None
        try:
            active = self._answer.active if pushed else await scaler.active()
            value = await scaler.share()
        except queries.Unanswered as error:
            self._failed(active if words == self._words else self._answer.active, error)
        else:
            self._put(followed.Answer(value, active=active if words == self._words else self._answer.active))

    # Listening.

    async def _listen_forever(self, scaler: Scaler) -> None:
        failures = 0
        while True:
            started, pause = asyncio.get_running_loop().time(), 0.0
            try:
                async with contextlib.aclosing(scaler.words()) as words:
                    async for active in words:
                        self._hear(active)
            except queries.Unlistened:
                log.info("the scaler of metric %s does not push, and is only asked", self._source.metric)
                pause = _UNLISTENED
            except queries.Unanswered as error:
                self._tell(failures + 1, "is not heard", error)
            lasted = asyncio.get_running_loop().time() - started > _LASTED
            failures = 1 if lasted else failures + 1
            await asyncio.sleep(pause or _AGAIN.after(failures))

    def _hear(self, active: bool) -> None:
        self._words += 1
        answer = self._answer
        if active and answer.active is not True:
            # With the work that was pushed its amount has changed, too.
            self._due.set()
        self._put(followed.Answer(answer.value, failures=answer.failures, active=active))

    # What follows.

    @property
    def _answer(self) -> followed.Answer:
        return self._one.answers.get(self._source.metric, followed.Answer())

    def _failed(self, active: bool | None, error: queries.Unanswered) -> None:
        before = self._answer.failures
        self._put(followed.Answer(failures=before + 1, active=active))
        self._tell(before + 1, "does not answer", error)

    def _put(self, answer: followed.Answer) -> None:
        before = self._answer
        self._one.answers[self._source.metric] = answer
        if (answer.active and not before.active) or (answer.value or 0.0) > (before.value or 0.0):
            self._wake()

    def _tell(self, failures: int, what: str, error: queries.Unanswered) -> None:
        level = logging.DEBUG if failures > 1 else logging.WARNING
        log.log(level, "the scaler of metric %s of %s %s: %s", self._source.metric, self._service, what, error)
