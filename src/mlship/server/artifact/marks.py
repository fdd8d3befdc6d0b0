"""Version marks that libraries leave inside their model files, found by looking at a piece of the bytes.

XGBoost writes its version at the end of a model, LightGBM at the start, CatBoost among its key-value pairs. The same
bytes appear as files of their own and inside pickles of the scikit-learn wrappers, so both look here.
"""

from __future__ import annotations

import mmap
import re

Bytes = bytes | mmap.mmap

# UBJSON: key "version", an array of three integers, each with its type (i: int8, U: uint8) before it.
_XGBOOST_UBJ = re.compile(rb"version\[(?:\$[iUL])?#L\x00{7}\x03(?:[iU](.)[iU](.)[iU](.)|(.)(.)(.))\}", re.DOTALL)
_XGBOOST_JSON = re.compile(rb'"version"\s*:\s*\[\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)\s*\]')
_LIGHTGBM = re.compile(rb"\Atree\r?\nversion=v(\d+)")
_CATBOOST = re.compile(rb"CatBoost release v?(\d+\.\d+(?:\.\d+)?)|Branch: tags/v(\d+\.\d+(?:\.\d+)?)")


def xgboost(tail: bytes) -> str:
    """The XGBoost version at the end of a model in JSON or UBJSON; empty when there is none."""
    if found := _XGBOOST_JSON.search(tail):
        return ".".join(part.decode() for part in found.groups())
    if found := _XGBOOST_UBJ.search(tail):
        return ".".join(str(part[0]) for part in found.groups() if part is not None)
    return ""


def lightgbm(head: bytes) -> str:
    """The version of LightGBM's text format (its major version) at the start of a model; empty when there is none."""
    found = _LIGHTGBM.search(head)
    return found[1].decode() if found else ""


def catboost(data: Bytes) -> str:
    """The CatBoost version in the build information of a ``cbm`` model; empty when it does not say."""
    found = _CATBOOST.search(data)
    return (found[1] or found[2]).decode() if found else ""


def of(head: bytes, tail: bytes) -> dict[str, str]:
    """All marks in a piece of data, by distribution name."""
    found = {"xgboost": xgboost(tail), "lightgbm": lightgbm(head)}
    if head.startswith(b"CBM1"):
        found["catboost"] = catboost(head + tail)
    return {name: version for name, version in found.items() if version}
