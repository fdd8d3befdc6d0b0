"""Archives, unpacked without trust: tar (plain, gzip, bzip2, xz) and zip, into a folder that nothing can leave.

An archive is unpacked only when its name says that it is one, so that a skops or Keras file, which is a zip inside,
stays a file. The rules are in unpacker.py, the formats in tarball.py and zipball.py.
"""

from __future__ import annotations

import pathlib
from typing import Literal

from mlship.storage import limits, progress, tarball, unpacker, zipball

Kind = Literal["tar", "zip"]
_SUFFIXES: dict[str, Kind] = {
    ".zip": "zip",
    **dict.fromkeys((".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz"), "tar"),
}


def kind_of(name: str) -> Kind | None:
    """What archive a name says it is; None for everything else."""
    lower = name.lower()
    return next((kind for suffix, kind in _SUFFIXES.items() if lower.endswith(suffix) and lower != suffix), None)


def stem_of(name: str) -> str:
    """The name of an archive without its suffix: what the folder is called that it becomes."""
    suffix = max((suffix for suffix in _SUFFIXES if name.lower().endswith(suffix)), key=len, default="")
    return name[: len(name) - len(suffix)] or "model"


def unpack(
    archive: pathlib.Path,
    kind: Kind,
    place: pathlib.Path,
    *,
    shown: str,
    root: pathlib.Path,
    bounds: limits.Limits,
    meter: progress.Meter,
) -> unpacker.Unpacked:
    """Unpack ``archive`` below the empty folder ``place``, on the disk of the cache ``root``.

    ``shown`` names the archive in messages. Raises ``errors.SpecError``: no such archive or damaged, a member that
    would leave the folder, a link that does, a device, a bomb; ``errors.BackendError``: the cache's disk.
    """
    work = unpacker.Unpacker(archive, place / "members", shown=shown, root=root, bounds=bounds, meter=meter)
    read = tarball.read if kind == "tar" else zipball.read
    read(archive, work)
    return work.finish(place / "folder")
