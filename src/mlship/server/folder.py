"""A model repository folder: which models and versions lie in it.

    ROOT/NAME/artifact              version 1
    ROOT/NAME/VERSION/artifact      VERSION is a positive whole number

A name is looked for among the folder's own entries, never joined to a path as the caller wrote it.
"""

from __future__ import annotations

import pathlib
import re
from collections.abc import Mapping

from mlship import errors
from mlship.server import loading, refusals

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,126}")
_VERSION = re.compile(r"[1-9][0-9]{0,17}")


def check_name(name: str) -> str:
    """``name`` if it can name a model. Raises SpecError."""
    if not _NAME.fullmatch(name):
        raise errors.SpecError(
            f'a model cannot be named "{refusals.shorten(name)}".',
            hint="Use letters, digits, '_', '.' and '-', at most 127, the first no '.' or '-'.",
        )
    return name


def check_version(version: str) -> str:
    """``version`` if it is a positive whole number. Raises SpecError."""
    if not _VERSION.fullmatch(version):
        raise errors.SpecError(
            f'"{refusals.shorten(version)}" is not a model version.', hint="Use a positive whole number."
        )
    return version


def scan(
    root: pathlib.Path, *, model_format: str = "", options: Mapping[str, str] | None = None
) -> list[loading.Source]:
    """The sources in ``root``, by name and version.

    Raises:
        SpecError: ``root`` is not a folder that can be read, or an entry's name cannot name a model.
    """
    try:
        entries = sorted(entry for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    except OSError as error:
        raise errors.SpecError(
            f"the model repository {root} cannot be read: {error.strerror}.", hint="Give a folder of NAME/artifact."
        ) from error
    return [
        loading.Source(name=entry.name, version=version, path=path, format=model_format, options=dict(options or {}))
        for entry in entries
        for version, path in _versions(entry)
    ]


def versions(entry: pathlib.Path) -> list[loading.Source]:
    """The sources of one model's folder. Raises SpecError."""
    return [loading.Source(name=entry.name, version=version, path=path) for version, path in _versions(entry)]


def _versions(entry: pathlib.Path) -> list[tuple[str, pathlib.Path]]:
    check_name(entry.name)
    numbered = [path for path in entry.iterdir() if path.is_dir() and _VERSION.fullmatch(path.name)]
    if not numbered:
        return [("1", entry)]
    return [(path.name, path) for path in sorted(numbered, key=lambda path: int(path.name))]
