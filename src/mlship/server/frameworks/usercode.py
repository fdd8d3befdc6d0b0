"""Imports a user's Python file or package and picks the class in it; says of an exception where in their code it arose.

Modules beside the file are importable, absolutely (the folder is on the search path while the model lives) and
relatively (``from .helper import x``: the file is imported as if its folder were a package). Used by the adapter for
custom Python models; nothing of it runs before the model is loaded.
"""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import pathlib
import sys
import traceback
import types
from typing import Any

from mlship import errors
from mlship.server.frameworks import imports

_CAP = 300
DOC = "docs/custom-models.md shows what the class may look like."


def load(file: pathlib.Path) -> types.ModuleType:
    """Import the file, or the package folder, at ``file``.

    Raises ``errors.ModelError`` naming file and line when it fails.
    """
    source = file / "__init__.py" if file.is_dir() else file
    name = _name(file)
    spec = importlib.util.spec_from_file_location(name, source, submodule_search_locations=[str(source.parent)])
    if spec is None or spec.loader is None:
        raise errors.ModelError(f"{file.name} cannot be imported as Python.", hint=DOC)
    module = importlib.util.module_from_spec(spec)
    imports.add(source.parent)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        unload(module)
        if not isinstance(error, Exception | SystemExit):
            raise
        raise _import_failed(source, error) from error
    return module


def unload(module: types.ModuleType) -> None:
    """Undo ``load``: take the module and its folder out of the interpreter's tables."""
    for name in [name for name in sys.modules if name == module.__name__ or name.startswith(f"{module.__name__}.")]:
        del sys.modules[name]
    imports.remove(pathlib.Path(str(module.__file__)).parent)


def _name(file: pathlib.Path) -> str:
    """The module's name: its own, unless that is taken by another module (two models may both be ``model.py``)."""
    stem = file.stem
    if stem.isidentifier() and stem not in sys.modules and stem not in sys.stdlib_module_names:
        return stem
    digest = hashlib.sha256(str(file.resolve()).encode()).hexdigest()[:8]
    return f"{stem if stem.isidentifier() else 'model'}_{digest}"


def _import_failed(source: pathlib.Path, error: BaseException) -> errors.ModelError:
    if isinstance(error, SyntaxError):
        where = f"{pathlib.Path(error.filename or source).name}:{error.lineno}"
        return errors.ModelError(f"{where}: {error.msg}.", hint="Correct the line.")
    if isinstance(error, ModuleNotFoundError):
        top = (error.name or "").split(".", 1)[0]
        return errors.ModelError(
            f"{said(error, source.parent)}.",
            hint=f"Install the package that holds {top!r}, or put {top}.py beside {source.name} and give the folder.",
        )
    return errors.ModelError(f"importing {source.name} failed: {said(error, source.parent)}.")


def said(error: BaseException, folder: pathlib.Path) -> str:
    """``ValueError: message (model.py:12 in predict)``: the last line of the user's own code that was running."""
    text = " ".join(str(error).split())[:_CAP].rstrip(".")
    named = f"{type(error).__name__}: {text}" if text else type(error).__name__
    own = [
        frame for frame in traceback.extract_tb(error.__traceback__) if _is_inside(pathlib.Path(frame.filename), folder)
    ]
    if not own:
        return named
    last = own[-1]
    return f"{named} ({pathlib.Path(last.filename).name}:{last.lineno} in {last.name})"


def _is_inside(file: pathlib.Path, folder: pathlib.Path) -> bool:
    return file.is_absolute() and file.resolve().is_relative_to(folder.resolve())


def pick(module: types.ModuleType, *, wanted: str = "") -> type[Any]:
    """The model's class: the one named, else the only one with ``predict``, else the one called ``Model``.

    Raises ``errors.ModelError`` listing the candidates.
    """
    own = {
        name: value
        for name, value in vars(module).items()
        if inspect.isclass(value) and callable(getattr(value, "predict", None)) and not name.startswith("_")
    }
    if wanted:
        if wanted in own:
            return own[wanted]
        listed = ", ".join(own) or "none"
        raise errors.ModelError(
            f"{_file(module)} has no class {wanted!r} with predict; classes with predict: {listed}.", hint=DOC
        )
    defined = {name: value for name, value in own.items() if _is_defined_in(value, module)} or own
    bases = {base for value in defined.values() for base in value.__mro__[1:]}
    leaves = {name: value for name, value in defined.items() if value not in bases}
    if len(leaves) == 1:
        return next(iter(leaves.values()))
    if "Model" in defined:
        return defined["Model"]
    if not leaves:
        raise errors.ModelError(f"{_file(module)} has no class with predict.", hint=DOC)
    raise errors.ModelError(
        f"{_file(module)} has {len(leaves)} classes with predict: {', '.join(leaves)}.",
        hint="Name one with the option class=NAME, or call it Model.",
    )


def _is_defined_in(value: type[Any], module: types.ModuleType) -> bool:
    return value.__module__ == module.__name__ or value.__module__.startswith(f"{module.__name__}.")


def _file(module: types.ModuleType) -> str:
    file = pathlib.Path(str(module.__file__))
    return file.parent.name if file.name == "__init__.py" else file.name
