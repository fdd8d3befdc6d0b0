from __future__ import annotations

import bz2
import gzip
import lzma
import pathlib
import zlib
from collections.abc import Callable

import pytest

from mlship import errors
from mlship.server.artifact import inflate, kinds

DATA = b"first line\n" + bytes(range(256)) * 2000
COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "": lambda data: data,
    "zlib": zlib.compress,
    "gzip": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "lzma": lambda data: lzma.compress(data, format=lzma.FORMAT_ALONE),
}


@pytest.fixture(params=COMPRESS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def save(folder: pathlib.Path, data: bytes) -> pathlib.Path:
    path = folder / "file"
    path.write_bytes(data)
    return path


def test_lines_bytes_and_gaps(tmp_path: pathlib.Path, kind: str) -> None:
    with inflate.Reader(save(tmp_path, COMPRESS[kind](DATA))) as reader:
        assert reader.compression == kind
        assert reader.readline() == b"first line\n"
        reader.skip(256 * 1000)
        assert reader.read(3) == b"\x00\x01\x02"
        assert reader.position == 11 + 256_000 + 3


def test_the_end_is_told(tmp_path: pathlib.Path, kind: str) -> None:
    path = save(tmp_path, COMPRESS[kind](DATA))
    for ask in (lambda reader: reader.skip(1 << 30), lambda reader: reader.read(1 << 20)):
        with inflate.Reader(path) as reader, pytest.raises(inflate.Truncated):
            ask(reader)
    with inflate.Reader(save(tmp_path, COMPRESS[kind](b"no newline"))) as reader, pytest.raises(inflate.Truncated):
        reader.readline()


def test_a_stream_cut_short_is_truncated(tmp_path: pathlib.Path, kind: str) -> None:
    data = COMPRESS[kind](DATA)
    with inflate.Reader(save(tmp_path, data[: len(data) // 2])) as reader, pytest.raises(inflate.Truncated):
        reader.skip(len(DATA))


@pytest.mark.parametrize("kind", ["zlib", "gzip", "bz2", "xz"])
def test_a_broken_stream_is_corrupt(tmp_path: pathlib.Path, kind: str) -> None:
    data = bytearray(COMPRESS[kind](DATA))
    data[20:60] = bytes(40)
    with inflate.Reader(save(tmp_path, bytes(data))) as reader, pytest.raises((inflate.Corrupt, inflate.Truncated)):
        reader.skip(len(DATA))


def test_inflation_is_bounded_and_plain_files_are_not(tmp_path: pathlib.Path) -> None:
    with inflate.Reader(save(tmp_path, zlib.compress(DATA)), limit=1000) as reader, pytest.raises(inflate.Bounded):
        reader.skip(2000)
    with inflate.Reader(save(tmp_path, DATA), limit=1000) as reader:
        reader.skip(2000)


def test_lz4_needs_its_package(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kinds, "is_installed", lambda _: False)
    monkeypatch.setattr(inflate.importlib.util, "find_spec", lambda _: None)  # type: ignore[attr-defined]
    with pytest.raises(errors.SpecError, match="compressed with lz4, and the package lz4 is not installed"):
        inflate.Reader(save(tmp_path, b"\x04\x22\x4d\x18" + bytes(20)))
