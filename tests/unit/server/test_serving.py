"""How a model is queued, by what it is."""

from __future__ import annotations

from typing import Any

import pytest

from mlship.protocol import messages
from mlship.server import serving


class Plain:
    signature = messages.Signature(inputs=(messages.TensorSpec("x", "FP64", (-1, 1)),))

    def infer(self, inputs: Any, *, outputs: Any, parameters: Any) -> Any: ...


class Alone(Plain):
    joins = False


class Async(Plain):
    is_async = True


@pytest.mark.parametrize(("kind", "rows"), [(Plain, 64), (Alone, None), (Async, None)])
def test_only_rows_of_plain_models_are_joined(kind: Any, rows: int | None) -> None:
    limits = serving.Policy(10, max_batch_size=64, batch_latency=0.5).limits(kind(), 3)
    alone = serving.Policy(10).limits(kind(), 3)
    assert (limits.queue_size, limits.slots) == (alone.queue_size, alone.slots) == (10, 3)
    assert limits == alone if rows is None else (limits.max_rows, limits.latency) == (64, 0.5)


@pytest.mark.parametrize("kind", [Plain, Alone, Async])
def test_a_limit_of_requests_holds_for_every_model(kind: Any) -> None:
    assert serving.Policy(10, max_batch_size=64, max_concurrency=5).limits(kind(), 3).most == 5
