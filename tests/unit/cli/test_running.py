from __future__ import annotations

import pathlib

import joblib
import pytest
import typer.testing
from sklearn.linear_model import LinearRegression

from mlship.cli import main
from mlship.server import main as server
from mlship.server import settings


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[settings.Settings]:
    seen: list[settings.Settings] = []

    def run(chosen: settings.Settings) -> int:
        seen.append(chosen)
        return 0

    monkeypatch.setattr(server, "run", run)
    return seen


def serve(folder: pathlib.Path, *flags: str) -> typer.testing.Result:  # type: ignore[name-defined]
    path = folder / "model.joblib"
    joblib.dump(LinearRegression().fit([[0.0], [1.0]], [0.0, 1.0]), path)
    return typer.testing.CliRunner().invoke(main.app, ["serve", str(path), *flags])


def test_flags_become_the_servers_settings(tmp_path: pathlib.Path, served: list[settings.Settings]) -> None:
    result = serve(
        tmp_path, "--port", "0", "--grpc-port", "0", "--max-batch-size", "7", "--batch-latency-ms", "2.5",
        "--workers", "3", "--accelerate", "exact",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    (chosen,) = served
    assert (chosen.max_batch_size, chosen.batch_latency_ms, chosen.workers) == (7, 2.5, 3)
    assert (chosen.port, chosen.grpc_port, chosen.accelerate) == (0, None, settings.mode("exact"))


def test_what_is_not_said_stays_as_the_server_has_it(tmp_path: pathlib.Path, served: list[settings.Settings]) -> None:
    assert serve(tmp_path).exit_code == 0
    (chosen,) = served
    default = settings.Settings()
    assert (chosen.max_batch_size, chosen.workers, chosen.accelerate) == (
        default.max_batch_size, default.workers, default.accelerate,
    )  # fmt: skip
