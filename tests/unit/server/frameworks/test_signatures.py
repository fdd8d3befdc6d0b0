from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mlship import errors
from mlship.protocol import messages
from mlship.server.artifact import schema_file
from mlship.server.frameworks import frames, signatures

SPEC = messages.TensorSpec


def said(text: str) -> schema_file.Schema:
    return schema_file.parse(text)


MATRIX = frames.Matrix(features=2)
NAMED = frames.Matrix(features=2, columns=("a", "b"), named=True)
FRAME = frames.Frame((frames.Column("a", "FP64"), frames.Column("b", "BYTES")))


def test_without_a_word_nothing_changes() -> None:
    assert signatures.refine_form(MATRIX, None) is MATRIX
    assert signatures.refine_form(MATRIX, said("classes: [x]")) is MATRIX


def test_one_input_renames() -> None:
    schema = said("inputs: [{name: x, datatype: FP32, shape: [-1, 2]}]")
    assert signatures.refine_form(MATRIX, schema).specs == (SPEC("x", "FP32", (-1, 2)),)
    assert signatures.refine_form(frames.Anything(), schema).specs == (SPEC("x", "FP32", (-1, 2)),)
    texts = signatures.refine_form(frames.Texts(), said("inputs: [{name: t, datatype: BYTES}]"))
    assert texts.specs == (SPEC("t", "BYTES", (-1,)),)


def test_an_input_per_column() -> None:
    schema = said("inputs: [{name: b, datatype: INT64}, {name: a}]")
    assert signatures.refine_form(FRAME, schema).specs == (SPEC("a", "FP64", (-1,)), SPEC("b", "INT64", (-1,)))
    assert signatures.refine_form(NAMED, schema).frame
    matrix = signatures.refine_form(MATRIX, schema)
    assert (matrix.frame, matrix.columns) == (False, ("b", "a"))
    assert signatures.refine_form(frames.Anything(), schema).columns == ("b", "a")


@pytest.mark.parametrize(
    ("form", "text", "sentence"),
    [
        (MATRIX, "inputs: [{name: x, shape: [-1, 3]}]", "says 3 features, but the model has 2"),
        (MATRIX, "inputs: [{name: x}, {name: y}, {name: z}]", "says 3 inputs, but the model has 2 features"),
        (MATRIX, "columns: [a]", "says 1 columns, but the model has 2 features"),
        (NAMED, "columns: [a, c]", "says the columns a, c, but the model has the columns a, b"),
        (NAMED, "inputs: [{name: a}, {name: c}]", "says the columns a, c, but the model has the columns a, b"),
        (FRAME, "columns: [a, c]", "says the columns a, c"),
        (FRAME, "inputs: [{name: x, shape: [-1, 2]}]", "says one input 'x', but the model has a column each: a, b"),
        (frames.Texts(), "inputs: [{name: a}, {name: b}]", "says 2 inputs, but the model has one input of texts"),
    ],
)
def test_a_contradiction_names_both_sides(form: Any, text: str, sentence: str) -> None:
    with pytest.raises(errors.SpecError) as caught:
        signatures.refine_form(form, said(text))
    assert sentence in caught.value.message


def test_columns_give_names() -> None:
    assert signatures.refine_form(MATRIX, said("columns: [p, q]")).columns == ("p", "q")
    assert signatures.refine_form(NAMED, said("columns: [b, a]")).columns == ("a", "b")
    assert signatures.refine_form(FRAME, said("columns: [b, a]")) is FRAME


def test_a_schema_by_itself() -> None:
    found = signatures.of(said("inputs: [{name: x, datatype: FP32, shape: [1, 2]}]"))
    assert (found.known, found.batched) == (True, False)
    found = signatures.of(said("columns: [a, b]"))
    assert found.inputs == (SPEC("input-0", "", (-1, 2)),)
    assert not signatures.of(said("outputs: [{name: y}]")).known


@pytest.mark.parametrize(
    ("specs", "columns", "text", "row"),
    [
        ([SPEC("x", "FP64", (-1, 2))], (), "[1, 2]", {"x": [[1.0, 2.0]]}),
        ([SPEC("x", "FP64", (-1, 2))], (), "[[1, 2]]", {"x": [[1.0, 2.0]]}),
        ([SPEC("x", "FP64", (-1, 2))], ("a", "b"), "{b: 2, a: 1}", {"x": [[1.0, 2.0]]}),
        ([SPEC("a", "FP64", (-1,)), SPEC("b", "BYTES", (-1,))], (), "[1, x]", {"a": [1.0], "b": ["x"]}),
        ([SPEC("a", "FP64", (-1,)), SPEC("b", "", (-1,))], (), "{b: x}", {"b": ["x"]}),
        ([SPEC("t", "BYTES", (-1,))], (), "[hello]", {"t": ["hello"]}),
    ],
)
def test_examples_in_every_form(specs: Any, columns: Any, text: str, row: dict[str, Any]) -> None:
    found = signatures.example_of(said(f"example: {text}"), specs, columns)
    assert {name: values.tolist() for name, values in found.items()} == row


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[1, x]", "does not fit the input 'x' (FP64, shape [-1, 2])"),
        ("[1, 2, 3]", "has the shape [1, 3], the input 'x' takes [-1, 2]"),
        ("{y: 1}", "an example value for 'y'"),
    ],
)
def test_examples_that_do_not_fit(text: str, sentence: str) -> None:
    with pytest.raises(errors.SpecError) as caught:
        signatures.example_of(said(f"example: {text}"), [SPEC("x", "FP64", (-1, 2))], ())
    assert sentence in caught.value.message


class Scores:
    """A model whose answer is what it was given."""

    platform = "test"

    def __init__(self, class_values: Any = None) -> None:
        self.signature = messages.Signature(outputs=(SPEC("y", "FP64", (-1,)),), default_outputs=("y",))
        self.class_values = class_values

    def infer(self, inputs: Any, *, outputs: Any, parameters: Any) -> Any:
        return {"y": inputs["y"]}

    def close(self) -> None: ...


@pytest.mark.parametrize(
    ("values", "class_values", "labels"),
    [
        (np.array([[0.1, 0.9], [0.8, 0.2]]), None, ["yes", "no"]),
        (np.array([0.1, 0.9]), None, ["no", "yes"]),
        (np.array([1, 0]), None, ["yes", "no"]),
        (np.array([20, 10]), np.array([10, 20]), ["yes", "no"]),
    ],
)
def test_labels(values: Any, class_values: Any, labels: list[str]) -> None:
    model = signatures.labelled(Scores(class_values), said("classes: [no, yes]"))  # type: ignore[arg-type]
    assert [spec.name for spec in model.signature.outputs] == ["y", "label"]
    assert model.signature.default_outputs == ("y",)
    answer = model.infer({"y": values}, outputs=("label",), parameters={})
    assert {name: array.tolist() for name, array in answer.items()} == {"label": labels}
    assert list(model.infer({"y": values}, outputs=(), parameters={})) == ["y"]


def test_more_classes_than_names_is_the_models_fault() -> None:
    model = signatures.labelled(Scores(), said("classes: [no, yes]"))  # type: ignore[arg-type]
    with pytest.raises(errors.ModelError, match="class number 5, and its schema names 2"):
        model.infer({"y": np.array([5])}, outputs=("label",), parameters={})
