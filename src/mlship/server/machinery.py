"""The threads that all models of a server share. Made by ``main`` before the first model, ended after the last."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from mlship.server import worker


@dataclasses.dataclass(frozen=True, slots=True)
class Machinery:
    """What models run on: shared by all of a server. ``loader`` has one thread, and loads happen one after
    another, unless models are loaded on use.

    ``codecs`` has one thread too: large bodies are read and written there, away from the event loop.
    """

    workers: worker.Workers
    loader: worker.Workers
    private: worker.PrivateLoop
    codecs: worker.Workers

    @classmethod
    def start(cls, workers: int, *, loaders: int = 1, prepare: Callable[[], None] | None = None) -> Machinery:
        """``workers`` inference threads, ``loaders`` for loading and one for codecs.

        Each thread that runs models begins with ``prepare``.
        """
        return cls(
            workers=worker.Workers(workers, prepare=prepare),
            loader=worker.Workers(loaders, prepare=prepare),
            private=worker.PrivateLoop(),
            codecs=worker.Workers(1),
        )

    def close(self, seconds: float) -> bool:
        """End the threads; whether all ended within ``seconds`` each."""
        parts = (self.workers, self.loader, self.codecs, self.private)
        return all([part.close(seconds) for part in parts])
