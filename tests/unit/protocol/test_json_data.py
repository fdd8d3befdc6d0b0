from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mlship import errors
from mlship.protocol import json_data, messages


def decode(data: Any, datatype: str, shape: tuple[int, ...]) -> messages.Array:
    return json_data.decode(data, datatype=datatype, shape=shape, where="x")


@pytest.mark.parametrize(
    ("data", "shape"),
    [
        ([[1, 2], [3, 4]], (2, 2)),
        ([1, 2, 3, 4], (2, 2)),
        ([[1, 2, 3, 4]], (4,)),
        ([[[1], [2], [3], [4]]], (4,)),
        ([[], []], (2, 0)),
        ([], (0, 4)),
        ([7], ()),
    ],
)
def test_data_is_flat_or_nested_as_its_shape(data: Any, shape: tuple[int, ...]) -> None:
    array = decode(data, "INT64", shape)
    assert array.shape == shape
    assert array.dtype == np.int64


@pytest.mark.parametrize(
    ("data", "shape", "says"),
    [
        ([1, 2, 3], (2, 2), "expected 4 elements for shape [2, 2], got 3"),
        ([[1, 2, 3], [4, 5, 6]], (2, 2), "got 6 of shape [2, 3]"),
        ([[1, 2, 3], [4, 5, 6]], (3, 2), "expected shape [3, 2] or a flat array, got shape [2, 3]"),
        ([[1, 2], [3]], (2, 2), "got arrays of 2 and of 1"),
        ([[1, 2], 3], (2, 2), "beside arrays"),
        ([1, [2]], (2,), "arrays beside single values"),
        ([1], (2**40,), "expected 1099511627776 elements"),
        (5, (1,), "expected an array, got an integer (5)"),
        ({"a": 1}, (1,), "expected an array, got an object"),
        (None, (1,), "expected an array, got nothing"),
        ("x", (1,), "expected an array, got a string"),
    ],
)
def test_data_of_another_shape_is_refused(data: Any, shape: tuple[int, ...], says: str) -> None:
    with pytest.raises(errors.SpecError) as caught:
        decode(data, "INT64", shape)
    assert says in caught.value.message


@pytest.mark.parametrize(
    ("data", "datatype", "says"),
    [
        (["1"], "FP32", "element 0: expected numbers for FP32, got a string ('1'). Send numbers without quotes."),
        ([1.0, True], "FP64", "element 1: expected numbers for FP64, got a boolean"),
        ([{"a": 1}], "FP32", "got an object"),
        ([1, 1.5], "INT32", "element 1: expected integers for INT32, got a number (1.5)"),
        ([1, True], "INT32", "element 1: expected integers for INT32, got a boolean"),
        ([None], "INT32", "got null"),
        ([1], "BOOL", "expected true or false, got an integer"),
        ([None], "BOOL", "expected true or false, got null"),
        ([1], "BYTES", "expected strings, got an integer"),
        ([128], "INT8", "128 is outside INT8, which holds -128 to 127"),
        ([-1], "UINT64", "-1 is outside UINT64"),
        ([2**64 - 1], "INT64", "outside INT64"),
        ([1e30], "INT64", "outside INT64"),
        ([1.8446744073709552e19], "UINT64", "outside UINT64"),
        ([0, 1e39], "FP32", "element 1: 1e+39 is too large for FP32. Send FP64."),
        ([70000], "FP16", "too large for FP16"),
    ],
)
def test_values_of_another_kind_are_refused(data: list[Any], datatype: str, says: str) -> None:
    with pytest.raises(errors.SpecError) as caught:
        decode(data, datatype, (len(data),))
    assert says in str(caught.value)


def test_whole_numbers_written_with_a_point_are_integers() -> None:
    assert decode([1.0, 2], "INT8", (2,)).tolist() == [1, 2]


def test_null_is_nan_among_numbers_and_missing_among_text() -> None:
    numbers = decode([1, None], "FP16", (2,))
    assert numbers.dtype == np.float16
    assert np.isnan(numbers[1])
    assert decode(["a", None], "BYTES", (2,)).tolist() == ["a", None]


@pytest.mark.parametrize("datatype", [name for name, dtype in messages.NUMPY_OF.items() if dtype.kind in "iu"])
def test_integers_reach_both_ends_of_their_type(datatype: str) -> None:
    info = np.iinfo(messages.NUMPY_OF[datatype])
    low, high = int(info.min), int(info.max)
    array = decode([low, high], datatype, (2,))
    assert array.tolist() == [low, high]
    assert array.dtype == messages.NUMPY_OF[datatype]
    with pytest.raises(errors.SpecError):
        decode([high + 1], datatype, (1,))
    with pytest.raises(errors.SpecError):
        decode([low - 1], datatype, (1,))
