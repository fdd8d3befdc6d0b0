"""A folder as the cache sees it: a sorted list of regular files, checked, stamped, and summed up as one digest.

Symbolic links are followed as long as they stay inside the folder; what they name is then part of the list as if it
lay there. Everything that is neither file nor folder is refused. Folders called ``__pycache__`` do not count: Python
writes them where it imports from, as root even into read-only folders, and they are no part of a model.

``scan`` serves local sources (before a copy) and unpacked archives (after unpacking) alike: one set of rules.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import pathlib
import stat
from collections.abc import Iterable, Iterator

from mlship import errors
from mlship.storage import files, limits

IGNORED = "__pycache__"
_KINDS = {
    stat.S_IFSOCK: "a socket",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFBLK: "a block device",
    stat.S_IFCHR: "a character device",
}


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """A regular file: where it belongs (``relative``, with /), where its bytes are (``path``, no link), its stat."""

    relative: str
    path: pathlib.Path
    size: int
    mtime_ns: int
    inode: tuple[int, int]
    executable: bool


def describe(path: pathlib.Path, relative: str) -> Entry:
    """The entry of one regular file; ``path`` must not be a link. Raises SpecError for all else, or when missing."""
    try:
        status = path.lstat()
    except OSError as error:
        raise errors.SpecError(f"{path} cannot be read: {files.why(error)}.", hint="Check the path.") from error
    kind = stat.S_IFMT(status.st_mode)
    if kind != stat.S_IFREG:
        raise errors.SpecError(
            f"{path} is {_KINDS.get(kind, 'no regular file')}, not a file of a model.",
            hint="Only regular files and folders can be served; remove it or name the model file itself.",
        )
    executable = bool(status.st_mode & stat.S_IXUSR)
    inode = (status.st_dev, status.st_ino)
    return Entry(relative, path, status.st_size, status.st_mtime_ns, inode, executable)


def scan(root: pathlib.Path, bounds: limits.Limits) -> list[Entry]:
    """The regular files below ``root`` (a real path), sorted by ``relative``.

    Raises ``errors.SpecError``: a link that leaves ``root`` or runs in circles, a socket, pipe or device, something
    unreadable, more files or bytes than ``bounds`` allows, no file at all.
    """
    found: list[Entry] = []
    size = 0
    for entry in _walk(root, "", root=root, trail=(root,)):
        found.append(entry)
        size += entry.size
        check_limits(len(found), size, bounds, where=str(root))
    if not found:
        raise errors.SpecError(f"The folder {root} holds no file.", hint="Name the folder that holds the model.")
    return sorted(found, key=lambda entry: os.fsencode(entry.relative))


def check_limits(count: int, size: int, bounds: limits.Limits, *, where: str) -> None:
    """Raise ``errors.SpecError`` (reason TooLarge), naming the limit, when files or bytes exceed it."""
    if count > bounds.max_files:
        raise errors.SpecError(
            f"{where} holds more than {bounds.max_files} files, the limit max_files.",
            hint="Name the folder of the model alone, or raise max_files.",
            reason=errors.Reason.TOO_LARGE,
        )
    if size > bounds.max_bytes:
        raise errors.SpecError(
            f"{where} holds more than {bounds.max_bytes} bytes ({limits.show(bounds.max_bytes)}), the limit max_bytes.",
            hint="Name the model alone, or raise max_bytes.",
            reason=errors.Reason.TOO_LARGE,
        )


def stamp(entries: Iterable[Entry]) -> str:
    """A token that changes with any name, size, modification time, inode or executable bit."""
    digest = hashlib.sha256()
    for entry in entries:
        facts = f"{entry.size} {entry.mtime_ns} {entry.inode} {entry.executable} {len(os.fsencode(entry.relative))} "
        digest.update(facts.encode() + os.fsencode(entry.relative))
    return f"stat:{digest.hexdigest()[:40]}"


def digest(parts: Iterable[tuple[str, bool, str]]) -> str:
    """The digest of a folder from (relative path, executable, SHA-256 hex of the file), in any order."""
    total = hashlib.sha256(b"mlship folder 1\n")
    for relative, executable, file_hash in sorted(parts, key=lambda part: os.fsencode(part[0])):
        name = os.fsencode(relative)
        total.update(f"{file_hash} {'x' if executable else '-'} {len(name)} ".encode() + name + b"\n")
    return f"sha256:{total.hexdigest()}"


def digest_of(path: pathlib.Path) -> str:
    """The digest of what lies at ``path`` now: of a file its bytes, of a folder ``digest``. Raises OSError."""
    if not path.is_dir():
        return f"sha256:{files.hash_file(path)}"
    return digest(
        (str(file.relative_to(path)), bool(file.stat().st_mode & stat.S_IXUSR), files.hash_file(file))
        for file in regular_files(path)
    )


def regular_files(root: pathlib.Path) -> Iterator[pathlib.Path]:
    """The files below a folder that holds nothing but files and folders, ``__pycache__`` left out."""
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if name != IGNORED]
        for name in names:
            yield pathlib.Path(folder, name)


def _walk(folder: pathlib.Path, prefix: str, *, root: pathlib.Path, trail: tuple[pathlib.Path, ...]) -> Iterator[Entry]:
    try:
        names = sorted(path.name for path in folder.iterdir())
    except OSError as error:
        raise errors.SpecError(
            f"The folder {folder} cannot be read: {files.why(error)}.", hint="Check its permissions."
        ) from error
    for name in names:
        if name == IGNORED:
            continue
        relative = f"{prefix}{name}"
        path = folder / name
        if path.is_symlink():
            path = _follow(path, root)
        if not path.is_dir():
            yield describe(path, relative)
        elif path in trail:
            raise errors.SpecError(
                f"The link {root / relative} leads back to a folder above it.", hint="Remove the link."
            )
        else:
            yield from _walk(path, f"{relative}/", root=root, trail=(*trail, path))


def _follow(link: pathlib.Path, root: pathlib.Path) -> pathlib.Path:
    try:
        target = link.resolve(strict=True)
    except (OSError, RuntimeError) as error:  # RuntimeError: a loop of links, before Python 3.13
        reason = files.why(error) if isinstance(error, OSError) else "it runs in circles"
        raise errors.SpecError(f"The link {link} leads nowhere: {reason}.", hint="Mend or remove the link.") from error
    if not target.is_relative_to(root):
        raise errors.SpecError(
            f"The link {link} leaves the folder {root}.",
            hint=f"Copy what it names into the folder (`cp -rL {root} NEW_FOLDER` does) and serve that.",
        )
    return target
