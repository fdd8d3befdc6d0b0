"""The seam between what is decided and what happens: five verbs that every backend has.

``fake`` (an in-memory world), ``local`` (processes of this machine) and later Kubernetes pass one contract suite,
tests/contract/backend_suite.py. Actions are idempotent: applying one whose effect is there already changes nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from mlship.plan import actions, observed


@dataclasses.dataclass(frozen=True, slots=True)
class Facts:
    """What a backend knows of one service; ``standby`` as in ``observed.Observed``."""

    replicas: tuple[observed.Replica, ...] = ()
    artifact: observed.Artifact | None = None
    standby: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class LogLine:
    """One line of a replica's output; ``text`` has no newline."""

    replica: observed.ReplicaId
    text: str


class Backend(Protocol):
    """Where replicas run."""

    async def observe(self, service: observed.ServiceKey) -> Facts:
        """The facts about one service: cheap, from memory; an unknown service has none."""
        ...

    async def apply(self, service: observed.ServiceKey, todo: Sequence[actions.Action]) -> None:
        """Begin each action and return without waiting for its effect, which shows in ``observe`` and ``watch``.

        Raises ``errors.BackendError`` when one cannot even be begun; those before it stay begun.
        """
        ...

    def watch(self) -> AsyncIterator[observed.ServiceKey]:
        """The keys of services whose facts changed, each change at least once; on start every known key once."""
        ...

    def logs(self, service: observed.ServiceKey, *, tail: int = 100, follow: bool = False) -> AsyncIterator[LogLine]:
        """The last ``tail`` lines of each replica, oldest first, then with ``follow`` the lines to come.

        Replicas that are gone are included while their files are kept. Raises ``errors.SpecError`` (NotFound) when
        there are no logs of the service.
        """
        ...

    async def close(self) -> None:
        """Let go of everything and leave the replicas running."""
        ...
