"""The log files of processes: bounded by rotation, read from their end, followed across rotation.

A process writes to its file by itself, so that its output survives the control plane; it cannot be asked to reopen it.
A file that grew too large is therefore copied to ``.1`` and cut to nothing in place: the writers append, and go on at
its start. What is written between the last look at its end and the cut is lost, some microseconds' worth.
"""

from __future__ import annotations

import os
import pathlib
import re
from collections.abc import Iterable

LARGEST = 10 * 1024 * 1024
KEPT = 3
LONGEST_LINE = 4000
_CHUNK = 256 * 1024
_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])|[\x00-\x08\x0b-\x1f\x7f]")
_SHORTEST_SECRET = 4


def clean(line: str, secrets: Iterable[str] = ()) -> str:
    """``line`` without terminal codes and secret values, at most ``LONGEST_LINE`` characters."""
    for secret in secrets:
        if len(secret) >= _SHORTEST_SECRET:  # a shorter one would blot out half of every line and protect nothing
            line = line.replace(secret, "<redacted>")
    line = _ANSI.sub("", line)
    return line if len(line) <= LONGEST_LINE else f"{line[:LONGEST_LINE]}... ({len(line)} characters)"


def rotate(path: pathlib.Path, *, largest: int = LARGEST, kept: int = KEPT) -> bool:
    """Move the content of a log larger than ``largest`` bytes to ``.1``, that of ``.1`` to ``.2`` ...; True if it did.

    Of a log that grew far beyond ``largest`` only the end is kept. Raises OSError.
    """
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        return False
    if size <= largest:
        return False
    for number in range(kept - 1, 0, -1):
        older = _numbered(path, number)
        if older.exists():
            older.replace(_numbered(path, number + 1))
    with path.open("r+b") as source, os.fdopen(_create(_numbered(path, 1)), "wb") as target:
        source.seek(max(0, size - largest))
        while chunk := source.read(_CHUNK):
            target.write(chunk)
        source.truncate(0)
    return True


def _numbered(path: pathlib.Path, number: int) -> pathlib.Path:
    return path.with_name(f"{path.name}.{number}")


def _create(path: pathlib.Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)


def remove(path: pathlib.Path) -> None:
    """Remove a log with everything rotated out of it."""
    for rotated in path.parent.glob(f"{path.name}.*"):
        rotated.unlink(missing_ok=True)
    path.unlink(missing_ok=True)


def prune(folder: pathlib.Path, *, living: Iterable[pathlib.Path], keep: int) -> None:
    """Remove the logs of processes that are gone, but for the ``keep`` newest."""
    alive = set(living)
    gone = [path for path in folder.glob("*.log") if path not in alive]
    for path in sorted(gone, key=lambda path: path.stat().st_mtime, reverse=True)[keep:]:
        remove(path)


def tail(path: pathlib.Path, count: int, *, size: int | None = None) -> list[str]:
    """The last ``count`` lines of a log up to byte ``size`` (default: its end), with those rotated out if need be.

    Lines are as written: ``clean`` them. An unfinished last line counts.
    """
    lines = _last_lines(path, count, size)
    number = 1
    while len(lines) < count and _numbered(path, number).exists():
        lines = _last_lines(_numbered(path, number), count - len(lines), None) + lines
        number += 1
    return lines


def _last_lines(path: pathlib.Path, count: int, size: int | None) -> list[str]:
    if count <= 0:
        return []
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return []
    with file:
        position = file.seek(0, os.SEEK_END) if size is None else size
        data = b""
        while position > 0 and data.count(b"\n") <= count:
            step = min(_CHUNK, position)
            position -= step
            file.seek(position)
            data = file.read(step) + data
    return _split(data)[-count:]


def _split(data: bytes) -> list[str]:
    """Split at newlines only: ``str.splitlines`` also splits at characters that occur within a line."""
    lines = data.decode("utf-8", errors="replace").split("\n")
    if lines[-1] == "":
        lines.pop()
    return [line.removesuffix("\r") for line in lines]


def open_at_end(path: pathlib.Path, count: int, *, whole: bool) -> tuple[list[str], Follower]:
    """The last ``count`` lines and a follower that goes on behind them; ``whole``: leave an unfinished line to it."""
    size = _size(path)
    if whole:
        size = _behind_last_newline(path, size)
    return tail(path, count, size=size), Follower(path, size)


def _size(path: pathlib.Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _behind_last_newline(path: pathlib.Path, size: int) -> int:
    if size == 0:
        return 0
    with path.open("rb") as file:
        begin = max(0, size - _CHUNK)
        file.seek(begin)
        last = file.read(size - begin).rfind(b"\n")
    return begin + last + 1 if last >= 0 else size


class Follower:
    """Reads what is appended to a log from byte ``position`` on, and starts over when it was cut."""

    def __init__(self, path: pathlib.Path, position: int = 0) -> None:
        self._path = path
        self._position = position
        self._rest = b""

    def lines(self) -> list[str]:
        """The lines finished since the last call."""
        try:
            file = self._path.open("rb")
        except FileNotFoundError:
            self._position, self._rest = 0, b""
            return []
        with file:
            if file.seek(0, os.SEEK_END) < self._position:
                self._position, self._rest = 0, b""
            file.seek(self._position)
            data = file.read(4 * _CHUNK)
            self._position += len(data)
        finished, newline, rest = (self._rest + data).rpartition(b"\n")
        self._rest = rest[-_CHUNK:]
        return _split(finished + newline) if newline else []
