"""Says what a scanned pickle is: which format serves it, or why none does.

The class of the root object decides, not the names that happen to occur: a scikit-learn Pipeline that ends in an
XGBClassifier is a scikit-learn model. Everything a pickle imports must be importable where it is loaded, so that is
checked here, before anything is loaded, and the answer names the module and what to do about it.
"""

from __future__ import annotations

import pathlib
from collections.abc import Collection

from mlship import errors
from mlship.server.artifact import kinds, pickles

_PLAIN = frozenset({"builtins", "numpy", "pandas", "scipy", "collections", "datetime", "array", "polars", "pyarrow"})
_DEEP = {"torch": "pytorch", "tensorflow": "tensorflow", "keras": "keras", "transformers": "huggingface"}
# What reaches for the machine, not for numbers. A pickle that imports these is either an attack or no model.
_HARMFUL_MODULES = frozenset({"os", "posix", "nt", "subprocess", "pty", "socket", "shutil", "ctypes", "webbrowser"})
_HARMFUL = frozenset(f"builtins.{name}" for name in ("eval", "exec", "compile", "open", "__import__", "input"))
# How to say the type of a root object that is no estimator.
_NAMES = {
    "numpy._core.numeric._frombuffer": "numpy.ndarray",
    "numpy._core.multiarray._reconstruct": "numpy.ndarray",
    "numpy.core.multiarray._reconstruct": "numpy.ndarray",
    "numpy.core.numeric._frombuffer": "numpy.ndarray",
    "numpy._core.multiarray.scalar": "numpy scalar",
    "numpy.core.multiarray.scalar": "numpy scalar",
    "joblib.numpy_pickle.NumpyArrayWrapper": "numpy.ndarray",
    "cloudpickle.cloudpickle._make_function": "function",
    "cloudpickle.cloudpickle.subimport": "module",
}


def _top(dotted: str) -> str:
    return dotted.split(".", 1)[0]


def classify(path: pathlib.Path, scan: pickles.Scan, *, trusted: Collection[str] = ()) -> kinds.Found | kinds.Refused:
    """What the pickle at ``path`` is.

    Args:
        trusted: dotted names the user vouches for although they look harmful.

    Raises ``errors.SpecError`` when it cannot be served here: harmful, no estimator, or its modules are missing.
    """
    harmful = [name for name in scan.globals if _is_harmful(name) and name not in trusted]
    if harmful:
        raise errors.SpecError(
            f"{path.name} is refused: loading it would call or use {', '.join(harmful[:5])}, which no model needs.",
            hint="Nothing of it was executed. If the file is yours and right, give the option trusted=NAME,NAME.",
        )
    top = _top(scan.root)
    if top == "torch" or f"torch.{scan.root}" in scan.globals or _is_torch(scan):
        return kinds.Refused(f"a PyTorch model ({scan.root})", kinds.UNSERVED["pytorch"])
    if top in _DEEP:
        return kinds.Refused(f"a pickled {scan.root}", kinds.UNSERVED[_DEEP[top]])
    if top in _PLAIN or scan.root in _NAMES:
        raise _no_estimator(path, scan)
    form = top if top in ("xgboost", "lightgbm", "catboost") else "sklearn"
    found = kinds.Found(form, _variant(path, scan), f"{_article(path, scan)} of {scan.root}", scan.versions)
    if top in kinds.LIBRARIES and not kinds.is_installed(top):
        raise kinds.missing(kinds.LIBRARIES[top], f"{path.name} is {found.what}")
    _check_importable(path, scan)
    return found


def _is_harmful(dotted: str) -> bool:
    return _top(dotted) in _HARMFUL_MODULES or dotted in _HARMFUL


def _is_torch(scan: pickles.Scan) -> bool:
    return scan.root == "builtins.int" and scan.detail == "torch"


def _variant(path: pathlib.Path, scan: pickles.Scan) -> str:
    if any(_top(name) == "joblib" for name in scan.globals) or scan.compression or path.suffix == ".joblib":
        return "joblib"
    return "cloudpickle" if any(_top(name) == "cloudpickle" for name in scan.globals) else "pickle"


def _article(path: pathlib.Path, scan: pickles.Scan) -> str:
    variant = _variant(path, scan)
    return "a joblib file" if variant == "joblib" else f"a {variant}"


def _no_estimator(path: pathlib.Path, scan: pickles.Scan) -> errors.SpecError:
    name = _NAMES.get(scan.root, scan.root.removeprefix("builtins."))
    detail = f" {scan.detail}" if scan.detail else ""
    return errors.SpecError(
        f"{path.name} is a pickle of a {name}{detail}, not of a fitted model.",
        hint="Save the fitted estimator or pipeline itself: joblib.dump(model, path).",
    )


def _check_importable(path: pathlib.Path, scan: pickles.Scan) -> None:
    tops = {_top(name): name for name in reversed(scan.globals)}
    if scan.by_value:
        tops = {top: name for top, name in tops.items() if name != scan.root}
    if "__main__" in tops:
        raise errors.SpecError(
            f"{path.name} needs {tops['__main__'].removeprefix('__main__.')}, which was defined in a script or "
            "notebook (module __main__) and is not in the file.",
            hint="Move it into a module, import it from there and save the model again; or save with cloudpickle, "
            "which stores it.",
        )
    for top, name in sorted(tops.items()):
        if kinds.is_installed(top) or _is_beside(path, top):
            continue
        if top in kinds.MODULES:
            raise kinds.missing(kinds.MODULES[top], f"{path.name} needs {name}")
        raise errors.SpecError(
            f"{path.name} is {_article(path, scan)} of {scan.root} and needs {name}, "
            f"but the module {top!r} cannot be imported here.",
            hint=f"Install the package that holds {top!r} into this environment, or put {top}.py beside the model file "
            "in a folder of their own and serve the folder.",
        )


def _is_beside(path: pathlib.Path, top: str) -> bool:
    return (path.parent / f"{top}.py").is_file() or (path.parent / top).is_dir()
