"""From a loaded model to one that is served: its runner, its queue, and what every request asks of it, at hand.

Called by ``repository`` when a model becomes ready, and again when its compiled form is put in place.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Mapping

from mlship.protocol import messages
from mlship.server import (
    acceleration,
    batcher,
    batching,
    example,
    joining,
    loading,
    machinery,
    statistics,
    worker,
)
from mlship.server import model as contract
from mlship.server.fit import binding


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Served:
    """A model that is ready, with its queue."""

    source: loading.Source
    model: contract.Model
    signature: messages.Signature
    platform: str
    parameters: Mapping[str, type] | None
    example: example.Example | None
    batcher: batcher.Batcher
    statistics: statistics.Statistics
    acceleration: acceleration.Acceleration
    plain: binding.Plain | None
    output_parameters: Mapping[str, Mapping[str, messages.Scalar]]


@dataclasses.dataclass(frozen=True, slots=True)
class Policy:
    """How models are queued: see ``repository.Repository``."""

    queue_size: int
    max_batch_size: int = 1
    batch_latency: float = 0.0
    max_concurrency: int = 0

    def limits(self, model: contract.Model, slots: int) -> batching.Limits:
        """The limits of a model that may run ``slots`` executions at once."""
        # Coroutines run side by side already: what they wait for is not made faster by waiting together.
        if self.max_batch_size < 2 or worker.is_coroutine(model) or not joining.joinable(model):
            return batching.Limits(self.queue_size, slots, most=self.max_concurrency)
        return batching.Limits(
            self.queue_size,
            slots,
            max_rows=self.max_batch_size,
            latency=self.batch_latency,
            most=self.max_concurrency,
        )


def serve(
    source: loading.Source,
    loaded: loading.Loaded,
    *,
    engine: machinery.Machinery,
    policy: Policy,
    counts: statistics.Statistics,
    executed: Callable[[batcher.Execution], None],
) -> Served:
    """``loaded`` with a queue of its own. To be called on the event loop."""
    model = loaded.model
    runner = worker.runner(model, workers=engine.workers, private=engine.private, loop=asyncio.get_running_loop())
    return Served(
        source=source,
        model=model,
        signature=model.signature,
        platform=model.platform,
        parameters=getattr(model, "parameters", {}),
        example=loaded.example,
        batcher=batcher.Batcher(
            runner,
            limits=policy.limits(model, runner.slots),
            label=f'model "{source.name}"',
            executed=executed,
        ),
        statistics=counts,
        acceleration=loaded.acceleration,
        plain=binding.Plain.of(model.signature),
        output_parameters={
            spec.name: {"content_type": spec.content_type} for spec in model.signature.outputs if spec.content_type
        },
    )
