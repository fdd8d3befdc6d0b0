from __future__ import annotations

import pathlib
import pickle
import sys
from collections.abc import Callable
from typing import Any

import cloudpickle
import joblib
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from sklearn import (
    cluster,
    compose,
    decomposition,
    ensemble,
    feature_extraction,
    linear_model,
    multioutput,
    neighbors,
    pipeline,
    preprocessing,
    svm,
    tree,
)

import models
from mlship import errors
from mlship.protocol import messages

Serve = Callable[..., Any]
RANDOM = np.random.default_rng(0)
FEATURES = RANDOM.normal(size=(60, 3))
TARGET = (FEATURES[:, 0] > 0).astype(int)


def saved(folder: pathlib.Path, fitted: Any) -> pathlib.Path:
    joblib.dump(fitted, folder / "model.joblib")
    return folder / "model.joblib"


def test_outputs_by_name_and_by_parameter(tmp_path: pathlib.Path, serve: Serve) -> None:
    fitted = linear_model.LogisticRegression().fit(FEATURES, TARGET)
    model = serve(saved(tmp_path, fitted))
    inputs = {"input-0": FEATURES}
    by_parameter = model.infer(inputs, outputs=(), parameters={"predict_method": "predict_proba, predict"})
    assert list(by_parameter) == ["predict_proba", "predict"]
    assert np.array_equal(by_parameter["predict_proba"], fitted.predict_proba(FEATURES))
    with pytest.raises(
        errors.SpecError, match="asks for 'predict_probs', which this model does not have; it has predict"
    ):
        model.infer(inputs, outputs=(), parameters={"predict_method": "predict_probs"})


def test_data_the_model_refuses_is_the_callers_fault(tmp_path: pathlib.Path, serve: Serve) -> None:
    model = serve(saved(tmp_path, linear_model.LinearRegression().fit(FEATURES, TARGET)))
    with pytest.raises(errors.SpecError, match="the model refused the data: Input X contains NaN"):
        model.infer({"input-0": np.full((1, 3), np.nan)}, outputs=(), parameters={})


def test_a_transformer_transforms(tmp_path: pathlib.Path, serve: Serve) -> None:
    fitted = decomposition.PCA(2).fit(FEATURES)
    model = serve(saved(tmp_path, fitted))
    assert model.signature.default_outputs == ("transform",)
    answer = model.infer({"input-0": FEATURES}, outputs=(), parameters={})
    assert np.array_equal(answer["transform"], fitted.transform(FEATURES))


def test_sparse_answers_are_filled(tmp_path: pathlib.Path, serve: Serve) -> None:
    words = np.array([["a"], ["b"], ["a"]], dtype=object)
    fitted = preprocessing.OneHotEncoder().fit(words)
    assert scipy.sparse.issparse(fitted.transform(words))
    model = serve(saved(tmp_path, fitted))
    assert model.signature.inputs[0] == messages.TensorSpec("input-0", "BYTES", (-1, 1))
    answer = model.infer({"input-0": words}, outputs=(), parameters={})
    assert np.array_equal(answer["transform"], fitted.transform(words).toarray())


@pytest.mark.parametrize(
    ("fitted", "outputs"),
    [
        (cluster.KMeans(2, n_init=1, random_state=0).fit(FEATURES), ("predict", "transform")),
        (
            ensemble.IsolationForest(n_estimators=5, random_state=0).fit(FEATURES),
            ("predict", "decision_function", "score_samples"),
        ),
        (neighbors.LocalOutlierFactor(novelty=True).fit(FEATURES), ("predict", "decision_function", "score_samples")),
        (svm.OneClassSVM().fit(FEATURES), ("predict", "decision_function", "score_samples")),
        (neighbors.KNeighborsRegressor().fit(FEATURES, FEATURES[:, :2]), ("predict",)),
        (tree.DecisionTreeRegressor().fit(FEATURES, TARGET), ("predict",)),
        (ensemble.HistGradientBoostingRegressor(max_iter=2).fit(FEATURES, TARGET), ("predict",)),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, tuple) else "",
)
def test_other_kinds_of_estimators(tmp_path: pathlib.Path, serve: Serve, fitted: Any, outputs: tuple[str, ...]) -> None:
    model = serve(saved(tmp_path, fitted))
    assert tuple(spec.name for spec in model.signature.outputs) == outputs
    answer = model.infer({"input-0": FEATURES}, outputs=outputs, parameters={})
    for name in outputs:
        assert np.array_equal(answer[name], getattr(fitted, name)(FEATURES))
    assert len(model.infer(model.example(), outputs=(), parameters={})[outputs[0]]) == 1


def test_a_list_of_answers_becomes_an_output_each(tmp_path: pathlib.Path, serve: Serve) -> None:
    targets = np.column_stack([TARGET, 1 - TARGET])
    fitted = multioutput.MultiOutputClassifier(linear_model.LogisticRegression()).fit(FEATURES, targets)
    model = serve(saved(tmp_path, fitted))
    answer = model.infer({"input-0": FEATURES}, outputs=(), parameters={"predict_method": "predict_proba"})
    assert list(answer) == ["predict_proba_0", "predict_proba_1"]
    for part, expected in zip(answer.values(), fitted.predict_proba(FEATURES), strict=True):
        assert np.array_equal(part, expected)


def test_columns_of_a_data_frame(tmp_path: pathlib.Path, serve: Serve) -> None:
    model = serve(models.titanic_pipeline(tmp_path).path)
    assert model.signature.frame
    assert {spec.name: spec.datatype for spec in model.signature.inputs} == {
        "pclass": "FP64",
        "sex": "BYTES",
        "age": "FP64",
        "fare": "FP64",
        "embarked": "BYTES",
    }
    row = model.example()
    assert row["sex"][0] in ("female", "male")
    assert 1 < row["age"][0] < 80


def test_dropped_columns_may_be_left_out(tmp_path: pathlib.Path, serve: Serve) -> None:
    table = pd.DataFrame({"a": [1.0, 2.0, 3.0], "unused": ["x", "y", "z"]})
    columns = compose.ColumnTransformer([("a", preprocessing.StandardScaler(), ["a"])])
    fitted = pipeline.make_pipeline(columns, linear_model.LinearRegression()).fit(table, [1, 2, 3])
    model = serve(saved(tmp_path, fitted))
    assert [spec.optional for spec in model.signature.inputs] == [False, True]
    answer = model.infer({"a": np.array([1.5])}, outputs=(), parameters={})
    assert np.array_equal(answer["predict"], fitted.predict(pd.DataFrame({"a": [1.5]})))


def test_names_of_numeric_features_are_columns_of_a_matrix(tmp_path: pathlib.Path, serve: Serve) -> None:
    table = pd.DataFrame(FEATURES, columns=["a", "b", "c"])
    model = serve(saved(tmp_path, linear_model.LinearRegression().fit(table, TARGET)))
    assert model.signature.columns == ("a", "b", "c")
    assert model.signature.inputs == (messages.TensorSpec("input-0", "FP64", (-1, 3)),)
    assert not model.signature.frame
    by_matrix = model.infer({"input-0": FEATURES}, outputs=(), parameters={})
    by_column = model.infer({name: FEATURES[:, i] for i, name in enumerate("abc")}, outputs=(), parameters={})
    assert np.array_equal(by_matrix["predict"], by_column["predict"])


def test_records_for_a_dict_vectorizer(tmp_path: pathlib.Path, serve: Serve) -> None:
    records = [{"city": "Oslo", "size": 1.0}, {"city": "Rome", "size": 2.0}, {"city": "Rome"}]
    fitted = pipeline.make_pipeline(feature_extraction.DictVectorizer(), linear_model.LinearRegression())
    model = serve(saved(tmp_path, fitted.fit(records, [1, 2, 3])))
    inputs = {
        "city": np.array([b"Oslo", b"Rome", b"Rome"], dtype=object),
        "size": np.array([1.0, 2.0, np.nan]),
    }
    answer = model.infer(inputs, outputs=(), parameters={})
    assert np.array_equal(answer["predict"], fitted.predict(records))


def test_class_names_are_an_output(tmp_path: pathlib.Path, serve: Serve) -> None:
    made = models.iris_pipeline(tmp_path)
    (tmp_path / "model.schema.yaml").write_text(
        "classes: [setosa, versicolor, virginica]\noutputs: [{name: predict_proba}]"
    )
    model = serve(made.path)
    assert model.signature.default_outputs == ("predict_proba",)
    answer = model.infer(made.inputs, outputs=("label", "predict"), parameters={})
    assert list(answer) == ["label", "predict"]
    names = np.array(["setosa", "versicolor", "virginica"], dtype=object)
    assert np.array_equal(answer["label"], names[made.expected["predict"]])


def test_the_schema_may_name_columns_and_give_an_example(tmp_path: pathlib.Path, serve: Serve) -> None:
    made = models.iris_pipeline(tmp_path)
    schema = tmp_path / "model.schema.yaml"
    schema.write_text("columns: [sl, sw, pl, pw]\nexample: [5.1, 3.5, 1.4, 0.2]")
    model = serve(made.path)
    assert model.signature.columns == ("sl", "sw", "pl", "pw")
    assert np.array_equal(model.example()["input-0"], [[5.1, 3.5, 1.4, 0.2]])
    schema.write_text("columns: [sl, sw]")
    with pytest.raises(errors.SpecError, match="says 2 columns, but the model has 4 features"):
        serve(made.path)
    schema.write_text("outputs: [{name: probabilities}]")
    with pytest.raises(
        errors.SpecError, match="says the output 'probabilities', but the model has the outputs predict"
    ):
        serve(made.path)


def test_what_cannot_predict_is_refused(tmp_path: pathlib.Path, serve: Serve) -> None:
    with pytest.raises(
        errors.ModelError, match="holds sklearn's DBSCAN, which can only label the data it was fitted on"
    ):
        serve(saved(tmp_path, cluster.DBSCAN().fit(FEATURES)))
    with pytest.raises(errors.ModelError, match=r"holds sklearn's KFold, which has none of predict"):
        from sklearn import model_selection

        serve(saved(tmp_path, model_selection.KFold()))


def test_an_unfitted_model_is_let_through_without_a_signature(tmp_path: pathlib.Path, serve: Serve) -> None:
    model = serve(saved(tmp_path, linear_model.LinearRegression()))
    assert not model.signature.known
    assert model.example() == {}
    with pytest.raises(errors.SpecError, match="not fitted yet"):
        model.infer({"x": FEATURES}, outputs=(), parameters={})


def test_cloudpickled_classes_are_served(tmp_path: pathlib.Path, serve: Serve) -> None:
    class Thresholder:
        def predict(self, rows: Any) -> Any:
            return (rows > 0.5).astype(int)

    (tmp_path / "model.pkl").write_bytes(cloudpickle.dumps(Thresholder()))
    model = serve(tmp_path / "model.pkl")
    answer = model.infer({"x": np.array([0.2, 0.7])}, outputs=(), parameters={})
    assert np.array_equal(answer["predict"], [0, 1])


def test_untrusted_types_of_skops_are_shown_and_may_be_trusted(tmp_path: pathlib.Path, serve: Serve) -> None:
    import skops.io

    fitted = pipeline.make_pipeline(preprocessing.FunctionTransformer(models.cubed), linear_model.LinearRegression())
    skops.io.dump(fitted.fit(FEATURES, TARGET), tmp_path / "model.skops")
    untrusted = skops.io.get_untrusted_types(file=tmp_path / "model.skops")
    with pytest.raises(errors.SpecError) as caught:
        serve(tmp_path / "model.skops")
    assert f"trusted={','.join(sorted(untrusted))}" in caught.value.hint
    model = serve(tmp_path / "model.skops", {"trusted": ",".join(untrusted)})
    answer = model.infer({"input-0": FEATURES}, outputs=(), parameters={})
    assert np.array_equal(answer["predict"], fitted.predict(FEATURES))


def test_modules_beside_the_model_are_importable(
    tmp_path: pathlib.Path, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "scaling_of_this_test"
    (tmp_path / f"{name}.py").write_text("class Twice:\n    def predict(self, rows):\n        return rows * 2\n")
    monkeypatch.setattr(sys, "path", [*sys.path])
    data = b"\x80\x04c" + name.encode() + b"\nTwice\n)\x81."
    (tmp_path / "model.pkl").write_bytes(data)
    model = serve(tmp_path)
    assert np.array_equal(model.infer({"x": np.ones(2)}, outputs=(), parameters={})["predict"], [2, 2])
    del sys.modules[name]


def test_a_class_that_moved_is_told_with_the_versions(tmp_path: pathlib.Path, serve: Serve) -> None:
    data = pickle.dumps(linear_model.LinearRegression().fit(FEATURES, TARGET), protocol=2)
    moved = data.replace(b"LinearRegression\n", b"LinearRegressiom\n", 1)
    old = moved.replace(b"_sklearn_version", b"_sklearn_version")
    (tmp_path / "model.pkl").write_bytes(old)
    with pytest.raises(errors.ModelError, match="a class or function it names is not where it was"):
        serve(tmp_path / "model.pkl")


def test_a_module_that_is_gone_is_named(tmp_path: pathlib.Path, serve: Serve) -> None:
    (tmp_path / "model.pkl").write_bytes(b"\x80\x04csklearn.no_such_part\nModel\n)\x81.")
    with pytest.raises(errors.ModelError, match=r"needs the module 'sklearn.no_such_part', which cannot be imported"):
        serve(tmp_path / "model.pkl")


def test_code_that_raises_while_loading_is_the_models_fault(tmp_path: pathlib.Path, serve: Serve) -> None:
    (tmp_path / "model.pkl").write_bytes(b"\x80\x04csklearn.tree._tree\nTree\n)R.")
    with pytest.raises(errors.ModelError, match="does not load: TypeError"):
        serve(tmp_path / "model.pkl")
