"""How requests come to a model: what every repository gives them, as it is where all models are loaded at the start.

``onuse`` overrides it for models that are loaded when somebody asks.
"""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import Any

from mlship import errors
from mlship.server import serving, waiting


class Present(abc.ABC):
    """Models that are there, or are not: nobody waits for one."""

    @abc.abstractmethod
    def get(self, name: str, version: str = "") -> serving.Served:
        """The ready model. Raises SpecError: there is none; NotReady: it is not ready."""

    def report(self) -> dict[str, Any]:
        """What there is to say of models that are loaded on use. Raises SpecError: here none is."""
        raise errors.SpecError(
            "this server loads its models at its start.",
            hint="Start it with --model-repository and --paging.",
            reason=errors.Reason.NOT_FOUND,
        )

    def find(self, name: str, version: str = "") -> serving.Served | None:
        """As ``get``, for a request that would also wait: None for a model that is loaded when somebody does."""
        return self.get(name, version)

    def check(self, name: str, version: str = "") -> None:
        """Raise as ``find`` does, but use nothing: a request for the model is still being read."""
        self.get(name, version)

    def wait(self, name: str, version: str, *, deadline: float, done: waiting.Done) -> waiting.Waiter:
        """Wait for a model that ``find`` gave None for: here there is none such, all are loaded at the start."""
        raise errors.BackendError(f'model "{name}": nothing is loaded on use here.')

    def leave(self, waiter: waiting.Waiter) -> None:
        """Wait no more: here nobody does."""
        return

    def expect(self, name: str, version: str) -> Callable[[], None]:
        """Keep a place in the model's queue for a request that is still to be read; see ``Batcher.expect``."""
        served = self.get(name, version)
        try:
            return served.batcher.expect()
        except errors.Overloaded:
            served.statistics.failed(0)
            raise

    def crowded(self, name: str, version: str) -> bool:
        """Whether nobody would be let in. Raises as ``get`` does."""
        return self.get(name, version).batcher.full
