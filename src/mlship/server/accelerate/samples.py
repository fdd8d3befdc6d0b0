"""Rows that came with a model, to be among those of its proof: the example its owner or MLflow recorded.

The model's own example row comes through the adapter; here is MLflow's ``input_example.json`` beside it, which may
hold many rows, in the forms that MLflow writes: ``{"columns", "data"}``, ``{"inputs"}``, ``{"instances"}``,
``{"dataframe_split"}`` or a plain list. What cannot be read as numbers of the model's width is left aside: it is more
proof than there would be without, never a reason to fail.
"""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np
import orjson

from mlship.protocol import messages

NAME = "input_example.json"
MOST_BYTES = 8 << 20
MOST_ROWS = 1024


def beside(path: pathlib.Path, features: int) -> messages.Array:
    """The rows recorded in the folder ``path`` or beside the file; shape (rows, features), float64, perhaps no rows."""
    folder = path if path.is_dir() else path.parent
    try:
        file = folder / NAME
        value = orjson.loads(file.read_bytes()) if file.stat().st_size <= MOST_BYTES else None
    except (OSError, orjson.JSONDecodeError):
        value = None
    return _matrix(value, features)


def _matrix(value: Any, features: int) -> messages.Array:
    nothing = np.empty((0, features))
    for key in ("dataframe_split", "data", "inputs", "instances"):
        if isinstance(value, dict) and key in value:
            value = value[key]
    try:
        found = np.atleast_2d(np.asarray(value, dtype=np.float64))
    except (TypeError, ValueError):
        return nothing
    if found.ndim != 2 or found.shape[1] != features:
        return nothing
    return found[:MOST_ROWS]
