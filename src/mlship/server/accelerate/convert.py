"""Which converter fits a fitted object: by the class itself, never by what it resembles, its library not imported.

A subclass may answer otherwise than its parent, so only the libraries' own classes are known.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from mlship.server.accelerate import boosters, kernel, sk_isolation, sk_linear, sk_steps, sk_trees

# Moved by every change of what any converter makes: what was proven before is then proven again.
VERSION = 3

Converter = Callable[[Any, kernel.Form | None], kernel.Kernel]

_SKLEARN: Mapping[str, Converter] = {
    **dict.fromkeys(
        ("DecisionTreeClassifier", "ExtraTreeClassifier", "RandomForestClassifier", "ExtraTreesClassifier"),
        sk_trees.classifier,
    ),
    **dict.fromkeys(
        ("DecisionTreeRegressor", "ExtraTreeRegressor", "RandomForestRegressor", "ExtraTreesRegressor"),
        sk_trees.regressor,
    ),
    "IsolationForest": sk_isolation.convert,
    **dict.fromkeys(("GradientBoostingClassifier", "GradientBoostingRegressor"), sk_trees.boosted),
    **dict.fromkeys(("HistGradientBoostingClassifier", "HistGradientBoostingRegressor"), sk_trees.histogram),
    **dict.fromkeys(
        (
            "LogisticRegression",
            "LogisticRegressionCV",
            "RidgeClassifier",
            "RidgeClassifierCV",
            "PassiveAggressiveClassifier",
            "SGDClassifier",
            "Perceptron",
            "LinearSVC",
            "LinearDiscriminantAnalysis",
        ),
        sk_linear.classifier,
    ),
    **dict.fromkeys(
        (
            "LinearRegression",
            "Ridge",
            "RidgeCV",
            "Lasso",
            "LassoCV",
            "ElasticNet",
            "ElasticNetCV",
            "Lars",
            "LassoLars",
            "LassoLarsCV",
            "OrthogonalMatchingPursuit",
            "BayesianRidge",
            "ARDRegression",
            "HuberRegressor",
            "TheilSenRegressor",
            "SGDRegressor",
            "PassiveAggressiveRegressor",
            "LinearSVR",
        ),
        sk_linear.regressor,
    ),
}
_BOOSTERS: Mapping[str, tuple[Converter, frozenset[str]]] = {
    "xgboost": (boosters.xgboost, frozenset({"Booster", "XGBClassifier", "XGBRegressor"})),
    "lightgbm": (boosters.lightgbm, frozenset({"Booster", "LGBMClassifier", "LGBMRegressor"})),
}


def kernel_of(fitted: Any, kept: kernel.Form | None = None) -> kernel.Kernel:
    """The compiled form, from what was kept of it or anew.

    Raises ``kernel.Unsupported``, or whatever a converter met that it did not expect.
    """
    convert = known(fitted)
    if type(fitted).__name__ != "Pipeline":
        return convert(fitted, kept)
    *steps, last = [step for _, step in fitted.steps]
    return sk_steps.before(steps, convert(last, kept))


def known(fitted: Any) -> Converter:
    """The converter for an object, or for a pipeline's last step. Raises ``kernel.Unsupported``."""
    if fitted is None:
        raise kernel.Unsupported("there is no compiled form of this kind of model")
    library, name = type(fitted).__module__.split(".")[0], type(fitted).__name__
    if library == "sklearn" and name == "Pipeline":
        sk_steps.read([step for _, step in fitted.steps[:-1]])
        if type(fitted.steps[-1][1]).__name__ == "Pipeline":
            raise kernel.Unsupported("there is no compiled form of a pipeline in a pipeline")
        return known(fitted.steps[-1][1])
    if library == "sklearn" and name in _SKLEARN:
        return _SKLEARN[name]
    convert, names = _BOOSTERS.get(library, (None, frozenset()))
    if convert is not None and name in names:
        return convert
    raise kernel.Unsupported(f"there is no compiled form of {library}'s {name}")
