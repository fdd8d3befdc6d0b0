"""Small real models for tests, each with rows to send and the answers the library itself gives in process.

Every maker takes a folder, trains in well under a second or two, saves the model there and returns a ``Made``. The
answers are computed with the object that was saved (or, for native formats, with what the library reads back), on the
data a user would pass: comparing with ``==`` to the bit is the point.
"""

from __future__ import annotations

import dataclasses
import pathlib
import pickle
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Made:
    """A saved model. ``inputs``: arrays by name, ready for ``Model.infer``; ``expected``: arrays by output name."""

    path: pathlib.Path
    format: str
    inputs: Mapping[str, Any]
    expected: Mapping[str, Any]


def _array(values: Any) -> Any:
    array = np.asarray(values)
    return array.astype(object) if array.dtype.kind in "UT" else array


def _iris() -> tuple[Any, Any]:
    from sklearn import datasets

    return datasets.load_iris(return_X_y=True)


def iris_pipeline(folder: pathlib.Path) -> Made:
    """Scaler and logistic regression, saved with joblib."""
    import joblib
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    features, target = _iris()
    fitted = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)).fit(features, target)
    joblib.dump(fitted, folder / "iris.joblib")
    rows = features[::15]
    outputs = ("predict", "predict_proba", "predict_log_proba", "decision_function")
    return Made(
        folder / "iris.joblib",
        "sklearn",
        {"input-0": rows},
        {name: getattr(fitted, name)(rows) for name in outputs},
    )


def cancer_forest(folder: pathlib.Path) -> Made:
    """A random forest with string classes, fitted on a DataFrame, saved with compression."""
    import joblib
    from sklearn import datasets
    from sklearn.ensemble import RandomForestClassifier

    data = datasets.load_breast_cancer(as_frame=True)
    names = np.array(["malignant", "benign"], dtype=object)[data.target]
    fitted = RandomForestClassifier(n_estimators=10, random_state=0).fit(data.data, names)
    joblib.dump(fitted, folder / "cancer.joblib", compress=3)
    rows = data.data.iloc[::60]
    return Made(
        folder / "cancer.joblib",
        "sklearn",
        {"input-0": rows.to_numpy()},
        {"predict": _array(fitted.predict(rows)), "predict_proba": fitted.predict_proba(rows)},
    )


def wine_boosting(folder: pathlib.Path) -> Made:
    """Gradient boosting in a plain pickle."""
    from sklearn import datasets
    from sklearn.ensemble import GradientBoostingClassifier

    features, target = datasets.load_wine(return_X_y=True)
    fitted = GradientBoostingClassifier(n_estimators=5, random_state=0).fit(features, target)
    (folder / "wine.pkl").write_bytes(pickle.dumps(fitted))
    rows = features[::20]
    return Made(
        folder / "wine.pkl",
        "sklearn",
        {"input-0": rows},
        {"predict": fitted.predict(rows), "predict_proba": fitted.predict_proba(rows)},
    )


def diabetes_ridge(folder: pathlib.Path) -> Made:
    """A regression in a skops file."""
    import skops.io
    from sklearn import datasets
    from sklearn.linear_model import Ridge

    features, target = datasets.load_diabetes(return_X_y=True)
    fitted = Ridge(alpha=0.5).fit(features, target)
    skops.io.dump(fitted, folder / "diabetes.skops")
    rows = features[::50]
    return Made(folder / "diabetes.skops", "sklearn", {"input-0": rows}, {"predict": fitted.predict(rows)})


def digits_svc(folder: pathlib.Path) -> Made:
    """A support vector machine over 64 pixels."""
    import joblib
    from sklearn import datasets
    from sklearn.svm import SVC

    features, target = datasets.load_digits(return_X_y=True)
    fitted = SVC(gamma=0.001).fit(features[:600], target[:600])
    joblib.dump(fitted, folder / "digits.joblib")
    rows = features[600:640:4]
    return Made(
        folder / "digits.joblib",
        "sklearn",
        {"input-0": rows},
        {"predict": fitted.predict(rows), "decision_function": fitted.decision_function(rows)},
    )


def passengers(rows: int = 300) -> Any:
    """A table like the passengers of the Titanic, with strings and gaps, and a target ``survived``."""
    import pandas as pd

    random = np.random.default_rng(7)
    table = pd.DataFrame(
        {
            "pclass": random.integers(1, 4, rows),
            "sex": random.choice(["female", "male"], rows),
            "age": random.uniform(1, 80, rows).round(1),
            "fare": random.exponential(30, rows).round(2),
            "embarked": random.choice(["S", "C", "Q"], rows),
        }
    )
    table["survived"] = ((table.sex == "female") | (table.age < 10)).astype(int)
    table.loc[::9, "age"] = np.nan
    table["embarked"] = table["embarked"].where(np.arange(rows) % 11 != 0)
    return table


def titanic_pipeline(folder: pathlib.Path) -> Made:
    """Columns by name, imputed and encoded: wants a DataFrame with strings and missing values."""
    import joblib
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    table = passengers()
    target = table.pop("survived")
    numbers = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
    words = make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore"))
    columns = ColumnTransformer(
        [("numbers", numbers, ["age", "fare"]), ("words", words, ["sex", "embarked"])], remainder="passthrough"
    )
    fitted = make_pipeline(columns, LogisticRegression(max_iter=1000)).fit(table, target)
    joblib.dump(fitted, folder / "titanic.joblib")
    rows = table.iloc[::23]
    inputs = {
        name: rows[name].to_numpy(dtype=np.float64)
        if rows[name].dtype.kind in "if"
        else np.array([value if isinstance(value, str) else None for value in rows[name]], dtype=object)
        for name in rows.columns
    }
    return Made(
        folder / "titanic.joblib",
        "sklearn",
        inputs,
        {"predict": fitted.predict(rows), "predict_proba": fitted.predict_proba(rows)},
    )


def text_pipeline(folder: pathlib.Path) -> Made:
    """TF-IDF and a linear classifier with string classes."""
    import joblib
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    texts = ["good film, great cast", "bad film, dull story", "great story, good fun", "dull and bad", "grand fun"] * 6
    moods = ["good", "bad", "good", "bad", "good"] * 6
    fitted = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(texts, moods)
    joblib.dump(fitted, folder / "mood.joblib")
    rows = ["a good great film", "dull", "nothing known here", "größe fun"]
    return Made(
        folder / "mood.joblib",
        "sklearn",
        {"input-0": np.array(rows, dtype=object)},
        {"predict": _array(fitted.predict(rows)), "predict_proba": fitted.predict_proba(rows)},
    )


def _xgboost_iris(folder: pathlib.Path, name: str) -> Made:
    import xgboost

    features, target = _iris()
    xgboost.XGBClassifier(n_estimators=5, max_depth=3).fit(features, target).save_model(folder / name)
    booster = xgboost.Booster(model_file=str(folder / name))
    rows = features[::15]
    data = xgboost.DMatrix(rows)
    return Made(
        folder / name,
        "xgboost",
        {"input-0": rows.astype(np.float32)},
        {"predict": booster.predict(data), "margin": booster.predict(data, output_margin=True)},
    )


def xgboost_json(folder: pathlib.Path) -> Made:
    """A booster in JSON."""
    return _xgboost_iris(folder, "iris.json")


def xgboost_ubj(folder: pathlib.Path) -> Made:
    """A booster in UBJSON."""
    return _xgboost_iris(folder, "iris.ubj")


def xgboost_wrapper(folder: pathlib.Path) -> Made:
    """A pickled XGBClassifier."""
    import xgboost

    features, target = _iris()
    fitted = xgboost.XGBClassifier(n_estimators=5, max_depth=3).fit(features, target)
    (folder / "iris-xgb.pkl").write_bytes(pickle.dumps(fitted))
    rows = features[::15]
    return Made(
        folder / "iris-xgb.pkl",
        "xgboost",
        {"input-0": rows},
        {"predict": fitted.predict(rows), "predict_proba": fitted.predict_proba(rows)},
    )


def _lightgbm_iris() -> tuple[Any, Any]:
    import lightgbm

    features, target = _iris()
    fitted = lightgbm.LGBMClassifier(n_estimators=5, num_leaves=5, n_jobs=1, verbose=-1).fit(features, target)
    return fitted, features[::15]


def lightgbm_txt(folder: pathlib.Path) -> Made:
    """A booster in LightGBM's text format."""
    import lightgbm

    fitted, rows = _lightgbm_iris()
    fitted.booster_.save_model(folder / "iris.txt")
    booster = lightgbm.Booster(model_file=str(folder / "iris.txt"))
    return Made(
        folder / "iris.txt",
        "lightgbm",
        {"input-0": rows},
        {"predict": booster.predict(rows), "margin": booster.predict(rows, raw_score=True)},
    )


def lightgbm_wrapper(folder: pathlib.Path) -> Made:
    """A LGBMClassifier saved with joblib."""
    import joblib

    fitted, rows = _lightgbm_iris()
    joblib.dump(fitted, folder / "iris-lgb.joblib")
    return Made(
        folder / "iris-lgb.joblib",
        "lightgbm",
        {"input-0": rows},
        {"predict": fitted.predict(rows), "predict_proba": fitted.predict_proba(rows)},
    )


def catboost_cbm(folder: pathlib.Path) -> Made:
    """A CatBoost classifier over numbers and a category."""
    import catboost

    table = passengers()
    target = table.pop("survived")
    table = table[["sex", "fare", "pclass"]]
    fitted = catboost.CatBoostClassifier(
        iterations=5, depth=3, verbose=0, allow_writing_files=False, cat_features=["sex"], thread_count=1
    ).fit(table, target)
    fitted.save_model(str(folder / "titanic.cbm"))
    rows = table.iloc[::30]
    inputs = {
        "sex": rows["sex"].to_numpy(dtype=object),
        "fare": rows["fare"].to_numpy(dtype=np.float64),
        "pclass": rows["pclass"].to_numpy(dtype=np.float64),
    }
    return Made(
        folder / "titanic.cbm",
        "catboost",
        inputs,
        {"predict": fitted.predict(rows), "predict_proba": fitted.predict_proba(rows)},
    )


def onnx_iris(folder: pathlib.Path) -> Made:
    """A logistic regression converted to ONNX; the probabilities are a sequence of maps."""
    import onnxruntime
    from sklearn.linear_model import LogisticRegression

    features, target = _iris()
    fitted = LogisticRegression(max_iter=500).fit(features, target)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the converter's own dependencies
        from skl2onnx import to_onnx

        converted = to_onnx(fitted, features[:1].astype(np.float32))
    (folder / "iris.onnx").write_bytes(converted.SerializeToString())
    rows = features[::15].astype(np.float32)
    session = onnxruntime.InferenceSession(str(folder / "iris.onnx"), providers=["CPUExecutionProvider"])
    labels, maps = session.run(None, {"X": rows})
    scores = np.array([[row[key] for key in sorted(row)] for row in maps], dtype=np.float32)
    return Made(folder / "iris.onnx", "onnx", {"X": rows}, {"output_label": labels, "output_probability": scores})


def cubed(values: Any) -> Any:
    """A function of the user's own, for pipelines that hold one."""
    return values**3


CUSTOM_SOURCE = """
import numpy as np


class Doubler:
    signature = {
        "inputs": [{"name": "x", "datatype": "FP64", "shape": [-1, 2]}],
        "outputs": [{"name": "y", "datatype": "FP64", "shape": [-1, 2]}],
        "example": [[1.5, 2.5]],
    }

    def load(self):
        self.factor = 2.0

    def predict(self, x: np.ndarray) -> np.ndarray:
        return x * self.factor
"""


def custom_file(folder: pathlib.Path) -> Made:
    """A Python file with a class."""
    (folder / "doubler.py").write_text(CUSTOM_SOURCE)
    rows = np.array([[1.0, 2.0], [3.5, -4.0]])
    return Made(folder / "doubler.py", "python", {"x": rows}, {"y": rows * 2.0})


MAKERS: tuple[Callable[[pathlib.Path], Made], ...] = (
    iris_pipeline,
    cancer_forest,
    wine_boosting,
    diabetes_ridge,
    digits_svc,
    titanic_pipeline,
    text_pipeline,
    xgboost_json,
    xgboost_ubj,
    xgboost_wrapper,
    lightgbm_txt,
    lightgbm_wrapper,
    catboost_cbm,
    onnx_iris,
    custom_file,
)
