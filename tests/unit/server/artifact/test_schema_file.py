from __future__ import annotations

import pathlib

import pytest

from mlship import errors
from mlship.protocol import messages
from mlship.server import model
from mlship.server.artifact import schema_file

WHOLE = """
inputs:
  - name: age
    datatype: fp64
  - {name: city, datatype: BYTES, shape: [-1], optional: true}
outputs:
  - {name: predict, datatype: INT64}
columns: [age, city]
classes: [no, yes]
example: {age: 30.5, city: Oslo}
"""


def artifact(options: dict[str, str]) -> model.Artifact:
    path = pathlib.Path("model.pkl")
    return model.Artifact(path, path, "sklearn", "pickle", options=options)


def test_everything_can_be_said() -> None:
    found = schema_file.parse(WHOLE)
    assert found.inputs == (
        messages.TensorSpec("age", "FP64", (-1,)),
        messages.TensorSpec("city", "BYTES", (-1,), optional=True),
    )
    assert found.outputs == (messages.TensorSpec("predict", "INT64", (-1,)),)
    assert found.columns == ("age", "city")
    assert found.classes == ("no", "yes")
    assert found.example == {"age": 30.5, "city": "Oslo"}


def test_a_schema_travels_with_the_artifact_unchanged() -> None:
    found = schema_file.parse(WHOLE)
    assert schema_file.of(artifact({"schema": schema_file.pack(found)})) == found
    assert schema_file.of(artifact({})) is None


def test_every_problem_comes_at_once_with_its_line() -> None:
    text = """
inputs:
  - name: a
    datatype: FP65
  - {datatype: FP64, shape: [0, x]}
  - {name: a, shap: [-1]}
colums: [b]
classes: one
outputs: {name: y}
outputs: []
example: 7
"""
    with pytest.raises(errors.SpecError) as caught:
        schema_file.parse(text)
    said = caught.value.message
    assert "line 4: unknown datatype 'FP65' (did you mean 'FP64'?)" in said
    assert "line 5: a dimension must be -1 (free) or a positive integer, got '0'" in said
    assert "line 5: a dimension must be -1 (free) or a positive integer, got 'x'" in said
    assert "line 5: an entry of inputs needs a name" in said
    assert "line 6: unknown field 'shap' in an entry of inputs (did you mean 'shape'?)" in said
    assert "inputs names 'a' twice" in said
    assert "line 7: unknown field 'colums' in the schema (did you mean 'columns'?)" in said
    assert "line 8: classes must be a list, got 'one'" in said
    assert "line 9: outputs must be a list, got a mapping" in said
    assert "line 10: 'outputs' is given twice" in said
    assert "line 11: example must be a row" in said


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "is empty"),
        ("- a list", "line 1: the schema must be a mapping"),
        ("columns: [a", "is not YAML at line"),
        ("columns: [a, a]", "columns names 'a' twice"),
        ("columns: [[a]]", "an entry of columns must be a name, got a list"),
        ("inputs: [{name: a, optional: maybe}]", "optional must be true or false, got 'maybe'"),
        ("inputs: [a]", "an entry of inputs must be a mapping"),
    ],
)
def test_what_is_no_schema_is_refused(text: str, sentence: str) -> None:
    with pytest.raises(errors.SpecError) as caught:
        schema_file.parse(text)
    assert sentence in caught.value.message


def test_unreadable_and_oversized_files_are_refused(tmp_path: pathlib.Path) -> None:
    path = tmp_path / schema_file.NAME
    path.write_bytes(b"columns: [\xff]")
    with pytest.raises(errors.SpecError, match="cannot be read"):
        schema_file.read(path)
    path.write_bytes(b"#" * (schema_file.MAX_BYTES + 1))
    with pytest.raises(errors.SpecError, match="more than"):
        schema_file.read(path)


@pytest.mark.parametrize("packed", ["{", "[]", '{"source": "x"}'])
def test_an_option_that_is_no_packed_schema_is_refused(packed: str) -> None:
    with pytest.raises(errors.SpecError, match="holds no packed schema"):
        schema_file.of(artifact({"schema": packed}))
