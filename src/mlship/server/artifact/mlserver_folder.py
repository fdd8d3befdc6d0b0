"""A model folder of MLServer: ``model-settings.json`` says what is in it.

Its runtimes for scikit-learn, XGBoost, LightGBM, CatBoost, ONNX and MLflow load the same files that are served here,
so the settings are read as they are: implementation, name, version, uri, inputs, outputs and rows in one call. Code of
its own kind is refused with what works instead. Fields as in MLServer's documentation of model settings.
"""

from __future__ import annotations

import dataclasses
import pathlib
import re
from collections.abc import Mapping
from typing import Any

import orjson

from mlship import errors
from mlship.protocol import messages
from mlship.server.artifact.wishes import Wishes

NAME = "model-settings.json"
_FORMATS = {
    "mlserver_sklearn": "sklearn",
    "mlserver_xgboost": "xgboost",
    "mlserver_lightgbm": "lightgbm",
    "mlserver_catboost": "catboost",
    "mlserver_onnx": "onnx",
    "mlserver_mlflow": "mlflow",
}
_VERSION = re.compile(r"[1-9][0-9]{0,17}")
_READ = {"name", "implementation", "platform", "versions", "inputs", "outputs", "parameters", "max_batch_size"}
_NOTED_PARAMETERS = {"content_type", "extra", "format", "environment_path", "environment_tarball", "inference_pool_gid"}


@dataclasses.dataclass(frozen=True, slots=True)
class Settings:
    """What the file says. ``name`` empty: the folder's; ``path``: the artifact."""

    name: str
    version: str
    path: pathlib.Path
    format: str
    wishes: Wishes


def read(folder: pathlib.Path) -> Settings:
    """The settings of the model in ``folder``. Raises SpecError where it cannot be served as they say."""
    where = f"{folder.name}/{NAME}"
    try:
        found = orjson.loads((folder / NAME).read_bytes())
    except (OSError, orjson.JSONDecodeError) as error:
        raise errors.SpecError(f"{where} cannot be read: {str(error)[:200]}.") from error
    if not isinstance(found, dict) or not isinstance(found.get("parameters") or {}, dict):
        raise errors.SpecError(f"{where} expected an object.")
    parameters = found.get("parameters") or {}
    version = str(parameters.get("version") or "1").removeprefix("v")
    rows = found.get("max_batch_size")
    notes = sorted(set(found) - _READ) + sorted(f"parameters.{key}" for key in _NOTED_PARAMETERS & set(parameters))
    return Settings(
        name=str(found.get("name") or ""),
        version=version if _VERSION.fullmatch(version) else "1",
        path=_path(folder, str(parameters.get("uri") or ""), where),
        format=_format(str(found.get("implementation") or ""), where),
        wishes=Wishes(
            source=where,
            inputs=_tensors(found.get("inputs"), where),
            outputs=(),
            by_place=True,
            # MLServer joins requests from 2 on; 0 is its word for never.
            most_rows=rows if isinstance(rows, int) and rows > 0 else None,
            notes=tuple(notes),
        ),
    )


def _format(implementation: str, where: str) -> str:
    package = implementation.partition(".")[0]
    if package in _FORMATS:
        return _FORMATS[package]
    raise errors.SpecError(
        f"{where} names the implementation {implementation[:100]!r}, which is not served here.",
        hint=f"Served are {', '.join(_FORMATS)}; a class of your own is served by its Python file "
        "(docs/custom-models.md).",
        reason=errors.Reason.UNSUPPORTED,
    )


def _path(folder: pathlib.Path, uri: str, where: str) -> pathlib.Path:
    if "://" in uri:
        raise errors.SpecError(
            f"{where} names the uri {uri[:200]!r}, and the model server fetches nothing.",
            hint="Put the model beside it, or give the uri as the storageUri of an InferenceService.",
            reason=errors.Reason.UNSUPPORTED,
        )
    return folder / uri if uri not in ("", ".", "./") else folder


def _tensors(entries: object, where: str) -> tuple[messages.TensorSpec, ...]:
    if entries is None:
        return ()
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise errors.SpecError(f'{where}: "inputs" expected a list of tensors.')
    return tuple(_tensor(entry, where) for entry in entries)


def _tensor(entry: Mapping[str, Any], where: str) -> messages.TensorSpec:
    try:
        shape = tuple(int(size) for size in entry["shape"])
        return messages.TensorSpec(str(entry["name"]), str(entry["datatype"]), shape)
    except (KeyError, TypeError, ValueError) as error:
        raise errors.SpecError(f"{where}: an input needs a name, a datatype and a shape.") from error
