from __future__ import annotations

import json
import pathlib
from typing import Any

import pytest
import yaml

import models
from mlship import errors
from mlship.protocol import messages
from mlship.server.artifact import find, mlflow_folder, schema_file

SKLEARN = {"sklearn": {"pickled_model": "iris.joblib"}, "python_function": {"loader_module": "mlflow.sklearn"}}
COLUMNS = [
    {"type": "double", "name": "age", "required": True},
    {"type": "string", "name": "city", "required": False},
    {"type": "datetime", "name": "when"},
]
TENSOR = [{"type": "tensor", "tensor-spec": {"dtype": "float64", "shape": [-1, 4]}}]


def folder(path: pathlib.Path, flavors: Any, inputs: Any = None) -> pathlib.Path:
    document: dict[str, Any] = {"flavors": flavors}
    if inputs is not None:
        document["signature"] = {"inputs": inputs if isinstance(inputs, str) else json.dumps(inputs), "outputs": None}
    (path / "MLmodel").write_text(yaml.safe_dump(document))
    return path


def test_the_native_file_is_served_with_the_recorded_signature(tmp_path: pathlib.Path) -> None:
    models.iris_pipeline(tmp_path)
    found = find.inspect(folder(tmp_path, SKLEARN, TENSOR), format="mlflow")
    assert (found.format, found.file) == ("sklearn", tmp_path / "iris.joblib")
    schema = schema_file.of(found)
    assert schema is not None
    assert schema.inputs == (messages.TensorSpec("input-0", "FP64", (-1, 4)),)


def test_columns_of_a_signature(tmp_path: pathlib.Path) -> None:
    models.iris_pipeline(tmp_path)
    _, schema = mlflow_folder.resolve(folder(tmp_path, SKLEARN, COLUMNS))
    assert schema is not None
    assert schema.inputs == (
        messages.TensorSpec("age", "FP64", (-1,)),
        messages.TensorSpec("city", "BYTES", (-1,), optional=True),
        messages.TensorSpec("when", "", (-1,)),
    )


def test_without_a_signature_there_is_no_schema(tmp_path: pathlib.Path) -> None:
    models.iris_pipeline(tmp_path)
    assert mlflow_folder.resolve(folder(tmp_path, SKLEARN)) == (tmp_path / "iris.joblib", None)


@pytest.mark.parametrize(
    ("maker", "flavour"),
    [
        (models.xgboost_json, "xgboost"),
        (models.lightgbm_txt, "lightgbm"),
        (models.catboost_cbm, "catboost"),
        (models.onnx_iris, "onnx"),
    ],
)
def test_other_flavours(tmp_path: pathlib.Path, maker: Any, flavour: str) -> None:
    made = maker(tmp_path)
    found = find.inspect(folder(tmp_path, {flavour: {"data": made.path.name}}))
    assert (found.format, found.file) == (made.format, made.path)


@pytest.mark.parametrize(
    ("flavors", "said"),
    [
        ({"python_function": {"loader_module": "mlflow.pyfunc.model"}}, "PythonModel classes run"),
        ({"spark": {"model_data": "x"}}, "flavour spark: recognised, not served yet"),
        ({}, "names no flavors"),
        ({"sklearn": {"pickled_model": "../../etc/passwd"}}, "a file outside its folder"),
        ({"sklearn": {"pickled_model": "gone.pkl"}}, "there is no such file"),
    ],
)
def test_what_only_mlflow_could_load_is_refused(tmp_path: pathlib.Path, flavors: Any, said: str) -> None:
    with pytest.raises(errors.SpecError) as caught:
        find.inspect(folder(tmp_path, flavors))
    assert said in str(caught.value)


@pytest.mark.parametrize("inputs", ["{", "[1]", '[{"name": "x"}]'])
def test_a_broken_signature_is_refused(tmp_path: pathlib.Path, inputs: str) -> None:
    models.iris_pipeline(tmp_path)
    with pytest.raises(errors.SpecError, match="the signature in MLmodel cannot be read"):
        find.inspect(folder(tmp_path, SKLEARN, inputs))


@pytest.mark.parametrize("text", ["a: [", "- list", "\x00"])
def test_a_broken_mlmodel_is_refused(tmp_path: pathlib.Path, text: str) -> None:
    (tmp_path / "MLmodel").write_text(text)
    with pytest.raises(errors.SpecError, match="MLmodel"):
        find.inspect(tmp_path)
