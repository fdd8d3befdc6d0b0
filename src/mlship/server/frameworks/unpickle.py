"""Loads pickled models: pickle, joblib, cloudpickle and skops files. This is where a pickle's code runs.

``artifact.find`` has looked at the file before and refused what is certainly wrong. What still fails is translated here
into a sentence that names the module, the class or the version at fault; the recorded versions are compared with the
installed ones, because a difference is the usual cause.
"""

from __future__ import annotations

import importlib
import pathlib
import pickle
from typing import Any

from mlship import errors
from mlship.server import model
from mlship.server.artifact import kinds, versions
from mlship.server.frameworks import imports

_CAP = 300


def load(artifact: model.Artifact) -> Any:
    """The object in a pickled artifact (variants pickle, cloudpickle, joblib, skops).

    The modules beside it are importable when a folder was given. Raises ``errors.ModelError`` when it does not load,
    ``errors.SpecError`` when the user must install something or vouch for types.
    """
    if artifact.path.is_dir():
        imports.add(artifact.file.parent)
    try:
        return _READERS[artifact.variant](artifact)
    except errors.MlshipError:
        raise
    except ModuleNotFoundError as error:
        raise _no_module(artifact, error) from error
    except (AttributeError, ImportError) as error:
        raise errors.ModelError(
            f"{artifact.file.name} does not load: {_cap(error)}: a class or function it names is not where it was.",
            hint=versions.hint(artifact.versions) or "Install the versions the model was saved with, or save it again.",
        ) from error
    except (OSError, MemoryError) as error:
        raise errors.BackendError(f"{artifact.file.name} cannot be read: {_cap(error)}.") from error
    except Exception as error:  # unpickling runs foreign code, which may raise anything
        raise errors.ModelError(
            f"{artifact.file.name} does not load: {type(error).__name__}: {_cap(error)}.",
            hint=versions.hint(artifact.versions) or "Save the model again in this environment.",
        ) from error


def _cap(error: BaseException) -> str:
    return str(error)[:_CAP].rstrip(".")


def _no_module(artifact: model.Artifact, error: ModuleNotFoundError) -> errors.MlshipError:
    name = (error.name or "").split(".", 1)[0]
    if name in kinds.MODULES and not kinds.is_installed(name):
        return kinds.missing(kinds.MODULES[name], f"{artifact.file.name} needs {name}")
    hint = versions.hint(artifact.versions)
    return errors.ModelError(
        f"{artifact.file.name} does not load: it needs the module {error.name!r}, which cannot be imported here.",
        hint=hint or f"Install the package that holds {name!r}, or put {name}.py beside the model and give the folder.",
    )


def _plain(artifact: model.Artifact) -> Any:
    with artifact.file.open("rb") as stream:
        return pickle.load(stream)  # noqa: S301  # the user deploys this file in order to run it


def _joblib(artifact: model.Artifact) -> Any:
    if not kinds.is_installed("joblib"):
        raise kinds.missing(kinds.LIBRARIES["sklearn"], f"{artifact.file.name} is a joblib file")
    return importlib.import_module("joblib").load(artifact.file)


def _skops(artifact: model.Artifact) -> Any:
    if not kinds.is_installed("skops"):
        raise kinds.missing(kinds.MODULES["skops"], f"{artifact.file.name} is a skops file")
    skops = importlib.import_module("skops.io")
    trusted = {part.strip() for part in artifact.options.get("trusted", "").split(",") if part.strip()}
    untrusted = set(skops.get_untrusted_types(file=pathlib.Path(artifact.file)))
    if unknown := sorted(untrusted - trusted):
        raise errors.SpecError(
            f"{artifact.file.name} holds types that skops does not trust: {', '.join(unknown)[:_CAP]}.",
            hint=f"If you trust them, give the option trusted={','.join(unknown)[:_CAP]}",
        )
    return skops.load(artifact.file, trusted=sorted(untrusted))


_READERS = {"pickle": _plain, "cloudpickle": _plain, "joblib": _joblib, "skops": _skops}
VARIANTS = frozenset(_READERS)
