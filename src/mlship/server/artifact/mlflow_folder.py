"""Finds the native model file in an MLflow folder (a folder with an ``MLmodel`` file), and its signature.

MLflow's folders wrap a model that a library can load by itself; where that is so, the native file is served without
MLflow, and the recorded signature becomes the model's schema. What only MLflow's own loader could run (a pickled
PythonModel, a flavour without an adapter) is refused with what works instead.
Format: https://mlflow.org/docs/latest/ml/model/ (flavors, signature).
"""

from __future__ import annotations

import json
import pathlib
from collections.abc import Mapping
from typing import Any

import yaml

from mlship import errors
from mlship.protocol import messages
from mlship.server.artifact import schema_file

NAME = "MLmodel"
# Flavour -> the key under which it names its file.
_FILES = {
    "sklearn": "pickled_model",
    "xgboost": "data",
    "lightgbm": "data",
    "catboost": "data",
    "onnx": "data",
}
_TYPES = {
    "boolean": "BOOL",
    "integer": "INT32",
    "long": "INT64",
    "float": "FP32",
    "double": "FP64",
    "string": "BYTES",
    "binary": "BYTES",
}
_DTYPES = {dtype.name: name for name, dtype in messages.NUMPY_OF.items() if name != "BYTES"} | {
    "str": "BYTES",
    "object": "BYTES",
}


def resolve(folder: pathlib.Path) -> tuple[pathlib.Path, schema_file.Schema | None]:
    """The native model file of an MLflow folder and the schema its signature amounts to.

    Raises ``errors.SpecError`` when the folder is broken or only MLflow itself could load it.
    """
    document = _read(folder / NAME)
    flavors = document.get("flavors")
    if not isinstance(flavors, dict) or not flavors:
        raise errors.SpecError(f"{folder.name}/{NAME} names no flavors.", hint="Log the model again with mlflow.")
    for flavour, key in _FILES.items():
        if isinstance(settings := flavors.get(flavour), dict) and settings.get(key):
            return _inside(folder, str(settings[key]), flavour), _schema(document)
    named = ", ".join(sorted(str(name) for name in flavors))
    hint = "The flavours served are " + ", ".join(_FILES) + "."
    if _is_python_model(flavors):
        hint = "Serve the Python file that defines the class instead: PythonModel classes run (docs/custom-models.md)."
    raise errors.SpecError(
        f"{folder.name} is an MLflow model of the flavour {named}: recognised, not served yet.",
        hint=hint,
        reason=errors.Reason.UNSUPPORTED,
    )


def _is_python_model(flavors: Mapping[str, Any]) -> bool:
    function = flavors.get("python_function")
    return isinstance(function, dict) and "pyfunc.model" in str(function.get("loader_module", ""))


def _read(path: pathlib.Path) -> dict[str, Any]:
    try:
        document = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise errors.SpecError(f"{path.parent.name}/{NAME} cannot be read: {str(error)[:200]}.") from error
    if not isinstance(document, dict):
        raise errors.SpecError(f"{path.parent.name}/{NAME} is no mapping.", hint="Log the model again with mlflow.")
    return document


def _inside(folder: pathlib.Path, name: str, flavour: str) -> pathlib.Path:
    file = (folder / name).resolve()
    if not file.is_relative_to(folder.resolve()):
        raise errors.SpecError(f"{folder.name}/{NAME} names a file outside its folder: {name[:100]!r}.")
    if not file.is_file():
        raise errors.SpecError(
            f"{folder.name}/{NAME} names {name[:100]!r} as its {flavour} model, and there is no such file.",
            hint="Copy the whole folder.",
        )
    return folder / name


def _schema(document: Mapping[str, Any]) -> schema_file.Schema | None:
    signature = document.get("signature")
    if not isinstance(signature, dict):
        return None
    inputs, columns = _side(signature.get("inputs"), "input")
    if not inputs and not columns:
        return None
    return schema_file.Schema(source=NAME, inputs=inputs, columns=columns)


def _side(text: object, kind: str) -> tuple[tuple[messages.TensorSpec, ...], tuple[str, ...]]:
    """The specs of one side of a signature; names alone when a type has no datatype of ours (dates, objects)."""
    if not isinstance(text, str):
        return (), ()
    try:
        entries = json.loads(text)
        specs = tuple(_spec(entry, f"{kind}-{number}") for number, entry in enumerate(entries))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise errors.SpecError(
            f"the signature in {NAME} cannot be read: {type(error).__name__}: {str(error)[:200]}.",
            hint=f"Remove it from {NAME}, or log the model again with mlflow.",
        ) from error
    return specs, ()


def _spec(entry: Mapping[str, Any], default: str) -> messages.TensorSpec:
    name = str(entry.get("name") or default)
    if entry["type"] == "tensor":
        tensor = entry["tensor-spec"]
        datatype = _DTYPES.get(str(tensor["dtype"]), "")
        return messages.TensorSpec(name, datatype, tuple(int(size) for size in tensor["shape"]))
    optional = entry.get("required") is False
    return messages.TensorSpec(name, _TYPES.get(str(entry["type"]), ""), (-1,), optional=optional)
