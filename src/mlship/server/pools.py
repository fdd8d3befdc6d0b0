"""The pools of threads of native libraries, sized to the processors this server may use.

OpenMP, OpenBLAS and MKL read the environment when they are loaded, and make a thread for every processor of the
machine; several servers beside each other then take each other's processors away. ``declare`` sets the environment for
libraries that are loaded later. For those that are there already, as in a child of a zygote, OpenBLAS and MKL are set
for the process, OpenMP for the calling thread, since that is how OpenMP keeps its number: every thread that runs models
does it for itself.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, MutableMapping
from typing import Any

_VARIABLES = {"openmp": "OMP_NUM_THREADS", "openblas": "OPENBLAS_NUM_THREADS", "mkl": "MKL_NUM_THREADS"}


def declare(cpus: int, environ: MutableMapping[str, str]) -> None:
    """Set what libraries read that are loaded from now on; what somebody has set stays."""
    for name in _VARIABLES.values():
        environ.setdefault(name, str(cpus))


def limits(cpus: int, environ: Mapping[str, str]) -> dict[str, int]:
    """Threads by kind of library: what the environment says, else ``cpus``."""
    return {kind: _number(environ.get(name, ""), cpus) for kind, name in _VARIABLES.items()}


def _number(text: str, default: int) -> int:
    first = text.partition(",")[0].strip()  # OpenMP takes a list, one number for each level of nesting
    return int(first) if first.isdecimal() and int(first) > 0 else default


def apply_to_process(wanted: Mapping[str, int]) -> None:
    """Set what is set once for all threads: OpenBLAS and MKL. ``wanted`` is what ``limits`` gave."""
    for library in _libraries().lib_controllers:
        if library.user_api == "blas" and (number := wanted.get(library.internal_api)):
            library.set_num_threads(number)


def apply_to_thread(wanted: Mapping[str, int]) -> None:
    """Set OpenMP for the calling thread."""
    for library in _libraries().lib_controllers:
        if library.user_api == "openmp":
            library.set_num_threads(wanted["openmp"])


def look() -> None:
    """Find the libraries that are loaded now; the others know these and no others until the next look."""
    _libraries.cache_clear()
    _libraries()


@functools.cache
def _libraries() -> Any:
    import threadpoolctl  # type: ignore[import-untyped]

    return threadpoolctl.ThreadpoolController()
