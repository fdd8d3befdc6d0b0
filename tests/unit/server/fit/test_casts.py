from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mlship import errors
from mlship.protocol import messages
from mlship.server.fit import casts


def cast(values: object, to: str, dtype: object = None) -> messages.Array:
    return casts.cast(np.asarray(values, dtype=dtype), to=to, where='input "x"')


@pytest.mark.parametrize(
    ("values", "dtype", "to"),
    [
        ([1, 2], "int64", "FP32"),
        ([1, 2], "int64", "INT32"),
        ([1.5, 2.25], "float64", "FP32"),
        ([1.5, np.nan, np.inf], "float64", "FP16"),
        ([True, False], "bool", "FP64"),
        ([True, False], "bool", "UINT8"),
        ([0, 1], "int64", "BOOL"),
        ([1.0, -3.0], "float64", "INT64"),
        ([2**63], "uint64", "UINT64"),
    ],
)
def test_a_cast_that_keeps_every_value_is_made(values: list[object], dtype: str, to: str) -> None:
    found = cast(values, to, dtype)
    assert found.dtype == messages.NUMPY_OF[to]
    np.testing.assert_array_equal(found.astype("float64"), np.asarray(values, dtype="float64"))


@pytest.mark.parametrize(
    ("values", "dtype", "to", "said"),
    [
        ([2**31], "int64", "INT32", "expected INT32, got INT64 with a value that INT32 cannot hold: 2147483648"),
        ([-1], "int64", "UINT8", "expected UINT8, got INT64 with a value that UINT8 cannot hold: -1"),
        ([2**63], "uint64", "INT64", "expected INT64, got UINT64"),
        ([1.5], "float64", "INT64", "expected INT64, got FP64 with a value that INT64 cannot hold: 1.5"),
        ([np.nan], "float64", "INT32", "expected INT32, got FP64"),
        ([2.0**63], "float64", "INT64", "expected INT64, got FP64"),
        ([1e300], "float64", "FP32", "expected FP32, got FP64 with a value that FP32 cannot hold: 1e+300"),
        ([2], "int64", "BOOL", "expected BOOL, got INT64"),
        (["5.1"], object, "FP32", "expected FP32, got strings such as '5.1'"),
        ([b"x"], object, "INT64", "expected INT64, got strings such as b'x'"),
        ([1.0, "x"], object, "FP64", "got strings such as 'x'"),
        ([None, 1], object, "INT64", "expected INT64, got null"),
        ([2**70], object, "INT64", "beyond 64 bits"),
        ([1, 2], "int64", "BYTES", "expected BYTES (strings), got INT64"),
        (["a", 1], object, "BYTES", "expected BYTES (strings), got numbers such as 1"),
        ([[1], [1, 2]], object, "FP32", "values of type list"),
    ],
)
def test_a_cast_that_would_change_a_value_says_expected_and_got(
    values: list[object], dtype: object, to: str, said: str
) -> None:
    with pytest.raises(errors.SpecError) as caught:
        cast(values, to, dtype)
    assert said in caught.value.message
    assert caught.value.message.startswith('input "x":')


def test_missing_values_are_nan_where_there_is_one() -> None:
    np.testing.assert_array_equal(cast([[1, None]], "FP32", object), np.asarray([[1, np.nan]], dtype="float32"))
    strings = np.asarray(["a", None], dtype=object)
    assert casts.cast(strings, to="BYTES", where="", missing=True).tolist() == ["a", None]
    with pytest.raises(errors.SpecError, match="got null"):
        casts.cast(strings, to="BYTES", where="")


def test_an_input_of_any_datatype_takes_the_array_as_sent() -> None:
    data = np.asarray(["a", 1], dtype=object)
    assert casts.cast(data, to="", where="") is data


def test_an_empty_object_array_casts() -> None:
    assert cast([], "FP32", object).dtype == np.float32


@given(
    data=hnp.arrays(
        st.sampled_from(["int8", "uint8", "int32", "uint32", "int64", "uint64", "float32", "float64", "bool"]),
        st.integers(0, 5),
    ),
    to=st.sampled_from([name for name in messages.NUMPY_OF if name != "BYTES"]),
)
def test_a_cast_never_changes_a_whole_number_silently(data: messages.Array, to: str) -> None:
    try:
        found = casts.cast(data, to=to, where="")
    except errors.SpecError:
        return
    assert found.dtype == messages.NUMPY_OF[to]
    if found.dtype.kind != "f":
        assert [int(value) for value in data.tolist()] == [int(value) for value in found.tolist()]


def test_got_names_what_an_object_array_holds() -> None:
    assert casts.got(np.asarray(["a"], dtype=object)) == "BYTES"
    assert casts.got(np.asarray(["a", 1, None], dtype=object)) == "null and numbers and strings"
    assert casts.got(np.asarray([1.0])) == "FP64"
    assert casts.got(np.asarray([1j])) == "complex128"


def test_dates_are_text_for_a_model_that_takes_strings() -> None:
    dates = np.array(["2020-01-02T03:04:05"], dtype="datetime64[us]")
    assert casts.cast(dates, to="BYTES", where="x").tolist() == ["2020-01-02T03:04:05.000000"]
    assert casts.cast(dates, to="", where="x") is dates
