"""Messages from tables: what protoc would make, and what is no table."""

from __future__ import annotations

import pytest

from mlship import descriptors


def test_what_was_made_is_read_again() -> None:
    table = {"One": ("map<string, Two> someThings = 1", "repeated int64 some_numbers = 2"), "Two": ("string name = 3",)}
    file = descriptors.described(table, package="p", name="test.proto")
    made = descriptors.classes(file, table)
    one = made["One"](someThings={"a": made["Two"](name="x")}, some_numbers=[1, 2])
    assert made["One"].FromString(one.SerializeToString()).someThings["a"].name == "x"
    assert one.SerializeToString() == b"\x0a\x08\x0a\x01a\x12\x03\x1a\x01x\x12\x02\x01\x02"
    assert [entry.name for entry in file.message_type[0].nested_type] == ["SomeThingsEntry"]


def test_a_line_that_is_no_field_is_refused() -> None:
    with pytest.raises(ValueError, match="'string = 1' is not a field"):
        descriptors.described({"X": ("string = 1",)}, package="p", name="test.proto")
