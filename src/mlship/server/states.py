"""What the repository's index says of a version: Triton's model states, and their reasons. Facts only."""

from __future__ import annotations

import dataclasses
import enum


class State(enum.StrEnum):
    """Triton's model states."""

    UNAVAILABLE = "UNAVAILABLE"
    LOADING = "LOADING"
    READY = "READY"
    UNLOADING = "UNLOADING"


@dataclasses.dataclass(frozen=True, slots=True)
class Status:
    """What the index says of one version."""

    name: str
    version: str
    state: State
    reason: str


def by_number(version: str) -> tuple[int, str]:
    """The order of versions: as numbers where they are."""
    return (int(version), version) if version.isdigit() else (0, version)
