from __future__ import annotations

import contextlib
import pathlib
import pickle

import joblib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlship.server.artifact import inflate, opcodes

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


def describe(path: pathlib.Path) -> object:
    with inflate.Reader(path) as reader:
        return opcodes.Machine(reader).run()


@given(value=VALUES, protocol=st.integers(0, pickle.HIGHEST_PROTOCOL))
def test_plain_values_come_back_as_they_were(
    tmp_path_factory: pytest.TempPathFactory, value: object, protocol: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "value.pkl"
    path.write_bytes(pickle.dumps(value, protocol=protocol))
    found = describe(path)
    if protocol > 2 or not _has_bytes(value):  # older protocols write bytes as a call
        assert found == value


def _has_bytes(value: object) -> bool:
    if isinstance(value, dict):
        return any(_has_bytes(item) for item in value.values())
    return isinstance(value, bytes) or (isinstance(value, list | tuple) and any(_has_bytes(item) for item in value))


@given(data=st.binary(max_size=200))
def test_arbitrary_bytes_end_in_a_value_or_a_named_failure(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "noise.pkl"
    path.write_bytes(b"\x80\x04" + data)
    with contextlib.suppress(opcodes.Malformed, inflate.Truncated, inflate.Bounded):
        describe(path)


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=np.int16).reshape(2, 3),
        np.array(["words", "in", "four-byte characters"]),
        np.array([b"some", b"bytes"]),
        np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")]),
        np.array(["2020-01-01"], dtype="datetime64[D]"),
        np.array([{"an": "object"}, None], dtype=object),
        np.empty((0, 3)),
        np.asfortranarray(np.ones((3, 4))),
        np.float64(3),
    ],
)
def test_the_bytes_of_arrays_are_passed_over(tmp_path: pathlib.Path, array: object) -> None:
    path = tmp_path / "arrays.joblib"
    joblib.dump({"array": array, "after": "the end"}, path)
    found = describe(path)
    assert isinstance(found, dict)
    assert found["after"] == "the end"


def test_the_number_of_opcodes_is_bounded(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opcodes, "MAX_OPS", 100)
    path = tmp_path / "long.pkl"
    path.write_bytes(pickle.dumps(list(range(1000))))
    with pytest.raises(inflate.Bounded):
        describe(path)
