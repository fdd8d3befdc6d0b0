"""Compares the library versions recorded in a model file with those of the environment.

A pickle is only promised to load under the version that wrote it; a difference is said at deploy and repeated in the
error when loading fails, because it is the likeliest cause. ``compare`` is pure; ``installed`` asks the environment.
Recorded versions may be partial ("2" for a pickle that only NumPy 2 writes): as much as is recorded is compared.
"""

from __future__ import annotations

import enum
import functools
import importlib.metadata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

# Distributions by the name a model records, in the order they are asked for.
_DISTRIBUTIONS: dict[str, tuple[str, ...]] = {
    "scikit-learn": ("scikit-learn",),
    "numpy": ("numpy",),
    "xgboost": ("xgboost", "xgboost-cpu"),
    "lightgbm": ("lightgbm",),
    "catboost": ("catboost",),
    "skops": ("skops",),
}
KNOWN = tuple(_DISTRIBUTIONS)


class Severity(enum.IntEnum):
    """How far apart two versions are, in order."""

    SAME = 0
    PATCH = 1
    MINOR = 2
    MAJOR = 3


@dataclass(frozen=True, slots=True)
class Difference:
    """One library: recorded and installed version (empty: not installed), how far apart, and the sentence to say."""

    name: str
    recorded: str
    installed: str
    severity: Severity
    message: str


def installed(names: Iterable[str]) -> dict[str, str]:
    """The installed versions of the named libraries; those that are not installed are left out."""
    found: dict[str, str] = {}
    for name in names:
        for distribution in _DISTRIBUTIONS.get(name, (name,)):
            try:
                found[name] = _version(distribution)
                break
            except importlib.metadata.PackageNotFoundError:
                continue
    return found


@functools.cache
def _version(distribution: str) -> str:
    """Parsing the metadata of a large package takes milliseconds; what is installed changes with a new process only."""
    return importlib.metadata.version(distribution)


def compare(recorded: Mapping[str, str], installed: Mapping[str, str]) -> tuple[Difference, ...]:
    """Every library that is recorded, the farthest apart first. What is no library (an ONNX opset) is left out."""
    found = [
        _difference(name, version, installed.get(name, ""))
        for name, version in recorded.items()
        if name in _DISTRIBUTIONS
    ]
    return tuple(sorted(found, key=lambda item: (-item.severity, item.name)))


def _difference(name: str, recorded: str, present: str) -> Difference:
    if not present:
        message = f"the model was saved with {name} {recorded}, which is not installed here."
        return Difference(name, recorded, present, Severity.MAJOR, message)
    severity = _severity(_numbers(recorded), _numbers(present))
    return Difference(name, recorded, present, severity, _sentence(name, recorded, present, severity))


def _numbers(version: str) -> tuple[int, ...]:
    parts: list[int] = []
    for part in version.split("+")[0].split(".")[:3]:
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if not digits:
            break
        parts.append(int(digits))
    return tuple(parts)


def _severity(recorded: tuple[int, ...], present: tuple[int, ...]) -> Severity:
    for index, severity in enumerate((Severity.MAJOR, Severity.MINOR, Severity.PATCH)):
        if index >= len(recorded) or index >= len(present):
            break
        if recorded[index] != present[index]:
            return severity
    return Severity.SAME


def _sentence(name: str, recorded: str, present: str, severity: Severity) -> str:
    if severity is Severity.SAME:
        return f"{name} {present} is installed, as recorded in the model ({recorded})."
    start = f"the model was saved with {name} {recorded}, installed is {present}"
    then, now = _numbers(recorded), _numbers(present)
    if name == "numpy" and then[:1] == (2,) and now[:1] == (1,):
        return f"{start}: NumPy 1 cannot load what NumPy 2 pickled (numpy._core is missing). Install numpy>=2."
    if name == "scikit-learn" and then < (1, 3) <= now:
        return f"{start}: trees saved before scikit-learn 1.3 do not load since. Install scikit-learn=={recorded}."
    if severity is Severity.PATCH:
        return f"{start}: a patch release apart, which is usually harmless."
    if then > now:
        return f"{start}, which is older: it may not know what the newer one wrote. Install {name}=={recorded}."
    if name == "scikit-learn" or severity is Severity.MAJOR:
        return f"{start}: it may fail to load or predict differently. Install {name}=={recorded}, or save it again."
    return f"{start}, a minor release apart."


def hint(recorded: Mapping[str, str]) -> str:
    """What the versions say about a model that failed to load: the sentences of all that differ."""
    apart = [item for item in compare(recorded, installed(recorded)) if item.severity > Severity.SAME]
    return " ".join(item.message[0].upper() + item.message[1:] for item in apart)
