"""Downloads that are not finished: where their bytes wait to be resumed, and when they are given up.

One per address, below ``partial/`` of the cache: ``<key>.data`` (the bytes), ``<key>.json`` (what the server said they
are part of) and ``<key>.lock`` (held while somebody downloads). Nothing here is ever visible as an artifact. What
nobody has continued for a day, and the oldest beyond a total size, is removed by ``clean``.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import pathlib
from types import TracebackType
from typing import Self

from mlship.storage import cache, files, identity, locks, progress

STALE_SECONDS = 24 * 3600.0
MAX_BYTES = 64 << 30


class Partial:
    """The bytes of one address that are here already. Used under ``held``; every method may raise BackendError.

    Use as a context manager: the file is open inside. ``offset`` bytes are on disk and in ``sha256``.
    """

    def __init__(self, store: cache.Cache, key: str) -> None:
        self._root = store.root
        self.data = store.partial / f"{key}.data"
        self._facts = store.partial / f"{key}.json"
        self.about: identity.Identity | None = None
        self.offset = 0
        self._file = -1
        self._taken = False
        self._digest = hashlib.sha256()

    def __enter__(self) -> Self:
        with files.into_cache(self._root):
            self._file = os.open(self.data, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            self.about = self._read_facts()
            if self.about is None:
                os.ftruncate(self._file, 0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if not self._taken and not (self.offset and self.about and self.about.validator):
                self.drop()
        finally:
            os.close(self._file)

    @property
    def hexadecimal(self) -> str:
        """The SHA-256 of the ``offset`` bytes."""
        return self._digest.hexdigest()

    def load(self, meter: progress.Meter) -> None:
        """Hash the bytes that an earlier process left, so that the download can go on behind them."""
        with files.into_cache(self._root):
            size = os.fstat(self._file).st_size
            if size == 0:
                return
            meter.start("verify", size)
            os.lseek(self._file, 0, os.SEEK_SET)
            while chunk := os.read(self._file, files.CHUNK):
                self._digest.update(chunk)
                self.offset += len(chunk)
                meter.advance(len(chunk))

    def restart(self, about: identity.Identity) -> None:
        """Forget the bytes: the server begins anew, with the file that it says is ``about``."""
        self.reset()
        self.about = about
        facts = json.dumps(dataclasses.asdict(about)).encode()
        with files.into_cache(self._root, needed=about.total):
            files.write_atomically(self._facts, facts, temporary=self._facts.with_suffix(".tmp"))

    def reset(self) -> None:
        """Forget the bytes; what comes next is the beginning."""
        self._digest = hashlib.sha256()
        self.offset = 0
        self.about = None
        with files.into_cache(self._root):
            os.ftruncate(self._file, 0)
            os.lseek(self._file, 0, os.SEEK_SET)
            self._facts.unlink(missing_ok=True)

    def append(self, chunk: bytes) -> None:
        """More bytes. When the disk is full all of them are given up, so that the disk is not left full."""
        try:
            files.write_all(self._file, chunk)
        except OSError as error:
            needed = self.about.total if self.about else None
            translated = files.cache_error(error, self._root, needed=needed)
            self.drop()
            raise translated from error
        self._digest.update(chunk)
        self.offset += len(chunk)

    def drop(self) -> None:
        """Give the bytes up for good."""
        self.reset()
        with files.into_cache(self._root):
            self.data.unlink(missing_ok=True)

    def take(self, target: pathlib.Path) -> None:
        """Move the finished bytes to ``target`` on the same disk."""
        with files.into_cache(self._root):
            self.data.rename(target)
            self._taken = True
            self._facts.unlink(missing_ok=True)

    def _read_facts(self) -> identity.Identity | None:
        """What the bytes are part of; None when that is unknown or unreadable: then they are worth nothing."""
        try:
            facts = json.loads(self._facts.read_bytes())
            total = facts["total"]
            about = identity.Identity(
                str(facts["etag"]), str(facts["last_modified"]), None if total is None else int(total)
            )
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return about if about.validator else None


def key_of(url: str) -> str:
    """The key of an address; a hash, since addresses may hold secrets."""
    return hashlib.sha256(url.encode()).hexdigest()


def lock_of(store: cache.Cache, key: str) -> pathlib.Path:
    """The lock to hold while a ``Partial`` of ``key`` is used."""
    return store.partial / f"{key}.lock"


def pulse_of(store: cache.Cache, key: str) -> int:
    """A number that changes while the holder of the lock works, for those who wait for it; -1 when there is none."""
    try:
        return lock_of(store, key).stat().st_mtime_ns
    except OSError:
        return -1


def clean(store: cache.Cache, *, now: float, stale: float = STALE_SECONDS, max_bytes: int = MAX_BYTES) -> None:
    """Remove what is older than ``stale`` seconds at ``now`` (since the epoch), and the oldest beyond ``max_bytes``."""
    with files.into_cache(store.root):
        ages = []
        for data in store.partial.glob("*.data"):
            try:
                status = data.stat()
            except FileNotFoundError:
                continue
            ages.append((status.st_mtime, status.st_size, data.stem))
        for lock in store.partial.glob("*.lock"):
            if not lock.with_suffix(".data").exists():
                _remove(store, lock.stem)
        total = sum(size for _, size, _ in ages)
        for modified, size, key in sorted(ages):
            if now - modified > stale or total > max_bytes:
                total -= size
                _remove(store, key)


def _remove(store: cache.Cache, key: str) -> None:
    lock = lock_of(store, key)
    descriptor = locks.try_lock(lock)
    if descriptor is None:
        return
    try:
        for path in (store.partial / f"{key}.data", store.partial / f"{key}.json", lock):
            path.unlink(missing_ok=True)
    finally:
        os.close(descriptor)
