"""The models a repository folder lists, one at a time: an entry ``NAME.json`` or a folder ``NAME``.

An entry says where an artifact lies and how it is to be served; whoever writes entries renames them into place, so one
that is read is whole. Nothing is read before somebody asks for the model, so ten thousand entries cost as many names.
``folder`` reads all of them at once, for a server that loads everything at its start.

    {"name": "iris", "version": "3", "format": "sklearn", "path": "/models/iris.pkl", "options": {},
     "accelerate": null, "digest": "sha256:...", "memory": null, "tags": {}}
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from mlship import errors
from mlship.server import folder, loading
from mlship.server.accelerate import verdict

SUFFIX = ".json"
_FIELDS = frozenset({"name", "version", "format", "path", "options", "accelerate", "digest", "memory", "tags"})
# Of an artifact without a digest, so many files are looked at.
_MOST_FILES = 200
# Changes when a file was written anew: its time, size and number.
Stamp = tuple[int, int, int]


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """A version that is listed. ``memory``: bytes it is said to take, 0 when nobody says; ``tags`` go to the report.

    ``look``: how its files look from outside, where no digest says what they are.
    """

    source: loading.Source
    digest: str = ""
    memory: int = 0
    tags: Mapping[str, str] = dataclasses.field(default_factory=dict)
    look: str = ""

    @property
    def identity(self) -> str:
        """What tells it from what was listed in its place before."""
        return self.digest or f"{self.source.path} {self.look}"


@dataclasses.dataclass(frozen=True, slots=True)
class Listing:
    """What the folder says of a name: its versions, and the stamp of where it says so."""

    stamp: Stamp
    entries: tuple[Entry, ...]


class Catalog:
    """Reads the folder ``root``.

    Args:
        flags: what the server's own flags say of every model, where its entry says nothing.
    """

    def __init__(self, root: pathlib.Path, *, flags: loading.Source | None = None) -> None:
        self._root = root
        # Folders whose name is not the model's.
        self._folders: dict[str, str] = {}
        self._flags = flags or loading.Source(name="", version="", path=root)

    def names(self) -> list[str]:
        """The names listed, without a look at any of them. Raises SpecError when the folder cannot be read."""
        found = set()
        try:
            with os.scandir(self._root) as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    if entry.name.endswith(SUFFIX):
                        found.add(_printable(entry.name.removesuffix(SUFFIX)))
                    elif _is_folder(entry):
                        name = _printable(self._named(self._root / entry.name))
                        self._folders[name] = entry.name
                        found.add(name)
        except OSError as error:
            raise errors.SpecError(
                f"the model repository {self._root} cannot be read: {error.strerror}.",
                hint="Give a folder of NAME.json entries or of NAME/artifact.",
            ) from error
        return sorted(found)

    def _named(self, path: pathlib.Path) -> str:
        try:
            return folder.name_of(path)
        except (errors.SpecError, OSError):
            return path.name  # Whoever asks for it is told what is wrong.

    def _folder(self, name: str) -> pathlib.Path:
        return self._root / self._folders.get(name, name)

    def sources(self) -> list[loading.Source]:
        """Everything listed, for a server that loads it all. Raises SpecError."""
        found = [listing for name in self.names() if (listing := self.read(name)) is not None]
        return [entry.source for listing in found for entry in listing.entries]

    def changed(self) -> int:
        """Another number whenever a name has come, gone, or been replaced; 0: the folder is not there."""
        try:
            return self._root.stat().st_mtime_ns
        except OSError:
            return 0

    def stamp(self, name: str) -> Stamp | None:
        """The stamp of what lists ``name``, which must be a valid name; None when nothing does."""
        for path in (self._root / f"{name}{SUFFIX}", self._folder(name)):
            try:
                found = path.stat()
            except OSError:
                continue
            return (found.st_mtime_ns, found.st_size, found.st_ino)
        return None

    def read(self, name: str) -> Listing | None:
        """What is listed under ``name``, None when nothing is. Raises SpecError when it cannot be understood."""
        stamp = self.stamp(folder.check_name(name))
        if stamp is None:
            return None
        path = self._root / f"{name}{SUFFIX}"
        try:
            body = path.read_bytes()
        except FileNotFoundError:
            try:
                return self._of_folder(name, stamp)
            except FileNotFoundError:  # It went while it was looked at.
                return None
            except OSError as error:
                raise errors.SpecError(f"the folder {self._folder(name)} cannot be read: {error.strerror}.") from error
        except OSError as error:
            raise errors.SpecError(f"the entry {path} cannot be read: {error.strerror}.") from error
        return Listing(stamp, (_looked_at(read_entry(body, path=path, flags=self._flags)),))

    def _of_folder(self, name: str, stamp: Stamp) -> Listing | None:
        if not self._folder(name).is_dir():
            return None
        sources = folder.versions(self._folder(name))
        kept = ("name", "version", "path")
        # Under another name that its settings give it is listed there.
        found = [{key: getattr(source, key) for key in kept} for source in sources if source.name == name]
        if sources and not found:
            return None
        entries = (Entry(dataclasses.replace(self._flags, **each)) for each in found)
        return Listing(stamp, tuple(_looked_at(entry) for entry in entries))


def _printable(name: str) -> str:
    """A name that can be told of: those of files are any bytes."""
    return os.fsencode(name).decode(errors="replace")


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # A link that leads nowhere but to itself hides no other model.
        return False


def _looked_at(entry: Entry) -> Entry:
    if entry.digest:
        return entry
    look = hashlib.blake2s(digest_size=8)
    for file in _files(entry.source.path):
        try:
            found = file.stat()
        except (OSError, ValueError):  # It is said when it is loaded.
            continue
        look.update(f"{file}\0{found.st_mtime_ns}\0{found.st_size}\0{found.st_ino}\n".encode(errors="surrogateescape"))
    return dataclasses.replace(entry, look=look.hexdigest())


def _files(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """The artifact and what lies in it, as far as a look may take."""
    yield path
    try:
        yield from sorted(itertools.islice(path.rglob("*"), _MOST_FILES)) if path.is_dir() else ()
    except OSError:
        return


def read_entry(body: bytes, *, path: pathlib.Path, flags: loading.Source) -> Entry:
    """The entry that ``body``, the content of ``path``, is. Raises SpecError: what of it is wrong."""
    found = _object(body, path)
    name = folder.check_name(_text(found, "name", path))
    if name != path.name.removesuffix(SUFFIX):
        raise errors.SpecError(f'the entry {path} names "{name}".', hint=f"Write it to {name}{SUFFIX}.")
    where = pathlib.Path(_text(found, "path", path))
    if not where.is_absolute():
        raise _wrong(path, '"path"', "an absolute path", str(where))
    source = dataclasses.replace(
        flags,
        name=name,
        version=folder.check_version(_text(found, "version", path, "1")),
        path=where,
        format=_text(found, "format", path, flags.format),
        options={**flags.options, **_texts(found, "options", path)},
        accelerate=_mode(found.get("accelerate"), path, flags.accelerate),
    )
    memory = found.get("memory")
    if memory is not None and (isinstance(memory, bool) or not isinstance(memory, int) or memory < 0):
        raise _wrong(path, '"memory"', "a number of bytes", memory)
    return Entry(source, _text(found, "digest", path, ""), memory or 0, _texts(found, "tags", path))


def _object(body: bytes, path: pathlib.Path) -> dict[str, Any]:
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise errors.SpecError(f"the entry {path} is not JSON: {error}.") from error
    if not isinstance(found, dict):
        raise _wrong(path, "it", "an object", found)
    if unknown := sorted(set(found) - _FIELDS):
        raise errors.SpecError(f"the entry {path} has fields that are not known: {', '.join(unknown)[:200]}.")
    return found


def _text(found: Mapping[str, Any], key: str, path: pathlib.Path, default: str | None = None) -> str:
    value = found.get(key)
    if value is None and default is not None:
        return default
    if not isinstance(value, str) or (not value and default is None):
        raise _wrong(path, f'"{key}"', "a text", value)
    return value


def _texts(found: Mapping[str, Any], key: str, path: pathlib.Path) -> dict[str, str]:
    value = found.get(key) or {}
    if not isinstance(value, dict) or not all(isinstance(each, str) for each in value.values()):
        raise _wrong(path, f'"{key}"', "an object of texts", value)
    return value


def _mode(value: object, path: pathlib.Path, default: verdict.Mode) -> verdict.Mode:
    if value is None:
        return default
    try:
        return verdict.Mode(str(value))
    except ValueError:
        raise _wrong(path, '"accelerate"', f"one of {', '.join(verdict.Mode)}", value) from None


def _wrong(path: pathlib.Path, what: str, expected: str, got: object) -> errors.SpecError:
    return errors.SpecError(f"the entry {path}: {what} expected {expected}, got {str(got)[:80]!r}.")
