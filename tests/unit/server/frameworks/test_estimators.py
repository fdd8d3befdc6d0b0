from __future__ import annotations

import pathlib
import warnings
from typing import Any

import numpy as np
import pytest
from sklearn import linear_model, pipeline, preprocessing

from mlship import errors
from mlship.server import model
from mlship.server.frameworks import estimators, frames

MATRIX = frames.Matrix(features=2, row=(1.0, 2.0))


class Library(Exception):
    """What a library raises at data it does not like."""


def served(methods: Any, **options: Any) -> estimators.Estimator:
    return estimators.Estimator(methods, form=MATRIX, platform="test", **options)


def test_the_answer_to_the_example_is_the_signature() -> None:
    def complain(rows: Any) -> Any:
        raise ValueError("not this row")

    found = served(
        {
            "predict": lambda rows: np.array(["x"] * len(rows)),
            "scores": lambda rows: np.zeros((len(rows), 3), dtype=np.float32),
            "parts": lambda rows: [np.zeros((len(rows), 2)), np.zeros(len(rows), dtype=np.int64)],
            "complain": complain,
        }
    )
    assert [(spec.name, spec.datatype, spec.shape) for spec in found.signature.outputs] == [
        ("predict", "BYTES", (-1,)),
        ("scores", "FP32", (-1, 3)),
        ("parts_0", "FP64", (-1, 2)),
        ("parts_1", "INT64", (-1,)),
        ("complain", "", (-1,)),
    ]
    assert found.signature.default_outputs == ("predict",)


def test_what_is_known_of_a_model_is_not_asked_again() -> None:
    calls: list[str] = []

    def methods(width: int) -> Any:
        return {"scores": lambda rows: calls.append("scores") or np.zeros((len(rows), width))}

    first, again = (served(methods(3), known_as=("file", 1)) for _ in range(2))
    assert calls == ["scores"]
    assert again.signature == first.signature
    assert list(again.example()) == list(first.example())
    other = served(methods(4), known_as=("file", 2))
    assert other.signature.outputs[0].shape == (-1, 4)
    served(methods(5))
    served(methods(5))
    assert calls == ["scores"] * 4


def test_that_the_example_was_refused_is_known_too() -> None:
    def complain(rows: Any) -> Any:
        raise ValueError("not this row")

    for _ in range(2):
        found = served({"predict": complain}, known_as=("refusing", 1))
        assert found.example() == {}


def test_a_method_is_called_once_for_all_its_outputs() -> None:
    calls: list[int] = []

    def parts(rows: Any) -> Any:
        calls.append(len(rows))
        return [rows[:, 0], rows[:, 1]]

    found = served({"parts": parts})
    calls.clear()
    answer = found.infer({"input-0": np.array([[1.0, 2.0]])}, outputs=("parts_1", "parts_0"), parameters={})
    assert {name: values.tolist() for name, values in answer.items()} == {"parts_1": [2.0], "parts_0": [1.0]}
    assert calls == [1]


@pytest.mark.parametrize("kind", [ValueError, TypeError, Library])
def test_errors_that_mean_the_data(kind: type[Exception]) -> None:
    def predict(rows: Any) -> Any:
        raise kind("bad\n  data.")

    found = served({"predict": predict}, refusals=(Library,))
    with pytest.raises(errors.SpecError, match="the model refused the data: bad data\\."):
        found.infer({"input-0": np.ones((1, 2))}, outputs=(), parameters={})


def test_other_errors_pass() -> None:
    found = served({"predict": lambda rows: rows[:, 5]})
    with pytest.raises(IndexError):
        found.infer({"input-0": np.ones((1, 2))}, outputs=(), parameters={})


def test_a_logarithm_of_zero_warns_nobody() -> None:
    found = served({"predict": lambda rows: np.log(rows)})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        answer = found.infer({"input-0": np.zeros((1, 2))}, outputs=(), parameters={})
    assert np.isneginf(answer["predict"]).all()


def test_a_row_the_model_refuses_is_no_example() -> None:
    def predict(rows: Any) -> Any:
        raise ValueError("never")

    assert served({"predict": predict}).example() == {}
    assert set(served({"predict": lambda rows: rows}).example()) == {"input-0"}


def test_methods_and_their_keywords() -> None:
    class Fitted:
        predict_proba = None

        def predict(self, rows: Any, threads: int = 0) -> int:
            return threads

        def transform(self, rows: Any) -> Any:
            return rows

    methods = estimators.methods_of(Fitted(), keywords={"threads": 3})
    assert list(methods) == ["predict", "transform"]
    assert methods["predict"](None) == 3
    assert methods["transform"](7) == 7


def test_transform_comes_first_without_predict() -> None:
    class Fitted:
        def score_samples(self, rows: Any) -> Any: ...
        def transform(self, rows: Any) -> Any: ...

    assert list(estimators.methods_of(Fitted())) == ["transform", "score_samples"]


def test_only_what_computes_and_nothing_else_is_quick() -> None:
    class Own(linear_model.LogisticRegression):  # type: ignore[misc]
        pass

    class Strange:
        def get_params(self) -> Any:
            raise TypeError("positional arguments")

    def clean(rows: Any) -> Any:
        return rows

    def pipe(*steps: Any) -> Any:
        return pipeline.make_pipeline(*steps, linear_model.LogisticRegression())

    assert estimators.is_quick(pipe(preprocessing.StandardScaler(), preprocessing.FunctionTransformer(np.log1p)))
    assert not estimators.is_quick(pipe(preprocessing.FunctionTransformer(clean)))
    assert not estimators.is_quick(pipeline.make_pipeline(Own()))
    assert not estimators.is_quick(Own())
    assert not estimators.is_quick(Strange())


def test_class_values_are_those_of_a_plain_classifier() -> None:
    class Fitted:
        classes_ = np.array(["a", "b"])

        def predict(self, rows: Any) -> Any: ...

    values = estimators.class_values(Fitted())
    assert values is not None
    assert values.tolist() == ["a", "b"]
    assert estimators.class_values(object()) is None
    Fitted.classes_ = [np.array([0]), np.array([0, 1])]  # type: ignore[assignment]
    assert estimators.class_values(Fitted()) is None


def test_what_cannot_be_served_is_named() -> None:
    path = pathlib.Path("m.pkl")
    error = estimators.refuse(model.Artifact(path, path, "sklearn", "pickle"), object())
    assert "m.pkl holds builtins's object, which has none of predict" in error.message
