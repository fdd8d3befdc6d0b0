from __future__ import annotations

from typing import Any

import pytest

from mlship import errors
from mlship.protocol import fields


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"", "got nothing"),
        (b"{", "line 1 column"),
        (b'{"a": NaN}', "NaN"),
        (b'{"a": nan}', "NaN"),
        (b'{"a": -Infinity}', "Infinity"),
        (b'{"a": Infinity}', "Infinity"),
        (b'{"a": 1e999}', "infinity when parsed"),
        (b"\xff\xfe", "UTF-8"),
        (b"[" * 2000 + b"]" * 2000, "depth"),
    ],
)
def test_broken_json_is_refused_with_its_place(text: bytes, says: str) -> None:
    with pytest.raises(errors.SpecError, match=says) as caught:
        fields.parse(text)
    assert caught.value.__cause__ is not None or not text


def test_nan_comes_with_advice() -> None:
    with pytest.raises(errors.SpecError) as caught:
        fields.parse(b"[NaN]")
    assert "send null" in caught.value.hint


@pytest.mark.parametrize("value", [None, [], "x", 1, 1.5, True])
def test_mapping_wants_an_object(value: Any) -> None:
    with pytest.raises(errors.SpecError, match="here: expected an object"):
        fields.mapping(value, "here")


@pytest.mark.parametrize("value", [None, {}, "x", 1])
def test_sequence_wants_an_array(value: Any) -> None:
    with pytest.raises(errors.SpecError, match="here: expected an array"):
        fields.sequence(value, "here")


@pytest.mark.parametrize("value", [None, "", 1, ["x"]])
def test_name_wants_text(value: Any) -> None:
    with pytest.raises(errors.SpecError, match="here: expected a non-empty string"):
        fields.name(value, "here")


def test_an_unknown_datatype_names_the_nearest() -> None:
    with pytest.raises(errors.SpecError, match="unknown datatype 'FLOAT32'"):
        fields.datatype("FLOAT32", "here")
    with pytest.raises(errors.SpecError, match="Did you mean 'INT64'"):
        fields.datatype("Int64", "here")
    with pytest.raises(errors.SpecError, match="BF16 is not supported"):
        fields.datatype("BF16", "here")
    with pytest.raises(errors.SpecError, match="expected a datatype"):
        fields.datatype(5, "here")


@pytest.mark.parametrize("value", [[-1], [1.0], [True], ["1"], [None], [[1]], 4, None, {"a": 1}])
def test_a_shape_has_whole_dimensions(value: Any) -> None:
    with pytest.raises(errors.SpecError, match="here"):
        fields.shape(value, "here")


@pytest.mark.parametrize("value", [[2**62, 2**62], [0, 2**62], [1] * 33])
def test_a_shape_no_array_can_have_is_refused(value: list[int]) -> None:
    with pytest.raises(errors.SpecError, match=r"too large|at most 32"):
        fields.shape(value, "here")


def test_parameters_are_scalars_and_null_is_left_out() -> None:
    assert fields.parameters(None, "p") == {}
    assert fields.parameters({"a": 1, "b": None, "c": "x", "d": False, "e": 0.5}, "p") == {
        "a": 1,
        "c": "x",
        "d": False,
        "e": 0.5,
    }
    with pytest.raises(errors.SpecError, match=r"p\.a: expected a string, a number or a boolean"):
        fields.parameters({"a": [1]}, "p")
    with pytest.raises(errors.SpecError, match="p: expected an object"):
        fields.parameters([], "p")


@pytest.mark.parametrize("key", ["classification", "shared_memory_region", "sequence_id"])
def test_extensions_that_would_change_the_answer_are_refused(key: str) -> None:
    with pytest.raises(errors.SpecError, match=f"p.{key}.*not supported"):
        fields.supported({key: 3}, "p")
    fields.supported({key: 0}, "p")


def test_a_flag_is_taken_out() -> None:
    given: dict[str, Any] = {"binary_data": True, "other": 1}
    assert fields.flag(given, "binary_data", "p") is True
    assert given == {"other": 1}
    assert fields.flag(given, "binary_data", "p") is None
    with pytest.raises(errors.SpecError, match=r"p\.binary_data: expected a boolean"):
        fields.flag({"binary_data": 1}, "binary_data", "p")


def test_names_are_distinct() -> None:
    fields.distinct(["a", "b"], "inputs")
    with pytest.raises(errors.SpecError, match="'a' is there twice"):
        fields.distinct(["a", "b", "a"], "inputs")


def test_json_that_could_not_be_written_again_is_refused() -> None:
    value: Any = 1
    for _ in range(fields.MAX_DEPTH - 1):
        value = [value]
    fields.shallow(value, "here")
    fields.shallow({"a": [1, {"b": 2}]}, "here")
    with pytest.raises(errors.SpecError, match="levels deep"):
        fields.shallow([{"a": value}], "here")
