"""Several calls of a model as one: which may be joined, how their rows are stacked, and whose answer is whose.

Pure but for the model that ``run`` calls, on a worker's thread. The queue asks ``key`` when a call arrives; only calls
of one key are handed to one ``run``. A join that fails, or whose answer has not one row for each row given, says so in
``Result.again`` and gives nobody an answer: the queue then runs each call by itself, so that one bad row fails alone.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np

from mlship.server import calls
from mlship.server import model as contract

Key = tuple[Hashable, ...]
_PLAIN: Key = ("plain",)


def joinable(model: contract.Model) -> bool:
    """Whether calls of ``model`` may be joined at all: its signature says rows, and it does not say no (``joins``)."""
    signature = model.signature
    return signature.known and signature.batched and bool(getattr(model, "joins", True))


def key(call: calls.Call) -> Key | None:
    """What two calls must have in common to be joined; None: this one runs by itself.

    Input names, types and shapes but for the rows, the outputs wanted, and the parameters with their types (``1`` is
    not ``True``).
    """
    if call.plain:
        return _PLAIN
    inputs = []
    for name, data in call.inputs.items():
        if not data.ndim:
            return None
        inputs.append((name, data.dtype.str, data.shape[1:]))
    if not inputs or not all(isinstance(value, bool | int | float | str) for value in call.parameters.values()):
        return None
    parameters = tuple((name, type(value), value) for name, value in sorted(call.parameters.items()))
    return (tuple(inputs), tuple(call.outputs), parameters)


def rows(call: calls.Call) -> int:
    """How many rows a call that has a ``key`` brings."""
    return int(next(iter(call.inputs.values())).shape[0])


def size(together: Sequence[calls.Call]) -> int:
    """The rows of calls that run as one; a call without rows counts as one."""
    return sum(next((data.shape[0] for data in call.inputs.values() if data.ndim), 1) for call in together)


def run(model: contract.Model, together: Sequence[calls.Call]) -> list[calls.Result]:
    """Run calls of one key as one: one result a call, in their order.

    A call that nobody waits for any more is left out and gets an empty result.
    """
    wanted = [not call.abandoned for call in together]
    live = [call for call, keep in zip(together, wanted, strict=True) if keep]
    found = iter(_infer_all(model, live))
    return [next(found) if keep else calls.Result() for keep in wanted]


def _infer_all(model: contract.Model, live: Sequence[calls.Call]) -> list[calls.Result]:
    if len(live) < 2:
        return [infer(model, call) for call in live]
    begun = time.perf_counter_ns()
    try:
        outputs = _infer(model, join(live))
    except BaseException:  # noqa: BLE001 - each call run by itself says what is wrong with whom
        return _again(calls.Again.FAILED, live, begun)
    parts = split(outputs, [rows(call) for call in live])
    if parts is None:
        return _again(calls.Again.NOT_BY_ROWS, live, begun)
    spent = time.perf_counter_ns() - begun
    return [calls.Result(outputs=part, nanoseconds=spent) for part in parts]


def _again(why: calls.Again, live: Sequence[calls.Call], begun: int) -> list[calls.Result]:
    return [calls.Result(again=why, nanoseconds=time.perf_counter_ns() - begun)] * len(live)


def _infer(model: contract.Model, call: calls.Call) -> calls.Outputs:
    return model.infer(call.inputs, outputs=call.outputs, parameters=call.parameters)


def infer(model: contract.Model, call: calls.Call) -> calls.Result:
    """Run one call; whatever the model's code raises is part of the result."""
    begun = time.perf_counter_ns()
    try:
        outputs = _infer(model, call)
    except BaseException as error:  # noqa: BLE001 - it travels to whoever waits
        return calls.Result(error=error, nanoseconds=time.perf_counter_ns() - begun)
    return calls.Result(outputs=outputs, nanoseconds=time.perf_counter_ns() - begun)


def join(live: Sequence[calls.Call]) -> calls.Call:
    """One call with the rows of all, in their order; they have one key."""
    first = live[0]
    inputs = {name: np.concatenate([call.inputs[name] for call in live]) for name in first.inputs}
    return dataclasses.replace(first, inputs=inputs)


def split(outputs: object, counts: Sequence[int]) -> list[calls.Outputs] | None:
    """The outputs of a join, cut into those of its calls; None when an output has not a row for each row given."""
    if not isinstance(outputs, Mapping):
        return None
    total = sum(counts)
    if not all(_length(data) == total for data in outputs.values()):
        return None
    found: list[calls.Outputs] = []
    begin = 0
    for count in counts:
        # A list is cut as a list: as one array, the type of its numbers would depend on the neighbours' values.
        found.append({name: data[begin : begin + count] for name, data in outputs.items()})
        begin += count
    return found


def _length(data: Any) -> int:
    if isinstance(data, np.ndarray):
        return data.shape[0] if data.ndim else -1
    return len(data) if isinstance(data, list | tuple) else -1
