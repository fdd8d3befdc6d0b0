"""Which starts a zygote can take, and of which kind it must be. Pure.

A fork is as good as a start where the program is our own model server, the format of the model is said, and nothing
that libraries read while they are imported was set for this one replica: in a fork they are imported already. All
others start cold, which is always right and only slower.
"""

from __future__ import annotations

from collections.abc import Sequence

from mlship.api import runtime
from mlship.plan import actions, program

FORMATS = frozenset({"sklearn", "xgboost", "lightgbm", "catboost", "onnx", "python"})
_FORMAT_FLAG = "--model-format"
_CPUS_FLAG = "--cpus"
# Read by the interpreter, the C library or a library when it begins.
_EARLY = (
    "PYTHON", "LD_", "GLIBC_", "MALLOC_", "OMP_", "GOMP_", "KMP_", "OPENBLAS_", "GOTO_", "MKL_", "BLIS_", "NUMEXPR_",
    "VECLIB_", "NPY_", "NUMPY_", "SCIPY_", "SKLEARN_", "JOBLIB_", "LOKY_", "GRPC_", "ORT_", "CUDA", "NVIDIA_",
    "UVLOOP_", "LANG", "LC_", "HOME", "PATH", "TMPDIR",
)  # fmt: skip


def of(spec: actions.ProcessSpec) -> str:
    """The kind of zygote that can fork ``spec``; empty for what must start cold."""
    if not is_model_server(spec) or spec.needs_port or any(_is_early(name) for name, _ in spec.env):
        return ""
    found = _last(spec.argv, _FORMAT_FLAG)
    return found if found in FORMATS else ""


def is_model_server(spec: actions.ProcessSpec) -> bool:
    """Whether the program is our own model server."""
    return spec.argv[: len(runtime.COMMAND)] == runtime.COMMAND


def with_share(spec: actions.ProcessSpec, argv: tuple[str, ...], cpus: int) -> tuple[str, ...]:
    """``argv`` of a model server with its share of the processors: what its variables say, else ``cpus``.

    A flag of the user's own stays as it is.
    """
    said = any(part == _CPUS_FLAG or part.startswith(f"{_CPUS_FLAG}=") for part in spec.argv)
    if not is_model_server(spec) or said:
        return argv
    declared = (str(value) for name, value in spec.env if name == program.THREAD_VARIABLES[0])
    first = next(declared, "")
    return (*argv, _CPUS_FLAG, first if first.isdecimal() and int(first) > 0 else str(cpus))


def _is_early(name: str) -> bool:
    # The server sets pools of threads to what these say also after a fork.
    return name not in program.THREAD_VARIABLES and name.startswith(_EARLY)


def _last(argv: Sequence[str], flag: str) -> str:
    """The value of a flag, the last one where it stands twice; empty when it is not there in the usual form."""
    if any(part.startswith(f"{flag}=") for part in argv):
        return ""
    places = [at for at, part in enumerate(argv[:-1]) if part == flag]
    return argv[places[-1] + 1] if places else ""
