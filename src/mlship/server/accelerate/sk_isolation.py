"""scikit-learn's IsolationForest as an ensemble whose leaves are depths; what follows is a power of two.

Attributes used beside the documented ones: ``_decision_path_lengths``, ``_average_path_length_per_tree``,
``_max_samples`` and the function ``_average_path_length``; where a version has others, the conversion fails and the
original serves.
"""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from mlship.protocol import messages
from mlship.server.accelerate import kernel, sk_trees, trees


def convert(fitted: Any, kept: kernel.Form | None = None) -> kernel.Kernel:
    """Scores, and who is an outlier by them."""

    def plan() -> trees.Plan:
        parts = []
        for number, (member, chosen) in enumerate(zip(fitted.estimators_, fitted.estimators_features_, strict=True)):
            tree = member.tree_
            # In the original's order, so that the sum has its bits.
            depths = fitted._decision_path_lengths[number] + fitted._average_path_length_per_tree[number] - 1.0
            feature = np.where(tree.children_left >= 0, np.asarray(chosen)[tree.feature], -1)
            parts.append(trees.Tree(feature, tree.threshold, tree.children_left, tree.children_right, depths))
        return trees.Plan(trees.Ensemble(parts, targets=1, features=int(fitted.n_features_in_)))

    average = importlib.import_module("sklearn.ensemble._iforest")._average_path_length
    whole = len(fitted.estimators_) * average([fitted._max_samples])
    if not whole.all():
        raise kernel.Unsupported("it was fitted on a single row")

    def score(depths: messages.Array) -> messages.Array:
        found: messages.Array = -(2 ** (-np.divide(depths.ravel(), whole)))
        return found

    def decide(depths: messages.Array) -> messages.Array:
        found: messages.Array = score(depths) - fitted.offset_
        return found

    finish: dict[str, kernel.Step] = {
        "predict": lambda depths: np.where(decide(depths) < 0, -1, 1),
        "decision_function": decide,
        "score_samples": score,
    }
    return sk_trees.rounded(fitted, trees.compiled(plan, kept), finish)
