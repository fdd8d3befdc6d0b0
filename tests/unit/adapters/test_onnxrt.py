from __future__ import annotations

import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import models
from mlship import errors
from mlship.protocol import messages

Serve = Callable[..., Any]


def graph(folder: pathlib.Path, nodes: list[Any], inputs: list[Any], outputs: list[Any]) -> pathlib.Path:
    built = helper.make_model(
        helper.make_graph(nodes, "g", inputs, outputs), opset_imports=[helper.make_opsetid("", 13)], ir_version=8
    )
    onnx.save(built, folder / "model.onnx")
    return folder / "model.onnx"


def value(name: str, kind: int, shape: list[Any]) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


def test_names_types_and_free_dimensions_are_the_models_own(tmp_path: pathlib.Path, serve: Serve) -> None:
    path = graph(
        tmp_path,
        [helper.make_node("Add", ["left", "left"], ["sum"]), helper.make_node("Neg", ["right"], ["negative"])],
        [value("left", TensorProto.FLOAT, ["batch", 3]), value("right", TensorProto.FLOAT, ["batch", "width"])],
        [value("sum", TensorProto.FLOAT, ["batch", 3]), value("negative", TensorProto.FLOAT, ["batch", None])],
    )
    model = serve(path, {"threads": "1"})
    assert model.signature.inputs == (
        messages.TensorSpec("left", "FP32", (-1, 3)),
        messages.TensorSpec("right", "FP32", (-1, -1)),
    )
    assert model.signature.outputs[1] == messages.TensorSpec("negative", "FP32", (-1, -1))
    assert model.signature.batched
    left = np.ones((2, 3), dtype=np.float32)
    answer = model.infer({"left": left, "right": left}, outputs=("negative",), parameters={})
    assert list(answer) == ["negative"]
    assert np.array_equal(answer["negative"], -left)


def test_a_fixed_batch_is_not_joined(tmp_path: pathlib.Path, serve: Serve) -> None:
    kind = TensorProto.FLOAT16
    nodes = [helper.make_node("Identity", ["x"], ["y"])]
    model = serve(graph(tmp_path, nodes, [value("x", kind, [1, 2])], [value("y", kind, [1, 2])]))
    assert not model.signature.batched
    assert model.signature.inputs[0].datatype == "FP16"


def test_strings_go_in_and_out(tmp_path: pathlib.Path, serve: Serve) -> None:
    kind = TensorProto.STRING
    nodes = [helper.make_node("Identity", ["x"], ["y"])]
    model = serve(graph(tmp_path, nodes, [value("x", kind, ["n"])], [value("y", kind, ["n"])]))
    answer = model.infer({"x": np.array([b"one", "zwei", None], dtype=object)}, outputs=(), parameters={})
    assert answer["y"].tolist() == ["one", "zwei", ""]


def test_types_the_protocol_cannot_carry_are_refused(tmp_path: pathlib.Path, serve: Serve) -> None:
    kind = TensorProto.BFLOAT16
    nodes = [helper.make_node("Identity", ["x"], ["y"])]
    path = graph(tmp_path, nodes, [value("x", kind, ["n"])], [value("y", kind, ["n"])])
    with pytest.raises(errors.SpecError, match=r"the input 'x' of type tensor\(bfloat16\)"):
        serve(path)


def test_data_of_the_wrong_shape_is_refused_by_the_runtime(tmp_path: pathlib.Path, serve: Serve) -> None:
    model = serve(models.onnx_iris(tmp_path).path)
    with pytest.raises(errors.SpecError, match="ONNX Runtime refused the inference"):
        model.infer({"X": np.ones((1, 9), dtype=np.float32)}, outputs=(), parameters={})


def test_an_operator_set_of_the_future_does_not_load(tmp_path: pathlib.Path, serve: Serve) -> None:
    nodes = [helper.make_node("Identity", ["x"], ["y"])]
    values = [value("x", TensorProto.FLOAT, ["n"])], [value("y", TensorProto.FLOAT, ["n"])]
    built = helper.make_model(
        helper.make_graph(nodes, "g", *values), opset_imports=[helper.make_opsetid("", 999)], ir_version=8
    )
    onnx.save(built, tmp_path / "model.onnx")
    with pytest.raises(errors.ModelError) as caught:
        serve(tmp_path / "model.onnx")
    assert "does not load" in caught.value.message
    assert "opset 999" in caught.value.hint


def test_the_schema_names_columns_and_an_example(tmp_path: pathlib.Path, serve: Serve) -> None:
    made = models.onnx_iris(tmp_path)
    schema = tmp_path / "model.schema.yaml"
    schema.write_text(
        "columns: [a, b, c, d]\nexample: [1, 2, 3, 4]\noutputs: [{name: output_label}]\nclasses: [s, v, w]"
    )
    model = serve(made.path)
    assert model.signature.columns == ("a", "b", "c", "d")
    assert model.signature.default_outputs == ("output_label",)
    assert np.array_equal(model.example()["X"], np.array([[1, 2, 3, 4]], dtype=np.float32))
    labels = model.infer(made.inputs, outputs=("label",), parameters={})["label"]
    assert np.array_equal(labels, np.array(["s", "v", "w"], dtype=object)[made.expected["output_label"]])
    schema.write_text("columns: [a]")
    with pytest.raises(errors.SpecError, match="names 1 columns"):
        serve(made.path)
    schema.write_text("inputs: [{name: Y}]")
    with pytest.raises(errors.SpecError, match="names the input 'Y', but the model has X"):
        serve(made.path)


def test_a_bad_number_of_threads_is_refused(tmp_path: pathlib.Path, serve: Serve) -> None:
    with pytest.raises(errors.SpecError, match="threads must be a positive number"):
        serve(models.onnx_iris(tmp_path).path, {"threads": "0"})
