"""A whole installation for a test: a home of its own, the real command, Envoy and replicas; ended by their own pids."""

import contextlib
import dataclasses
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator

import joblib
import psutil
import pytest
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mlship import client, home, launch

PROGRAM = [sys.executable, "-m", "mlship.cli"]


@dataclasses.dataclass(frozen=True)
class Done:
    """What a command answered."""

    code: int
    out: str
    err: str


@dataclasses.dataclass
class Installation:
    """One home and what runs in it."""

    where: home.Home

    @property
    def environ(self) -> dict[str, str]:
        return {**os.environ, "MLSHIP_HOME": str(self.where.root), "COLUMNS": "200"}

    def mlship(self, *arguments: str, stdin: str = "", timeout: float = 90) -> Done:
        """Run a command as a user would."""
        done = subprocess.run(
            [*PROGRAM, *arguments], input=stdin, text=True, capture_output=True, timeout=timeout, env=self.environ,
            cwd=self.where.root.parent,
        )  # fmt: skip
        return Done(done.returncode, done.stdout, done.stderr)

    def ok(self, *arguments: str, stdin: str = "") -> str:
        """Run a command that must succeed; what it printed."""
        done = self.mlship(*arguments, stdin=stdin)
        assert done.code == 0, f"mlship {' '.join(arguments)} ended with {done.code}:\n{done.out}\n{done.err}"
        return done.out

    @property
    def control(self) -> client.Client:
        return client.Client(self.where)

    def status(self) -> dict:
        with self.control as control:
            return control.status()

    @property
    def url(self) -> str:
        return self.status()["gateway"]["url"]

    def processes(self) -> list[psutil.Process]:
        """Everything that belongs to this home, found by its command line."""
        return self.one("")

    def one(self, word: str) -> list[psutil.Process]:
        """Its processes of a kind: mlship.control.main, mlship.server.main or envoy."""
        found = []
        for process in psutil.process_iter(["cmdline", "ppid"]):
            # As it was when it was listed: one that ends meanwhile has none that could be asked for again.
            command = " ".join(process.info["cmdline"] or [])
            if str(self.where.root) in command and word in command and process.pid != os.getpid():
                found.append(process)
        return found


@contextlib.contextmanager
def _installed() -> Iterator[Installation]:
    """An installation with a path short enough for sockets, gone at the end."""
    root = pathlib.Path(tempfile.mkdtemp(prefix="mlship-e2e-"))
    made = Installation(home.Home(root / "home"))
    made.where.root.mkdir()
    try:
        yield made
    finally:
        launch.stop(made.where, replicas=True, deadline=40)
        # The control plane gives its lock back a moment before its process has ended.
        _, left = psutil.wait_procs(made.processes(), timeout=30)
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGKILL)
        psutil.wait_procs(left, timeout=10)
        shutil.rmtree(root, ignore_errors=True)
    assert not left, f"left running: {left}"


@pytest.fixture
def installation() -> Iterator[Installation]:
    """An installation for one test."""
    with _installed() as made:
        yield made


@pytest.fixture(scope="module")
def shared_installation() -> Iterator[Installation]:
    """An installation for all tests of a module, which leave nothing behind in it."""
    with _installed() as made:
        yield made


@pytest.fixture(scope="session")
def iris(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A trained pipeline in a file."""
    rows, labels = load_iris(return_X_y=True)
    path = tmp_path_factory.mktemp("iris") / "iris.joblib"
    joblib.dump(make_pipeline(StandardScaler(), LogisticRegression()).fit(rows, labels), path)
    return path


def service(name: str, uri: str, **predictor: object) -> str:
    """An InferenceService as a YAML (JSON) document."""
    body = {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": name},
        "spec": {"predictor": {**predictor, "model": {"modelFormat": {"name": "sklearn"}, "storageUri": uri}}},
    }
    return json.dumps(body)
