"""The two models that everybody serves, made once, and the rows that are sent, with the labels they must get."""

from __future__ import annotations

import dataclasses
import pathlib

import joblib
import numpy as np
from sklearn.datasets import load_breast_cancer, load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from bench import bodies

FOLDER = pathlib.Path(__file__).parent / ".models"


@dataclasses.dataclass(frozen=True, slots=True)
class Model:
    """A stored model and rows of its data."""

    name: str
    path: pathlib.Path
    rows: bodies.Floats

    def taken(self, count: int) -> bodies.Floats:
        """``count`` rows, the data repeated as often as needed."""
        return np.resize(self.rows, (count, self.rows.shape[1]))

    def expected(self, rows: bodies.Floats) -> list[int]:
        return [int(label) for label in joblib.load(self.path).predict(rows)]


def iris() -> Model:
    """A scaler and a logistic regression: the small model, where everything but the model costs."""
    rows, labels = load_iris(return_X_y=True)
    return _made("iris", rows, labels, make_pipeline(StandardScaler(), LogisticRegression()))


def forest() -> Model:
    """100 trees on 30 features: the model costs, and costs less for many rows at once."""
    rows, labels = load_breast_cancer(return_X_y=True)
    return _made("forest", rows, labels, RandomForestClassifier(100, random_state=0))


def _made(name: str, rows: bodies.Floats, labels: object, model: object) -> Model:
    path = FOLDER / f"{name}.joblib"
    if not path.exists():
        FOLDER.mkdir(exist_ok=True)
        joblib.dump(model.fit(rows, labels), path)
    return Model(name, path, rows)


MODELS = {"iris": iris, "forest": forest}
