"""Finds out what model lies at a path: format, file, recorded versions. It looks, it never executes.

This is the first step of every load and of ``mlship deploy``: bytes, opcodes, syntax trees and YAML decide which
adapter is asked to load the file, so that a wrong file is refused with a sentence before any of its code could run.
One file is identified by ``artifact.sniff``; a folder must hold exactly one model. A ``model.schema.yaml`` beside the
model, or the signature of an MLflow folder, travels along as the option ``schema``.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Mapping

from mlship import errors
from mlship.server import model
from mlship.server.artifact import kinds, learnt, mlflow_folder, mlserver_folder, schema_file, sniff, triton_folder
from mlship.server.artifact.wishes import Wishes

_MAX_FILES = 500
_MAX_DEPTH = 3
_NOT_MODELS = frozenset(
    {
        ".md", ".rst", ".txt~", ".yaml", ".yml", ".toml", ".cfg", ".ini", ".lock", ".csv", ".tsv", ".parquet",
        ".log", ".png", ".jpg", ".svg", ".pdf", ".sh", ".ipynb", ".npy", ".npz", ".sha256", ".pyc",
    }
)  # fmt: skip
_LIBRARY_MODULES = {"setup.py", "conftest.py", "train.py"}


@dataclasses.dataclass(frozen=True, slots=True)
class _Candidate:
    """A file of a folder: identified, or broken in a way that ``problem`` tells."""

    path: pathlib.Path
    verdict: kinds.Found | kinds.Refused | None = None
    problem: errors.SpecError | None = None


def inspect(path: pathlib.Path, *, format: str = "", options: Mapping[str, str] = {}) -> model.Artifact:  # noqa: A002
    """Say what model lies at ``path`` (a file or a folder).

    Args:
        format: the model format the user named; it must agree with what is found.
        options: the user's options; ``trusted`` (names a pickle may use, comma separated) is heeded here.

    Raises ``errors.SpecError`` when there is no model, more than one, a broken one, one of another format than asked
    for, or one that is not served here; the sentence says which and what to do.
    """
    wanted = kinds.canonical(format) if format else ""
    trusted = frozenset(part.strip() for part in options.get("trusted", "").split(",") if part.strip())
    if not path.exists():
        raise _missing(path)
    if path.is_dir():
        return _folder(path, wanted, options, trusted)
    if not path.is_file():
        raise errors.SpecError(
            f"{path} is neither a file nor a folder.", hint="Give a model file or a folder with one."
        )
    verdict = sniff.identify(path, trusted=trusted)
    found = _serveable(path, verdict, wanted)
    return _artifact(path, path, found, options)


def _missing(path: pathlib.Path) -> errors.SpecError:
    parent = path.parent
    beside = sorted(entry.name for entry in parent.iterdir())[:10] if parent.is_dir() else []
    hint = f"{parent} holds {', '.join(beside)}." if beside else "Check the path."
    return errors.SpecError(f"{path} does not exist.", hint=hint, reason=errors.Reason.NOT_FOUND)


def _serveable(path: pathlib.Path, verdict: sniff.Verdict, wanted: str) -> kinds.Found:
    if verdict is None:
        raise errors.SpecError(
            f"{path.name} is no model file that is known here.",
            hint="Served are pickle, joblib, cloudpickle and skops files of scikit-learn style models, XGBoost json "
            "and ubj, LightGBM txt, CatBoost cbm, ONNX, and Python files with a class (docs/custom-models.md).",
        )
    if isinstance(verdict, kinds.Refused):
        raise errors.SpecError(
            f"{path.name} is {verdict.what}: recognised, not served yet.",
            hint=verdict.hint,
            reason=errors.Reason.UNSUPPORTED,
        )
    if wanted == "sklearn" and verdict.variant in ("pickle", "joblib", "cloudpickle", "skops"):
        verdict = dataclasses.replace(verdict, format="sklearn")
    if wanted not in ("", "mlflow", verdict.format):
        raise errors.SpecError(
            f"the format given is {wanted}, but {path.name} is {verdict.what}: format {verdict.format}.",
            hint=f"Leave the format out, or give {verdict.format}.",
        )
    library = kinds.LIBRARIES[verdict.format]
    if not kinds.is_installed(library.module):
        raise kinds.missing(library, f"{path.name} is {verdict.what}")
    return verdict


def _artifact(
    path: pathlib.Path,
    file: pathlib.Path,
    found: kinds.Found,
    options: Mapping[str, str],
    schema: schema_file.Schema | None = None,
) -> model.Artifact:
    folder = file if file.is_dir() else file.parent
    for beside in (path if path.is_dir() else folder, folder):
        if (beside / schema_file.NAME).is_file():
            schema = schema_file.read(beside / schema_file.NAME)
            break
    packed = {schema_file.OPTION: schema_file.pack(schema)} if schema else {}
    return model.Artifact(
        path=path,
        file=file,
        format=found.format,
        variant=found.variant,
        versions=dict(found.versions),
        options={**packed, **options},
        stamp=learnt.stamp(file),
    )


def _folder(path: pathlib.Path, wanted: str, options: Mapping[str, str], trusted: frozenset[str]) -> model.Artifact:
    if (path / mlserver_folder.NAME).is_file():
        settings = mlserver_folder.read(path)
        return _of_another_server(path, settings.path, settings.format, settings.wishes, (wanted, options, trusted))
    if (theirs := triton_folder.of(path)) is not None:
        config, version = theirs
        named, file = config.format(), config.file(version)
        return _of_another_server(path, file, named, config.wishes(), (wanted, options, trusted))
    if (path / mlflow_folder.NAME).is_file():
        file, schema = mlflow_folder.resolve(path)
        found = _serveable(file, sniff.identify(file, trusted=trusted), wanted)
        return _artifact(path, file, found, options, schema)
    if wanted == "mlflow":
        raise errors.SpecError(
            f"{path} holds no {mlflow_folder.NAME} file.", hint="Give the folder mlflow saved the model in."
        )
    candidates = _candidates(path, trusted)
    chosen = _choose(path, candidates, wanted)
    if chosen.problem is not None:
        raise chosen.problem
    file = chosen.path
    found = _serveable(file, chosen.verdict, wanted)
    if found.format == "python" and file.name == "__init__.py":
        file = file.parent
    return _artifact(path, file, found, options)


def _of_another_server(
    path: pathlib.Path,
    file: pathlib.Path,
    named: str,
    wishes: Wishes,
    asked: tuple[str, Mapping[str, str], frozenset[str]],
) -> model.Artifact:
    """What lies at ``file`` by the configuration of another server, which says it is ``named``."""
    wanted, options, trusted = asked
    if wanted and named and wanted != named:
        raise errors.SpecError(f"the format given is {wanted}, but {wishes.source} says {named}.")
    if not file.exists():
        raise _missing(file)
    if file == path or (file.is_dir() and triton_folder.of(file) is not None):
        candidates = _candidates(file, trusted)
        found = _choose(file, candidates, wanted or named)
        if found.problem is not None:
            raise found.problem
        inner = _artifact(path, found.path, _serveable(found.path, found.verdict, wanted or named), options)
    else:
        inner = inspect(file, format=wanted or named, options=options)
    return dataclasses.replace(inner, path=path, wishes=wishes)


def _candidates(path: pathlib.Path, trusted: frozenset[str]) -> list[_Candidate]:
    """The files of a folder that are models; where it has none, those of its subfolders, level by level."""
    level = [path]
    for _ in range(_MAX_DEPTH):
        files = [file for folder in level for file in _files(folder)]
        found = [candidate for file in files if (candidate := _look(file, trusted)) is not None]
        if found:
            return _sound(found)
        level = [entry for folder in level for entry in sorted(folder.iterdir()) if _is_folder(entry)]
        if not level:
            break
    _refuse_empty(path)
    return []


def _sound(found: list[_Candidate]) -> list[_Candidate]:
    """The candidates that count: broken ones only where nothing is whole, code only where it is meant as the model.

    A model file beside modules is the model, and they are its helpers; a ``model.py`` beside files is a model with its
    weights, or not: the user must say. Files of unserved formats beside code are its weights.
    """
    whole = [candidate for candidate in found if candidate.verdict is not None]
    code = [candidate for candidate in whole if candidate.path.suffix == ".py"]
    files = [candidate for candidate in whole if candidate.path.suffix != ".py"]
    if any(isinstance(candidate.verdict, kinds.Found) for candidate in files):
        return files + [candidate for candidate in code if candidate.path.name == "model.py"]
    return code or files or found


def _is_folder(entry: pathlib.Path) -> bool:
    return entry.is_dir() and not entry.name.startswith((".", "__pycache__"))


def _files(folder: pathlib.Path) -> list[pathlib.Path]:
    files = sorted(entry for entry in folder.iterdir() if entry.is_file() and not entry.name.startswith("."))
    if len(files) > _MAX_FILES:
        raise errors.SpecError(
            f"{folder} holds {len(files)} files; a model folder holds one model.", hint="Give the model file."
        )
    return [file for file in files if file.suffix.lower() not in _NOT_MODELS]


def _look(file: pathlib.Path, trusted: frozenset[str]) -> _Candidate | None:
    """The file as a candidate; None when it is no model. Broken models stay candidates: their problem is the answer."""
    if file.suffix == ".py" and file.name in _LIBRARY_MODULES:
        return None
    try:
        verdict = sniff.identify(file, trusted=trusted)
    except errors.SpecError as error:
        # A helper module beside the model is no broken model; whether it is one, its syntax must tell.
        is_helper = file.suffix == ".py" and "without a class" in error.message
        return None if is_helper else _Candidate(file, problem=error)
    return _Candidate(file, verdict) if verdict is not None else None


def _choose(path: pathlib.Path, candidates: list[_Candidate], wanted: str) -> _Candidate:
    if not candidates:
        names = ", ".join(sorted(entry.name for entry in path.iterdir())[:10])
        raise errors.SpecError(f"{path} holds no model file; it holds {names}.", hint="Give the model file itself.")
    fitting = [item for item in candidates if isinstance(item.verdict, kinds.Found) and item.verdict.format == wanted]
    if wanted and len(fitting) == 1:
        return fitting[0]
    if len(candidates) == 1:
        return candidates[0]
    for name in ("model.py", "__init__.py"):
        entry = [item for item in candidates if item.path == path / name]
        if entry and all(item.path.suffix == ".py" for item in candidates):
            return entry[0]
    listed = "; ".join(f"{item.path.relative_to(path)} ({_describe(item)})" for item in candidates[:10])
    raise errors.SpecError(
        f"{path} holds {len(candidates)} models: {listed}.",
        hint="Give the one file, or name its format, or give a folder that holds only that model.",
    )


def _describe(candidate: _Candidate) -> str:
    if candidate.problem is not None:
        return candidate.problem.message.rstrip(".")
    return candidate.verdict.what if candidate.verdict is not None else "not known"


def _refuse_empty(path: pathlib.Path) -> None:
    if not any(path.iterdir()):
        raise errors.SpecError(f"{path} is an empty folder.", hint="Put the model file in it, or give the file itself.")
