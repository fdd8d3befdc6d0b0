"""Reads a model file byte by byte, compressed or not, with a bound on what it may inflate to.

``pickles`` looks at pickles through this reader. A plain file is skipped through with ``seek``, so that a model
of many gigabytes is looked at in the time its opcodes take; a compressed one has to be inflated, which is bounded: a
small file that inflates without end is an attack or an accident, and either way no reason to fill the machine.
The compressions are those joblib writes (zlib, gzip, bz2, lzma, xz, lz4).
"""

from __future__ import annotations

import bz2
import gzip
import importlib
import importlib.util
import io
import lzma
import pathlib
import zlib
from collections.abc import Callable
from typing import BinaryIO, cast

from mlship import errors

MAX_INFLATED = 2 << 30
MAX_LINE = 1 << 20
_CHUNK = 1 << 18

# Magic numbers of the formats; zlib has none, but its two header bytes are a multiple of 31 (RFC 1950, section 2.2).
_MAGIC = (
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bz2"),
    (b"\xfd7zXZ", "xz"),
    (b"\x5d\x00\x00", "lzma"),
    (b"\x04\x22\x4d\x18", "lz4"),
)


class Truncated(Exception):
    """The stream ended in the middle of something."""


class Corrupt(Exception):
    """The compressed stream is broken."""


class Bounded(Exception):
    """The bound was reached before the end."""


def compression(head: bytes) -> str:
    """The compression a file's first bytes speak of; empty when none."""
    for magic, name in _MAGIC:
        if head.startswith(magic):
            return name
    if len(head) >= 2 and head[0] == 0x78 and int.from_bytes(head[:2], "big") % 31 == 0:
        return "zlib"
    return ""


class _Zlib(io.RawIOBase):
    """A zlib stream as a file; the standard library has one for every format but this."""

    def __init__(self, raw: BinaryIO) -> None:
        self._raw = raw
        self._inflate = zlib.decompressobj()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer)  # type: ignore[arg-type]  # typeshed says object where it means a buffer
        while not self._inflate.eof:
            data = self._inflate.unconsumed_tail or self._raw.read(_CHUNK)
            if not data:
                raise EOFError("the zlib stream has no end")
            if found := self._inflate.decompress(data, len(view)):
                view[: len(found)] = found
                return len(found)
        return 0

    def close(self) -> None:
        self._raw.close()
        super().close()


def _lz4(raw: BinaryIO) -> BinaryIO:
    if importlib.util.find_spec("lz4") is None:
        raise errors.SpecError(
            "the model file is compressed with lz4, and the package lz4 is not installed.",
            hint="Install it (pip install lz4) or save the model again with joblib.dump(model, path, compress=3).",
        )
    return cast(BinaryIO, importlib.import_module("lz4.frame").open(raw, "rb"))


_OPEN: dict[str, Callable[[BinaryIO], BinaryIO]] = {
    "gzip": lambda raw: cast(BinaryIO, gzip.GzipFile(fileobj=raw)),
    "bz2": lambda raw: cast(BinaryIO, bz2.BZ2File(raw)),
    "xz": lambda raw: cast(BinaryIO, lzma.LZMAFile(raw)),  # noqa: SIM115 - Reader closes it
    "lzma": lambda raw: cast(BinaryIO, lzma.LZMAFile(raw)),  # noqa: SIM115 - Reader closes it
    "zlib": lambda raw: cast(BinaryIO, io.BufferedReader(_Zlib(raw), _CHUNK)),
    "lz4": _lz4,
}


class Reader:
    """Reads a file forwards. ``position`` counts the bytes after inflation.

    Args:
        limit: how many bytes a compressed file may inflate to before ``Bounded`` is raised.

    Raises from its methods: ``Truncated``, ``Corrupt``, ``Bounded``; ``errors.SpecError`` when lz4 is missing.
    """

    def __init__(self, path: pathlib.Path, *, limit: int = MAX_INFLATED) -> None:
        raw = path.open("rb")
        self.compression = compression(raw.read(8))
        raw.seek(0)
        self._size = path.stat().st_size
        self._limit = limit
        self.position = 0
        try:
            self._stream = _OPEN[self.compression](raw) if self.compression else raw
        except BaseException:
            raw.close()
            raise
        self._raw = raw

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()
        self._raw.close()

    def _fetch(self, read: Callable[[int], bytes], count: int) -> bytes:
        if self.compression and self.position + count > self._limit:
            raise Bounded
        try:
            data = read(count)
        except EOFError as error:
            raise Truncated from error
        except (OSError, zlib.error, lzma.LZMAError, ValueError, RuntimeError) as error:
            raise Corrupt(str(error)[:300]) from error
        self.position += len(data)
        return data

    def read(self, count: int) -> bytes:
        """Exactly ``count`` bytes (callers keep it small)."""
        data = self._fetch(self._stream.read, count)
        if len(data) < count:
            raise Truncated
        return data

    def readline(self) -> bytes:
        """One line with its newline, of at most ``MAX_LINE`` bytes."""
        line = self._fetch(self._stream.readline, MAX_LINE)
        if not line.endswith(b"\n"):
            raise Truncated
        return line

    def skip(self, count: int) -> None:
        """Pass over ``count`` bytes."""
        if not self.compression:
            if self.position + count > self._size:
                self.position = self._size
                raise Truncated
            self._stream.seek(count, io.SEEK_CUR)
            self.position += count
            return
        while count > 0:
            step = min(count, _CHUNK)
            self.read(step)
            count -= step
