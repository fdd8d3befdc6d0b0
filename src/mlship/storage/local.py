"""Bytes from this machine: paths, file:// and pvc://, copied so that the source may be overwritten afterwards.

A running revision never reads the user's file: an in-place overwrite would change a model under its server. The copy
shares blocks with the source where the file system can (reflink), and is checked against the source's stat before and
after; a source that changed meanwhile is copied again.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import pathlib

from mlship import errors
from mlship.storage import files, limits, progress, tree, uri

_TRIES = 3


@dataclasses.dataclass(frozen=True, slots=True)
class Source:
    """A file or folder of this machine: ``path`` is real (no links), ``name`` is what the user called it."""

    path: pathlib.Path
    name: str


@dataclasses.dataclass(frozen=True, slots=True)
class Snapshot:
    """A finished copy. ``stamp`` is the source's, as ``stamp`` gives it."""

    digest: str
    size: int
    stamp: str


class _Changed(Exception):
    """The source changed while it was read."""


def locate(address: uri.Uri, volumes: pathlib.Path) -> Source:
    """Where a file or pvc URI points. Raises ``errors.SpecError``: nothing there, no such volume, out of the volume."""
    if address.scheme == "pvc":
        return _in_volume(address, volumes)
    path = pathlib.Path(address.path)
    return Source(_real(path, str(address)), path.name or "model")


def stamp(source: Source, bounds: limits.Limits) -> str:
    """A token that changes with names, sizes, modification times, inodes. Raises ``errors.SpecError``."""
    return tree.stamp(_entries(source, bounds))


def snapshot(
    source: Source, target: pathlib.Path, *, root: pathlib.Path, bounds: limits.Limits, meter: progress.Meter
) -> Snapshot:
    """Copy ``source`` to ``target`` (which does not exist yet, on the disk of the cache ``root``).

    Raises ``errors.SpecError``: refused by ``tree.scan``, unreadable, still changing after three copies;
    ``errors.BackendError``: the cache's disk.
    """
    for _ in range(_TRIES):
        entries = _entries(source, bounds)
        before = tree.stamp(entries)
        try:
            digest = _copy(source, entries, target, root=root, meter=meter)
            if tree.stamp(_entries(source, bounds)) == before:
                return Snapshot(digest, sum(entry.size for entry in entries), before)
        except _Changed:
            pass
        with files.into_cache(root):
            files.remove_tree(target)
    raise errors.SpecError(
        f"{source.path} changed while it was copied, {_TRIES} times in a row.",
        hint="Wait until it is written completely, then deploy again; write to another name and rename when done.",
        reason=errors.Reason.CONFLICT,
    )


def _entries(source: Source, bounds: limits.Limits) -> list[tree.Entry]:
    if source.path.is_dir():
        return tree.scan(source.path, bounds)
    entry = tree.describe(source.path, source.name)
    tree.check_limits(1, entry.size, bounds, where=str(source.path))
    return [entry]


def _copy(
    source: Source, entries: list[tree.Entry], target: pathlib.Path, *, root: pathlib.Path, meter: progress.Meter
) -> str:
    total = sum(entry.size for entry in entries)
    meter.start("copy", total)
    if not source.path.is_dir():
        hexadecimal = _copy_file(entries[0], target, root=root, needed=total, meter=meter)
        meter.finish()
        return f"sha256:{hexadecimal}"
    parts = []
    left = total
    for entry in entries:
        place = target / entry.relative
        with files.into_cache(root, needed=total):
            place.parent.mkdir(parents=True, exist_ok=True)
        parts.append((entry.relative, entry.executable, _copy_file(entry, place, root=root, needed=left, meter=meter)))
        left -= entry.size
    meter.finish()
    return tree.digest(parts)


def _copy_file(
    entry: tree.Entry, target: pathlib.Path, *, root: pathlib.Path, needed: int, meter: progress.Meter
) -> str:
    """Copy one file and return the SHA-256 of what was written; ``needed``: bytes still to come, this file included."""
    try:
        # O_NONBLOCK: should a pipe have taken the file's place since the scan, opening it must not wait for a writer.
        reader = os.open(entry.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise _Changed from error
    except OSError as error:
        raise _unreadable(entry.path, error) from error
    try:
        status = os.fstat(reader)
        if (status.st_dev, status.st_ino) != entry.inode or status.st_size != entry.size:
            raise _Changed
        with files.into_cache(root, needed=needed):
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            writer = os.open(target, flags, 0o700 if entry.executable else 0o600)
        try:
            return _pour(reader, writer, entry, root=root, needed=needed, meter=meter)
        finally:
            os.close(writer)
    finally:
        os.close(reader)


def _pour(
    reader: int, writer: int, entry: tree.Entry, *, root: pathlib.Path, needed: int, meter: progress.Meter
) -> str:
    digest = hashlib.sha256()
    with files.into_cache(root, needed=needed):
        cloned = files.clone(reader, writer)
    if not cloned:
        files.require_space(root, needed)
    # The clone, not the source, is hashed: it can no longer change.
    origin = writer if cloned else reader
    while True:
        try:
            chunk = os.read(origin, files.CHUNK)
        except OSError as error:
            raise _unreadable(entry.path, error) from error
        if not chunk:
            return digest.hexdigest()
        digest.update(chunk)
        if not cloned:
            with files.into_cache(root, needed=needed):
                files.write_all(writer, chunk)
        meter.advance(len(chunk))


def _unreadable(path: pathlib.Path, error: OSError) -> errors.SpecError:
    return errors.SpecError(
        f"{path} cannot be read: {files.why(error)}.", hint="Check its permissions and those of the folders above it."
    )


def _real(path: pathlib.Path, shown: str) -> pathlib.Path:
    try:
        return path.resolve(strict=True)
    except FileNotFoundError as error:
        raise errors.SpecError(f"{shown}: there is no {path}.", hint=_nearest(path)) from error
    except (OSError, RuntimeError) as error:  # RuntimeError: a loop of links, before Python 3.13
        reason = files.why(error) if isinstance(error, OSError) else "links run in circles"
        raise errors.SpecError(
            f"{shown} cannot be read: {reason}.", hint="Check the path and its permissions."
        ) from error


def _nearest(path: pathlib.Path) -> str:
    """What there is instead: the deepest folder that exists, and what it holds."""
    parent = next((folder for folder in path.parents if folder.is_dir()), pathlib.Path("/"))
    try:
        names = sorted(path.name for path in parent.iterdir())
    except OSError:
        return f"The folder {parent} exists; check the rest of the path."
    listed = ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
    return f"The folder {parent} holds: {listed or 'nothing'}."


def _in_volume(address: uri.Uri, volumes: pathlib.Path) -> Source:
    link = volumes / address.netloc
    if not link.is_dir():
        names = sorted(path.name for path in volumes.iterdir() if path.is_dir()) if volumes.is_dir() else []
        raise errors.SpecError(
            f"{address}: there is no volume {address.netloc!r}; volumes here: {', '.join(names) or 'none'}.",
            hint=f"Make one of an existing folder: mkdir -p {volumes} && ln -s /PATH/TO/FOLDER {link}",
        )
    top = _real(link, str(address))
    path = _real(top / address.path, str(address))
    if not path.is_relative_to(top):
        raise errors.SpecError(
            f"{address} is a link that leaves the volume {address.netloc!r} ({top}).",
            hint="Copy what it names into the volume, or make a volume of the folder it lies in.",
        )
    return Source(path, address.name or address.netloc)
