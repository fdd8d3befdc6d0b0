from __future__ import annotations

import datetime
from typing import Any

import numpy as np
import orjson
import pytest

from mlship import errors
from mlship.protocol import content_types, messages


def texts(*values: Any, shape: tuple[int, ...] | None = None) -> messages.Array:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array if shape is None else array.reshape(shape)


def tensor(data: messages.Array, content_type: str = "", datatype: str = "BYTES", name: str = "x") -> messages.Tensor:
    return messages.Tensor(name, datatype, data, {"content_type": content_type} if content_type else {})


def applied(*inputs: messages.Tensor, default: str = "") -> tuple[messages.Tensor, ...]:
    parameters = {"content_type": default} if default else {}
    return content_types.apply(messages.InferRequest("m", inputs=inputs, parameters=parameters)).inputs


def test_without_content_types_the_request_is_the_same() -> None:
    request = messages.InferRequest("m", inputs=(tensor(texts(b"a")),), parameters={"k": 1})
    assert content_types.apply(request) is request


@pytest.mark.parametrize(
    ("kind", "given", "expected"),
    [
        ("np", [b"a"], [b"a"]),
        ("str", [b"\xc3\xbc", "a", None], ["ü", "a", None]),
        ("base64", ["YQ==", b"/w==", None], [b"a", b"\xff", None]),
        ("json", ['{"a": [1]}', b"null", "5"], [{"a": [1]}, None, 5]),
        ("pd", [b"a", None], ["a", None]),
    ],
)
@pytest.mark.parametrize("own", [True, False])
def test_elements_become_what_they_stand_for(kind: str, given: list[Any], expected: list[Any], own: bool) -> None:
    data = texts(*given)
    (found,) = applied(tensor(data, kind)) if own else applied(tensor(data), default=kind)
    assert found.data.tolist() == expected


def test_dates_become_numpy_dates_in_utc() -> None:
    data = texts("2024-05-01", b"2024-05-01T12:00:00.5", "2024-05-01T12:00:00+02:00", None, shape=(4, 1))
    (found,) = applied(tensor(data, "datetime"))
    assert found.data.dtype == np.dtype("datetime64[us]")
    assert found.shape == (4, 1)
    assert found.data.ravel().tolist() == [
        datetime.datetime(2024, 5, 1),  # noqa: DTZ001 - NumPy's dates have no zone
        datetime.datetime(2024, 5, 1, 12, 0, 0, 500_000),  # noqa: DTZ001
        datetime.datetime(2024, 5, 1, 10),  # noqa: DTZ001
        None,
    ]


def test_pd_columns_are_flat() -> None:
    number, text = applied(
        tensor(np.array([[1.0], [2.0]]), datatype="FP64"), tensor(texts(b"a", b"b", shape=(2, 1))), default="pd"
    )
    assert number.data.tolist() == [1.0, 2.0]
    assert text.data.tolist() == ["a", "b"]


def test_a_tensors_own_type_goes_first() -> None:
    a, b = applied(tensor(texts("YQ=="), "base64"), tensor(texts(b"b"), name="b"), default="str")
    assert (a.data.tolist(), b.data.tolist()) == ([b"a"], ["b"])


def test_a_default_for_text_leaves_numbers_alone() -> None:
    (found,) = applied(tensor(np.array([1.0]), datatype="FP64"), default="str")
    assert found.data.tolist() == [1.0]


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ([{"a": 1, "b": "x"}, {"a": 2, "b": "y"}], {"a": [1, 2], "b": ["x", "y"]}),
        ({"a": {"0": 1, "1": 2}, "b": {"0": "x", "1": "y"}}, {"a": [1, 2], "b": ["x", "y"]}),
        ({"a": [1, 2], "b": ["x", "y"]}, {"a": [1, 2], "b": ["x", "y"]}),
        ({"columns": ["a", "b"], "index": [0, 1], "data": [[1, "x"], [2, "y"]]}, {"a": [1, 2], "b": ["x", "y"]}),
    ],
)
def test_pd_json_is_a_table_in_one_element(table: Any, expected: dict[str, list[Any]]) -> None:
    found = applied(tensor(texts(orjson.dumps(table))), default="pd_json")
    assert {item.name: item.data.tolist() for item in found} == expected


@pytest.mark.parametrize(
    ("inputs", "default", "says"),
    [
        ([tensor(texts("a"), "npy")], "", "inputs[0].parameters.content_type: unknown content type 'npy'"),
        ([tensor(texts("a"))], "padnas", "parameters.content_type: unknown content type 'padnas'"),
        ([tensor(texts(b"\xff"), "str")], "", "inputs[0], element 0: expected UTF-8 text"),
        ([tensor(texts("YQ==", "!"), "base64")], "", "inputs[0], element 1: expected base64, got '!'"),
        ([tensor(texts("é"), "base64")], "", "expected base64"),
        ([tensor(texts("yesterday"), "datetime")], "", "expected an ISO 8601 date or time, got 'yesterday'"),
        ([tensor(texts("0001-01-01T00:00:00+23:00"), "datetime")], "", "expected an ISO 8601"),
        ([tensor(texts("{"), "json")], "", "not valid JSON"),
        ([tensor(texts("[" * 200 + "]" * 200), "json")], "", "levels deep"),
        ([tensor(np.array([1.0]), "str", "FP64")], "", "content type str needs the datatype BYTES, got FP64"),
        ([tensor(texts("[]"), "pd_json")], "", "pd_json describes a whole request"),
        ([tensor(texts("a", "b"))], "pd_json", "pd_json expects one BYTES tensor with one element"),
        ([tensor(texts("5"))], "pd_json", "inputs[0]: expected an object"),
        ([tensor(texts("[5]"))], "pd_json", "expected an array of objects, one per row"),
        ([tensor(texts(b'{"a": {"0": 1}, "b": {"1": 1}}'))], "pd_json", "the same row labels in every column"),
    ],
)
def test_data_that_is_not_of_its_type_is_refused(inputs: list[messages.Tensor], default: str, says: str) -> None:
    with pytest.raises(errors.SpecError) as caught:
        applied(*inputs, default=default)
    assert says in str(caught.value)


def test_text_is_there_for_those_who_hold_bytes() -> None:
    assert content_types.text(texts(b"a", "b", None)).tolist() == ["a", "b", None]
