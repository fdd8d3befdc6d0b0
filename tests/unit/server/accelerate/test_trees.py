"""The ensemble that ONNX Runtime runs is the one that was described, to the bit."""

from __future__ import annotations

import numpy as np
import pytest

from mlship.server.accelerate import kernel, trees

STUMP = trees.Tree(
    feature=np.array([0, -1, -1]),
    threshold=np.array([0.1, 0, 0]),
    left=np.array([1, -1, -1]),
    right=np.array([2, -1, -1]),
    value=np.array([0, 0.1, 0.2]),
    missing_left=np.array([True, False, False]),
)


def run_of(whole: trees.Ensemble) -> kernel.Step:
    return trees.compiled(lambda: trees.Plan(whole)).run


def test_what_was_kept_needs_no_plan() -> None:
    made = trees.compiled(lambda: trees.Plan(trees.Ensemble([STUMP], targets=1, features=1), {"kind": "x"}))

    def never() -> trees.Plan:
        raise AssertionError("asked for a plan")

    again = trees.compiled(never, made.form)
    assert again.form.notes == {"kind": "x"}
    assert again.run(np.array([[0.0], [1.0]])).ravel().tolist() == [0.1, 0.2]


def test_a_threshold_keeps_its_precision() -> None:
    run = run_of(trees.Ensemble([STUMP], targets=1, features=1))
    rows = np.array([[np.nextafter(0.1, 0)], [0.1], [np.nextafter(0.1, 1)], [np.inf], [-np.inf], [np.nan]])
    assert run(rows).ravel().tolist() == [0.1, 0.1, 0.2, 0.2, 0.1, 0.1]


def test_less_than_in_single_precision() -> None:
    run = run_of(trees.Ensemble([STUMP], targets=1, features=1, dtype=np.float32, less=True))
    at = np.float32(0.1)
    rows = np.array([[np.nextafter(at, np.float32(0))], [at]], dtype=np.float32)
    assert run(rows).ravel().tolist() == [np.float32(0.1), np.float32(0.2)]


def test_sums_begin_with_the_constant_and_go_in_order() -> None:
    whole = trees.Ensemble([trees.constant(0.3), STUMP, STUMP, trees.constant(1.0, 1)], targets=2, features=1)
    for rows in (1, 2, 100):
        assert run_of(whole)(np.zeros((rows, 1))).tolist() == [[0.3 + 0.1 + 0.1, 1.0]] * rows


def test_thresholds_by_feature() -> None:
    found = trees.thresholds(trees.Ensemble([STUMP, STUMP, trees.constant(1.0)], targets=1, features=1))
    assert {feature: values.tolist() for feature, values in found.items()} == {0: [0.1]}


def test_a_model_beyond_measure_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trees, "MAX_NODES", 2)
    with pytest.raises(kernel.Unsupported, match="more than 2 tree nodes"):
        run_of(trees.Ensemble([STUMP], targets=1, features=1))
