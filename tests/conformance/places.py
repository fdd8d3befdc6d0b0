"""Places where mlship answers, for clients to be tried against: the model server by itself, and the whole of it.

``repository`` trains the models and lays them out; ``serve`` starts the model server as ``mlship serve`` does;
``gateway`` starts a control plane with Envoy in a home of its own and deploys each model as an InferenceService. Both
are real programs on loopback ports, ended by their own process ids.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from typing import Any

import httpx
import joblib
import numpy as np
import pandas as pd
import psutil

import models
from mlship import client, home, launch
from mlship.protocol import messages

_DEADLINE = 60.0

# Hands back what it got, whatever its type: one optional input and one output for each datatype.
_EVERY = """
import numpy as np

DTYPES = %(dtypes)r


class Every:
    concurrent = 4
    signature = {
        "inputs": [{"name": name, "datatype": name, "shape": [-1], "optional": True} for name in DTYPES],
        "outputs": [{"name": name, "datatype": name, "shape": [-1]} for name in DTYPES],
        "example": {"INT64": 1},
    }

    def predict(self, inputs):
        return {name: inputs.get(name, np.empty(0, dtype)) for name, dtype in DTYPES.items()}
"""

_SCALE = """
import numpy as np


class Scale:
    signature = {
        "inputs": [{"name": "x", "datatype": "FP64", "shape": [-1]}],
        "outputs": [{"name": "y", "datatype": "FP64", "shape": [-1]}],
        "example": {"x": 1.5},
    }

    def predict(self, x: np.ndarray) -> np.ndarray:
        return x * %(factor)r
"""


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    """One place; the fields are those of ``clients/checks.py``, which is handed them as JSON."""

    http: str
    server: str
    mlflow: str
    grpc: str
    route: str
    factors: Mapping[str, float]
    cases: Mapping[str, Any]

    def json(self) -> str:
        """For the client programs. NaN is written as Python writes and reads it."""
        return json.dumps(dataclasses.asdict(self))


@dataclasses.dataclass(frozen=True, slots=True)
class Models:
    """A model repository on disk, and what its models answer."""

    root: pathlib.Path
    cases: Mapping[str, Any]


def repository(root: pathlib.Path) -> Models:
    """Lay out ``iris``, ``titanic``, ``every`` and the two versions of ``scale``."""
    cases = {"iris": _case(models.iris_pipeline(_folder(root / "iris")))}
    cases |= _titanic(models.titanic_pipeline(_folder(root / "titanic")))
    (_folder(root / "every") / "every.py").write_text(
        _EVERY % {"dtypes": {name: dtype.str for name, dtype in messages.NUMPY_OF.items()}}
    )
    for version, factor in (("1", 2.0), ("2", 3.0)):
        (_folder(root / "scale" / version) / "scale.py").write_text(_SCALE % {"factor": factor})
    return Models(root, cases)


def _folder(path: pathlib.Path) -> pathlib.Path:
    path.mkdir(parents=True)
    return path


def _case(made: models.Made) -> dict[str, Any]:
    return {"inputs": _tensors(made.inputs), "expected": _tensors(made.expected)}


def _titanic(made: models.Made) -> dict[str, Any]:
    """All rows; those without missing strings; those without missing values."""
    strings = present(made, "sex", "embarked")
    numbers = present(made, "age", "fare")
    assert strings.sum() < len(strings)
    assert (strings & numbers).sum() < strings.sum()
    kept = {"titanic-numbers": rows_of(made, strings), "titanic": rows_of(made, strings & numbers)}
    return {name: _case(part) for name, part in {"titanic-gaps": made, **kept}.items()}


def present(made: models.Made, *columns: str) -> Any:
    """Which rows have a value in every one of these columns."""
    return pd.DataFrame({name: made.inputs[name] for name in columns}).notna().all(axis=1).to_numpy()


def rows_of(made: models.Made, keep: Any) -> models.Made:
    """Some rows of a model that takes a DataFrame, answered anew: a batch of another size may differ in a last bit."""
    fitted = joblib.load(made.path)
    inputs = {name: values[keep] for name, values in made.inputs.items()}
    expected = {name: getattr(fitted, name)(pd.DataFrame(inputs)) for name in ("predict", "predict_proba")}
    return dataclasses.replace(made, inputs=inputs, expected=expected)


def _tensors(arrays: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "datatype": messages.datatype_of(np.asarray(array).dtype),
            "shape": list(np.shape(array)),
            "data": np.asarray(array).ravel().tolist(),
        }
        for name, array in arrays.items()
    ]


@contextlib.contextmanager
def server(log: pathlib.Path, *flags: str) -> Iterator[tuple[str, str]]:
    """A model server that is ready; its HOST:PORT for REST and for gRPC."""
    command = [sys.executable, "-m", "mlship.server.main", "--port", "0", "--grpc-port", "0", "--workers", "2", *flags]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        listening = _logged(process, log, "listening")
        address = listening["http"].removeprefix("http://")
        _wait_ready(process, log, address)
        yield address, listening["grpc"]
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(20)


def _logged(process: subprocess.Popen[bytes], log: pathlib.Path, event: str) -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        lines = [json.loads(line) for line in log.read_text().splitlines(keepends=True) if line.endswith("\n")]
        return next((line for line in lines if line.get("event", line.get("message")) == event), None)

    return _until(process, log, look)


def _wait_ready(process: subprocess.Popen[bytes], log: pathlib.Path, address: str) -> None:
    with httpx.Client(trust_env=False, timeout=_DEADLINE) as http:
        _until(process, log, lambda: http.get(f"http://{address}/v2/health/ready").status_code == 200 or None)


def _until(process: subprocess.Popen[bytes], log: pathlib.Path, look: Any) -> Any:
    end = time.monotonic() + _DEADLINE
    while time.monotonic() < end and process.poll() is None:
        if (found := look()) is not None:
            return found
        time.sleep(0.02)
    raise AssertionError(f"the server did not come up; its log:\n{log.read_text()[-3000:]}")


@contextlib.contextmanager
def serve(folder: pathlib.Path, found: Models) -> Iterator[Place]:
    """The model server with all models, and a second one with a single model for MLflow's paths."""
    titanic = ("--model-path", str(found.root / "titanic"), "--model-name", "titanic")
    with (
        server(folder / "single.log", *titanic) as (single, _),
        server(folder / "server.log", "--model-repository", str(found.root)) as (http, grpc),
    ):
        factors = {"1": 2.0, "2": 3.0}
        yield Place(http=http, server=http, mlflow=single, grpc=grpc, route="", factors=factors, cases=found.cases)


class Gateway:
    """A control plane, Envoy and what was deployed so far."""

    def __init__(self, where: home.Home, found: Models) -> None:
        self._home = where
        self._found = found
        status = launch.ensure_running(where, port="auto")
        self.process = psutil.Process(status["pid"])
        self._address = f"localhost:{status['gateway']['port']}"

    @property
    def place(self) -> Place:
        """The gateway, with ``every`` for the calls that name no model."""
        return Place(
            http=self._address,
            server=f"{self._address}/serving/default/every",
            mlflow=f"{self._address}/serving/default/titanic",
            grpc=self._address,
            route="mlship-service",
            factors={"1": 2.0},
            cases=self._found.cases,
        )

    def deploy(self, paths: Mapping[str, pathlib.Path]) -> None:
        """Deploy a model a service and wait until all of them answer."""
        with client.Client(self._home) as control:
            for name, path in paths.items():
                control.apply(_service(name, path))
            for name in paths:
                control.wait_ready(name, deadline=_DEADLINE)


def _service(name: str, path: pathlib.Path) -> dict[str, Any]:
    model_format = "python" if path.suffix == ".py" else "sklearn"
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": name},
        "spec": {"predictor": {"model": {"modelFormat": {"name": model_format}, "storageUri": path.as_uri()}}},
    }


@contextlib.contextmanager
def gateway(found: Models) -> Iterator[Gateway]:
    """A running gateway with nothing deployed; at the end all its processes are gone."""
    # Not pytest's own folder, whose path may be too long for sockets.
    with tempfile.TemporaryDirectory(prefix="mlship-") as root:
        where = home.Home(pathlib.Path(root) / "home")
        running = Gateway(where, found)
        try:
            yield running
        finally:
            launch.stop(where, replicas=True, deadline=_DEADLINE)
            # It gives its lock back a moment before it has ended.
            running.process.wait(_DEADLINE)
