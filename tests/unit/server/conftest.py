"""Real model servers for the tests of the protocol edges."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator
from typing import Any

import joblib
import pytest
from sklearn import datasets, linear_model

import model_server


@pytest.fixture(scope="session")
def iris(tmp_path_factory: pytest.TempPathFactory) -> tuple[pathlib.Path, Any]:
    """A fitted classifier, on disk and in memory."""
    data = datasets.load_iris()
    fitted = linear_model.LogisticRegression(max_iter=1000).fit(data.data, data.target)
    path = tmp_path_factory.mktemp("iris") / "iris.joblib"
    joblib.dump(fitted, path)
    return path, fitted


@pytest.fixture
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[model_server.Start]:
    """Starts servers for one test and ends them."""
    started: list[model_server.Server] = []

    def begin(*flags: str) -> model_server.Server:
        started.append(model_server.start_server(tmp_path_factory.mktemp("s"), *flags))
        return started[-1]

    yield begin
    for server in started:
        server.end()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, iris: tuple[pathlib.Path, Any]) -> Iterator[model_server.Server]:
    """One server with several models, shared by tests that leave it as it is."""
    folder = tmp_path_factory.mktemp("r")
    for name, source in model_server.MODELS.items():
        model_server.write_model(folder / "models" / name, source)
    for version in ("1", "2"):
        target = folder / "models" / "iris" / version
        target.mkdir(parents=True)
        (target / "iris.joblib").write_bytes(iris[0].read_bytes())
    made = model_server.start_server(
        folder,
        *("--model-repository", str(folder / "models"), "--grpc-socket", str(folder / "grpc")),
        *("--max-body-bytes", "1000000", "--workers", "2", "--request-timeout", "30"),
    )
    try:
        made.until_ready()
        yield made
    finally:
        made.end()
