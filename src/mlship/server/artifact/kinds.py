"""The vocabulary of what a model file can turn out to be.

``artifact.find`` and the modules that look at bytes for it share these facts: the formats that are served, the
library and the extra each one needs, and the formats that are recognised only to say what works instead.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib.util
from collections.abc import Mapping

from mlship import errors


@dataclasses.dataclass(frozen=True, slots=True)
class Found:
    """A model that can be served. ``what`` continues the sentence "the file is ..."."""

    format: str
    variant: str
    what: str
    versions: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, slots=True)
class Refused:
    """Something recognised that is not served. ``hint``: what works instead."""

    what: str
    hint: str


@dataclasses.dataclass(frozen=True, slots=True)
class Library:
    """What serves a format: the importable module, its distribution, the extra of mlship that brings it."""

    module: str
    distribution: str
    extra: str


LIBRARIES: dict[str, Library] = {
    "sklearn": Library("sklearn", "scikit-learn", "sklearn"),
    "xgboost": Library("xgboost", "xgboost", "xgboost"),
    "lightgbm": Library("lightgbm", "lightgbm", "lightgbm"),
    "catboost": Library("catboost", "catboost", "catboost"),
    "onnx": Library("onnxruntime", "onnxruntime", "onnx"),
    "python": Library("numpy", "numpy", ""),
}
MODULES = {library.module: library for library in LIBRARIES.values()} | {
    "skops": Library("skops", "skops", "skops"),
    "pandas": Library("pandas", "pandas", "pandas"),
    "cloudpickle": Library("cloudpickle", "cloudpickle", "all"),
}
ALIASES = {
    "scikit-learn": "sklearn",
    "xgb": "xgboost",
    "lgb": "lightgbm",
    "lgbm": "lightgbm",
    "cbm": "catboost",
    "onnxruntime": "onnx",
    "custom": "python",
    "py": "python",
}
WRAP = "or wrap it in a Python class and serve that (docs/custom-models.md)"
UNSERVED = {
    "pytorch": f"Export it to ONNX (torch.onnx.export) and serve the .onnx file, {WRAP}.",
    "tensorflow": f"Convert it to ONNX (tf2onnx) and serve the .onnx file, {WRAP}.",
    "keras": f"Export it to ONNX (model.export(path, format='onnx')) and serve the .onnx file, {WRAP}.",
    "huggingface": f"Export it to ONNX (optimum-cli export onnx) and serve the .onnx file, {WRAP}.",
    "pmml": f"Serve the pipeline it was exported from (joblib.dump), {WRAP}.",
    "paddle": f"Convert it to ONNX (paddle2onnx) and serve the .onnx file, {WRAP}.",
    "tensorrt": f"Serve the ONNX file the engine was built from, {WRAP}.",
    "openvino": f"Serve the ONNX file it was converted from, {WRAP}.",
    "autogluon": f"It is a folder of many models; {WRAP.removeprefix('or ')}.",
    "triton": "Serve the model file inside the repository's version folder (for example 1/model.onnx).",
    "vLLM": "Language models are not served yet.",
}


def is_installed(module: str) -> bool:
    """Whether a top-level module can be imported; it is looked for, not imported."""
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def missing(library: Library, what: str) -> errors.SpecError:
    """The error for a format whose library is not installed."""
    return errors.SpecError(
        f"{what}, and {library.distribution} is not installed here.",
        hint=f"pip install 'mlship[{library.extra}]'",
        reason=errors.Reason.UNSUPPORTED,
    )


def canonical(name: str) -> str:
    """The format a user's word means. Raises ``errors.SpecError`` for one that is not served or not known."""
    word = ALIASES.get(name.lower(), name)
    if word in LIBRARIES or word == "mlflow":
        return word
    if word.lower() in {known.lower() for known in UNSERVED}:
        hint = next(text for known, text in UNSERVED.items() if known.lower() == word.lower())
        raise errors.SpecError(
            f"the model format {name!r} is recognised, not served yet.", hint=hint, reason=errors.Reason.UNSUPPORTED
        )
    known = sorted({*LIBRARIES, *ALIASES, "mlflow"})
    close = difflib.get_close_matches(name.lower(), known, n=1)
    nearest = f" (did you mean {close[0]!r}?)" if close else ""
    raise errors.SpecError(
        f"the model format {name!r} is not known{nearest}.", hint=f"Formats: {', '.join(LIBRARIES)}, mlflow."
    )
