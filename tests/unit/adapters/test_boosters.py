from __future__ import annotations

import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

import models
from mlship import errors
from mlship.protocol import messages
from mlship.server import model as contract

Serve = Callable[..., Any]
RANDOM = np.random.default_rng(3)


def table(rows: int = 120) -> tuple[Any, Any]:
    frame = pd.DataFrame(
        {"size": RANDOM.normal(size=rows), "kind": pd.Categorical(RANDOM.choice(["x", "y", "z"], rows))}
    )
    return frame, ((frame["size"] > 0) ^ (frame["kind"] == "x")).astype(int)


def as_inputs(frame: Any) -> dict[str, Any]:
    return {"size": frame["size"].to_numpy(), "kind": frame["kind"].astype(object).to_numpy()}


def test_xgboost_takes_float32_and_may_run_in_threads(tmp_path: pathlib.Path, serve: Serve) -> None:
    model = serve(models.xgboost_json(tmp_path).path)
    assert model.signature.inputs == (messages.TensorSpec("input-0", "FP32", (-1, 4)),)
    assert model.signature.outputs[0] == messages.TensorSpec("predict", "FP32", (-1, 3))
    assert model.platform == "xgboost_json"
    assert model.concurrent > 1
    assert np.any(model.example()["input-0"] > 1)


@pytest.mark.parametrize("kind", ["gbtree", "gblinear", "dart"])
def test_every_kind_of_xgboost_booster(tmp_path: pathlib.Path, serve: Serve, kind: str) -> None:
    import xgboost

    features, target = RANDOM.normal(size=(80, 3)), RANDOM.normal(size=80)
    data = xgboost.DMatrix(features, target, feature_names=["a", "b", "c"])
    xgboost.train({"booster": kind}, data, 3).save_model(tmp_path / "m.ubj")
    booster = xgboost.Booster(model_file=str(tmp_path / "m.ubj"))
    model = serve(tmp_path / "m.ubj")
    assert model.signature.columns == ("a", "b", "c")
    answer = model.infer({"input-0": features.astype(np.float32)}, outputs=(), parameters={})
    assert np.array_equal(answer["predict"], booster.predict(xgboost.DMatrix(features, feature_names=["a", "b", "c"])))


def test_xgboost_with_categories(tmp_path: pathlib.Path, serve: Serve) -> None:
    import xgboost

    frame, target = table()
    fitted = xgboost.XGBClassifier(n_estimators=3, enable_categorical=True).fit(frame, target)
    fitted.save_model(tmp_path / "m.json")
    model = serve(tmp_path / "m.json")
    assert [(spec.name, spec.datatype) for spec in model.signature.inputs] == [("size", "FP64"), ("kind", "BYTES")]
    assert model.example()["kind"][0] in ("x", "y", "z")
    answer = model.infer(as_inputs(frame), outputs=(), parameters={})
    expected = fitted.get_booster().predict(xgboost.DMatrix(frame, enable_categorical=True))
    assert np.array_equal(answer["predict"], expected)


def test_lightgbm_with_categories(tmp_path: pathlib.Path, serve: Serve) -> None:
    import lightgbm

    frame, target = table()
    fitted = lightgbm.LGBMClassifier(n_estimators=3, min_child_samples=2, verbose=-1, n_jobs=1).fit(frame, target)
    fitted.booster_.save_model(tmp_path / "m.txt")
    model = serve(tmp_path / "m.txt", {"threads": "1"})
    assert [(spec.name, spec.datatype) for spec in model.signature.inputs] == [("size", "FP64"), ("kind", "BYTES")]
    answer = model.infer(as_inputs(frame), outputs=(), parameters={})
    assert np.array_equal(answer["predict"], fitted.booster_.predict(frame))
    unseen = model.infer({"size": np.zeros(1), "kind": np.array(["?"], dtype=object)}, outputs=(), parameters={})
    assert np.isfinite(unseen["predict"]).all()


def test_wrappers_fitted_on_names_take_columns(tmp_path: pathlib.Path, serve: Serve) -> None:
    import joblib
    import lightgbm
    import xgboost

    frame = pd.DataFrame(RANDOM.normal(size=(60, 2)), columns=["a", "b"])
    target = (frame.a > 0).astype(int)
    lgbm = lightgbm.LGBMRegressor(n_estimators=2, verbose=-1, n_jobs=1)
    for fitted in (xgboost.XGBRegressor(n_estimators=2).fit(frame, target), lgbm.fit(frame, target)):
        joblib.dump(fitted, tmp_path / "m.joblib")
        model = serve(tmp_path / "m.joblib", {"threads": "1"})
        assert model.signature.columns == ("a", "b")
        answer = model.infer({"input-0": frame.to_numpy()}, outputs=(), parameters={})
        assert np.array_equal(answer["predict"], fitted.predict(frame))


def test_pickled_boosters_are_served_as_boosters(tmp_path: pathlib.Path, serve: Serve) -> None:
    import joblib
    import lightgbm
    import xgboost

    made = models.xgboost_json(tmp_path)
    joblib.dump(xgboost.Booster(model_file=str(made.path)), tmp_path / "x.joblib")
    answer = serve(tmp_path / "x.joblib").infer(made.inputs, outputs=(), parameters={})
    assert np.array_equal(answer["predict"], made.expected["predict"])
    made = models.lightgbm_txt(tmp_path)
    joblib.dump(lightgbm.Booster(model_file=str(made.path)), tmp_path / "l.joblib")
    answer = serve(tmp_path / "l.joblib").infer(made.inputs, outputs=(), parameters={})
    assert np.array_equal(answer["predict"], made.expected["predict"])


def test_catboost_regressors_and_threads(tmp_path: pathlib.Path, serve: Serve) -> None:
    import catboost

    features = RANDOM.normal(size=(60, 2))
    fitted = catboost.CatBoostRegressor(iterations=3, verbose=0, allow_writing_files=False, thread_count=1)
    fitted.fit(features, features[:, 0]).save_model(str(tmp_path / "m.cbm"))
    model = serve(tmp_path / "m.cbm", {"threads": "1"})
    assert [spec.name for spec in model.signature.outputs] == ["predict", "margin"]
    answer = model.infer({"input-0": features}, outputs=(), parameters={})
    assert np.array_equal(answer["predict"], fitted.predict(features))


def test_a_pickled_catboost_model(tmp_path: pathlib.Path, serve: Serve) -> None:
    import catboost
    import joblib

    frame, target = table()
    frame["kind"] = frame["kind"].astype(str)
    fitted = catboost.CatBoostClassifier(
        iterations=3, verbose=0, allow_writing_files=False, cat_features=["kind"], thread_count=1
    ).fit(frame, target)
    joblib.dump(fitted, tmp_path / "m.joblib")
    model = serve(tmp_path / "m.joblib")
    answer = model.infer(as_inputs(frame), outputs=("predict_proba",), parameters={})
    assert np.array_equal(answer["predict_proba"], fitted.predict_proba(frame))
    with pytest.raises(errors.SpecError, match="the model refused the data"):
        model.infer({"size": np.zeros(1), "kind": np.array([1.5])}, outputs=(), parameters={})


def test_class_names_of_a_booster(tmp_path: pathlib.Path, serve: Serve) -> None:
    made = models.xgboost_json(tmp_path)
    (tmp_path / "model.schema.yaml").write_text("classes: [setosa, versicolor, virginica]")
    model = serve(made.path)
    answer = model.infer(made.inputs, outputs=("label",), parameters={})
    names = np.array(["setosa", "versicolor", "virginica"], dtype=object)
    assert np.array_equal(answer["label"], names[made.expected["predict"].argmax(axis=1)])


def test_a_share_of_the_machine_changes_no_answer(tmp_path: pathlib.Path, serve: Serve) -> None:
    for maker in (models.xgboost_json, models.xgboost_wrapper, models.lightgbm_txt, models.catboost_cbm):
        folder = tmp_path / maker.__name__
        folder.mkdir()
        made = maker(folder)
        model = serve(made.path, threads=2)
        answer = model.infer(made.inputs, outputs=tuple(made.expected), parameters={})
        for name, expected in made.expected.items():
            assert np.array_equal(answer[name], expected), (maker.__name__, name)


def test_a_share_of_the_machine_is_no_more_than_the_model_asked_for(
    tmp_path: pathlib.Path, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    import joblib
    import xgboost

    asked = []
    real = xgboost.XGBModel.set_params
    monkeypatch.setattr(xgboost.XGBModel, "set_params", lambda self, **to: (asked.append(to), real(self, **to))[1])
    for name, own in (("open.joblib", None), ("one.joblib", 1)):
        fitted = xgboost.XGBRegressor(n_estimators=2, n_jobs=own).fit(np.eye(4), np.arange(4))
        joblib.dump(fitted, tmp_path / name)
        serve(tmp_path / name, threads=3)
    assert asked == [{"n_jobs": 3}]


def test_a_bad_number_of_threads_is_refused(tmp_path: pathlib.Path, serve: Serve) -> None:
    with pytest.raises(errors.SpecError, match="threads must be a positive number, got 'many'"):
        serve(models.xgboost_json(tmp_path).path, {"threads": "many"})


@pytest.mark.parametrize(
    ("name", "form", "variant"),
    [("m.json", "xgboost", "json"), ("m.txt", "lightgbm", "txt"), ("m.cbm", "catboost", "cbm")],
)
def test_what_the_library_cannot_read_is_the_models_fault(
    tmp_path: pathlib.Path, name: str, form: str, variant: str
) -> None:
    import importlib.metadata

    path = tmp_path / name
    path.write_bytes(
        {"json": b'{"learner": {}, "version": [3, 2, 0]}', "txt": b"tree\nversion=v4\n", "cbm": b"CBM1"}[variant]
    )
    (entry,) = importlib.metadata.entry_points(group="mlship.adapters", name=form)
    with pytest.raises(errors.ModelError, match=f"{name} does not load"):
        entry.load()(contract.Artifact(path, path, form, variant))
