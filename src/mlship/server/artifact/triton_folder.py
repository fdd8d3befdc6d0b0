"""A model of a Triton repository: ``config.pbtxt`` beside numbered version folders, read as it is.

    NAME/config.pbtxt
    NAME/VERSION/model.onnx            backend onnxruntime
    NAME/VERSION/xgboost.json ...      backend fil: XGBoost and LightGBM

What the configuration says of names, dimensions, rows and versions holds; what would change answers and cannot be
honoured is refused; what only says how fast it should be is noted. Fields as in Triton's ``model_config.proto``.
"""

from __future__ import annotations

import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from mlship import errors
from mlship.protocol import messages
from mlship.server.artifact import pbtxt
from mlship.server.artifact.wishes import Output, Wishes

NAME = "config.pbtxt"
_VERSION = re.compile(r"[1-9][0-9]{0,17}")
_MAX_BYTES = 1 << 20
_ONNX = ("model.onnx",)
_FIL = {
    "xgboost": ("xgboost.model", "model.xgb"),
    "xgboost_json": ("xgboost.json",),
    "xgboost_ubj": ("xgboost.ubj",),
    "lightgbm": ("model.txt",),
}
_READ = {
    "name", "platform", "backend", "max_batch_size", "input", "output", "version_policy", "default_model_filename",
    "parameters",
}  # fmt: skip
_NOTED = {
    "instance_group", "dynamic_batching", "optimization", "model_warmup", "response_cache", "cc_model_filenames",
    "metric_tags", "model_metrics", "runtime", "batch_input",
}  # fmt: skip
_REPEATED = {"input", "output", "parameters", "instance_group", "model_warmup", "batch_input"}
_FIL_READ = {"model_type", "output_class", "predict_proba", "threshold"}
_TYPES = {"TYPE_STRING": "BYTES"} | {f"TYPE_{name}": name for name in messages.NUMPY_OF if name != "BYTES"}


class Config:
    """One ``config.pbtxt``. Raises SpecError where it cannot be served as it says."""

    def __init__(self, folder: pathlib.Path) -> None:
        self._folder = folder
        self._where = f"{folder.name}/{NAME}"
        try:
            text = (folder / NAME).read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise errors.SpecError(f"{self._where} cannot be read: {str(error)[:200]}.") from error
        if len(text) > _MAX_BYTES:
            raise errors.SpecError(f"{self._where} has more than {_MAX_BYTES} bytes.")
        self._fields = pbtxt.read(text, where=self._where)
        self._check()

    def _one(self, name: str, default: Any) -> Any:
        return self._fields.get(name, [default])[-1]

    def _check(self) -> None:
        for name in self._fields:
            if name not in _READ | _NOTED:
                raise self._refused(f"asks for {name}")
            if not self._fields[name] and name not in _REPEATED:
                raise errors.SpecError(f"{self._where}: {name} has no value.")

    @property
    def name(self) -> str:
        """The model's name; empty: that of its folder."""
        return str(self._one("name", ""))

    def _refused(self, what: str) -> errors.SpecError:
        return errors.SpecError(
            f"{self._where} {what}, which is not served here.",
            hint="Served are the backends onnxruntime and fil (XGBoost, LightGBM), one model at a time.",
            reason=errors.Reason.UNSUPPORTED,
        )

    def versions(self) -> list[str]:
        """The versions served, by the version policy: without one the highest alone."""
        there = sorted(
            (entry.name for entry in self._folder.iterdir() if entry.is_dir() and _VERSION.fullmatch(entry.name)),
            key=int,
        )
        try:
            policy = self._one("version_policy", {})
            if "all" in policy:
                return there
            if "specific" in policy:
                wanted = {int(version) for version in policy["specific"][-1].get("versions", [])}
                return [version for version in there if int(version) in wanted]
            count = int(policy.get("latest", [{}])[-1].get("num_versions", [1])[-1])
        except (TypeError, ValueError, AttributeError, IndexError) as error:
            raise errors.SpecError(f"{self._where}: its version_policy is not understood: {error}.") from error
        if count < 1:
            raise errors.SpecError(f"{self._where}: num_versions expected a positive number, got {count}.")
        return there[-count:]

    @property
    def _backend(self) -> str:
        return str(self._one("backend", "") or {"onnxruntime_onnx": "onnxruntime"}.get(self._one("platform", ""), ""))

    def format(self) -> str:
        """The model format; empty: found by looking. Raises SpecError."""
        if self._backend == "onnxruntime":
            return "onnx"
        if self._backend == "fil":
            return "lightgbm" if self._model_type == "lightgbm" else "xgboost"
        named = self._backend or self._one("platform", "")
        if named:
            raise self._refused(f"is for the backend {str(named)[:60]!r}")
        return ""

    @property
    def _model_type(self) -> str:
        found = str(self._parameters().get("model_type", "xgboost"))
        if found not in _FIL:
            raise self._refused(f"has the model_type {found[:60]!r}")
        return found

    def _parameters(self) -> dict[str, Any]:
        found = {}
        for entry in self._fields.get("parameters", []):
            value = entry.get("value", [{}])[-1]
            found[entry.get("key", [""])[-1]] = (
                value.get("string_value", [""])[-1] if isinstance(value, dict) else value
            )
        return found

    def file(self, version: str) -> pathlib.Path:
        """The model's file, or its version folder where nothing names one."""
        folder = self._folder / version
        named = self._one("default_model_filename", "")
        names: Sequence[str] = (str(named),) if named else _FIL[self._model_type] if self._backend == "fil" else _ONNX
        for name in names:
            if "/" in name or name.startswith("."):
                raise errors.SpecError(f"{self._where} names a file outside its version folder: {name[:100]!r}.")
            if (folder / name).exists():
                return folder / name
        return folder

    def wishes(self) -> Wishes:
        """What it asks of the model."""
        rows = int(self._one("max_batch_size", 0))
        fil = self._backend == "fil"
        parameters = self._parameters()
        notes = sorted(_NOTED & self._fields.keys()) + sorted(
            f"parameters.{name}" for name in parameters if not (fil and name in _FIL_READ)
        )
        return Wishes(
            source=self._where,
            inputs=tuple(self._tensor(entry, rows) for entry in self._fields.get("input", [])),
            outputs=tuple(self._tensor(entry, rows) for entry in self._fields.get("output", [])),
            by_place=fil,
            most_rows=rows,
            output=_output(parameters) if fil else None,
            threshold=float(parameters.get("threshold", 0.5)) if fil else 0.5,
            notes=tuple(notes),
        )

    def _tensor(self, entry: Mapping[str, Any], rows: int) -> messages.TensorSpec:
        name = str(entry.get("name", [""])[-1])
        datatype = str(entry.get("data_type", [""])[-1])
        if not name or datatype not in _TYPES:
            raise errors.SpecError(f"{self._where}: a tensor needs a name and a data_type, got {name!r} {datatype!r}.")
        if "reshape" in entry or "is_shape_tensor" in entry or "is_ragged" in str(entry.get("allow_ragged_batch", "")):
            raise self._refused(f"reshapes {name}")
        shape = tuple(int(size) for size in entry.get("dims", []))
        optional = bool(entry.get("optional", [False])[-1])
        return messages.TensorSpec(name, _TYPES[datatype], (-1, *shape) if rows else shape, optional=optional)


def _output(parameters: Mapping[str, Any]) -> Output:
    if str(parameters.get("predict_proba", "false")).lower() == "true":
        return Output.PROBABILITIES
    return Output.CLASS if str(parameters.get("output_class", "false")).lower() == "true" else Output.PLAIN


def of(path: pathlib.Path) -> tuple[Config, str] | None:
    """The configuration that holds for ``path``, a model's folder or one of its versions, and the version; else None.

    Raises SpecError.
    """
    if (path / NAME).is_file():
        config = Config(path)
        versions = config.versions()
        if not versions:
            raise errors.SpecError(f"{path.name} has a {NAME} and no version folder that it serves.")
        return config, versions[-1]
    if _VERSION.fullmatch(path.name) and (path.parent / NAME).is_file():
        return Config(path.parent), path.name
    return None
