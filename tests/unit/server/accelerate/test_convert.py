"""Every kind of model with a compiled form answers as its original does, on rows held out and on its own borders."""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from typing import Any

import lightgbm
import numpy as np
import pytest
import xgboost
from sklearn import ensemble, impute, linear_model, neighbors, pipeline, preprocessing, svm, tree

import accelerated
from mlship.server.accelerate import boosters, compiled, convert, kernel

Make = Callable[[], tuple[Any, Any]]


def strings(target: Any) -> Any:
    return np.array(["barolo", "grignolino", "barbera"])[target]


def fit(estimator: Any, data: tuple[Any, Any], names: Callable[[Any], Any] = lambda target: target) -> Any:
    features, target = data
    return features, estimator.fit(features, names(target))


def gaps(data: tuple[Any, Any]) -> tuple[Any, Any]:
    features, target = data
    features = features.copy()
    features[np.random.default_rng(0).random(features.shape) < 0.2] = np.nan
    return features, target


def scaled(*steps: Any) -> Any:
    return pipeline.make_pipeline(preprocessing.StandardScaler(), *steps)


EXACT: dict[str, Make] = {
    "logistic": lambda: fit(scaled(linear_model.LogisticRegression()), accelerated.wine(), strings),
    "logistic of two": lambda: fit(scaled(linear_model.LogisticRegression()), accelerated.cancer()),
    "ridge classifier": lambda: fit(
        pipeline.make_pipeline(preprocessing.MinMaxScaler(), linear_model.RidgeClassifier()), accelerated.wine()
    ),
    "robust": lambda: fit(
        pipeline.make_pipeline(preprocessing.RobustScaler(), linear_model.LogisticRegression()), accelerated.cancer()
    ),
    "largest": lambda: fit(
        pipeline.make_pipeline(preprocessing.MaxAbsScaler(), linear_model.RidgeClassifierCV()),
        accelerated.wine(),
    ),
    "filled": lambda: fit(
        pipeline.make_pipeline(
            impute.SimpleImputer(), preprocessing.StandardScaler(), linear_model.LogisticRegression()
        ),
        gaps(accelerated.cancer()),
    ),
    "filled forest": lambda: fit(
        pipeline.make_pipeline(
            impute.SimpleImputer(strategy="median"), ensemble.RandomForestClassifier(10, random_state=0)
        ),
        gaps(accelerated.wine()),
    ),
    "isolation": lambda: fit(ensemble.IsolationForest(n_estimators=20, random_state=0), accelerated.wine()),
    "isolation by parts": lambda: fit(
        ensemble.IsolationForest(n_estimators=20, max_features=0.5, contamination=0.1, random_state=0),
        accelerated.cancer(),
    ),
    "support vectors": lambda: fit(svm.LinearSVR(max_iter=100000, C=0.1), accelerated.diabetes()),
    "ridge": lambda: fit(linear_model.Ridge(), accelerated.diabetes()),
    "tree": lambda: fit(tree.DecisionTreeClassifier(random_state=0), accelerated.wine(), strings),
    "tree regressor": lambda: fit(tree.DecisionTreeRegressor(random_state=0), accelerated.diabetes()),
    "forest": lambda: fit(ensemble.RandomForestClassifier(20, random_state=0), accelerated.cancer()),
    "forest of strings": lambda: fit(ensemble.RandomForestClassifier(20, random_state=0), accelerated.wine(), strings),
    "scaled forest": lambda: fit(scaled(ensemble.RandomForestClassifier(10, random_state=0)), accelerated.wine()),
    "extra trees": lambda: fit(ensemble.ExtraTreesClassifier(10, random_state=0), accelerated.wine()),
    "forest regressor": lambda: fit(ensemble.RandomForestRegressor(20, random_state=0), accelerated.diabetes()),
    "boosting": lambda: fit(ensemble.GradientBoostingClassifier(n_estimators=20), accelerated.cancer()),
    "boosting of three": lambda: fit(ensemble.GradientBoostingClassifier(n_estimators=10), accelerated.wine()),
    "boosting regressor": lambda: fit(ensemble.GradientBoostingRegressor(n_estimators=20), accelerated.diabetes()),
    "histogram": lambda: fit(ensemble.HistGradientBoostingClassifier(max_iter=10), gaps(accelerated.cancer())),
    "histogram of three": lambda: fit(ensemble.HistGradientBoostingClassifier(max_iter=5), accelerated.wine(), strings),
    "histogram regressor": lambda: fit(
        ensemble.HistGradientBoostingRegressor(max_iter=10, loss="poisson"), accelerated.diabetes()
    ),
}
CLOSE: dict[str, Make] = {
    "xgboost": lambda: fit(xgboost.XGBClassifier(n_estimators=20), gaps(accelerated.cancer())),
    "xgboost of three": lambda: fit(xgboost.XGBClassifier(n_estimators=10), accelerated.wine()),
    "xgboost regressor": lambda: fit(xgboost.XGBRegressor(n_estimators=20), accelerated.diabetes()),
    "lightgbm": lambda: fit(lightgbm.LGBMClassifier(n_estimators=20, verbose=-1), gaps(accelerated.cancer())),
    "lightgbm of three": lambda: fit(lightgbm.LGBMClassifier(n_estimators=10, verbose=-1), accelerated.wine(), strings),
    "lightgbm regressor": lambda: fit(lightgbm.LGBMRegressor(n_estimators=20, verbose=-1), accelerated.diabetes()),
}


@pytest.mark.parametrize("name", [*EXACT, *CLOSE])
def test_answers_are_the_originals(name: str, tmp_path: pathlib.Path) -> None:
    features, fitted = {**EXACT, **CLOSE}[name]()
    exact = name in EXACT
    loaded = accelerated.load(tmp_path, fitted, "exact" if exact else "auto")
    report = loaded.report
    assert report.used, report
    assert "predict" in report.outputs
    assert report.rows > 1000
    assert report.difference.bits or not exact
    original = accelerated.load(tmp_path, fitted, "off").model
    rows = accelerated.held_out(np.nan_to_num(features, nan=1.0), convert.kernel_of(fitted).thresholds)
    accelerated.assert_same(original, loaded.model, rows, report.outputs, exact=exact)
    kept = compiled.Compiled(original)
    kept.use(convert.kernel_of(fitted, convert.kernel_of(fitted).form), report)
    accelerated.assert_same(loaded.model, kept, rows[::2], report.outputs, exact=True)


@pytest.mark.parametrize("options", [{}, {"max_depth": 3}, {"min_samples_leaf": 5, "class_weight": "balanced"}])
def test_two_classes_are_one_sum_where_that_is_exact(options: Any, tmp_path: pathlib.Path) -> None:
    features, target = accelerated.cancer()
    # An even number of trees, and few: ties between the classes.
    fitted = ensemble.RandomForestClassifier(4, random_state=0, **options).fit(features, target)
    loaded = accelerated.load(tmp_path, fitted, "exact")
    assert loaded.report.used
    assert convert.kernel_of(fitted).form.notes["kind"] == ("each" if options else "second")
    original = accelerated.load(tmp_path, fitted, "off").model
    rows = accelerated.held_out(features, convert.kernel_of(fitted).thresholds)
    accelerated.assert_same(original, loaded.model, rows, ("predict", "predict_proba"), exact=True)


@pytest.mark.parametrize("native", [xgboost.XGBClassifier, lightgbm.LGBMClassifier])
def test_the_boosters_themselves(native: Any, tmp_path: pathlib.Path) -> None:
    _, fitted = fit(native(n_estimators=10, verbosity=0), accelerated.wine())
    booster = fitted.get_booster() if native is xgboost.XGBClassifier else fitted.booster_
    report = accelerated.load(tmp_path, booster).report
    assert report.converter or report.reason
    assert convert.kernel_of(booster).finish.keys() == {"predict", "margin"}


class Better(linear_model.Ridge):
    """What a subclass answers nobody knows."""


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: fit(svm.SVC(), accelerated.wine()), "no compiled form of sklearn's SVC"),
        (lambda: fit(neighbors.KNeighborsClassifier(), accelerated.wine()), "sklearn's KNeighborsClassifier"),
        (lambda: fit(pipeline.make_pipeline(preprocessing.PolynomialFeatures(), linear_model.Ridge()),
                     accelerated.diabetes()), "step PolynomialFeatures"),
        (lambda: fit(xgboost.XGBRegressor(booster="gblinear"), accelerated.diabetes()), "gblinear"),
        (lambda: fit(lightgbm.LGBMRegressor(objective="poisson", verbose=-1), accelerated.diabetes()), "poisson"),
        (lambda: fit(pipeline.make_pipeline(impute.SimpleImputer(add_indicator=True), linear_model.Ridge()),
                     gaps(accelerated.diabetes())), "does more than to fill in"),
        (lambda: fit(pipeline.make_pipeline(preprocessing.MinMaxScaler(clip=True), linear_model.Ridge()),
                     accelerated.diabetes()), "step MinMaxScaler"),
        (lambda: (None, Better().fit(*accelerated.diabetes())), "Better"),
        (lambda: (None, None), "this kind of model"),
    ],
)  # fmt: skip
def test_what_has_no_compiled_form_says_so(make: Make, reason: str) -> None:
    _, fitted = make()
    with pytest.raises(kernel.Unsupported, match=reason):
        convert.kernel_of(fitted)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_a_label_turns_where_the_probability_does(kind: Any) -> None:
    cut = boosters._cut(np.dtype(kind).str)
    near = np.array([0, cut, -cut, np.nextafter(cut, kind(0)), np.nextafter(cut, kind(1)), 1, 80, -80], dtype=kind)
    probability = boosters._sigmoid(near)
    assert probability.dtype == kind
    assert ((near >= cut) == (probability > 0.5)).all()


def test_confident_probabilities_are_the_originals(tmp_path: pathlib.Path) -> None:
    """The probability of the other class is next to nothing, and a last bit is much of that."""
    features, target = accelerated.cancer()
    fitted = lightgbm.LGBMClassifier(n_estimators=300, learning_rate=0.3, verbose=-1).fit(features, target)
    assert fitted.predict_proba(features).min() < 1e-9
    loaded = accelerated.load(tmp_path, fitted)
    assert loaded.report.outputs == ("predict", "predict_proba")


def test_what_lightgbm_takes_for_zero(tmp_path: pathlib.Path) -> None:
    features, target = accelerated.cancer()
    # Centred, so that trees branch at zero.
    features = np.where(
        np.abs(features - np.median(features, axis=0)) < features.std(axis=0) / 2,
        0.0,
        features - np.median(features, axis=0),
    )
    fitted = lightgbm.LGBMClassifier(n_estimators=30, verbose=-1).fit(features, target)
    tiny = {abs(float(value)) < 1e-30 for values in convert.kernel_of(fitted).thresholds.values() for value in values}
    assert True in tiny
    loaded = accelerated.load(tmp_path, fitted)
    assert loaded.report.outputs == ("predict", "predict_proba")
