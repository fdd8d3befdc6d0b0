from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn import (
    cluster,
    ensemble,
    linear_model,
    model_selection,
    naive_bayes,
    neighbors,
    pipeline,
    preprocessing,
    svm,
)

from mlship.server.frameworks import rows

RANDOM = np.random.default_rng(0)
FEATURES = RANDOM.uniform(10, 20, size=(60, 3))
TARGET = (FEATURES[:, 0] + FEATURES[:, 1] + FEATURES[:, 2] > 45).astype(int)


@pytest.mark.parametrize(
    "estimator",
    [
        preprocessing.StandardScaler(),
        preprocessing.MinMaxScaler(),
        preprocessing.RobustScaler(),
        pipeline.make_pipeline(preprocessing.StandardScaler(), linear_model.LogisticRegression()),
        pipeline.Pipeline([("skip", "passthrough"), ("nb", naive_bayes.GaussianNB())]),
        neighbors.KNeighborsClassifier(),
        svm.SVC(),
        cluster.KMeans(2, n_init=1),
        ensemble.RandomForestClassifier(20, random_state=0),
        ensemble.GradientBoostingClassifier(n_estimators=20),
        ensemble.HistGradientBoostingClassifier(max_iter=30, min_samples_leaf=2),
        model_selection.GridSearchCV(svm.SVC(), {"C": [1]}, cv=2),
        ensemble.VotingClassifier([("nb", naive_bayes.GaussianNB())]),
    ],
    ids=lambda estimator: type(estimator).__name__,
)
def test_a_plausible_row_lies_where_the_data_lies(estimator: Any) -> None:
    row = rows.typical(estimator.fit(FEATURES, TARGET), 3)
    assert all(10 <= value <= 20 for value in row)


def test_zeros_where_nothing_is_remembered() -> None:
    assert rows.typical(linear_model.LinearRegression().fit(FEATURES, TARGET), 3) == (0.0, 0.0, 0.0)
    assert rows.typical(object(), 2) == (0.0, 0.0)


def test_thresholds_are_medians_by_feature() -> None:
    pairs = [(np.array([0, 0, 2, -2]), np.array([1.0, 3.0, 5.0, -2.0])), (np.array([0]), np.array([2.0]))]
    found = rows.thresholds(pairs, 3)
    assert found is not None
    assert found.tolist() == [2.0, 0.0, 5.0]
    assert rows.thresholds([], 3) is None
    assert rows.thresholds([(np.array([-1]), np.array([1.0]))], 3) is None


def test_values_are_short() -> None:
    assert rows.rounded(np.array([1.23456, 1e-35, 123456.0])) == (1.235, 0.0, 123500.0)
