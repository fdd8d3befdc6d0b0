from __future__ import annotations

import numpy as np
import pytest

from mlship import errors
from mlship.protocol import binary, messages


def tensor(datatype: str, data: messages.Array) -> messages.Tensor:
    return messages.Tensor("y", datatype, data)


def test_numbers_are_read_without_a_copy() -> None:
    raw = np.arange(6, dtype="<f4").tobytes()
    array = binary.decode(raw, datatype="FP32", shape=(2, 3), where="x")
    assert array.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert array.dtype == np.float32
    assert np.shares_memory(array, np.frombuffer(raw, np.uint8))


def test_an_unaligned_buffer_is_copied_so_that_native_code_may_read_it() -> None:
    body = b"x" + np.arange(3, dtype="<f8").tobytes()
    array = binary.decode(memoryview(body)[1:], datatype="FP64", shape=(3,), where="x")
    assert array.tolist() == [0, 1, 2]
    assert array.flags.aligned


def test_any_byte_but_zero_is_true() -> None:
    assert binary.decode(b"\x00\x01\xff", datatype="BOOL", shape=(3,), where="x").tolist() == [False, True, True]


@pytest.mark.parametrize("size", [0, 7, 9, 16])
def test_a_size_that_is_not_the_shapes_is_refused(size: int) -> None:
    with pytest.raises(errors.SpecError, match=rf"x: expected 8 bytes for FP32 of shape \[2\], got {size}"):
        binary.decode(b"\x00" * size, datatype="FP32", shape=(2,), where="x")


@pytest.mark.parametrize(
    ("raw", "shape", "says"),
    [
        (b"", (1,), "expected 1 BYTES elements"),
        (b"\x00" * 8, (2**40,), "expected 1099511627776 BYTES elements"),
        (b"\x05\x00\x00\x00ab", (1,), "truncated: element 0 of 1"),
        (b"\x01\x00\x00\x00a\x01\x00", (2,), "expected 2 BYTES elements"),
        (b"\x03\x00\x00\x00abc\x01", (2,), "truncated: element 1 of 2"),
        (b"\xff\xff\xff\xff", (1,), "truncated"),
        (b"\x01\x00\x00\x00ab", (1,), "1 bytes are left over"),
        (b"a", (0,), "1 bytes are left over"),
    ],
)
def test_broken_elements_are_refused(raw: bytes, shape: tuple[int, ...], says: str) -> None:
    with pytest.raises(errors.SpecError, match=says):
        binary.decode(raw, datatype="BYTES", shape=shape, where="x")


def test_elements_go_out_with_their_lengths() -> None:
    raw = binary.encode(tensor("BYTES", np.array([b"ab", "ü", "", {"a": 1}], dtype=object)))
    assert raw == b"\x02\x00\x00\x00ab\x02\x00\x00\x00\xc3\xbc\x00\x00\x00\x00" + b'\x07\x00\x00\x00{"a":1}'


def test_numbers_go_out_little_endian_and_row_major() -> None:
    data = np.asfortranarray(np.array([[1, 2], [3, 4]], dtype=">i2"))
    assert binary.encode(tensor("INT16", data)) == b"\x01\x00\x02\x00\x03\x00\x04\x00"


def test_a_missing_element_has_no_binary_form() -> None:
    with pytest.raises(errors.SpecError, match="missing value"):
        binary.encode(tensor("BYTES", np.array(["a", None], dtype=object)))
