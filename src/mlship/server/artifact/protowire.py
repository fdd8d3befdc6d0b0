"""Reads just enough of a protobuf file to tell an ONNX model, without the onnx package.

A ``ModelProto`` (onnx/onnx.proto) is a handful of top-level fields, of which the graph is the large one: it is skipped
with ``seek``. Field 1 is the IR version, 2 and 3 name the producer, 7 is the graph, 8 the operator sets.
"""

from __future__ import annotations

import io
import pathlib
from collections.abc import Iterator
from typing import BinaryIO

from mlship import errors

_KNOWN = frozenset({1, 2, 3, 4, 5, 6, 7, 8, 14, 20, 25, 26})
_SMALL = 4096
_NEWEST_IR = 64


class _NotProto(Exception):
    """The bytes are no message of this kind."""


def _varint(stream: BinaryIO) -> int:
    value = 0
    for shift in range(0, 64, 7):
        byte = stream.read(1)
        if not byte:
            raise _NotProto
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
    raise _NotProto


def _fields(stream: BinaryIO, end: int) -> Iterator[tuple[int, int | bytes | None, int]]:
    """Field number, its value (None: passed over, being large) and where it ends, which may lie behind ``end``."""
    while stream.tell() < end:
        key = _varint(stream)
        number, wire = key >> 3, key & 7
        if wire == 0:
            yield number, _varint(stream), stream.tell()
        elif wire == 2:
            length = _varint(stream)
            stop = stream.tell() + length
            if length <= _SMALL and stop <= end:
                yield number, stream.read(length), stop
            else:
                yield number, None, stop
                stream.seek(stop)
        else:
            raise _NotProto


def _opset(data: bytes) -> tuple[str, str]:
    domain, version = "", ""
    for number, value, _ in _fields(io.BytesIO(data), len(data)):
        if number == 1 and isinstance(value, bytes):
            domain = value.decode("utf-8", "replace")
        elif number == 2:
            version = str(value)
    return f"onnx-opset:{domain}" if domain and domain != "ai.onnx" else "onnx-opset", version


def onnx(path: pathlib.Path) -> dict[str, str] | None:
    """The versions an ONNX file records; None when the file is none.

    Keys: ``onnx-ir``, ``onnx-opset`` (and ``onnx-opset:DOMAIN``), ``producer``.
    Raises ``errors.SpecError`` when the graph is cut short.
    """
    size = path.stat().st_size
    found: dict[int, bytes] = {}
    versions: dict[str, str] = {}
    with path.open("rb") as stream:
        if stream.read(1) != b"\x08":
            return None
        stream.seek(0)
        try:
            for number, value, stop in _fields(stream, size):
                if number not in _KNOWN:
                    return None
                if stop > size:
                    if number != 7 or 1 not in found:
                        return None
                    raise _cut(path, size, stop)
                found[number] = value if isinstance(value, bytes) else b""
                if number == 1:
                    versions["onnx-ir"] = str(value)
                elif number == 8 and isinstance(value, bytes):
                    domain, version = _opset(value)
                    versions[domain] = version
        except _NotProto:
            return None
    if 7 not in found or not 1 <= int(versions.get("onnx-ir", 0)) <= _NEWEST_IR:
        return None
    producer = " ".join(found[number].decode("utf-8", "replace") for number in (2, 3) if found.get(number))
    return versions | ({"producer": producer[:100]} if producer else {})


def _cut(path: pathlib.Path, size: int, stop: int) -> errors.SpecError:
    return errors.SpecError(
        f"{path.name} is a truncated ONNX model: it has {size} bytes and its graph alone ends at byte {stop}.",
        hint="The copy or the download was cut short; copy the file again and compare the sizes.",
    )
