from __future__ import annotations

import gc
import math
import os
import pathlib
import socket
from collections.abc import Iterator
from typing import Any

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies
from hypothesis.extra import numpy as arrays_of

from mlship import errors
from mlship.server import process_wire


class Line:
    """Both ends of one direction."""

    def __init__(self) -> None:
        self.near, self.far = socket.socketpair()
        self.outbox, self.inbox = process_wire.Outbox(), process_wire.Inbox()

    def carry(self, head: Any, arrays: Any, *, own: bool = False) -> process_wire.Message:
        # Whatever fits the socket's buffer is sent before anybody reads; large arrays do not go through it.
        process_wire.send(self.near, process_wire.pack(head, arrays, self.outbox))
        self.outbox.sent()
        return process_wire.receive(self.far, self.inbox, own=own)

    def close(self) -> None:
        self.near.close()
        self.far.close()


@pytest.fixture
def line() -> Iterator[Line]:
    made = Line()
    yield made
    made.close()


def descriptors() -> int:
    return len(list(pathlib.Path("/proc/self/fd").iterdir()))


DTYPES = strategies.one_of(
    arrays_of.boolean_dtypes(),
    arrays_of.integer_dtypes(endianness="?"),
    arrays_of.floating_dtypes(endianness="?", sizes=(16, 32, 64)),
    arrays_of.complex_number_dtypes(),
    arrays_of.unicode_string_dtypes(max_len=5),
    arrays_of.byte_string_dtypes(max_len=5),
    arrays_of.datetime64_dtypes(endianness="<"),
)
SHAPES = arrays_of.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)
OBJECTS = strategies.one_of(
    strategies.binary(max_size=9), strategies.text(max_size=9), strategies.integers(), strategies.none()
)


@hypothesis.given(data=strategies.data())
@hypothesis.settings(max_examples=200, deadline=None)
def test_every_array_arrives_as_it_was(data: strategies.DataObject) -> None:
    line = Line()
    try:
        plain = data.draw(arrays_of.arrays(data.draw(DTYPES), data.draw(SHAPES)))
        objects = data.draw(arrays_of.arrays(object, data.draw(SHAPES), elements=OBJECTS))
        found = line.carry({"n": 1}, {"plain": plain, "turned": plain.T, "objects": objects})
    finally:
        line.close()
    assert found.head == {"n": 1}
    for name, sent in {"plain": plain, "turned": plain.T, "objects": objects}.items():
        got = found.arrays[name]
        assert (got.dtype, got.shape) == (sent.dtype, sent.shape)
        assert [type(item) for item in got.ravel().tolist()] == [type(item) for item in sent.ravel().tolist()]
        np.testing.assert_array_equal(got, sent)


def test_what_is_inside_a_message_may_be_changed(line: Line) -> None:
    found = line.carry({}, {"small": np.zeros(3), "large": np.zeros(100_000)}).arrays
    for array in found.values():
        array += 1
        assert array.flags.aligned
        assert array.sum() == array.size


def test_large_arrays_share_memory_that_is_used_again_and_grows(line: Line) -> None:
    before = descriptors()
    sizes = (process_wire.SHARED_FROM // 8, 20_000, 100, 300_000, 20_000)
    counts = []
    for size in sizes:
        sent = {"a": np.arange(size, dtype=np.float64), "b": np.full(size, 7, np.uint8)}
        message = line.carry({}, sent)
        for name, array in sent.items():
            np.testing.assert_array_equal(message.arrays[name], array)
        message.arrays.clear()
        assert line.inbox.release()
        counts.append(descriptors() - before)
    # Each side holds the one segment of its own by one descriptor.
    assert counts == [2, 2, 2, 2, 2]


def test_memory_beyond_what_may_stay_is_given_back(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_wire, "KEPT", 2**20)
    before = descriptors()
    for _ in range(2):
        message = line.carry({}, {"a": np.ones(2**20)})
        assert message.arrays["a"].sum() == 2**20
        message.arrays.clear()
        assert line.inbox.release()
        gc.collect()
        assert descriptors() == before


def test_a_view_that_is_kept_keeps_its_memory(line: Line) -> None:
    kept = line.carry({}, {"a": np.full(20_000, 1.0)}).arrays["a"][5:10]
    assert not line.inbox.release()
    line.outbox.drop()
    line.carry({}, {"a": np.full(20_000, 2.0)})
    assert kept.tolist() == [1.0] * 5


def test_own_arrays_outlive_the_memory(line: Line) -> None:
    mine = line.carry({}, {"a": np.full(20_000, 1.0)}, own=True).arrays["a"]
    assert line.inbox.release()
    line.carry({}, {"a": np.full(20_000, 2.0)}, own=True)
    assert mine.sum() == 20_000


def test_lists_stay_lists(line: Line) -> None:
    found = line.carry({}, {"y": [1, 2.5], "z": ["a"], "n": [np.float32(1.5)], "s": 3}).arrays
    assert found["y"] == [1, 2.5]
    assert found["z"] == ["a"]
    assert (found["n"].dtype, found["n"].tolist()) == (np.dtype(np.float32), [1.5])
    assert found["s"].tolist() == 3


def test_parameters_arrive_with_their_types(line: Line) -> None:
    said = {"a": True, "b": 1, "c": 1.0, "d": "ü\udc00", "e": 2**70, "f": np.int64(3)}
    found = line.carry({"parameters": said}, {}).head["parameters"]
    assert found == said
    assert [type(value) for value in found.values()] == [bool, int, float, str, int, int]
    assert math.isnan(line.carry({"x": math.nan}, {}).head["x"])


@pytest.mark.parametrize("bad", [np.zeros(2, [("a", "i4")]), np.array([object()], object), np.array([{}, 1j], object)])
def test_what_is_no_tensor_is_refused_and_nothing_is_sent(line: Line, bad: Any) -> None:
    with pytest.raises(errors.ModelError, match='"y"'):
        process_wire.pack({}, {"large": np.zeros(100_000), "y": bad}, line.outbox)
    assert line.carry({}, {"large": np.ones(100_000)}).arrays["large"].sum() == 100_000


def test_memory_that_is_not_there_is_an_error_that_leaves_the_line_usable(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    def short(descriptor: int, start: int, size: int) -> None:
        raise OSError(12, "Cannot allocate memory")

    before = descriptors()
    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", short)
        with pytest.raises(OSError, match="Cannot allocate"):
            process_wire.pack({}, {"y": np.zeros(100_000)}, line.outbox)
    assert descriptors() == before
    assert line.carry({}, {"y": np.ones(100_000)}).arrays["y"].sum() == 100_000


def test_machines_without_nameless_memory_use_a_file(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "memfd_create")
    assert line.carry({}, {"y": np.ones(100_000)}).arrays["y"].sum() == 100_000


def test_the_end_of_the_other_side_is_told(line: Line) -> None:
    line.near.close()
    with pytest.raises(EOFError):
        process_wire.receive(line.far, line.inbox)


def test_the_end_in_the_middle_of_a_message_is_told(line: Line) -> None:
    (first, _) = process_wire.pack({"a": 1}, {"x": np.zeros(3)}, line.outbox).chunks
    line.near.sendall(bytes(first)[:-3])
    line.near.close()
    with pytest.raises(EOFError, match="middle"):
        process_wire.receive(line.far, line.inbox)


@pytest.mark.parametrize(
    "error",
    [
        errors.SpecError("bad row", hint="Mend it.", reason=errors.Reason.UNSUPPORTED),
        errors.ModelError("broken"),
        errors.NotReady("soon", retry_after=2.5),
    ],
)
def test_errors_arrive_with_all_they_say(line: Line, error: errors.MlshipError) -> None:
    found = process_wire.error_of(line.carry(process_wire.error_head(error), {}).head)
    assert type(found) is type(error)
    assert found is not None
    assert (found.message, found.hint, found.reason, found.retry_after) == (
        *(error.message, error.hint, error.reason, error.retry_after),
    )
    assert process_wire.error_of({}) is None


def test_an_error_of_a_kind_of_its_own_arrives_as_its_family() -> None:
    class Own(errors.SpecError):
        pass

    assert type(process_wire.error_of(process_wire.error_head(Own("x")))) is errors.SpecError
