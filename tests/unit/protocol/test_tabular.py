from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mlship import errors
from mlship.protocol import tabular


@pytest.mark.parametrize(
    ("values", "datatype", "expected"),
    [
        ([1, 2], "INT64", [1, 2]),
        ([[1, 2], [3, 4]], "INT64", [[1, 2], [3, 4]]),
        ([2**63, 1], "UINT64", [2**63, 1]),
        ([2**63, -1], "FP64", [float(2**63), -1.0]),
        ([1, 2.5], "FP64", [1.0, 2.5]),
        ([[1.5]], "FP64", [[1.5]]),
        ([True, False], "BOOL", [True, False]),
        (["a", "b"], "BYTES", ["a", "b"]),
        (["a", None], "BYTES", ["a", None]),
        ([], "FP64", []),
        ([{"b64": "YQ=="}, {"b64": ""}], "BYTES", [b"a", b""]),
    ],
)
def test_one_kind_of_value_becomes_an_array_of_it(values: list[Any], datatype: str, expected: list[Any]) -> None:
    tensor = tabular.tensor("x", values, "here")
    assert (tensor.name, tensor.datatype, tensor.parameters) == ("x", datatype, {})
    assert tensor.data.tolist() == expected


@pytest.mark.parametrize("values", [[1, None], [None, 2.5], [None]])
def test_null_among_numbers_is_nan(values: list[Any]) -> None:
    tensor = tabular.tensor("x", values, "here")
    assert tensor.datatype == "FP64"
    assert np.isnan(tensor.data).tolist() == [value is None for value in values]


@pytest.mark.parametrize(
    ("values", "shape"),
    [
        ([1, "a"], (2,)),
        ([[1, "a"], [2, "b"]], (2, 2)),
        ([True, 1], (2,)),
        ([True, None], (2,)),
        ([[1, 2], [3]], (2,)),
        ([[1], 2], (2,)),
        ([[[1], [2, 3]], [4]], (2,)),
        ([{"a": 1}, 2], (2,)),
        ([{"b64": "YQ=="}, {"a": 1}], (2,)),
    ],
)
def test_everything_else_stays_what_it_is(values: list[Any], shape: tuple[int, ...]) -> None:
    tensor = tabular.tensor("x", values, "here")
    assert (tensor.datatype, tensor.shape, tensor.parameters) == ("BYTES", shape, {"content_type": "json"})
    assert tensor.data.tolist() == values


@pytest.mark.parametrize(("text", "says"), [("!", "expected base64"), (5, "expected a base64 string"), ("é", "base64")])
def test_broken_base64_is_refused(text: Any, says: str) -> None:
    with pytest.raises(errors.SpecError, match=says):
        tabular.tensor("x", [{"b64": text}], "here")


def nested(depth: int, inner: Any) -> Any:
    for _ in range(depth):
        inner = [inner]
    return inner


def test_too_many_dimensions_and_too_deep_json_are_refused() -> None:
    with pytest.raises(errors.SpecError, match="at most 32 dimensions"):
        tabular.tensor("x", nested(40, 1), "here")
    with pytest.raises(errors.SpecError, match="levels deep"):
        tabular.tensor("x", [1, nested(500, 1)], "here")
    with pytest.raises(errors.SpecError, match="levels deep"):
        tabular.tensor("x", [{"a": nested(500, 1)}, {"b": 1}], "here")


def test_records_become_columns() -> None:
    a, b = tabular.records([{"a": 1, "b": [1, 2]}, {"b": [3, 4], "a": 2}], "rows")
    assert (a.name, a.data.tolist()) == ("a", [1, 2])
    assert (b.name, b.data.tolist()) == ("b", [[1, 2], [3, 4]])


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([{}], r"rows\[0\]: expected an object with one field per input"),
        ([{"a": 1, "b": 2}, {"a": 1}], r"rows\[1\]: expected the field 'b' of the first row, got none"),
        ([{"a": 1}, {"a": 1, "c": 2}], r"rows\[1\]: unknown field 'c'"),
    ],
)
def test_records_all_have_the_same_fields(rows: list[Any], says: str) -> None:
    with pytest.raises(errors.SpecError, match=says):
        tabular.records(rows, "rows")


def test_columns_by_name() -> None:
    a, b = tabular.columns({"a": [1, 2], "b": "x"}, "inputs")
    assert a.data.tolist() == [1, 2]
    assert b.data.tolist() == ["x"]
    with pytest.raises(errors.SpecError, match="got an empty one"):
        tabular.columns({}, "inputs")


def test_a_grid_becomes_columns() -> None:
    a, b = tabular.grid(["a", "b"], [[1, "x"], [2, "y"]], "data")
    assert (a.data.tolist(), b.data.tolist()) == ([1, 2], ["x", "y"])
    assert [tensor.shape for tensor in tabular.grid(["a", "b"], [], "data")] == [(0,), (0,)]
    with pytest.raises(errors.SpecError, match="'a' is there twice"):
        tabular.grid(["a", "a"], [[1, 2]], "data")


@pytest.mark.parametrize("row", [[1], [1, 2, 3], 5, {"a": 1}])
def test_rows_are_as_long_as_there_are_columns(row: Any) -> None:
    with pytest.raises(errors.SpecError, match=r"data\[1\]: expected an array of 2 values"):
        tabular.check_rows([[1, 2], row], 2, "data")


def test_records_are_told_from_bytes() -> None:
    assert tabular.is_records([{"a": 1}, {"b64": "x"}])
    assert not tabular.is_records([{"b64": "x"}])
    assert not tabular.is_records([{"a": 1}, 2])
    assert not tabular.is_records([])
