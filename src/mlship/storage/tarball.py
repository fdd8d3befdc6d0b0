"""Reads tar archives, whatever their compression, and hands the members to ``unpacker.Unpacker``.

The stream between decompressor and tarfile is bounded: tarfile reads extended headers into memory at whatever size
they claim, and a member's padding may be a bomb of its own; so single reads are capped and every byte is counted.
"""

from __future__ import annotations

import bz2
import contextlib
import gzip
import lzma
import pathlib
import tarfile
import zlib
from collections.abc import Iterator
from typing import BinaryIO, cast

from mlship.storage import unpacker as rules

_MAX_READ = 4 << 20
_BLOCK = 512
_XZ_MEMORY = 256 << 20
_BROKEN = (tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, gzip.BadGzipFile, UnicodeError, ValueError)


def read(path: pathlib.Path, unpacker: rules.Unpacker) -> None:
    """Unpack every member. Raises ``errors.SpecError`` (damaged, against the rules), BackendError (disk)."""
    with path.open("rb") as raw:
        try:
            with _decompressed(raw) as stream:
                _members(_Bounded(stream, unpacker), unpacker)
        except _BROKEN as error:
            raise unpacker.damaged(error) from error
        except OSError as error:  # bz2 says so of invalid data, without an errno
            raise unpacker.damaged(error) from error


class _Bounded:
    """What tarfile gets for a file: forward only, reads capped, the bytes between members counted as unpacked."""

    def __init__(self, stream: rules.Readable, unpacker: rules.Unpacker) -> None:
        self._stream = stream
        self._unpacker = unpacker
        self._position = 0
        self._skipped = 0
        self.last = b""

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _MAX_READ:
            raise self._unpacker.refuse(f"one of its headers claims {size} bytes")
        self.last = self._stream.read(size)
        # A decompressor may give less than asked before its end; tarfile takes that for the end of the rules.
        while len(self.last) < size and (more := self._stream.read(size - len(self.last))):
            self.last += more
        self._position += len(self.last)
        return self.last

    def tell(self) -> int:
        return self._position

    def seek(self, position: int, whence: int = 0) -> int:
        if whence != 0 or position < self._position:
            raise tarfile.ReadError("the archive cannot be read in one pass")
        while (left := position - self._position) > 0:
            chunk = self._stream.read(min(left, 1 << 20))
            if not chunk:
                break
            self._position += len(chunk)
            if len(chunk) > _BLOCK:  # padding is less than a block; more is a member that was passed over
                self._unpacker.grow(len(chunk))
        return self._position

    def drain(self) -> None:
        """Read to the end, so that the compressed stream's own checksum is checked."""
        while chunk := self._stream.read(1 << 20):
            self._unpacker.grow(len(chunk))


def _members(stream: _Bounded, unpacker: rules.Unpacker) -> None:
    # tarfile asks for read, seek and tell only, in mode "r:".
    with tarfile.open(fileobj=cast(BinaryIO, stream), mode="r:", errorlevel=2) as tar:
        while (member := tar.next()) is not None:
            _member(tar, member, unpacker)
            tar.members.clear()  # type: ignore[attr-defined]  # or memory would grow with every member
    if stream.last.count(0) != _BLOCK:
        # tarfile takes a damaged header, or none, for the end; a real end is a block of zeros.
        raise tarfile.ReadError("it ends in the middle")
    stream.drain()


def _member(tar: tarfile.TarFile, member: tarfile.TarInfo, unpacker: rules.Unpacker) -> None:
    if member.isdir():
        unpacker.folder(member.name)
    elif member.issym():
        unpacker.link(member.name, member.linkname)
    elif member.islnk():
        unpacker.hard_link(member.name, member.linkname)
    elif member.isreg():
        try:
            tarfile.data_filter(member, str(unpacker.target))
        except tarfile.FilterError as error:
            raise unpacker.refuse(f"its member {member.name[:100]!r} is unsafe") from error
        content = tar.extractfile(member)
        assert content is not None
        with content:
            unpacker.file(member.name, content, size=member.size, executable=bool(member.mode & 0o100))
    else:
        raise unpacker.refuse(f"its member {member.name[:100]!r} is a device, a pipe or of an unknown type")


@contextlib.contextmanager
def _decompressed(raw: BinaryIO) -> Iterator[rules.Readable]:
    """By the first bytes, not the name: a server may have decompressed in passing."""
    magic = raw.read(6)
    raw.seek(0)
    if magic[:2] == b"\x1f\x8b":
        with gzip.GzipFile(fileobj=raw) as stream:
            yield stream
    elif magic[:3] == b"BZh":
        with bz2.BZ2File(raw) as stream:
            yield stream
    elif magic == b"\xfd7zXZ\x00":
        yield _Xz(raw)
    else:
        yield raw


class _Xz:
    """xz with a bound on the memory that its dictionary may claim, which lzma.open cannot set."""

    def __init__(self, raw: BinaryIO) -> None:
        self._raw = raw
        self._decoder = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)

    def read(self, size: int, /) -> bytes:
        while not self._decoder.eof:
            compressed = self._raw.read(64 << 10) if self._decoder.needs_input else b""
            if self._decoder.needs_input and not compressed:
                raise EOFError("the compressed data ends in the middle")
            if data := self._decoder.decompress(compressed, size):
                return data
        return b""
