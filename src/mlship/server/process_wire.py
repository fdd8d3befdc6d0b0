"""Messages between the server and a process that runs a model for it, with shared memory for large arrays.

A message on the socket is a prefix (the lengths), a JSON header, and a body with the small arrays. Arrays of
``SHARED_FROM`` bytes and more lie in a segment of shared memory instead: a file without a name (memfd), whose
descriptor travels once with the message that first uses it, so that nothing can be left behind on the machine. Each
side writes one segment and reads the other's, one message at a time. Nothing is pickled, in neither direction.

Used by ``process_pool`` in the server and by ``process_child`` in the other process. Both block: each has a thread
that does nothing else.
"""

from __future__ import annotations

import dataclasses
import json
import mmap
import os
import socket
import struct
import tempfile
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from mlship import errors

# Below this, copying through the socket costs less than a second look at the memory's bookkeeping.
SHARED_FROM = 64 * 1024
# What a segment may keep between two messages; a larger one is given back after the message that needed it.
KEPT = 64 * 1024 * 1024
_PREFIX = struct.Struct("<IQ")
_ALIGNED = 64
_PLAIN_KINDS = "biufcSUMm"

Header = dict[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class Message:
    """What came: the sender's own part of the header, and the arrays by name."""

    head: Header
    arrays: dict[str, Any]


class Outbox:
    """The shared memory that this side writes."""

    def __init__(self) -> None:
        self._map: mmap.mmap | None = None
        self._size = 0

    def reserve(self, size: int) -> int:
        """Have room for ``size`` bytes; the descriptor to send along and to close when the memory is new, else -1.

        Raises:
            OSError: the machine has not so much memory.
        """
        if size <= self._size:
            return -1
        rounded = max(mmap.PAGESIZE, 1 << (size - 1).bit_length())
        descriptor = _nameless()
        try:
            # Now, and as an error: memory that is missing when it is written to would end the process.
            os.posix_fallocate(descriptor, 0, rounded)
            self._map = mmap.mmap(descriptor, rounded)
        except BaseException:
            os.close(descriptor)
            raise
        self._size = rounded
        return descriptor

    def write(self, start: int, data: np.ndarray[Any, Any]) -> None:
        """Copy the bytes ``data`` to ``start``."""
        assert self._map is not None
        # By NumPy: it lets the other threads run while it copies.
        np.frombuffer(self._map, np.uint8, data.size, start)[:] = data

    def sent(self) -> None:
        """The message is out: what is larger than a segment may stay is given back, once the reader is done."""
        if self._size > KEPT:
            self.drop()

    def drop(self) -> None:
        """Use other memory next time: somebody holds on to this."""
        self._map, self._size = None, 0


def _nameless() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("mlship", os.MFD_CLOEXEC)
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


class Inbox:
    """The shared memory that the other side writes."""

    def __init__(self) -> None:
        self._map: mmap.mmap | None = None
        self._given: Callable[[], object] = _nothing

    def renew(self, descriptor: int) -> None:
        """Read from other memory from now on; the descriptor is closed."""
        try:
            self._map = mmap.mmap(descriptor, 0)
        finally:
            os.close(descriptor)

    def view(self) -> np.ndarray[Any, Any]:
        """The memory, as bytes. Arrays made of it keep it alive, which is how ``release`` knows of them."""
        assert self._map is not None
        whole = np.frombuffer(self._map, np.uint8)
        self._given = weakref.ref(whole)
        return whole

    def release(self) -> bool:
        """Whether nobody holds a view of the memory any more; if somebody does, it is theirs from now on."""
        kept = self._given() is not None
        if kept or (self._map is not None and len(self._map) > KEPT):
            self._map = None
        self._given = _nothing
        return not kept


def _nothing() -> None:
    return None


# Writing


@dataclasses.dataclass(frozen=True, slots=True)
class Packed:
    """A message ready to be sent; ``descriptor`` goes along with it unless it is -1."""

    chunks: tuple[bytes | memoryview, ...]
    descriptor: int


def pack(head: Header, arrays: Mapping[str, Any], outbox: Outbox) -> Packed:
    """A message of ``head`` (JSON) and ``arrays``; large ones are copied to ``outbox`` now.

    Raises:
        ModelError: something that is no array of numbers or strings.
        OSError: the machine has no memory for it.
    """
    said = json.dumps(head, default=_plain)
    parts = [_part(name, data) for name, data in arrays.items()]
    shared = body = 0
    entries, starts = [], []
    for part in parts:
        if part.shared:
            start, shared = shared, _aligned(shared + part.size)
        else:
            start, body = body, _aligned(body + part.size)
        starts.append(start)
        entries.append([part.name, part.form, part.dtype, part.shape, part.shared, start, part.size])
    descriptor = outbox.reserve(shared) if shared else -1
    inline = bytearray(body)
    for part, start in zip(parts, starts, strict=True):
        if part.shared:
            outbox.write(start, part.data)
        else:
            inline[start : start + part.size] = part.data.tobytes()
    header = f'{{"head": {said}, "arrays": {json.dumps(entries)}}}'.encode()
    prefix = _PREFIX.pack(len(header), len(inline))
    return Packed((prefix + header, memoryview(inline)), descriptor)


def _plain(value: Any) -> Any:
    # Numbers of NumPy among the parameters.
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} cannot be sent to another process")


def _aligned(size: int) -> int:
    return -(-size // _ALIGNED) * _ALIGNED


@dataclasses.dataclass(frozen=True, slots=True)
class _Part:
    name: str
    form: str
    dtype: str
    shape: Sequence[int]
    data: np.ndarray[Any, Any]

    @property
    def size(self) -> int:
        return self.data.size

    @property
    def shared(self) -> bool:
        return self.size >= SHARED_FROM


def _part(name: str, value: Any) -> _Part:
    if isinstance(value, list | tuple) and (listed := _listed(value)) is not None:
        # A list stays one: as an array, the type of its numbers could depend on the others in it.
        return _Part(name, "list", "", (), np.frombuffer(listed, np.uint8))
    array = np.asarray(value)
    if array.dtype.kind in _PLAIN_KINDS:
        flat = array.reshape(-1) if array.flags.c_contiguous else array.flatten()
        data = flat.view(np.uint8) if array.itemsize else np.empty(0, np.uint8)
        return _Part(name, "plain", array.dtype.str, array.shape, data)
    if array.dtype.kind not in "OT":
        raise errors.ModelError(f'output "{name}" is of type {array.dtype}, which no tensor can carry.')
    return _Part(name, "objects", "O", array.shape, np.frombuffer(_objects(name, array), np.uint8))


def _listed(value: Any) -> bytes | None:
    try:
        return json.dumps(value).encode()
    except (TypeError, ValueError):
        return None


def _objects(name: str, array: np.ndarray[Any, Any]) -> bytes:
    """Kinds, one byte each, lengths, eight bytes each, and the elements' bytes."""
    kinds, texts = bytearray(), []
    for item in array.ravel():
        if isinstance(item, bytes | bytearray):
            kinds += b"b"
            texts.append(bytes(item))
        elif isinstance(item, str):
            kinds += b"s"
            texts.append(item.encode("utf-8", "surrogatepass"))
        else:
            kinds += b"j"
            texts.append(_scalar(name, item))
    lengths = np.fromiter((len(text) for text in texts), np.int64, len(texts))
    return b"".join((bytes(kinds), lengths.tobytes(), *texts))


def _scalar(name: str, item: Any) -> bytes:
    try:
        return json.dumps(item, default=_plain).encode()
    except (TypeError, ValueError) as error:
        raise errors.ModelError(
            f'"{name}" has a {type(item).__name__} in it, which is neither a number nor a string.'
        ) from error


def send(sock: socket.socket, packed: Packed) -> None:
    """Send a packed message. Raises OSError: nobody is there any more, or nobody reads it within the socket's time."""
    first, *others = packed.chunks
    if packed.descriptor >= 0:
        try:
            done = socket.send_fds(sock, [first], [packed.descriptor])
        finally:
            os.close(packed.descriptor)
        first = memoryview(first)[done:]
    for chunk in (first, *others):
        if len(chunk):
            sock.sendall(chunk)


# Reading


def receive(sock: socket.socket, inbox: Inbox, *, own: bool = False) -> Message:
    """Wait for a message.

    Args:
        own: give copies of the arrays in shared memory; otherwise they are views of it, to be let go before
            ``inbox.release``.

    Raises:
        EOFError: the other side has ended.
        OSError: it is gone, or it stopped in the middle for longer than the socket's time.
    """
    prefix, descriptor = _prefix(sock)
    header_size, body_size = _PREFIX.unpack(prefix)
    if descriptor >= 0:
        inbox.renew(descriptor)
    header = json.loads(_exactly(sock, header_size))
    # Fresh for each message: the small arrays are views of it, and whoever got them may keep them.
    body = np.frombuffer(_exactly(sock, body_size), np.uint8)
    view = inbox.view() if any(entry[4] for entry in header["arrays"]) else body
    arrays = {}
    for name, form, dtype, shape, shared, start, size in header["arrays"]:
        array = _READERS[form]((view if shared else body)[start : start + size], dtype, shape)
        arrays[name] = array.copy() if own and shared and form == "plain" else array
    return Message(header["head"], arrays)


def _prefix(sock: socket.socket) -> tuple[bytes, int]:
    flags = getattr(socket, "MSG_CMSG_CLOEXEC", 0)
    found, descriptors, _, _ = socket.recv_fds(sock, _PREFIX.size, 1, flags)
    if not found:
        raise EOFError("the other process has ended")
    return found + _exactly(sock, _PREFIX.size - len(found)), descriptors[0] if descriptors else -1


def _exactly(sock: socket.socket, size: int) -> bytearray:
    data = bytearray(size)
    rest = memoryview(data)
    while len(rest):
        got = sock.recv_into(rest)
        if not got:
            raise EOFError("the other process has ended in the middle of a message")
        rest = rest[got:]
    return data


_Bytes = np.ndarray[Any, Any]


def _read_plain(data: _Bytes, dtype: str, shape: Sequence[int]) -> np.ndarray[Any, Any]:
    found = np.dtype(dtype)
    return data.view(found).reshape(shape) if data.size else np.zeros(shape, found)


def _read_objects(data: _Bytes, _: str, shape: Sequence[int]) -> np.ndarray[Any, Any]:
    text = data.tobytes()
    count = int(np.prod(shape, dtype=np.int64))
    array = np.empty(count, object)
    start = 9 * count
    for index, length in enumerate(np.frombuffer(text, np.int64, count, count).tolist()):
        array[index] = _OBJECT[text[index]](text[start : start + length])
        start += length
    return array.reshape(shape)


def _read_list(data: _Bytes, _: str, __: Sequence[int]) -> Any:
    return json.loads(data.tobytes())


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogatepass")


_OBJECT: dict[int, Any] = {ord("b"): bytes, ord("s"): _text, ord("j"): json.loads}
_READERS: dict[str, Any] = {"plain": _read_plain, "objects": _read_objects, "list": _read_list}


# Errors


def error_head(error: errors.MlshipError) -> Header:
    """An error as the header of a message."""
    family = next(kind.__name__ for kind in type(error).__mro__ if kind.__name__ in _FAMILIES)
    return {
        "error": {
            "family": family,
            "message": error.message,
            "hint": error.hint,
            "reason": error.reason.value,
            "retry_after": error.retry_after,
        }
    }


def error_of(head: Header) -> errors.MlshipError | None:
    """The error that a message tells of, if it does."""
    told = head.get("error")
    if told is None:
        return None
    return _FAMILIES[told["family"]](
        told["message"], hint=told["hint"], reason=errors.Reason(told["reason"]), retry_after=told["retry_after"]
    )


_FAMILIES: dict[str, type[errors.MlshipError]] = {
    kind.__name__: kind
    for kind in (
        errors.SpecError,
        errors.NotReady,
        errors.Overloaded,
        errors.ModelError,
        errors.BackendError,
        errors.MlshipError,
    )
}
