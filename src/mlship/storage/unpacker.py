"""The rules of unpacking: what a member of an archive may be called, be, and weigh. Whatever breaks one is refused.

tarball.py and zipball.py read their formats and hand members to an ``Unpacker``, which trusts none of what they say.
Files are written first, links made only afterwards, so that no member can be written through a link; the result is
scanned like any folder of a user (tree.scan), which refuses the links that leave it.
"""

from __future__ import annotations

import dataclasses
import errno
import os
import pathlib
import shutil
from typing import Protocol

from mlship import errors
from mlship.storage import files, limits, progress, tree

_ODD = {errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.EINVAL, errno.ENOTEMPTY, errno.EILSEQ}


class Readable(Protocol):
    """A member's bytes."""

    def read(self, size: int, /) -> bytes: ...


@dataclasses.dataclass(frozen=True, slots=True)
class Unpacked:
    """A folder of regular files at ``path``, with the folder's digest and the bytes in it."""

    path: pathlib.Path
    digest: str
    size: int


class Unpacker:
    """Writes members below ``target`` and refuses what breaks a rule. Sizes are counted as they are written."""

    def __init__(
        self,
        archive: pathlib.Path,
        target: pathlib.Path,
        *,
        shown: str,
        root: pathlib.Path,
        bounds: limits.Limits,
        meter: progress.Meter,
    ) -> None:
        self.shown = shown
        self.bounds = bounds
        self.target = target
        self._root = root
        self._meter = meter
        self._packed = max(1, archive.stat().st_size)
        self._files = self._bytes = 0
        self._seen: set[str] = set()
        self._links: dict[str, str] = {}
        with files.into_cache(root):
            target.mkdir()
        meter.start("unpack", None)

    def folder(self, name: str) -> None:
        """A folder member."""
        relative = self._relative(name)
        if relative and not self._ignored(name):
            self._count(0)
            self._make(self.target / relative, name)

    def file(self, name: str, stream: Readable, *, size: int, executable: bool) -> None:
        """A regular file of ``size`` announced bytes."""
        if self._ignored(name):
            return
        path = self._fresh(name)
        if self._bytes + size > self.bounds.max_bytes:
            self.grow(size)
        files.require_space(self._root, size)
        try:
            writer = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o700 if executable else 0o600)
        except OSError as error:
            raise self._cannot(name, error) from error
        try:
            while chunk := stream.read(files.CHUNK):
                self.grow(len(chunk))
                with files.into_cache(self._root, needed=size):
                    files.write_all(writer, chunk)
        finally:
            os.close(writer)

    def hard_link(self, name: str, target: str) -> None:
        """Another name of a file that came earlier in the archive."""
        if self._ignored(name):
            return
        source = self._relative(target)
        if source not in self._seen or source in self._links:
            raise self.refuse(f"its member {_cap(name)} is a link to {_cap(target)}, which is no earlier file of it")
        path = self._fresh(name)
        self.grow((self.target / source).stat().st_size)
        self._join(self.target / source, path, name)

    def link(self, name: str, target: str) -> None:
        """A symbolic link: noted now, made when every file is written."""
        if self._ignored(name):
            return
        if target.startswith("/") or "\0" in target or not target:
            raise self.refuse(f"its member {_cap(name)} is a link to {_cap(target)}, outside of it")
        self._fresh(name)
        self._links[self._relative(name)] = target

    def grow(self, count: int) -> None:
        """``count`` more bytes came out of the archive: too many, or too many for its size, is a bomb."""
        self._bytes += count
        if self._bytes > self.bounds.max_bytes:
            raise self.refuse(
                f"it unpacks to more than {self.bounds.max_bytes} bytes, the limit max_bytes",
                reason=errors.Reason.TOO_LARGE,
            )
        if self._bytes > max(self.bounds.ratio_floor, self.bounds.max_ratio * self._packed):
            raise self.refuse(
                f"it unpacks to more than {self.bounds.max_ratio:g} times its own size, the limit max_ratio",
                reason=errors.Reason.TOO_LARGE,
            )
        self._meter.advance(count)

    def finish(self, folder: pathlib.Path) -> Unpacked:
        """Make the links, check the whole, hash it. Without links ``target`` itself is the folder; else ``folder``."""
        self._meter.finish()
        for relative, target in self._links.items():
            self._make((self.target / relative).parent, relative)
            try:
                (self.target / relative).symlink_to(target)
            except OSError as error:
                raise self._cannot(relative, error) from error
        try:
            entries = tree.scan(self.target.resolve(), self.bounds)
        except errors.SpecError as error:
            told = error.message.replace(f"{self.target.resolve()}/", "").replace(
                str(self.target.resolve()), "(the archive)"
            )
            raise self.refuse(f"what it holds is refused: {told}", reason=error.reason) from error
        if self._links:
            for entry in entries:
                self._make((folder / entry.relative).parent, entry.relative)
                self._join(entry.path, folder / entry.relative, entry.relative)
        path = folder if self._links else self.target
        size = sum(entry.size for entry in entries)
        self._meter.start("verify", size)
        with files.into_cache(self._root):
            parts = [(e.relative, e.executable, files.hash_file(path / e.relative, self._meter)) for e in entries]
        self._meter.finish()
        return Unpacked(path, tree.digest(parts), size)

    def refuse(self, what: str, *, reason: errors.Reason = errors.Reason.INVALID) -> errors.SpecError:
        """The error of an archive that breaks a rule."""
        return errors.SpecError(
            f"The archive {self.shown} is refused: {what}.",
            hint="Pack it again with files and folders only (`tar -czf model.tar.gz -C FOLDER .`).",
            reason=reason,
        )

    def damaged(self, error: BaseException) -> errors.SpecError:
        """The error of an archive that cannot be read."""
        return errors.SpecError(
            f"The archive {self.shown} cannot be unpacked: {str(error)[:200] or type(error).__name__}.",
            hint="It is cut off, damaged, or not what its name says; pack or upload it again.",
        )

    def _relative(self, name: str) -> str:
        if name.startswith("/") or "\\" in name or "\0" in name or name[1:2] == ":":
            raise self.refuse(f"its member {_cap(name)} has an absolute or foreign path")
        segments = [segment for segment in name.split("/") if segment not in ("", ".")]
        if ".." in segments:
            raise self.refuse(f"its member {_cap(name)} would be written outside of it")
        return "/".join(segments)

    def _ignored(self, name: str) -> bool:
        return tree.IGNORED in self._relative(name).split("/")

    def _fresh(self, name: str) -> pathlib.Path:
        """The path of a member that is new; its folder exists afterwards."""
        relative = self._relative(name)
        if not relative or relative in self._seen:
            raise self.refuse(f"its member {_cap(name)} comes twice" if relative else "it has a member without a name")
        self._seen.add(relative)
        self._count(1)
        path = self.target / relative
        self._make(path.parent, name)
        return path

    def _count(self, count: int) -> None:
        # Folders count too: an archive of a million empty ones is a bomb as well.
        self._files += max(count, 1)
        if self._files > self.bounds.max_files:
            raise self.refuse(
                f"it holds more than {self.bounds.max_files} members, the limit max_files",
                reason=errors.Reason.TOO_LARGE,
            )

    def _make(self, path: pathlib.Path, name: str) -> None:
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._cannot(name, error) from error

    def _join(self, source: pathlib.Path, path: pathlib.Path, name: str) -> None:
        """Give the bytes of ``source`` a second name, or copy them where the disk knows no hard links."""
        try:
            try:
                os.link(source, path)
            except PermissionError:
                shutil.copy2(source, path)
        except OSError as error:
            raise self._cannot(name, error) from error

    def _cannot(self, name: str, error: OSError) -> errors.MlshipError:
        if error.errno in _ODD:
            return self.refuse(f"its member {_cap(name)} cannot be written ({files.why(error)})")
        return files.cache_error(error, self._root)


def _cap(name: str) -> str:
    return repr(name if len(name) <= 120 else f"{name[:100]}...")
