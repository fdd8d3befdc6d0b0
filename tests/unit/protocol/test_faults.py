from __future__ import annotations

from typing import Any

import pytest

from mlship import errors
from mlship.protocol import faults


def test_a_fault_names_the_place_and_is_the_callers() -> None:
    error = faults.invalid("inputs[0].shape", "expected 4, got 3", hint="Count again.")
    assert error.reason is errors.Reason.INVALID
    assert str(error) == "inputs[0].shape: expected 4, got 3. Count again."


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        ({}, "an empty object"),
        ({"a": 1}, "an object"),
        ([], "an empty array"),
        ([1, 2], "an array of 2"),
        (True, "a boolean (True)"),
        (1, "an integer (1)"),
        (1.5, "a number (1.5)"),
        ("x", "a string ('x')"),
        (b"x", "bytes (b'x')"),
    ],
)
def test_values_are_described_by_kind(value: Any, text: str) -> None:
    assert faults.describe(value) == text


def test_a_field_that_is_not_there_is_said_so() -> None:
    assert "got nothing" in str(faults.unexpected("id", "a string", None))


def test_quoted_text_is_capped() -> None:
    assert len(faults.quote("x" * 10_000)) < 100
    assert len(faults.quote([0] * 10_000)) < 100


def test_the_nearest_name_comes_first() -> None:
    assert faults.nearest("inptus", ["inputs", "outputs"]).startswith("Did you mean 'inputs'?")
    assert faults.nearest("fp32", ["FP32", "FP64"]).startswith("Did you mean 'FP32'?")
    assert faults.nearest("zzz", ["inputs"]) == "Known: inputs."
    assert faults.nearest("zzz", [str(index) for index in range(50)]).endswith("...."), "long lists are cut"
