from __future__ import annotations

import dataclasses
import importlib.metadata
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from mlship.server.artifact import find


@pytest.fixture
def serve() -> Callable[..., Any]:
    """Finds and loads a model the way the server does: inspect, then the entry point's adapter."""

    def load(path: pathlib.Path, options: Mapping[str, str] | None = None, threads: int = 0) -> Any:
        artifact = dataclasses.replace(find.inspect(path, options=options or {}), threads=threads)
        (entry,) = importlib.metadata.entry_points(group="mlship.adapters", name=artifact.format)
        return entry.load()(artifact)

    return load
