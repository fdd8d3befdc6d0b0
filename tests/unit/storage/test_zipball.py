from __future__ import annotations

import io
import pathlib
import random
import stat
import struct
import zipfile
from collections.abc import Callable

import pytest

from mlship import errors
from mlship.storage import archive, cache, limits, progress, unpacker, zipball

Unpack = Callable[..., unpacker.Unpacked]


@pytest.fixture
def unpack(tmp_path: pathlib.Path, store: cache.Cache, meter: progress.Meter) -> Unpack:
    numbers = iter(range(1000))

    def run(data: bytes, **bounds: float) -> unpacker.Unpacked:
        number = next(numbers)
        packed, place = tmp_path / f"{number}.zip", tmp_path / f"place{number}"
        packed.write_bytes(data)
        place.mkdir()
        limit = limits.Limits(**bounds)  # type: ignore[arg-type]
        return archive.unpack(packed, "zip", place, shown="m.zip", root=store.root, bounds=limit, meter=meter)

    return run


def pack(*members: tuple[str, bytes, int], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as packed:
        for name, data, mode in members:
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            info.compress_type = compression
            packed.writestr(info, data)
    return out.getvalue()


def test_files_folders_links_and_modes(unpack: Unpack) -> None:
    found = unpack(
        pack(
            ("d/", b"", stat.S_IFDIR | 0o755),
            ("d/run", b"x", stat.S_IFREG | 0o755),
            ("plain", b"y", 0),
            ("soft", b"d/run", stat.S_IFLNK | 0o777),
        )
    )
    assert (found.path / "soft").read_bytes() == b"x"
    assert (found.path / "d" / "run").stat().st_mode & 0o100
    assert not (found.path / "plain").stat().st_mode & 0o100


@pytest.mark.parametrize("name", ["../escape", "/absolute", "a/../../escape", "..\\escape", "C:/x"])
def test_escapes_are_refused(unpack: Unpack, tmp_path: pathlib.Path, name: str) -> None:
    with pytest.raises(errors.SpecError, match="is refused"):
        unpack(pack((name, b"x", 0)))
    assert not list(tmp_path.rglob("escape"))


@pytest.mark.parametrize("target", [b"/etc/passwd", b"../../../../../etc/passwd", b"x" * 5000, b"\xff\xfe"])
def test_links_that_leave_are_refused(unpack: Unpack, target: bytes) -> None:
    with pytest.raises(errors.SpecError, match=r"refused|cannot be unpacked"):
        unpack(pack(("bad", target, stat.S_IFLNK | 0o777), ("m", b"x", 0)))


@pytest.mark.parametrize("kind", [stat.S_IFIFO, stat.S_IFCHR, stat.S_IFSOCK])
def test_devices_are_refused(unpack: Unpack, kind: int) -> None:
    with pytest.raises(errors.SpecError, match="a device, a pipe or of an unknown type"):
        unpack(pack(("null", b"", kind | 0o600)))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_duplicates_are_refused(unpack: Unpack) -> None:
    with pytest.raises(errors.SpecError, match="comes twice"):
        unpack(pack(("m", b"x", 0), ("m", b"y", 0)))


def test_bombs_are_stopped(unpack: Unpack) -> None:
    with pytest.raises(errors.SpecError, match="max_ratio"):
        unpack(pack(("zeros", bytes(8 << 20), 0)), ratio_floor=1 << 20)


def test_encryption_and_unknown_methods_are_told(unpack: Unpack) -> None:
    data = bytearray(pack(("m", b"x" * 10, 0)))
    table = data.index(b"PK\x01\x02")
    data[table + 8] |= 1
    with pytest.raises(errors.SpecError, match="encrypted"):
        unpack(bytes(data))
    data[table + 8] &= ~1
    data[table + 10 : table + 12] = struct.pack("<H", 99)
    data[8:10] = struct.pack("<H", 99)
    with pytest.raises(errors.SpecError, match="cannot be unpacked"):
        unpack(bytes(data))


def test_a_table_of_contents_that_fills_memory_is_not_read(unpack: Unpack, tmp_path: pathlib.Path) -> None:
    data = bytearray(pack(("m", b"x", 0)))
    end = data.index(b"PK\x05\x06")
    data[end + 12 : end + 16] = struct.pack("<I", 1 << 30)
    with pytest.raises(errors.SpecError, match="table of contents"):
        unpack(bytes(data))
    record = b"PK\x06\x06" + bytes(36) + struct.pack("<QQ", 1 << 40, 0)
    (tmp_path / "z").write_bytes(record + bytes(data[end:]))
    assert zipball._table_size(tmp_path / "z") == 1 << 40


@pytest.mark.parametrize("length", [0, 10, 60])
def test_cut_off_or_none_it_is_refused(unpack: Unpack, length: int) -> None:
    with pytest.raises(errors.SpecError, match="cannot be unpacked"):
        unpack(pack(("m", random.Random(1).randbytes(1000), 0))[:length])
    with pytest.raises(errors.SpecError, match="cannot be unpacked"):
        unpack(b"<html>not found</html>" * length)


def test_damaged_bytes_are_noticed(unpack: Unpack) -> None:
    data = bytearray(pack(("m", b"hello world" * 10, 0), compression=zipfile.ZIP_STORED))
    data[40] ^= 1
    with pytest.raises(errors.SpecError, match=r"cannot be unpacked.*CRC"):
        unpack(bytes(data))
