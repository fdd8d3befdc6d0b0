"""A queue of the model server as who can wait sees it."""

from __future__ import annotations

import asyncio

from mlship import errors
from mlship.server import batcher, worker


async def submit(queue: batcher.Batcher, asked: worker.Call, *, deadline: float, rows: int = 1) -> batcher.Answer:
    """Enter, and wait for what becomes of it; who is cancelled leaves."""
    future: asyncio.Future[batcher.Answer] = asyncio.get_running_loop().create_future()

    def done(outcome: batcher.Answer | errors.MlshipError) -> None:
        if future.done():
            return
        if isinstance(outcome, errors.MlshipError):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)

    item = queue.enter(asked, deadline=deadline, rows=rows, done=done)
    try:
        return await future
    finally:
        queue.leave(item)
        if future.done() and not future.cancelled():
            future.exception()
