from __future__ import annotations

import decimal
from typing import Any

import numpy as np
import orjson
import pytest

from mlship import errors
from mlship.protocol import elements, messages


def test_dates_leave_as_text_and_none_for_no_date() -> None:
    dates = np.array(["2024-05-01", "NaT"], dtype="datetime64[D]")
    assert elements.of(messages.Tensor("y", "BYTES", dates)) == ["2024-05-01", None]


def test_text_and_bytes_become_strings_and_the_rest_json_text() -> None:
    values: list[Any] = ["a", b"b", np.str_("c"), None, 1, {"k": [1.5]}, np.float32(0.5)]
    assert elements.texts(values, "y") == (["a", "b", "c", None, "1", '{"k":[1.5]}', "0.5"], False)


def test_one_element_that_is_not_text_puts_all_in_base64() -> None:
    assert elements.texts(["a", b"\xff", None], "y") == (["YQ==", "/w==", None], True)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (np.int64(3), b"3"),
        (np.array([1.5, np.nan]), b"[1.5,null]"),
        (np.array(["a", "b"]), b'["a","b"]'),
        (b"ab", b'"ab"'),
        (b"\xff", b'{"b64":"/w=="}'),
        (decimal.Decimal("1.5"), b"1.5"),
        ({1: {2}}, b'{"1":[2]}'),
    ],
)
def test_what_models_return_has_a_json_form(value: Any, text: bytes) -> None:
    assert elements.dumps(value, "y") == text


def deep() -> Any:
    value: Any = 1
    for _ in range(1000):
        value = [value]
    return value


@pytest.mark.parametrize("value", [object(), 2**70, "\ud800", deep(), {"a": {"b": object()}}])
def test_what_json_cannot_carry_is_the_models_fault(value: Any) -> None:
    with pytest.raises(errors.ModelError, match="output 'y'"):
        elements.dumps(value, "y")


def test_raw_text_must_be_unicode() -> None:
    assert elements.raw(np.bytes_(b"a"), "y") == b"a"
    with pytest.raises(errors.ModelError, match="not valid Unicode"):
        elements.raw("\ud800", "y")


def test_the_answer_as_a_whole_is_named_where_no_output_is() -> None:
    with pytest.raises(errors.ModelError, match="model's answer"):
        elements.dumps({"predictions": object()})
    assert orjson.loads(elements.dumps({"a": None})) == {"a": None}
