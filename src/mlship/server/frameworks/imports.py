"""Makes the modules beside a model importable, for pickles and Python files that need them.

A folder stays on ``sys.path`` while its model is loaded, because model code may import late. Two models in one process
that bring different modules of the same name would see the first one's: one process serves one model's code.
"""

from __future__ import annotations

import contextlib
import pathlib
import sys
import threading

_lock = threading.Lock()


def add(folder: pathlib.Path) -> None:
    """Put a folder in front of the module search path (once more for each model that asks for it)."""
    with _lock:
        sys.path.insert(0, str(folder.resolve()))


def remove(folder: pathlib.Path) -> None:
    """Take one mention of the folder away again; one that somebody else removed is no matter."""
    with _lock, contextlib.suppress(ValueError):
        sys.path.remove(str(folder.resolve()))
