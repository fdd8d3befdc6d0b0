"""Folders that only this user may enter: sockets, records and logs lie in them.

The folder for sockets may be in the shared temporary folder (``home.Home.sockets``), where anybody could have put one
of that name before us; so it is checked, not only made.
"""

from __future__ import annotations

import os
import pathlib
import stat

from mlship import errors


def private(path: pathlib.Path) -> None:
    """Make ``path`` a folder of ours with mode 0700. Raises ``errors.BackendError`` when it is something else."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = path.lstat()
    except OSError as error:
        raise errors.BackendError(
            f"cannot make the folder {path}: {error.strerror}.",
            hint="Check the free space and the permissions, or set MLSHIP_HOME to another folder.",
        ) from error
    if stat.S_ISLNK(found.st_mode) and found.st_uid == os.getuid():
        found = path.stat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise errors.BackendError(
            f"{path} belongs to somebody else or is not a folder.", hint="Remove it, or set MLSHIP_HOME elsewhere."
        )
    if stat.S_IMODE(found.st_mode) & 0o077:
        path.chmod(0o700)
