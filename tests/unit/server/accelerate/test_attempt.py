"""A wrong compilation is caught, whatever is wrong with it, and the original serves."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any

import numpy as np
import pytest
import xgboost
from sklearn import ensemble, linear_model

import accelerated
from mlship.server import example
from mlship.server.accelerate import attempt, compiled, convert, kernel, trees, verdict


@pytest.fixture
def forest() -> Any:
    features, target = accelerated.wine()
    return ensemble.RandomForestClassifier(10, random_state=0).fit(features, target)


def run(folder: pathlib.Path, fitted: Any, mode: verdict.Mode = verdict.Mode.AUTO) -> Any:
    original = accelerated.load(folder, fitted, "off").model
    made = attempt.run(original, mode=mode, row=example.of(original), clocks=accelerated.clocks())
    assert (made.fast is not None) is made.report.used
    return made.report


def tamper(monkeypatch: pytest.MonkeyPatch, change: Any) -> None:
    made = trees.compiled

    def tampered(plan: Any, kept: Any = None) -> trees.Compiled:
        return made(lambda: dataclasses.replace(plan(), ensemble=change(plan().ensemble)), kept)

    monkeypatch.setattr(trees, "compiled", tampered)


def changed_first(whole: trees.Ensemble, **parts: Any) -> trees.Ensemble:
    return dataclasses.replace(whole, trees=[dataclasses.replace(whole.trees[0], **parts), *whole.trees[1:]])


def test_a_right_one_is_used(forest: Any, tmp_path: pathlib.Path) -> None:
    report = run(tmp_path, forest)
    assert report.used
    assert report.seconds > 0


def test_thresholds_of_single_precision_are_caught(
    forest: Any, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the usual converters do: rows between a threshold and its rounding take the other branch."""

    def rounded(whole: trees.Ensemble) -> trees.Ensemble:
        parts = [
            dataclasses.replace(one, threshold=np.nextafter(one.threshold.astype(np.float32), np.float32(-np.inf)))
            for one in whole.trees
        ]
        return dataclasses.replace(whole, trees=parts)

    tamper(monkeypatch, rounded)
    report = run(tmp_path, forest)
    assert "on the proof rows" in report.reason
    assert report.outputs == ()


def test_one_threshold_moved_to_its_neighbour_is_caught(
    forest: Any, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def moved(whole: trees.Ensemble) -> trees.Ensemble:
        thresholds = whole.trees[0].threshold.copy()
        thresholds[0] = np.nextafter(thresholds[0].astype(np.float32), np.float32(np.inf))
        return changed_first(whole, threshold=thresholds)

    tamper(monkeypatch, moved)
    assert "predict_proba" not in run(tmp_path, forest).outputs


def test_less_than_for_at_most_is_caught(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tamper(monkeypatch, lambda whole: dataclasses.replace(whole, less=True))
    # A histogram's thresholds are numbers that inputs can have.
    features, target = accelerated.diabetes()
    fitted = ensemble.HistGradientBoostingRegressor(max_iter=5).fit(features, target)
    assert "predict differs" in run(tmp_path, fitted).reason


def test_swapped_classes_are_caught(forest: Any, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def swapped(fitted: Any, kept: Any = None) -> kernel.Kernel:
        made = kernel_of(fitted)
        predict = made.finish["predict"]
        return dataclasses.replace(made, finish={**made.finish, "predict": lambda scores: predict(scores[:, ::-1])})

    kernel_of = convert.kernel_of
    monkeypatch.setattr(convert, "kernel_of", swapped)
    report = run(tmp_path, forest)
    assert "labels changed" in report.reason


def test_exact_refuses_other_bits_that_auto_takes(
    forest: Any, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nudged(fitted: Any, kept: Any = None) -> kernel.Kernel:
        made = kernel_of(fitted)
        scores = made.scores
        return dataclasses.replace(made, scores=lambda matrix: scores(matrix) * (1 + 1e-12))

    kernel_of = convert.kernel_of
    monkeypatch.setattr(convert, "kernel_of", nudged)
    features, target = accelerated.diabetes()
    fitted = ensemble.RandomForestRegressor(10, random_state=0).fit(features, target)
    auto, exact = run(tmp_path, fitted), run(tmp_path, fitted, verdict.Mode.EXACT)
    assert auto.used
    assert not auto.difference.bits
    assert "bits differ" in exact.reason


def test_an_output_that_is_not_proven_is_the_originals(
    forest: Any, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def half(fitted: Any, kept: Any = None) -> kernel.Kernel:
        made = kernel_of(fitted)
        return dataclasses.replace(made, finish={**made.finish, "predict_proba": lambda scores: scores})

    kernel_of = convert.kernel_of
    monkeypatch.setattr(convert, "kernel_of", half)
    loaded = accelerated.load(tmp_path, forest)
    assert loaded.report.outputs == ("predict",)
    rows = accelerated.wine()[0][:5]
    got = loaded.model.infer({"input-0": rows}, outputs=("predict_proba",), parameters={})
    assert np.array_equal(got["predict_proba"], forest.predict_proba(rows))


def test_a_missing_package_is_named(forest: Any, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = accelerated.load(tmp_path, forest, "off").model
    monkeypatch.setattr(trees, "_installed", lambda name: name != "onnx")
    made = attempt.run(original, mode=verdict.Mode.AUTO, row=None, clocks=accelerated.clocks())
    assert made.report.reason == "onnx is not installed; pip install 'mlship[accelerate]'"


def test_a_converters_fault_costs_nothing(forest: Any, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(fitted: Any, kept: Any = None) -> kernel.Kernel:
        raise AttributeError("tree_ is gone")

    monkeypatch.setattr(convert, "kernel_of", fails)
    assert run(tmp_path, forest).reason == "the conversion failed: AttributeError: tree_ is gone"


def test_too_few_rows_prove_nothing(forest: Any, tmp_path: pathlib.Path) -> None:
    original = accelerated.load(tmp_path, forest, "off").model
    made = attempt.run(original, mode=verdict.Mode.AUTO, row=None, clocks=accelerated.clocks(60.0))
    assert "proof rows could be tried" in made.report.reason
    assert not made.settled


def test_what_is_not_faster_is_not_used(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempt, "_gains", lambda *_: {1: 0.9})
    fitted = linear_model.Ridge().fit(*accelerated.diabetes())
    assert run(tmp_path, fitted).reason == "it is not faster than the original"


def test_what_the_original_refuses_the_compiled_form_refuses(forest: Any, tmp_path: pathlib.Path) -> None:
    original, loaded = accelerated.load(tmp_path, forest, "off").model, accelerated.load(tmp_path, forest)
    assert isinstance(loaded.model, compiled.Compiled)
    for value in (np.nan, np.inf, -np.inf, 1e39):
        rows = accelerated.wine()[0][:2].copy()
        rows[1, 3] = value
        answers = []
        for served in (original, loaded.model):
            try:
                answers.append(served.infer({"input-0": rows}, outputs=(), parameters={})["predict"].tolist())
            except Exception as error:
                answers.append(str(error))
        assert answers[0] == answers[1]


def test_exact_leaves_another_exponential_to_the_original(tmp_path: pathlib.Path) -> None:
    features, target = accelerated.cancer()
    fitted = xgboost.XGBClassifier(n_estimators=5).fit(features, target)
    assert run(tmp_path, fitted).outputs == ("predict", "predict_proba")
    assert run(tmp_path, fitted, verdict.Mode.EXACT).outputs == ("predict",)
    assert "another" in run(tmp_path, fitted.get_booster(), verdict.Mode.EXACT).reason
