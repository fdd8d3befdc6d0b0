"""The small disk operations under the cache: write durably, clone or copy while hashing, say when the disk is full.

Two sides are kept apart: trouble with the *source* is the caller's to mend (SpecError), trouble with the *cache* is
the machine's (BackendError, with the bytes needed and free).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import pathlib
import shutil
from collections.abc import Iterator

from mlship import errors
from mlship.storage import limits, progress

CHUNK = 1 << 20
_FICLONE = 0x40049409  # linux/fs.h; the fcntl module has the name from Python 3.13 on
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def why(error: OSError) -> str:
    """The reason of an OSError without the path, capped."""
    return (error.strerror or str(error))[:200]


@contextlib.contextmanager
def into_cache(root: pathlib.Path, *, needed: int | None = None) -> Iterator[None]:
    """Translate an OSError of writing below ``root``; ``needed``: bytes that the whole artifact takes, when known."""
    try:
        yield
    except OSError as error:
        raise cache_error(error, root, needed=needed) from error


def cache_error(error: OSError, root: pathlib.Path, *, needed: int | None = None) -> errors.BackendError:
    """What an OSError below the cache's ``root`` means to whoever runs the machine."""
    if error.errno in _FULL:
        return full(root, needed=needed, detail=why(error))
    return errors.BackendError(
        f"The cache {root} cannot be used: {why(error)} ({error.filename or 'no file named'}).",
        hint="Check the owner and permissions of that folder, or set MLSHIP_HOME to another one.",
    )


def full(root: pathlib.Path, *, needed: int | None, detail: str = "not enough space") -> errors.BackendError:
    """The error of a full disk: bytes needed, bytes free, what to do."""
    needs = f"{needed} bytes ({limits.show(needed)})" if needed is not None else "an unknown number of bytes"
    free = free_bytes(root)
    return errors.BackendError(
        f"The disk of the cache {root} is full ({detail}): the artifact needs {needs}, "
        f"{free} bytes ({limits.show(free)}) are free.",
        hint="Free space there, or set MLSHIP_HOME to a folder on a larger disk.",
    )


def free_bytes(root: pathlib.Path) -> int:
    """Bytes that this user may still write on the disk of ``root``; 0 when it cannot be told."""
    try:
        return shutil.disk_usage(root).free
    except OSError:
        return 0


def require_space(root: pathlib.Path, needed: int) -> None:
    """Refuse before the first byte is written when ``needed`` more bytes cannot fit. Raises ``errors.BackendError``."""
    if needed > free_bytes(root):
        raise full(root, needed=needed)


def sync(path: pathlib.Path) -> None:
    """Make a file's bytes, or a folder's names, survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomically(path: pathlib.Path, data: bytes, *, temporary: pathlib.Path) -> None:
    """Replace ``path`` by ``data`` through ``temporary`` on the same disk; readers see the old or the new."""
    temporary.write_bytes(data)
    sync(temporary)
    temporary.replace(path)


def clone(source: int, target: int) -> bool:
    """Share the blocks of ``source`` (copy on write) where the file system can; returns whether it did."""
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError as error:
        if error.errno in _FULL:
            raise
        return False
    return True


def hash_file(path: pathlib.Path, meter: progress.Meter | None = None) -> str:
    """The SHA-256 of a file's bytes, hexadecimal, in constant memory."""
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as stream:
        while chunk := stream.read(CHUNK):
            digest.update(chunk)
            if meter is not None:
                meter.advance(len(chunk))
    return digest.hexdigest()


def remove_tree(path: pathlib.Path) -> None:
    """Remove a file or folder, read-only ones included; one that is gone is fine. Raises OSError otherwise."""
    if not path.is_dir() or path.is_symlink():
        path.unlink(missing_ok=True)
        return
    for folder, _, _ in os.walk(path):
        with contextlib.suppress(FileNotFoundError):
            pathlib.Path(folder).chmod(0o700)
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(path)


def write_all(descriptor: int, data: bytes) -> None:
    """Write every byte; a nearly full disk takes a part first and refuses the next. Raises OSError."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
