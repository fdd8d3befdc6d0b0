"""XGBoost's and LightGBM's trees as ensembles, and what their objectives make of the scores.

XGBoost works in single precision: inputs, thresholds ("less than"), leaves and their sum, which starts with the base
score. LightGBM works in double precision, with "at most". A missing value goes where the tree says; a LightGBM tree
that was trained without any takes it for zero. Sources: the libraries' own model formats, XGBoost's
``Booster.save_raw("json")`` and LightGBM's ``Booster.dump_model()``.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from mlship.protocol import messages
from mlship.server.accelerate import kernel, trees

# LightGBM's kZeroThreshold.
_ZERO = float(np.float32(1e-35))
_BINARY = "binary"
_MULTI = "multi"
_PLAIN = "plain"
_XGBOOST = {
    "binary:logistic": _BINARY,
    "multi:softprob": _MULTI,
    "reg:squarederror": _PLAIN,
    "reg:absoluteerror": _PLAIN,
    "reg:pseudohubererror": _PLAIN,
    "rank:pairwise": _PLAIN,
    "rank:ndcg": _PLAIN,
}
_LIGHTGBM = {
    "binary": _BINARY,
    "multiclass": _MULTI,
    "regression": _PLAIN,
    "regression_l1": _PLAIN,
    "huber": _PLAIN,
    "quantile": _PLAIN,
    "lambdarank": _PLAIN,
}


def _sigmoid(scores: messages.Array) -> messages.Array:
    one = scores.dtype.type(1)
    with np.errstate(over="ignore"):
        found: messages.Array = one / (one + _exponential(-scores))
        return found


def _softmax(scores: messages.Array) -> messages.Array:
    found = _exponential(scores - scores.max(axis=1, keepdims=True))
    found /= found.sum(axis=1, keepdims=True, dtype=np.float64).astype(found.dtype)
    return found


def _approximate(kind: str, classes: messages.Array | None) -> frozenset[str]:
    """The outputs that an exponential makes of the scores."""
    if kind == _PLAIN:
        return frozenset()
    return frozenset({"predict"} if classes is None else {"predict_proba"})


def _exponential(values: messages.Array) -> messages.Array:
    """In double precision the C library's, as the original's is: NumPy's differs in the last bit, and the probability
    of the other class, one less this, by more than that of its size. Rounded from it in single precision, since
    NumPy's own there is not as close as the C library's."""
    if values.dtype == np.float64:
        try:
            return np.array([math.exp(value) for value in values.ravel().tolist()]).reshape(values.shape)
        except OverflowError:
            return np.exp(values)
    return np.exp(values.astype(np.float64)).astype(values.dtype)


@functools.cache
def _cut(kind: str) -> Any:
    """The least score, of the datatype ``kind``, whose sigmoid is above a half: not the least above zero, since the
    sigmoid of very small numbers is rounded to a half."""
    of = np.dtype(kind).type
    low, high = of(0), of(1)
    while low < (middle := of((low + high) / 2)) < high:
        above = _sigmoid(np.array([middle]))[0] > of(0.5)
        low, high = (low, middle) if above else (middle, high)
    return high


def _finish(kind: str, *, classes: messages.Array | None, margin: bool) -> dict[str, kernel.Step]:
    """``classes`` None: the library's Booster, or a regressor; ``margin``: raw scores are an output, too."""

    def flat(scores: messages.Array) -> messages.Array:
        return scores.ravel() if scores.shape[1] == 1 else scores

    value: Mapping[str, kernel.Step] = {_BINARY: lambda scores: _sigmoid(flat(scores)), _MULTI: _softmax, _PLAIN: flat}
    made: dict[str, kernel.Step] = {"predict": value[kind]}
    if margin:
        made["margin"] = flat
    if classes is None:
        return made
    named = kernel.labels(classes)
    if kind == _BINARY:

        def both(scores: messages.Array) -> messages.Array:
            second = value[_BINARY](scores)
            return np.stack([second.dtype.type(1) - second, second], axis=1)

        return {
            "predict": lambda scores: named(scores.ravel() >= _cut(scores.dtype.str)),
            "predict_proba": both,
        }
    return {"predict": lambda scores: named(_softmax(scores).argmax(axis=1)), "predict_proba": _softmax}


def xgboost(fitted: Any, kept: kernel.Form | None = None) -> kernel.Kernel:
    """A Booster, or a classifier or regressor that wraps one."""
    wrapper = hasattr(fitted, "get_booster")
    booster = fitted.get_booster() if wrapper else fitted
    trained = trees.compiled(functools.partial(_xgboost_plan, booster, wrapper), kept)
    return _kernel(fitted, trained, wrapper=wrapper, dtype=np.float32, guard=kernel.finite_or_missing)


def _kernel(
    fitted: Any,
    trained: trees.Compiled,
    *,
    wrapper: bool,
    dtype: npt.DTypeLike,
    guard: Callable[[messages.Array], bool],
) -> kernel.Kernel:
    notes, run = trained.form.notes, trained.run
    kind = str(notes["kind"])
    classes = np.asarray(fitted.classes_) if wrapper and hasattr(fitted, "classes_") else None
    return kernel.Kernel(
        converter=trees.CONVERTER,
        features=int(notes["features"]),
        scores=lambda matrix: run(matrix.astype(dtype, copy=False)),
        finish=_finish(kind, classes=classes, margin=not wrapper),
        guard=guard,
        thresholds=trained.thresholds,
        missing=True,
        approximate=_approximate(kind, classes),
        form=trained.form,
    )


def _xgboost_plan(booster: Any, wrapper: bool) -> trees.Plan:
    if wrapper and getattr(booster, "best_iteration", None) is not None and "best_iteration" in booster.attributes():
        booster = booster[: booster.best_iteration + 1]
    learner = orjson.loads(booster.save_raw("json"))["learner"]
    parameters, grown = learner["learner_model_param"], learner["gradient_booster"]
    objective = learner["objective"]["name"]
    if grown["name"] != "gbtree" or objective not in _XGBOOST or int(parameters.get("num_target", 1)) != 1:
        raise kernel.Unsupported(f"no compiled form of {grown['name']} with {objective}")
    kind = _XGBOOST[objective]
    targets = max(1, int(parameters["num_class"]))
    start = _base_scores(parameters["base_score"], kind, targets)
    parts = [trees.constant(value, number) for number, value in enumerate(start)]
    model = grown["model"]
    parts += [_of_xgboost(tree, int(to)) for tree, to in zip(model["trees"], model["tree_info"], strict=True)]
    features = int(parameters["num_feature"])
    ensemble = trees.Ensemble(parts, targets=targets, features=features, dtype=np.float32, less=True)
    return trees.Plan(ensemble, {"kind": kind, "features": features})


def _base_scores(text: str, kind: str, targets: int) -> messages.Array:
    """Where the sum starts: recorded as a probability where the scores become one."""
    found = np.array(orjson.loads(text), dtype=np.float32).ravel()
    if kind == _BINARY:
        # In single precision but for the logarithm, where NumPy's is not as close as the C library's.
        odds = np.float32(1) / found - np.float32(1)
        found = -np.log(odds.astype(np.float64)).astype(np.float32)
    return np.resize(found, targets)


def _of_xgboost(tree: Mapping[str, Any], target: int) -> trees.Tree:
    if any(tree["split_type"]) or int(tree["tree_param"]["size_leaf_vector"]) > 1:
        raise kernel.Unsupported("it branches on categories or has several targets")
    values = np.array(tree["split_conditions"], dtype=np.float32)
    return trees.Tree(
        feature=np.array(tree["split_indices"]),
        threshold=values,
        left=np.array(tree["left_children"]),
        right=np.array(tree["right_children"]),
        value=values,
        target=target,
        missing_left=np.array(tree["default_left"]),
    )


def lightgbm(fitted: Any, kept: kernel.Form | None = None) -> kernel.Kernel:
    """A Booster, or a classifier or regressor that wraps one."""
    wrapper = hasattr(fitted, "booster_")
    booster = fitted.booster_ if wrapper else fitted
    trained = trees.compiled(functools.partial(_lightgbm_plan, booster), kept)
    return _kernel(fitted, trained, wrapper=wrapper, dtype=np.float64, guard=kernel.anything)


def _lightgbm_plan(booster: Any) -> trees.Plan:
    dumped = booster.dump_model()
    words = str(dumped.get("objective", "")).split()
    if not words or words[0] not in _LIGHTGBM or dumped.get("average_output") or set(words[1:]) & {"sqrt"}:
        raise kernel.Unsupported(f"no compiled form of the objective {' '.join(words) or 'of your own'}")
    if words[0] == "binary" and "sigmoid:1" not in words:
        raise kernel.Unsupported("its sigmoid has a slope of its own")
    targets = int(dumped["num_tree_per_iteration"])
    parts = [_of_lightgbm(tree, number % targets) for number, tree in enumerate(dumped["tree_info"])]
    features = int(dumped["max_feature_idx"]) + 1
    ensemble = trees.Ensemble(parts, targets=targets, features=features)
    return trees.Plan(ensemble, {"kind": _LIGHTGBM[words[0]], "features": features})


def _past_zero(threshold: float) -> float:
    """LightGBM takes numbers of no more than ``_ZERO`` in size for zero: all of them lie on one side of a threshold."""
    if -_ZERO <= threshold < 0:
        return float(np.nextafter(-_ZERO, -np.inf))
    return _ZERO if 0 <= threshold < _ZERO else threshold


def _of_lightgbm(tree: Mapping[str, Any], target: int) -> trees.Tree:
    """Nested nodes, numbered as they are come upon."""
    waiting = [tree["tree_structure"]]
    rows: list[tuple[float, ...]] = []
    while len(rows) < len(waiting):
        node = waiting[len(rows)]
        if "split_index" not in node:
            if node.get("leaf_coeff"):
                raise kernel.Unsupported("its leaves are linear models")
            rows.append((-1, 0.0, -1, -1, node["leaf_value"], 0))
            continue
        if node["decision_type"] != "<=" or node["missing_type"] == "Zero":
            raise kernel.Unsupported("it branches on categories, or takes zeros for missing")
        at = len(waiting)
        waiting += [node["left_child"], node["right_child"]]
        missing_left = node["default_left"] if node["missing_type"] == "NaN" else node["threshold"] >= 0
        rows.append((node["split_feature"], _past_zero(node["threshold"]), at, at + 1, 0.0, missing_left))
    feature, threshold, left, right, value, missing = (np.array(column) for column in zip(*rows, strict=True))
    return trees.Tree(feature, threshold, left, right, value, target, missing)
