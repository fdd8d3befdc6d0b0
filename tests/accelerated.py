"""Models to compile, and the question every test of compiling asks: are the answers those of the original?"""

from __future__ import annotations

import dataclasses
import itertools
import pathlib
import pickle
from typing import Any

import numpy as np
from sklearn import datasets

from mlship.server import example, loading
from mlship.server.accelerate import attempt, compiled, measure, proof, verdict


def wine() -> tuple[Any, Any]:
    """Three classes."""
    return datasets.load_wine(return_X_y=True)


def cancer() -> tuple[Any, Any]:
    """Two classes."""
    return datasets.load_breast_cancer(return_X_y=True)


def diabetes() -> tuple[Any, Any]:
    """A number to predict."""
    return datasets.load_diabetes(return_X_y=True)


def clocks(step: float = 1e-4) -> measure.Clocks:
    """Time that goes by a little with every look, whatever the machine does."""
    ticks = itertools.count()
    return measure.Clocks(lambda: next(ticks) * step, lambda: next(ticks) * step)


@dataclasses.dataclass(frozen=True)
class Loaded:
    """A model, compiled where that was proven, and the proof's report."""

    model: Any
    report: verdict.Report


def load(folder: pathlib.Path, fitted: Any, mode: str = "auto") -> Loaded:
    """The fitted object as the server loads it, from a pickle, proven at once."""
    path = folder / "model.pkl"
    path.write_bytes(pickle.dumps(fitted))
    original = loading.from_disk(loading.Source(name="m", version="1", path=path))
    if mode == "off":
        return Loaded(original, verdict.Report(verdict.Mode.OFF))
    made = attempt.run(original, mode=verdict.Mode(mode), row=example.of(original), clocks=clocks())
    if made.fast is None:
        return Loaded(original, made.report)
    model = compiled.Compiled(original)
    model.use(made.fast, made.report)
    return Loaded(model, made.report)


def held_out(features: Any, thresholds: Any) -> Any:
    """Rows the proof has not seen: noise around the data, and the data moved onto the model's own thresholds."""
    random = np.random.default_rng(99)
    rows = np.repeat(features, 3, axis=0)
    rows = rows + random.normal(size=rows.shape) * features.std(axis=0)
    on = rows.copy()
    for feature, values in thresholds.items():
        near = proof.neighbours(values).ravel()
        on[:, feature] = random.choice(near, len(on))
    return np.concatenate([features, rows, on])


def assert_same(
    original: Any, compiled: Any, rows: Any, outputs: tuple[str, ...], *, exact: bool, tolerance: float = 2e-6
) -> None:
    """Equal for all rows at once and for single ones; ``exact``: to the bit."""
    name = original.signature.inputs[0].name
    for part in (rows, np.asfortranarray(rows), rows[::2], *(rows[index : index + 1] for index in range(0, 200, 10))):
        want = original.infer({name: part}, outputs=outputs, parameters={})
        got = compiled.infer({name: part}, outputs=outputs, parameters={})
        assert list(got) == list(want)
        for output in outputs:
            assert got[output].dtype == want[output].dtype
            if exact or want[output].dtype.kind != "f":
                assert np.array_equal(got[output], want[output], equal_nan=want[output].dtype.kind == "f"), output
            else:
                np.testing.assert_allclose(got[output], want[output], rtol=tolerance, atol=0)
