"""A model repository folder: which models and versions lie in it.

    ROOT/NAME/artifact              version 1
    ROOT/NAME/VERSION/artifact      VERSION is a positive whole number
    ROOT/NAME/config.pbtxt          a model of a Triton repository; its version policy says which versions
    ROOT/ANY/model-settings.json    a model of MLServer, under the name its settings give

A name is looked for among the folder's own entries, never joined to a path as the caller wrote it.
"""

from __future__ import annotations

import pathlib
import re

from mlship import errors
from mlship.server import loading, refusals
from mlship.server.artifact import mlserver_folder, triton_folder

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


def versions(entry: pathlib.Path) -> list[loading.Source]:
    """The sources of one model's folder. Raises SpecError."""
    check_name(entry.name)
    if (entry / mlserver_folder.NAME).is_file():
        settings = mlserver_folder.read(entry)
        name = check_name(settings.name or entry.name)
        return [loading.Source(name=name, version=settings.version, path=entry)]
    if (entry / triton_folder.NAME).is_file():
        config = triton_folder.Config(entry)
        if config.name not in ("", entry.name):
            raise errors.SpecError(
                f'{entry.name}/{triton_folder.NAME} names the model "{refusals.shorten(config.name)}".',
                hint="Give the folder the model's name.",
            )
        return [loading.Source(name=entry.name, version=each, path=entry / each) for each in config.versions()]
    return [loading.Source(name=entry.name, version=version, path=path) for version, path in _versions(entry)]


def name_of(entry: pathlib.Path) -> str:
    """The name of the model in a folder: the folder's, unless a file in it says another. Raises SpecError."""
    if (entry / mlserver_folder.NAME).is_file():
        return check_name(mlserver_folder.read(entry).name or entry.name)
    return entry.name


def _versions(entry: pathlib.Path) -> list[tuple[str, pathlib.Path]]:
    numbered = [path for path in entry.iterdir() if path.is_dir() and _VERSION.fullmatch(path.name)]
    if not numbered:
        return [("1", entry)]
    return [(path.name, path) for path in sorted(numbered, key=lambda path: int(path.name))]
