from __future__ import annotations

import pathlib

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from mlship import errors
from mlship.server.artifact import protowire


def saved(folder: pathlib.Path, weights: int = 4) -> pathlib.Path:
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n"]) for name in ("x", "y")]
    weight = helper.make_tensor("w", TensorProto.FLOAT, [weights], [0.0] * weights)
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", values[:1], values[1:], [weight])
    opsets = [helper.make_opsetid("", 13), helper.make_opsetid("ai.onnx.ml", 3)]
    model = helper.make_model(graph, producer_name="test", producer_version="1.2", opset_imports=opsets, ir_version=8)
    onnx.save(model, folder / "m.onnx")
    return folder / "m.onnx"


@pytest.mark.parametrize("weights", [4, 10_000])
def test_versions_and_producer(tmp_path: pathlib.Path, weights: int) -> None:
    assert protowire.onnx(saved(tmp_path, weights)) == {
        "onnx-ir": "8",
        "onnx-opset": "13",
        "onnx-opset:ai.onnx.ml": "3",
        "producer": "test 1.2",
    }


def test_a_graph_cut_short_is_told(tmp_path: pathlib.Path) -> None:
    path = saved(tmp_path, 10_000)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(errors.SpecError, match="truncated ONNX model: it has 5000 bytes"):
        protowire.onnx(path)


@given(data=st.binary(max_size=60))
def test_other_bytes_are_no_model(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "noise.bin"
    path.write_bytes(b"\x08\x07" + data)
    try:
        found = protowire.onnx(path)
    except errors.SpecError as error:
        assert "truncated ONNX" in error.message
    else:
        assert found is None or found["onnx-ir"]
