from __future__ import annotations

import gzip
import io
import lzma
import pathlib
import random
import struct
import tarfile
from collections.abc import Callable

import pytest

from mlship import errors
from mlship.storage import archive, cache, limits, progress, unpacker

Unpack = Callable[..., unpacker.Unpacked]


@pytest.fixture
def unpack(tmp_path: pathlib.Path, store: cache.Cache, meter: progress.Meter) -> Unpack:
    numbers = iter(range(1000))

    def run(data: bytes, **bounds: float) -> unpacker.Unpacked:
        number = next(numbers)
        packed, place = tmp_path / f"{number}.tar", tmp_path / f"place{number}"
        packed.write_bytes(data)
        place.mkdir()
        limit = limits.Limits(**bounds)  # type: ignore[arg-type]
        return archive.unpack(packed, "tar", place, shown="m.tar", root=store.root, bounds=limit, meter=meter)

    return run


def tar(*members: tuple[tarfile.TarInfo, bytes], format: int = tarfile.PAX_FORMAT) -> bytes:  # noqa: A002
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=format) as packed:
        for info, data in members:
            info.size = len(data)
            packed.addfile(info, io.BytesIO(data))
    return out.getvalue()


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", mode: int = 0o644) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = kind, link, mode
    return info


def test_members_of_every_harmless_kind(unpack: Unpack) -> None:
    found = unpack(
        tar(
            (member("d", tarfile.DIRTYPE, mode=0o000), b""),
            (member("d/run", mode=0o755), b"x" * 512),
            (member("long/" + "n" * 150), b"y"),
            (member("hard", tarfile.LNKTYPE, "d/run"), b""),
            (member("soft", tarfile.SYMTYPE, "d"), b""),
        )
    )
    assert (found.path / "soft" / "run").read_bytes() == b"x" * 512
    assert (found.path / "d" / "run").stat().st_mode & 0o100
    assert (found.path / "long" / ("n" * 150)).read_bytes() == b"y"
    assert (found.path / "hard").read_bytes() == b"x" * 512


@pytest.mark.parametrize("kind", [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, b"?"])
def test_devices_and_pipes_are_refused(unpack: Unpack, kind: bytes) -> None:
    with pytest.raises(errors.SpecError, match="a device, a pipe or of an unknown type"):
        unpack(tar((member("null", kind), b"")))


@pytest.mark.parametrize("name", ["../escape", "/absolute", "a/../../escape"])
def test_escapes_are_refused(unpack: Unpack, tmp_path: pathlib.Path, name: str) -> None:
    with pytest.raises(errors.SpecError, match="is refused"):
        unpack(tar((member(name), b"x")))
    assert not list(tmp_path.rglob("escape"))


def test_a_write_through_a_link_chain_does_not_get_out(unpack: Unpack, tmp_path: pathlib.Path) -> None:
    deep = "d" * 200
    chain = [
        (member(deep, tarfile.DIRTYPE), b""),
        (member("a", tarfile.SYMTYPE, deep), b""),
        (member("out", tarfile.SYMTYPE, "a/../../.."), b""),
        (member("out/planted"), b"x"),
    ]
    with pytest.raises(errors.SpecError):
        unpack(tar(*chain))
    assert not [path for path in tmp_path.rglob("planted") if "members" not in path.parts]


def test_sparse_members_are_counted_at_full_size(unpack: Unpack) -> None:
    info = member("sparse")
    header = bytearray(tar((info, b""))[:512])
    header[156:157] = b"S"
    header[257:265] = b"ustar  \0"
    header[386:398], header[398:410] = b"%011o\0" % 0, b"%011o\0" % 0
    header[482:483] = b"\0"
    header[483:495] = b"%011o\0" % (1 << 32)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    with pytest.raises(errors.SpecError, match="max_bytes"):
        unpack(bytes(header) + bytes(1024), max_bytes=1 << 30)


@pytest.mark.parametrize("kind", [b"x", b"g", b"L"])
def test_a_header_that_claims_gigabytes_is_not_read(unpack: Unpack, kind: bytes) -> None:
    header = bytearray(tar((member("x"), b""))[:512])
    header[156:157] = kind
    header[124:136] = b"%011o\0" % (5 << 30)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    with pytest.raises(errors.SpecError, match="claims"):
        unpack(bytes(header) + bytes(1024))


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress])
def test_compressed_bombs_are_stopped(unpack: Unpack, pack: Callable[[bytes], bytes]) -> None:
    bomb = pack(tar((member("zeros"), bytes(8 << 20))))
    assert len(bomb) < 20_000
    with pytest.raises(errors.SpecError, match="max_ratio"):
        unpack(bomb, ratio_floor=1 << 20)
    padding = pack(tar((member("m"), b"x")) + bytes(8 << 20))
    with pytest.raises(errors.SpecError, match="max_ratio"):
        unpack(padding, ratio_floor=1 << 20)


def test_xz_may_not_claim_all_memory(unpack: Unpack) -> None:
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 1 << 30}]
    try:
        data = lzma.compress(tar((member("m"), b"x")), filters=filters)
    except MemoryError:
        pytest.skip("too little memory to make the archive")
    with pytest.raises(errors.SpecError, match="cannot be unpacked"):
        unpack(data)


def test_cut_off_anywhere_it_is_refused(unpack: Unpack) -> None:
    whole = tar((member("a"), b"x" * 700), (member("b"), b"y" * 100))
    for data in (whole[:3200], gzip.compress(whole)):
        unpack(data)
    for length in (0, 100, 512, 1000, 1024, 1536, 2000, 2048, 2300, 2560):
        with pytest.raises(errors.SpecError, match=r"refused|cannot be unpacked"):
            unpack(whole[:length])
    packed = gzip.compress(whole)
    for length in (3, 20, len(packed) // 2, len(packed) - 4):
        with pytest.raises(errors.SpecError, match=r"refused|cannot be unpacked"):
            unpack(packed[:length])


@pytest.mark.parametrize("magic", [b"\x1f\x8b", b"BZh9", b"\xfd7zXZ\x00", b"PK\x03\x04", b"<html>", b""])
def test_what_is_no_archive_is_refused(unpack: Unpack, magic: bytes) -> None:
    with pytest.raises(errors.SpecError, match="cannot be unpacked"):
        unpack(magic + random.Random(1).randbytes(2000))


def test_damage_never_passes_silently(unpack: Unpack) -> None:
    """A flipped byte in a header is refused, or the members are all there."""
    whole = tar((member("a"), b"x" * 700), (member("b"), b"y" * 100), format=tarfile.USTAR_FORMAT)
    for position in range(1536, 1536 + 512, 7):
        broken = bytearray(whole)
        broken[position] ^= 0xFF
        with pytest.raises(errors.SpecError):
            unpack(bytes(broken))


def test_several_gzip_members_are_one_stream(unpack: Unpack) -> None:
    whole = tar((member("a"), b"x" * 700))
    found = unpack(gzip.compress(whole[:600]) + gzip.compress(whole[600:]))
    assert (found.path / "a").read_bytes() == b"x" * 700


def test_numbers_in_base_256_and_negative_sizes(unpack: Unpack) -> None:
    header = bytearray(tar((member("x"), b""))[:512])
    header[124:136] = b"\xff" * 4 + struct.pack(">q", -512)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    with pytest.raises(errors.SpecError):
        unpack(bytes(header) + bytes(1024))
