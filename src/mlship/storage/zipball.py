"""Reads zip archives and hands the members to ``unpacker.Unpacker``.

zipfile loads the whole table of contents into memory, so its size is looked up first, in the record at the end.
"""

from __future__ import annotations

import lzma
import pathlib
import stat
import struct
import zipfile
import zlib

from mlship.storage import unpacker as rules

_TABLE_BYTES = 64 << 20
_LINK_BYTES = 4096
_END, _END64 = b"PK\x05\x06", b"PK\x06\x06"
_BROKEN = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, ValueError, struct.error)


def read(path: pathlib.Path, unpacker: rules.Unpacker) -> None:
    """Unpack every member. Raises ``errors.SpecError`` (damaged, against the rules), BackendError (disk)."""
    try:
        if (size := _table_size(path)) > _TABLE_BYTES:
            raise unpacker.refuse(f"its table of contents has {size} bytes, more than {_TABLE_BYTES}")
        with zipfile.ZipFile(path) as opened:
            for info in opened.infolist():
                _member(opened, info, unpacker)
    except _BROKEN as error:
        raise unpacker.damaged(error) from error
    except OSError as error:
        raise unpacker.damaged(error) from error


def _member(opened: zipfile.ZipFile, info: zipfile.ZipInfo, unpacker: rules.Unpacker) -> None:
    mode = info.external_attr >> 16
    kind = stat.S_IFMT(mode)
    if info.flag_bits & 1:
        raise unpacker.refuse(f"its member {info.filename[:100]!r} is encrypted")
    if info.is_dir():
        unpacker.folder(info.filename)
    elif kind == stat.S_IFLNK:
        with opened.open(info) as content:
            target = content.read(_LINK_BYTES + 1)
        if len(target) > _LINK_BYTES:
            raise unpacker.refuse(f"its member {info.filename[:100]!r} is a link of more than {_LINK_BYTES} bytes")
        unpacker.link(info.filename, target.decode())
    elif kind in (0, stat.S_IFREG):
        with opened.open(info) as content:
            unpacker.file(info.filename, content, size=info.file_size, executable=bool(mode & 0o100))
    else:
        raise unpacker.refuse(f"its member {info.filename[:100]!r} is a device, a pipe or of an unknown type")


def _table_size(path: pathlib.Path) -> int:
    """Bytes of the table of contents (APPNOTE.TXT 4.3.14 and 4.3.16); 0 when there is no such record."""
    with path.open("rb") as stream:
        end = stream.seek(0, 2)
        stream.seek(max(0, end - (64 << 10) - 200))
        tail = stream.read()
    long_form, short_form = tail.rfind(_END64), tail.rfind(_END)
    if long_form >= 0 and len(tail) >= long_form + 48:
        return int(struct.unpack_from("<Q", tail, long_form + 40)[0])
    if short_form >= 0 and len(tail) >= short_form + 16:
        return int(struct.unpack_from("<I", tail, short_form + 12)[0])
    return 0
