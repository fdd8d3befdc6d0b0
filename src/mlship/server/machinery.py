"""The threads that all models of a server share. Made by ``main`` before the first model, ended after the last."""

from __future__ import annotations

import dataclasses

from mlship.server import worker


@dataclasses.dataclass(frozen=True, slots=True)
class Machinery:
    """What models run on: shared by all of a server. ``loader`` has one thread; loads happen one after another."""

    workers: worker.Workers
    loader: worker.Workers
    private: worker.PrivateLoop

    @classmethod
    def start(cls, workers: int) -> Machinery:
        """``workers`` inference threads and one for loading."""
        return cls(workers=worker.Workers(workers), loader=worker.Workers(1), private=worker.PrivateLoop())

    def close(self, seconds: float) -> bool:
        """End the threads; whether all ended within ``seconds`` each."""
        return all([self.workers.close(seconds), self.loader.close(seconds), self.private.close(seconds)])
