"""The content-addressed store of models: what a digest names is there complete, or not there at all.

    blobs/sha256/ab/<64 hex>/content      the file or folder, read-only
                             entry.json   what was published (kind, size, modification times); its own mtime = last use
                             as/NAME      the content under the name its URI gave it (formats go by suffix)
    staging/<random>(.lock)               work in progress, beside a lock that dies with its owner
    partial/<key>(.lock)                  downloads to be resumed (partial.py)
    remembered/<key>.json                 what an address or an archive became (remember.py)
    locks/<64 hex>                        one lock per digest

An entry appears by one rename, after its bytes have been synced, so a process killed at any moment leaves either the
whole entry or some staging that the next cleaning removes. ``get`` compares sizes and times with the record and
hashes everything anew when they differ; what does not match its digest is removed and never returned.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import pathlib
import re
import secrets
import stat
import time
from collections.abc import Iterator

from mlship.storage import files, locks, tree

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}\Z")
_LOCK_SECONDS = 600.0  # the longest a digest is locked: verifying or removing one very large entry


@dataclasses.dataclass(frozen=True, slots=True)
class CacheEntry:
    """A published artifact. ``used``: when it was last published or asked for, seconds since the epoch."""

    digest: str
    path: pathlib.Path
    size: int
    used: float


class Cache:
    """The store below ``root``, shared by any number of processes. Every method may raise ``errors.BackendError``."""

    def __init__(self, root: pathlib.Path) -> None:
        self.root = root.absolute()
        self._blobs = self.root / "blobs" / "sha256"
        self._staging = self.root / "staging"
        self.partial = self.root / "partial"
        self.remembered = self.root / "remembered"
        self._locks = self.root / "locks"
        with files.into_cache(self.root):
            self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
            for folder in (self._blobs, self._staging, self.partial, self.remembered, self._locks):
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    @contextlib.contextmanager
    def staging(self) -> Iterator[pathlib.Path]:
        """An empty folder on the cache's disk, removed at the end; after a crash, by ``clean``."""
        with files.into_cache(self.root):
            place, descriptor = self._stage()
        try:
            yield place
        finally:
            with files.into_cache(self.root):
                files.remove_tree(place)
                place.with_suffix(".lock").unlink(missing_ok=True)
            os.close(descriptor)

    def publish(self, staged: pathlib.Path, digest: str) -> pathlib.Path:
        """Make ``staged`` (inside a ``staging`` folder) the content of ``digest``, in one step, and return its path.

        The caller has computed ``digest`` from the bytes it wrote. An entry that is there already wins.
        """
        final = self._folder(digest)
        parcel = staged.parent / f"{staged.name}.parcel"
        with files.into_cache(self.root), self._locked(digest):
            if (there := self._healthy(digest)) is not None:
                return there
            parcel.mkdir(mode=0o700)
            (parcel / "as").mkdir(mode=0o700)
            _freeze(staged)
            staged.rename(parcel / "content")
            if not (parcel / "content").is_file():
                (parcel / "content").chmod(0o555)
            (parcel / "entry.json").write_text(json.dumps(_record(parcel / "content")))
            for path in (parcel / "entry.json", parcel):
                files.sync(path)
            final.parent.mkdir(exist_ok=True, mode=0o700)
            parcel.rename(final)
            files.sync(final.parent)
        return final / "content"

    def get(self, digest: str) -> pathlib.Path | None:
        """The content of ``digest``, or None. What was changed since it was published is removed, never returned."""
        with files.into_cache(self.root):
            if not self._folder(digest).is_dir():
                return None
            with self._locked(digest):
                return self._healthy(digest)

    def named(self, digest: str, name: str) -> pathlib.Path:
        """The content of ``digest`` under ``name`` (one path segment). Raises KeyError when there is no such entry."""
        folder = self._folder(digest)
        link = folder / "as" / name
        with files.into_cache(self.root), self._locked(digest):
            if self._healthy(digest) is None:
                raise KeyError(digest)
            if not os.path.lexists(link):
                _alias(folder / "content", link)
        return link

    def size(self, digest: str) -> int:
        """Bytes of the content of ``digest``. Raises KeyError when there is no such entry."""
        try:
            return int(json.loads((self._folder(digest) / "entry.json").read_bytes())["size"])
        except (OSError, ValueError) as error:
            raise KeyError(digest) from error

    def verify(self, digest: str) -> bool:
        """Whether every byte of ``digest`` is there and right; an entry that is not is removed."""
        with files.into_cache(self.root):
            if not self._folder(digest).is_dir():
                return False
            with self._locked(digest):
                return self._sound(digest)

    def entries(self) -> list[CacheEntry]:
        """What is published now, the most recently used first."""
        found = []
        with files.into_cache(self.root):
            for record in self._blobs.glob("??/*/entry.json"):
                with contextlib.suppress(FileNotFoundError, ValueError, KeyError):  # removed meanwhile, or damaged
                    size = int(json.loads(record.read_bytes())["size"])
                    digest = f"sha256:{record.parent.name}"
                    found.append(CacheEntry(digest, record.parent / "content", size, record.stat().st_mtime))
        return sorted(found, key=lambda entry: entry.used, reverse=True)

    def collect(
        self, keep: set[str], max_bytes: int | None = None, *, unused_since: float | None = None
    ) -> list[CacheEntry]:
        """Remove entries that are not in ``keep``, the least recently used first, and return those removed.

        Args:
            keep: digests that must stay.
            max_bytes: stop as soon as what remains fits; None: remove all that may go.
            unused_since: spare what was used at or after this time (seconds since the epoch): a fetch of another
                process may have returned it before its digest got into ``keep``.
        """
        removed = []
        present = self.entries()
        total = sum(entry.size for entry in present)
        for entry in reversed(present):
            if max_bytes is not None and total <= max_bytes:
                break
            if entry.digest in keep or (unused_since is not None and entry.used >= unused_since):
                continue
            with files.into_cache(self.root), self._locked(entry.digest):
                self._remove(entry.digest)
                (self._locks / entry.digest.removeprefix("sha256:")).unlink(missing_ok=True)
            total -= entry.size
            removed.append(entry)
        self._forget()
        return removed

    def clean(self) -> None:
        """Remove the staging of processes that have died."""
        with files.into_cache(self.root):
            for lock in list(self._staging.glob("*.lock")):
                descriptor = locks.try_lock(lock)
                if descriptor is None:
                    continue
                try:
                    files.remove_tree(lock.with_suffix(""))
                    lock.unlink(missing_ok=True)
                finally:
                    os.close(descriptor)

    def _stage(self) -> tuple[pathlib.Path, int]:
        """A new staging folder and its lock; another one when a cleaner took a lock file just made."""
        while True:
            place = self._staging / secrets.token_hex(8)
            descriptor = locks.try_lock(place.with_suffix(".lock"))
            if descriptor is not None:
                place.mkdir(mode=0o700)
                return place, descriptor

    def _forget(self) -> None:
        """Remove the records of what is no longer there. They are hints: one lost to a race costs a download."""
        with files.into_cache(self.root):
            for path in list(self.remembered.iterdir()):
                try:
                    known = self._folder(json.loads(path.read_bytes())["digest"]).is_dir()
                except (OSError, ValueError, KeyError, TypeError):
                    known = False
                if not known:
                    path.unlink(missing_ok=True)

    def _folder(self, digest: str) -> pathlib.Path:
        if not _DIGEST.match(digest):
            raise ValueError(f"not a digest: {digest[:100]!r}")
        hexadecimal = digest.removeprefix("sha256:")
        return self._blobs / hexadecimal[:2] / hexadecimal

    def _locked(self, digest: str) -> contextlib.AbstractContextManager[None]:
        return locks.held(self._locks / digest.removeprefix("sha256:"), patience=_LOCK_SECONDS)

    def _healthy(self, digest: str) -> pathlib.Path | None:
        """Under the lock: the content when it is as recorded or, failing that, when its hash is right."""
        folder = self._folder(digest)
        content = folder / "content"
        try:
            record = json.loads((folder / "entry.json").read_bytes())
            same = record == _record(content)
        except (OSError, ValueError):
            same = False
        if not same and not self._sound(digest):
            return None
        now = time.time()
        os.utime(folder / "entry.json", (now, now))
        return content

    def _sound(self, digest: str) -> bool:
        content = self._folder(digest) / "content"
        with contextlib.suppress(OSError):
            if tree.digest_of(content) == digest:
                (content.parent / "entry.json").write_text(json.dumps(_record(content)))
                return True
        self._remove(digest)
        return False

    def _remove(self, digest: str) -> None:
        folder = self._folder(digest)
        with self.staging() as place, contextlib.suppress(FileNotFoundError):
            folder.rename(place / "removed")


def safe_name(text: str) -> str:
    """``text`` as one harmless path segment, its suffix kept; "model" when nothing is left."""
    last = text.replace("\\", "/").rstrip("/").rpartition("/")[2]
    clean = re.sub(r"[^\w.+\- ]", "_", last).strip(" .")
    stem, dot, suffix = clean.rpartition(".")
    if len(os.fsencode(clean)) > 120:
        clean = os.fsencode(stem)[: 110 - len(os.fsencode(suffix[:20]))].decode(errors="ignore") + dot + suffix[:20]
    return clean or "model"


def _record(content: pathlib.Path) -> dict[str, object]:
    """What can be compared without reading the bytes. Raises OSError."""
    if not content.is_dir():
        status = content.lstat()
        return {"kind": "file", "size": status.st_size, "files": 1, "times": status.st_mtime_ns}
    sizes, times = [], 0
    for file in tree.regular_files(content):
        status = file.lstat()
        sizes.append(status.st_size)
        times += status.st_mtime_ns
    return {"kind": "folder", "size": sum(sizes), "files": len(sizes), "times": times}


def _freeze(staged: pathlib.Path) -> None:
    """Make everything read-only and durable, from the leaves up."""
    if not staged.is_dir():
        _freeze_file(staged)
        return
    for folder, _, names in os.walk(staged, topdown=False):
        for name in names:
            _freeze_file(pathlib.Path(folder, name))
        files.sync(pathlib.Path(folder))
        # The top stays writable for its owner until it has been moved: renaming a folder needs that.
        pathlib.Path(folder).chmod(0o700 if folder == str(staged) else 0o555)


def _freeze_file(path: pathlib.Path) -> None:
    executable = path.stat().st_mode & stat.S_IXUSR
    path.chmod(0o555 if executable else 0o444)
    files.sync(path)


def _alias(content: pathlib.Path, link: pathlib.Path) -> None:
    if not content.is_dir():
        try:
            os.link(content, link)
        except OSError:  # a file system without hard links, or too many of them
            link.symlink_to(pathlib.Path("..", "content"))
        return
    link.symlink_to(pathlib.Path("..", "content"))
