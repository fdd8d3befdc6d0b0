"""A model that runs in processes of its own: Python code that holds the interpreter then uses several cores.

``spread`` is asked at the end of every load. What it gives has the signature and the answers of the model that was
loaded, and a runner of its own, which ``worker.runner`` takes. The model that the server itself loaded, to look at it
and to try its example row, is closed: only the processes keep one.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import dataclasses
import functools
import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from mlship import cores, errors
from mlship.protocol import messages
from mlship.server import calls, logs, process_pool, process_proxy, process_wire, worker
from mlship.server import model as contract

if TYPE_CHECKING:
    from mlship.server import loading

LOG = logging.getLogger(__name__)


def wanted(model: contract.Model, said: int | None) -> int:
    """How many processes ``model`` is to have, 0 for none: as the server's flag says, else the model's own wish."""
    count = getattr(model, "processes", 0) if said is None else said
    return int(count)


def spread(model: contract.Model, source: loading.Source) -> contract.Model:
    """``model``, or one that runs in as many processes as are wanted, all of which have loaded it; it is not compiled.

    Raises:
        MlshipError: why a process could not load it; none is left then.
    """
    count = wanted(model, source.processes)
    if not count:
        return model
    if worker.is_coroutine(model):
        why = "its predict is a coroutine function: its calls run side by side already"
        LOG.warning("model runs without processes", extra=logs.fields(model=source.name, why=why))
        return model
    cpus = source.threads or cores.available()
    plan = process_proxy.Plan.of(source.name, hello(source), count, cpus=cpus)
    spread_over = Spread(model, process_pool.Pool(plan))
    _close(model, source)
    try:
        spread_over.pool.start()
    except BaseException:
        spread_over.pool.close()
        raise
    return spread_over


def hello(source: loading.Source) -> process_wire.Header:
    """What a process is told first: which model, and how the server logs. ``process_child`` reads it."""
    form, level = logs.chosen()
    return {
        "source": {
            "name": source.name,
            "version": source.version,
            "path": str(source.path),
            "format": source.format,
            "options": dict(source.options),
        },
        "logs": {"form": form, "level": level},
    }


def _close(model: contract.Model, source: loading.Source) -> None:
    try:
        model.close()
    except Exception:
        LOG.exception("model failed to close", extra=logs.fields(model=source.name))


class Spread:
    """A model by its facts; its code runs in the pool's processes."""

    # Its code can be ended, unlike that of a thread: unloading need not leave it behind.
    endable = True

    def __init__(self, model: contract.Model, pool: process_pool.Pool) -> None:
        self.signature = model.signature
        self.platform = model.platform
        self.joins = bool(getattr(model, "joins", True))
        self.parameters: Mapping[str, type] | None = getattr(model, "parameters", {})
        self.pool = pool

    def runner(self, loop: asyncio.AbstractEventLoop) -> worker.Runner:
        """What ``worker.runner`` takes instead of the threads."""
        return ProcessRunner(self.pool, loop)

    def infer(
        self,
        inputs: Mapping[str, messages.Array],
        *,
        outputs: Sequence[str],
        parameters: Mapping[str, messages.Scalar],
    ) -> Mapping[str, messages.Array]:
        """See ``model.Model.infer``; waits for a free process."""
        future: concurrent.futures.Future[Sequence[calls.Result]] = concurrent.futures.Future()
        self.pool.submit([calls.Call(inputs=inputs, outputs=outputs, parameters=parameters)], future.set_result)
        (result,) = future.result()
        if result.outputs is None:
            raise result.error or errors.ModelError("the call was left out.")
        return result.outputs

    def close(self) -> None:
        """End the processes."""
        self.pool.close()


@dataclasses.dataclass(frozen=True, slots=True)
class ProcessRunner:
    """Runs a model in the pool's processes (``worker.Runner``)."""

    pool: process_pool.Pool
    loop: asyncio.AbstractEventLoop

    @property
    def slots(self) -> int:
        return self.pool.size

    def start(self, together: Sequence[calls.Call], done: worker.Done) -> None:
        self.pool.submit(together, functools.partial(worker.tell, self.loop, done))
