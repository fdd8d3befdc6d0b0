"""Compile, prove, measure: a loaded model in, its compiled form or none out, and a report either way.

Called by ``proving``, in a process of its own, and by ``recalled`` where a proof was kept. It never fails: whatever
goes wrong, in a converter or in a package, the report says why the original serves. Time is bounded: proof rows are
asked in pieces until the budget is over, and fewer than ``ENOUGH`` rows prove nothing.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from mlship import errors
from mlship.protocol import messages
from mlship.server import example, logs, worker
from mlship.server import model as contract
from mlship.server.accelerate import convert, kernel, measure, proof, verdict

PROOF_SECONDS = 10.0
MEASURE_SECONDS = 1.0
ENOUGH = 512
_PIECE = 256
# Libraries take other ways for one row and for a few than for many; enough rows come first, should those be slow.
_FIRST_PIECES = (_PIECE,) * 2 + (2, 3, 7, 16) + (1,) * 16


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Attempt:
    """``fast``: the compiled form, None when the original shall serve; ``report`` says why. ``settled``: another try
    with the same model and libraries would end alike, so that it is worth keeping."""

    fast: kernel.Kernel | None
    report: verdict.Report
    settled: bool = True


def run(
    original: contract.Model,
    *,
    mode: verdict.Mode,
    row: example.Example | None,
    clocks: measure.Clocks,
    samples: Callable[[int], messages.Array] | None = None,
) -> Attempt:
    """Compile ``original`` and prove it.

    Args:
        row: the model's example row; proof rows are made around it.
        clocks: budgets are in seconds of computing, so that a busy machine does not cut a proof short.
        samples: rows of real data, if there are any, for the number of features that the model turns out to take.
    """
    begun = clocks.computing()
    try:
        # What a library warns of while it is looked at is no news to who serves the model.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = _tried(original, mode, row, clocks, samples)
    except kernel.Unsupported as error:
        found = Attempt(None, verdict.Report(mode, reason=str(error)))
    except Exception as error:  # noqa: BLE001 - a converter's fault must not cost a model its load
        found = Attempt(None, verdict.Report(mode, reason=_failed(error)), settled=False)
    return dataclasses.replace(found, report=dataclasses.replace(found.report, seconds=clocks.computing() - begun))


def _failed(error: Exception) -> str:
    return f"the conversion failed: {logs.one_line(f'{type(error).__name__}: {error}', limit=300)}"


def check(original: contract.Model) -> None:
    """Raise ``kernel.Unsupported`` when a look at the model says that it cannot be compiled. Costs nothing."""
    _matrix(original)
    convert.known(getattr(original, "fitted", None))


def recalled(
    original: contract.Model, *, report: verdict.Report, form: kernel.Form, row: example.Example | None
) -> kernel.Kernel:
    """The compiled form of a model whose proof was kept. It must still give the original's answer to one row.

    Raises:
        ValueError: it does not, or names outputs that the model does not have.
        Exception: whatever a converter or a library raises at a form that it did not make.
    """
    spec = _matrix(original)
    fast = convert.kernel_of(getattr(original, "fitted", None), form)
    if not set(original.signature.default_outputs) <= set(report.outputs) <= set(fast.finish):
        raise ValueError("it is of other outputs")
    if row is not None and spec.name in row.inputs and fast.guard(row.inputs[spec.name]):
        asked = original.infer(row.inputs, outputs=report.outputs, parameters={})
        for name, answer in fast.answer(row.inputs[spec.name], report.outputs).items():
            if why := verdict.refusal(report.mode, verdict.compare(asked[name], answer)):
                raise ValueError(f"the output {name} {why} on the example row")
    return fast


def _tried(
    original: contract.Model,
    mode: verdict.Mode,
    row: example.Example | None,
    clocks: measure.Clocks,
    samples: Callable[[int], messages.Array] | None,
) -> Attempt:
    spec = _matrix(original)
    fast = convert.kernel_of(getattr(original, "fitted", None))
    if spec.shape[1] not in (-1, fast.features):
        raise kernel.Unsupported(f"it takes {fast.features} features and its signature says {spec.shape[1]}")
    center = np.zeros(fast.features)
    known = [np.empty((0, fast.features)) if samples is None else samples(fast.features)]
    if row is not None and spec.name in row.inputs and row.inputs[spec.name].shape[1:] == center.shape:
        own = row.inputs[spec.name].astype(np.float64)
        center = own[0]
        known += [own] if row.genuine else []
    rows = _rows(fast, spec, center, np.concatenate(known))
    found = _Proof(original, fast, spec, mode).run(rows, clocks.computing)
    report = verdict.Report(mode, converter=fast.converter, rows=found.rows, difference=found.difference)
    if reason := found.refusal(original.signature.default_outputs):
        return Attempt(None, dataclasses.replace(report, reason=reason), settled=found.rows >= ENOUGH)
    gains = _gains(original, fast, spec, rows, clocks)
    limit = verdict.worthwhile(gains)
    report = dataclasses.replace(report, outputs=found.proven, gains=gains, max_rows=limit)
    if not limit:
        return Attempt(None, dataclasses.replace(report, outputs=(), reason="it is not faster than the original"))
    return Attempt(fast, dataclasses.replace(report, used=True))


def _matrix(original: contract.Model) -> messages.TensorSpec:
    """The one input that is a matrix of floats."""
    inputs = original.signature.inputs
    if worker.is_coroutine(original) or len(inputs) != 1 or len(inputs[0].shape) != 2 or original.signature.frame:
        raise kernel.Unsupported("it does not take one matrix of numbers")
    if inputs[0].datatype not in ("FP32", "FP64"):
        raise kernel.Unsupported(f"its input is of datatype {inputs[0].datatype or 'any'}, not FP32 or FP64")
    return inputs[0]


def _rows(
    fast: kernel.Kernel, spec: messages.TensorSpec, center: messages.Array, samples: messages.Array
) -> messages.Array:
    """Proof rows in the input's datatype; those that the guard holds back go to the original anyway."""
    with np.errstate(all="ignore"):
        made = proof.rows(center, fast.thresholds, missing=fast.missing, samples=samples)
        made = made.astype(messages.NUMPY_OF[spec.datatype])
        return made[[fast.guard(made[number : number + 1]) for number in range(len(made))]]


class _Proof:
    """The comparison of both answers, output by output; an output once refuted stays so."""

    def __init__(
        self, original: contract.Model, fast: kernel.Kernel, spec: messages.TensorSpec, mode: verdict.Mode
    ) -> None:
        self._original = original
        self._fast = fast
        self._spec = spec
        self._mode = mode
        known = [one.name for one in original.signature.outputs if one.name in fast.finish]
        self._found = dict.fromkeys(known, verdict.Difference())
        self._why: dict[str, str] = {}
        if mode is verdict.Mode.EXACT:
            self._why = dict.fromkeys(fast.approximate, "cannot be proven to the bit: its exponential is another")
        self.rows = 0

    def run(self, rows: messages.Array, clock: measure.Clock) -> _Proof:
        deadline = clock() + PROOF_SECONDS
        at, sizes = 0, list(_FIRST_PIECES)
        while at < len(rows) and self.proven and clock() < deadline:
            size = sizes.pop(0) if sizes else _PIECE
            self._compare(rows[at : at + size])
            at += size
        self.rows = min(at, len(rows))
        return self

    def _compare(self, piece: messages.Array) -> None:
        names = self.proven
        try:
            asked: Mapping[str, Any] = self._original.infer({self._spec.name: piece}, outputs=names, parameters={})
        except errors.SpecError as error:
            raise kernel.Unsupported(
                f"the original refuses rows that the compiled form would answer: {logs.one_line(str(error), limit=200)}"
            ) from error
        for name, answer in self._fast.answer(piece, names).items():
            self._found[name] = self._found[name].joined(verdict.compare(asked[name], answer))
            if why := verdict.refusal(self._mode, self._found[name]):
                self._why[name] = f"{why} on the proof rows"

    @property
    def proven(self) -> tuple[str, ...]:
        return tuple(name for name in self._found if name not in self._why)

    @property
    def difference(self) -> verdict.Difference:
        """Of the proven outputs together; of all when none is."""
        joined = verdict.Difference()
        for name in self.proven or self._found:
            joined = joined.joined(self._found[name])
        return joined

    def refusal(self, defaults: tuple[str, ...]) -> str:
        """Why the compiled form is not used; empty when the default outputs are proven."""
        for name in defaults:
            if name in self._why:
                return f"the output {name} {self._why[name]}"
            if name not in self._found:
                return f"the output {name} has no compiled form"
        if self.rows < ENOUGH:
            return f"only {self.rows} proof rows could be tried in {PROOF_SECONDS:g} s, {ENOUGH} are needed"
        return "" if defaults else "it has no default output"


def _gains(
    original: contract.Model,
    fast: kernel.Kernel,
    spec: messages.TensorSpec,
    known: messages.Array,
    clocks: measure.Clocks,
) -> dict[int, float]:
    """How much faster the compiled form gives the default outputs, by number of rows; none where time ran out."""
    names = original.signature.default_outputs

    def both(size: int) -> measure.Pair | None:
        rows = known[np.arange(size) % len(known)]
        if not fast.guard(rows):
            return None
        return (
            lambda: original.infer({spec.name: rows}, outputs=names, parameters={}),
            lambda: fast.guard(rows) and fast.answer(rows, names),
        )

    return measure.gains(both, verdict.SIZES, clocks=clocks, seconds=MEASURE_SECONDS)
