"""HTTP/2 header blocks: read with the state they have, written without any.

One ``Decoder`` a connection (RFC 7541). The clients that matter send the same block, or nearly, with every call, so
whole blocks are remembered for as long as the dynamic table stays what it is; a block that brings something new is
read field by field. The static table and the Huffman code are those of the library ``hpack``; what it does to one
field at a time is right and too slow for a call of some ten microseconds. Answers use no table and no Huffman code:
``literal`` fields that are joined once and sent as they are.
"""

from __future__ import annotations

import collections
import functools

from hpack import exceptions, huffman_table, table

Field = tuple[bytes, bytes]

TABLE_SIZE = 4096  # HTTP/2's default, announced by nobody
MAX_LIST = 64 * 1024  # bytes of one request's fields, as RFC 7541 counts them: 32 more for each
_OVERHEAD = 32
_REMEMBERED = 256
_SHORT = 128
_MAX_SHIFT = 28

_STATIC: tuple[Field, ...] = table.HeaderTable.STATIC_TABLE


class Malformed(Exception):
    """A block that is none: the connection cannot go on, since its table is no longer known."""


class TooLarge(Exception):
    """A block of more than ``MAX_LIST`` bytes of fields."""


class Decoder:
    """Reads the header blocks of one connection, in their order."""

    def __init__(self) -> None:
        self._entries: collections.deque[Field] = collections.deque()
        self._size = 0
        self._limit = TABLE_SIZE
        self._blocks: dict[bytes, dict[bytes, bytes]] = {}

    def decode(self, block: bytes) -> dict[bytes, bytes]:
        """The fields of ``block`` by name, values of one name joined with commas. Not to be changed.

        Raises:
            Malformed: it is not valid.
            TooLarge: it is more than anybody needs.
        """
        found = self._blocks.get(block)
        if found is None:
            fields, changed = self._read(block)
            found = _by_name(fields)
            if changed or len(self._blocks) >= _REMEMBERED:
                self._blocks.clear()
            if not changed:
                self._blocks[block] = found
        return found

    def _read(self, block: bytes) -> tuple[list[Field], bool]:
        fields: list[Field] = []
        changed = False
        at, end, total = 0, len(block), 0
        while at < end:
            first = block[at]
            if first & 0x80:
                index, at = _integer(block, at, 0x7F)
                field = self._entry(index)
            elif first & 0xE0 == 0x20:
                if fields:
                    raise Malformed("a change of the table's size behind a field")
                size, at = _integer(block, at, 0x1F)
                self._resize(size)
                changed = True
                continue
            else:
                kept = first & 0x40
                index, at = _integer(block, at, 0x3F if kept else 0x0F)
                if index:
                    name = self._entry(index)[0]
                else:
                    name, at = _string(block, at)
                value, at = _string(block, at)
                field = (name, value)
                if kept:
                    self._add(field)
                    changed = True
            total += len(field[0]) + len(field[1]) + _OVERHEAD
            if total > MAX_LIST:
                raise TooLarge
            fields.append(field)
        return fields, changed

    def _entry(self, index: int) -> Field:
        if 0 < index <= len(_STATIC):
            return _STATIC[index - 1]
        at = index - len(_STATIC) - 1
        if not 0 <= at < len(self._entries):
            raise Malformed(f"there is no field {index} in the table")
        return self._entries[at]

    def _add(self, field: Field) -> None:
        self._entries.appendleft(field)
        self._size += len(field[0]) + len(field[1]) + _OVERHEAD
        self._evict()

    def _resize(self, size: int) -> None:
        if size > TABLE_SIZE:
            raise Malformed(f"a table of {size} bytes, more than the {TABLE_SIZE} there are")
        self._limit = size
        self._evict()

    def _evict(self) -> None:
        while self._size > self._limit:
            name, value = self._entries.pop()
            self._size -= len(name) + len(value) + _OVERHEAD


def _by_name(fields: list[Field]) -> dict[bytes, bytes]:
    found = dict(fields)
    if len(found) != len(fields):
        found = {}
        for name, value in fields:
            found[name] = found[name] + b"," + value if name in found else value
    return found


def _integer(block: bytes, at: int, mask: int) -> tuple[int, int]:
    """The integer whose prefix is ``mask`` wide at ``at``, and where it ends."""
    value = block[at] & mask
    at += 1
    if value < mask:
        return value, at
    shift = 0
    while True:
        if at >= len(block) or shift > _MAX_SHIFT:
            raise Malformed("an integer that does not end")
        byte = block[at]
        at += 1
        value += (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def _string(block: bytes, at: int) -> tuple[bytes, int]:
    if at >= len(block):
        raise Malformed("a field is cut short")
    huffman = block[at] & 0x80
    size, at = _integer(block, at, 0x7F)
    end = at + size
    if end > len(block):
        raise Malformed("a field is cut short")
    raw = block[at:end]
    if huffman:
        raw = _short_huffman(raw) if size <= _SHORT else _huffman(raw)
    return raw, end


def _huffman(raw: bytes) -> bytes:
    try:
        return bytes(huffman_table.decode_huffman(raw))
    except exceptions.HPACKError as error:
        raise Malformed(str(error)) from error


_short_huffman = functools.lru_cache(maxsize=1024)(_huffman)


def literal(name: bytes, value: bytes) -> bytes:
    """One field of an answer; nobody is asked to remember it."""
    return b"\x00" + _length(len(name)) + name + _length(len(value)) + value


def _length(size: int) -> bytes:
    if size < 0x7F:
        return bytes((size,))
    rest = size - 0x7F
    out = bytearray((0x7F,))
    while rest >= 0x80:
        out.append(rest & 0x7F | 0x80)
        rest >>= 7
    out.append(rest)
    return bytes(out)


class Block:
    """A header block of which more is to come."""

    __slots__ = ("count", "flags", "number", "text")

    def __init__(self, number: int, flags: int, text: bytes) -> None:
        self.number = number
        self.flags = flags
        self.text = text
        self.count = 0
