"""A CSV table with a header row becomes one tensor per column: MLflow's ``text/csv`` requests, without pandas.

Columns are typed by what all their cells say, as pandas' ``read_csv`` does: integers INT64, numbers FP64, true and
false BOOL, anything else text. The cells that pandas reads as missing are NaN among numbers and null among text.
"""

from __future__ import annotations

import csv
import io
import re
from typing import Any

from mlship.protocol import faults, messages, tabular

# The strings that pandas.read_csv takes as missing by default (its documentation of ``na_values``).
_MISSING = frozenset(
    {"", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA"}
    | {"NULL", "NaN", "None", "n/a", "nan", "null"}
)
_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|[+-]?(?:inf|infinity)", re.IGNORECASE)
_BOOLS = {"True": True, "TRUE": True, "true": True, "False": False, "FALSE": False, "false": False}


def decode(body: bytes, where: str = "body") -> tuple[messages.Tensor, ...]:
    """The columns of a UTF-8 CSV document.

    Raises:
        errors.SpecError: no header, a column without a name or named twice, a row of another length, broken quoting.
    """
    rows = _rows(body, where)
    if len(rows) < 2:
        got = "only the header" if rows else "nothing"
        raise faults.invalid(where, f"expected a CSV header and at least one row, got {got}")
    names = rows[0]
    for index, name in enumerate(names):
        if not name:
            hint = "Write the CSV without the index column (pandas: index=False)."
            raise faults.invalid(where, f"column {index + 1} of the CSV header has no name", hint=hint)
    tabular.check_rows(rows[1:], len(names), f"{where}, row")
    tensors = tabular.grid(names, rows[1:], where)
    return tuple(tabular.tensor(item.name, _typed(item.data.tolist()), where) for item in tensors)


def _rows(body: bytes, where: str) -> list[list[str]]:
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise faults.invalid(where, f"expected UTF-8 text, got other bytes at position {error.start}") from error
    try:
        return [row for row in csv.reader(io.StringIO(text, newline=""), strict=True) if row]
    except csv.Error as error:
        raise faults.invalid(where, f"not valid CSV: {error}") from error


def _typed(cells: list[str]) -> list[Any]:
    present = [cell.strip() for cell in cells if cell not in _MISSING]
    if present and len(present) == len(cells) and all(_INTEGER.fullmatch(cell) for cell in present):
        return [int(cell) for cell in cells]
    if all(_NUMBER.fullmatch(cell) for cell in present):
        return [None if cell in _MISSING else float(cell) for cell in cells]
    if len(present) == len(cells) and all(cell in _BOOLS for cell in present):
        return [_BOOLS[cell.strip()] for cell in cells]
    return [None if cell in _MISSING else cell for cell in cells]
