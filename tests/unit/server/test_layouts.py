"""Folders as MLServer and Triton have them, loaded unchanged: in a repository, on use, and as the one model."""

from __future__ import annotations

import json
import pathlib
import shutil
from typing import Any

import numpy as np
import pytest
import xgboost

import model_server
import models
from mlship import errors
from mlship.server import folder, loading, wished
from mlship.server.artifact import pbtxt, triton_folder

TRITON_ONNX = """
    # An ONNX model as Triton lists it.
    platform: "onnxruntime_onnx"
    max_batch_size: 16
    input [ {{ name: "{input}" data_type: TYPE_FP32 dims: [ {width} ] }} ]
    output [ {{ name: "{output}" data_type: {type} dims: [ {dims} ] }} ]
    dynamic_batching {{ max_queue_delay_microseconds: 100 }}
    instance_group [ {{ count: 2, kind: KIND_CPU }} ]
    version_policy: {{ latest {{ num_versions: 2 }} }}
"""
FIL = """
    backend: "fil"
    max_batch_size: 8192
    input [ { name: "input__0" data_type: TYPE_FP32 dims: [ 4 ] } ]
    output [ { name: "output__0" data_type: TYPE_FP32 dims: [ %d ] } ]
    parameters [
      { key: "model_type" value: { string_value: "xgboost_json" } },
      { key: "%s" value: { string_value: "true" } }
    ]
"""


@pytest.fixture(scope="module")
def onnx(tmp_path_factory: pytest.TempPathFactory) -> models.Made:
    return models.onnx_iris(tmp_path_factory.mktemp("onnx"))


@pytest.fixture(scope="module")
def sklearn(tmp_path_factory: pytest.TempPathFactory) -> models.Made:
    return models.iris_pipeline(tmp_path_factory.mktemp("sklearn"))


def binary(path: pathlib.Path) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """A booster of two classes; rows, and the probability of the second class."""
    random = np.random.default_rng(0)
    rows = random.normal(size=(200, 4)).astype(np.float32)
    data = xgboost.DMatrix(rows, (rows[:, 0] > 0).astype(int))
    booster = xgboost.train({"objective": "binary:logistic", "nthread": 1}, data, 5)
    booster.save_model(path)
    return rows[:5], booster.predict(xgboost.DMatrix(rows[:5]))


def triton_onnx(root: pathlib.Path, made: models.Made, *, versions: tuple[str, ...] = ("1", "2", "3")) -> pathlib.Path:
    source = loading.Source("x", "1", made.path)
    own = loading.from_disk(source).signature
    (spec,) = own.inputs
    output = own.outputs[0]
    text = TRITON_ONNX.format(
        input=spec.name,
        width=spec.shape[1],
        output=output.name,
        type=f"TYPE_{output.datatype}",
        dims=", ".join(str(size) for size in output.shape[1:]),
    )
    for version in versions:
        (root / "iris" / version).mkdir(parents=True)
        shutil.copy(made.path, root / "iris" / version / "model.onnx")
    (root / "iris" / "config.pbtxt").write_text(text)
    return root / "iris"


def mlserver(root: pathlib.Path, made: models.Made, **more: Any) -> pathlib.Path:
    place = root / "some-folder"
    place.mkdir(parents=True)
    shutil.copy(made.path, place / "model.joblib")
    settings = {
        "name": "flowers",
        "implementation": "mlserver_sklearn.SKLearnModel",
        "max_batch_size": 32,
        "inputs": [{"name": "petals", "datatype": "FP64", "shape": [-1, 4]}],
        "parameters": {"uri": "./model.joblib", "version": "v7", "content_type": "np"},
    } | more
    (place / "model-settings.json").write_text(json.dumps(settings))
    return place


def body(name: str, rows: Any, datatype: str) -> dict[str, Any]:
    return {"inputs": [{"name": name, "shape": list(rows.shape), "datatype": datatype, "data": rows.ravel().tolist()}]}


def test_a_triton_folder_is_served_by_its_versions(tmp_path: pathlib.Path, onnx: models.Made) -> None:
    place = triton_onnx(tmp_path, onnx)
    sources = folder.versions(place)
    assert [source.version for source in sources] == ["2", "3"]
    (given,) = onnx.inputs.items()
    for path in (sources[0].path, place):
        model = loading.from_disk(loading.Source("iris", "1", path))
        assert model.most_rows == 16  # type: ignore[attr-defined]
        found = model.infer(dict([given]), outputs=(), parameters={})
        (name,) = found
        np.testing.assert_array_equal(found[name], onnx.expected[name])


def test_fil_answers_as_it_is_configured(tmp_path: pathlib.Path) -> None:
    wanted = {"predict_proba": 2, "output_class": 1, "other": 1}
    for parameter, width in wanted.items():
        place = tmp_path / parameter
        (place / "1").mkdir(parents=True)
        rows, chance = binary(place / "1" / "xgboost.json")
        (place / "config.pbtxt").write_text(FIL % (width, parameter))
        model = loading.from_disk(loading.Source("x", "1", place))
        assert [spec.name for spec in model.signature.inputs] == ["input__0"]
        assert [spec.name for spec in model.signature.outputs] == ["output__0"]
        found = model.infer({"input__0": rows}, outputs=(), parameters={})["output__0"]
        expected = {
            "predict_proba": np.stack([1 - chance, chance], axis=1),
            "output_class": (chance > 0.5).astype(np.float32)[:, None],
            "other": chance[:, None],
        }[parameter]
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('backend: "python"', "backend 'python'"),
        ('platform: "tensorrt_plan"', "backend 'tensorrt_plan'"),
        ('platform: "ensemble" ensemble_scheduling { step [ ] }', "ensemble_scheduling"),
        ('backend: "onnxruntime" sequence_batching { }', "sequence_batching"),
        ('backend: "fil" parameters { key: "model_type" value { string_value: "treelite_checkpoint" } }', "model_type"),
        ('backend: "onnxruntime" input [ { name: "nothing" data_type: TYPE_FP32 dims: [ 4 ] } ]', "input"),
        ('backend: "onnxruntime" max_batch_size', "in the middle of a field"),
        ('backend: "onnxruntime" default_model_filename: "../model.onnx"', "outside"),
    ],
)
def test_what_a_triton_configuration_may_not_ask(
    tmp_path: pathlib.Path, onnx: models.Made, text: str, said: str
) -> None:
    place = tmp_path / "iris"
    (place / "1").mkdir(parents=True)
    shutil.copy(onnx.path, place / "1" / "model.onnx")
    (place / "config.pbtxt").write_text(text)
    with pytest.raises(errors.SpecError, match=said):
        loading.from_disk(loading.Source("iris", "1", place))


def test_dims_that_are_not_the_models_are_refused(tmp_path: pathlib.Path, onnx: models.Made) -> None:
    place = triton_onnx(tmp_path, onnx)
    config = place / "config.pbtxt"
    config.write_text(config.read_text().replace("dims: [ 4 ]", "dims: [ 5 ]"))
    with pytest.raises(errors.SpecError, match="the model has"):
        loading.from_disk(loading.Source("iris", "1", place))


def test_mlserver_settings_name_the_model_and_its_input(tmp_path: pathlib.Path, sklearn: models.Made) -> None:
    place = mlserver(tmp_path, sklearn)
    (source,) = folder.versions(place)
    assert (source.name, source.version) == ("flowers", "7")
    model = loading.from_disk(source)
    (rows,) = sklearn.inputs.values()
    found = model.infer({"petals": rows}, outputs=(), parameters={})
    np.testing.assert_array_equal(found["predict"], sklearn.expected["predict"])


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"implementation": "models.MyModel"}, "MyModel"),
        ({"parameters": {"uri": "s3://bucket/model"}}, "fetches nothing"),
        ({"implementation": "mlserver_xgboost.XGBoostModel"}, "the format given is xgboost"),
        ({"inputs": [{"name": "x"}]}, "needs a name, a datatype and a shape"),
    ],
)
def test_what_mlserver_settings_may_not_say(
    tmp_path: pathlib.Path, sklearn: models.Made, more: dict[str, Any], said: str
) -> None:
    place = mlserver(tmp_path, sklearn, **more)
    with pytest.raises(errors.SpecError, match=said):
        loading.from_disk(loading.Source("flowers", "1", place))


@pytest.mark.parametrize("flags", [(), ("--paging",)], ids=["at start", "on use"])
def test_both_in_one_repository(
    tmp_path: pathlib.Path,
    onnx: models.Made,
    sklearn: models.Made,
    start: model_server.Start,
    flags: tuple[str, ...],
) -> None:
    triton_onnx(tmp_path, onnx)
    mlserver(tmp_path, sklearn)
    server = start("--model-repository", str(tmp_path), *flags)
    server.until_ready()
    index = server.http.post("/v2/repository/index").json()
    assert [(each["name"], each["version"]) for each in index] == [("flowers", "7"), ("iris", "2"), ("iris", "3")]
    (rows,) = sklearn.inputs.values()
    answer = server.http.post("/v2/models/flowers/infer", json=body("petals", rows, "FP64"))
    assert answer.json()["outputs"][0]["data"] == sklearn.expected["predict"].tolist()
    ((name, rows),) = onnx.inputs.items()
    answer = server.http.post("/v2/models/iris/versions/2/infer", json=body(name, rows, "FP32"))
    found = answer.json()["outputs"][0]
    assert found["data"] == onnx.expected[found["name"]].ravel().tolist()


def test_the_text_format() -> None:
    text = r"""
    a: 1 a: 2 b { c: "x\n" 'y' # said
    } d: [ 1.5, true, WORD ], e < f: -3 >; g: []
    """
    assert pbtxt.read(text, where="here") == {
        "a": [1, 2],
        "b": [{"c": ["x\ny"]}],
        "d": [1.5, True, "WORD"],
        "e": [{"f": [-3]}],
        "g": [],
    }
    for bad in ("a", "a: }", "{", "a: {", "a: [1", "a 1", 'a: "x', "a {" * 40):
        with pytest.raises(errors.SpecError, match="here line 1"):
            pbtxt.read(bad, where="here")


def test_nothing_is_wished_of_other_folders(tmp_path: pathlib.Path, sklearn: models.Made) -> None:
    assert triton_folder.of(tmp_path) is None
    model = loading.from_disk(loading.Source("x", "1", sklearn.path))
    assert wished.wished(model, None) is model
