"""scikit-learn's trees, forests and boosted trees as ensembles; the finishing touches are scikit-learn's own.

Forests divide the sum of their trees, as ``BaseForest.predict_proba`` does; boosting turns scores into probabilities
by the fitted loss, so that nothing is computed in a second way. Attributes used: ``tree_`` (documented),
``_predictors``, ``_baseline_prediction``, ``_raw_predict_init`` and ``_loss`` (private: where a version has others,
the conversion fails and the original serves).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from mlship.protocol import messages
from mlship.server.accelerate import kernel, trees

# What the targets of a classifier's ensemble are: every class, or the second of two.
_EACH, _SECOND = "each", "second"
# Sums of so many multiples of its inverse, none above one, are exact in double precision.
_STEPS = 2**20


def _of_tree(tree: Any, values: messages.Array, target: int = 0) -> trees.Tree:
    return trees.Tree(tree.feature, tree.threshold, tree.children_left, tree.children_right, values, target)


def _single_target(fitted: Any) -> None:
    if getattr(fitted, "n_outputs_", 1) != 1:
        raise kernel.Unsupported("it has several targets")


def _rounded(run: kernel.Step) -> kernel.Step:
    """scikit-learn's trees see their inputs in single precision and compare them with thresholds in double."""
    return lambda matrix: run(matrix.astype(np.float32).astype(np.float64))


def rounded(fitted: Any, trained: trees.Compiled, finish: Mapping[str, kernel.Step]) -> kernel.Kernel:
    """The kernel of an ensemble that sees its inputs in single precision."""
    return kernel.Kernel(
        converter=trees.CONVERTER,
        features=int(fitted.n_features_in_),
        scores=_rounded(trained.run),
        finish=finish,
        guard=kernel.SINGLE,
        thresholds=trained.thresholds,
        form=trained.form,
    )


def classifier(fitted: Any, kept: kernel.Form | None = None) -> kernel.Kernel:
    """A decision tree, or a forest of them: the mean of the trees' class frequencies."""
    _single_target(fitted)
    trained = trees.compiled(functools.partial(_frequencies, fitted), kept)
    count = len(fitted.estimators_) if hasattr(fitted, "estimators_") else 1
    named = kernel.labels(fitted.classes_)
    if trained.form.notes["kind"] == _SECOND:
        finish = _from_second(count, named)
    else:
        # A single tree's frequencies are not divided, a forest's are, by one if need be.
        divided = hasattr(fitted, "estimators_")

        def mean(scores: messages.Array) -> messages.Array:
            return scores / count if divided else scores

        finish = {"predict": lambda scores: named(mean(scores).argmax(axis=1)), "predict_proba": mean}
    return rounded(fitted, trained, finish)


def _frequencies(fitted: Any) -> trees.Plan:
    members = getattr(fitted, "estimators_", [fitted])
    classes = len(fitted.classes_)
    second = classes == 2 and all(_exact(member.tree_, len(members)) for member in members)
    wanted = [1] if second else range(classes)
    parts = [
        _of_tree(member.tree_, member.tree_.value[:, 0, number], target)
        for member in members
        for target, number in enumerate(wanted)
    ]
    ensemble = trees.Ensemble(parts, targets=len(wanted), features=int(fitted.n_features_in_))
    return trees.Plan(ensemble, {"kind": _SECOND if second else _EACH})


def _exact(tree: Any, count: int) -> bool:
    """Whether frequencies of two classes are such that sums of ``count`` of them are not rounded, so that the first
    class's is what the second's leaves of ``count``: with trees grown to the end all are zero or one."""
    leaves = tree.value[tree.children_left < 0, 0]
    whole = leaves * _STEPS
    return bool(count <= _STEPS and np.all(whole == np.round(whole)) and np.all(leaves.sum(axis=1) == 1.0))


def _from_second(count: int, named: Callable[[messages.Array], messages.Array]) -> dict[str, kernel.Step]:
    half = count / 2

    def both(scores: messages.Array) -> messages.Array:
        found = np.empty((len(scores), 2))
        np.subtract(count, scores[:, 0], out=found[:, 0])
        found[:, 1] = scores[:, 0]
        found /= count
        return found

    # The first class wins where both are equal, as argmax has it.
    return {"predict": lambda scores: named((scores > half).ravel()), "predict_proba": both}


def regressor(fitted: Any, kept: kernel.Form | None = None) -> kernel.Kernel:
    """A decision tree, or a forest of them: the mean of the trees' values."""
    _single_target(fitted)
    members = getattr(fitted, "estimators_", [fitted])
    count = len(members)

    def plan() -> trees.Plan:
        parts = [_of_tree(member.tree_, member.tree_.value[:, 0, 0]) for member in members]
        return trees.Plan(trees.Ensemble(parts, targets=1, features=int(fitted.n_features_in_)))

    return rounded(fitted, trees.compiled(plan, kept), {"predict": lambda scores: scores.ravel() / count})


def boosted(fitted: Any, kept: kernel.Form | None = None) -> kernel.Kernel:
    """Gradient boosting: a starting score, then each tree's value times the learning rate."""
    if type(fitted.init_).__name__ not in ("str", "DummyClassifier", "DummyRegressor"):
        raise kernel.Unsupported("its starting score is a model of its own")

    def plan() -> trees.Plan:
        start = fitted._raw_predict_init(np.zeros((2, fitted.n_features_in_), dtype=np.float32))
        parts = [trees.constant(value, number) for number, value in enumerate(start[0])]
        for stage in fitted.estimators_:
            for number, member in enumerate(stage):
                parts.append(_of_tree(member.tree_, fitted.learning_rate * member.tree_.value[:, 0, 0], number))
        return trees.Plan(trees.Ensemble(parts, targets=start.shape[1], features=int(fitted.n_features_in_)))

    trained = trees.compiled(plan, kept)
    if not hasattr(fitted, "classes_"):
        return rounded(fitted, trained, {"predict": np.ravel})
    return rounded(fitted, trained, _boosted_classes(fitted, at_zero=True))


def histogram(fitted: Any, kept: kernel.Form | None = None) -> kernel.Kernel:
    """Histogram-based gradient boosting: double precision throughout, missing values have a side of their own."""
    if getattr(fitted, "is_categorical_", None) is not None and np.any(fitted.is_categorical_):
        raise kernel.Unsupported("it branches on categories")

    def plan() -> trees.Plan:
        start = np.ravel(fitted._baseline_prediction)
        parts = [trees.constant(value, number) for number, value in enumerate(start)]
        for stage in fitted._predictors:
            parts += [_of_nodes(member.nodes, number) for number, member in enumerate(stage)]
        return trees.Plan(trees.Ensemble(parts, targets=len(start), features=int(fitted.n_features_in_)))

    trained = trees.compiled(plan, kept)
    if hasattr(fitted, "classes_"):
        finish = _boosted_classes(fitted, at_zero=False)
    else:
        finish = {"predict": lambda scores: fitted._loss.link.inverse(scores.ravel())}
    return kernel.Kernel(
        converter=trees.CONVERTER,
        features=int(fitted.n_features_in_),
        scores=_doubled(trained.run),
        finish=finish,
        guard=kernel.anything,
        thresholds=trained.thresholds,
        missing=True,
        form=trained.form,
    )


def _doubled(run: kernel.Step) -> kernel.Step:
    return lambda matrix: run(matrix.astype(np.float64, copy=False))


def _of_nodes(nodes: Any, target: int) -> trees.Tree:
    leaf = nodes["is_leaf"].astype(bool)
    return trees.Tree(
        feature=nodes["feature_idx"].astype(np.int64),
        threshold=nodes["num_threshold"],
        left=np.where(leaf, -1, nodes["left"].astype(np.int64)),
        right=np.where(leaf, -1, nodes["right"].astype(np.int64)),
        value=nodes["value"],
        target=target,
        missing_left=nodes["missing_go_to_left"],
    )


def _boosted_classes(fitted: Any, *, at_zero: bool) -> dict[str, kernel.Step]:
    """``at_zero``: whether a score of exactly zero means the second class."""
    named = kernel.labels(fitted.classes_)

    def decision(scores: messages.Array) -> messages.Array:
        return scores.ravel() if scores.shape[1] == 1 else scores

    def predict(scores: messages.Array) -> messages.Array:
        if scores.shape[1] > 1:
            return named(scores.argmax(axis=1))
        return named(scores.ravel() >= 0 if at_zero else scores.ravel() > 0)

    return {"predict": predict, "predict_proba": fitted._loss.predict_proba, "decision_function": decision}
