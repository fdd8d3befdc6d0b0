"""The two models that everybody serves, made once, and the rows that are sent, with the labels they must get."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable

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


def xgboost() -> Model:
    """Iris by XGBoost, for the start of a replica."""
    from xgboost import XGBClassifier

    rows, labels = load_iris(return_X_y=True)
    return _stored("xgboost.json", rows, lambda path: XGBClassifier(n_estimators=50).fit(rows, labels).save_model(path))


def lightgbm() -> Model:
    """Iris by LightGBM, for the start of a replica."""
    from lightgbm import LGBMClassifier

    rows, labels = load_iris(return_X_y=True)
    fitted = LGBMClassifier(n_estimators=50, verbose=-1)
    return _stored("lightgbm.txt", rows, lambda path: fitted.fit(rows, labels).booster_.save_model(path))


def onnx() -> Model:
    """Iris as an ONNX graph of a linear model, for the start of a replica."""
    rows, labels = load_iris(return_X_y=True)
    return _stored(
        "linear.onnx", rows, lambda path: _linear_graph(LogisticRegression(max_iter=1000).fit(rows, labels), path)
    )


def _linear_graph(fitted: LogisticRegression, path: pathlib.Path) -> None:
    import onnx
    from onnx import helper, numpy_helper

    weights = numpy_helper.from_array(fitted.coef_.T.astype(np.float64), "weights")
    bias = numpy_helper.from_array(fitted.intercept_.astype(np.float64), "bias")
    nodes = [
        helper.make_node("MatMul", ["input-0", "weights"], ["product"]),
        helper.make_node("Add", ["product", "bias"], ["scores"]),
        helper.make_node("ArgMax", ["scores"], ["predict"], axis=1, keepdims=0),
    ]
    takes = [helper.make_tensor_value_info("input-0", onnx.TensorProto.DOUBLE, [None, 4])]
    gives = [helper.make_tensor_value_info("predict", onnx.TensorProto.INT64, [None])]
    graph = helper.make_graph(nodes, "linear", takes, gives, [weights, bias])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)


def _stored(file: str, rows: bodies.Floats, store: Callable[[pathlib.Path], object]) -> Model:
    path = FOLDER / file
    if not path.exists():
        FOLDER.mkdir(exist_ok=True)
        store(path)
    return Model(path.stem, path, rows)


MODELS = {"iris": iris, "forest": forest}
KINDS = {"scikit-learn": iris, "XGBoost": xgboost, "LightGBM": lightgbm, "ONNX": onnx}
