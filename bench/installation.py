"""A whole mlship of its own for a measurement: a home in a temporary folder, the real control plane and Envoy."""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from typing import Any

import psutil

from mlship import client, home, launch

CONTROL, REPLICA, ENVOY, ZYGOTE = "mlship.control.main", "mlship.server.main", "/envoy ", "mlship.server.zygote"


@dataclasses.dataclass(frozen=True, slots=True)
class Installation:
    """What runs in one home. ``url``: where its gateway listens."""

    where: home.Home
    control: client.Client
    url: str

    def processes(self, word: str) -> list[psutil.Process]:
        """Its processes of a kind, one of the words above; a forked replica shows its zygote's command, see pids."""
        found = []
        for process in psutil.process_iter(["cmdline"]):
            command = " ".join(process.info["cmdline"] or []) + " "
            if str(self.where.root) in command and word in command:
                found.append(process)
        return found

    def memory(self, word: str) -> float:
        """Resident bytes of the one process of a kind."""
        (process,) = self.processes(word)
        resident: int = process.memory_info().rss
        return float(resident)

    def apply(self, name: str, uri: str, *, wait: float = 60.0, **more: Any) -> float:
        """Apply a service and wait until it is ready; seconds that it took. ``wait`` 0: apply only."""
        began = time.perf_counter()
        self.control.apply(service(name, uri, **more))
        if wait and not self.control.wait_ready(name, deadline=wait):
            raise TimeoutError(f"{name} is not ready after {wait:.0f} s: {self.control.why(name)['conditions']}")
        return time.perf_counter() - began


def service(
    name: str,
    uri: str,
    *,
    model_format: str = "sklearn",
    annotations: Mapping[str, str] | None = None,
    env: Mapping[str, str] | None = None,
    **predictor: Any,
) -> dict[str, Any]:
    """An InferenceService as a user writes it."""
    model: dict[str, Any] = {"modelFormat": {"name": model_format}, "storageUri": uri}
    if env:
        model["env"] = [{"name": key, "value": value} for key, value in env.items()]
    metadata: dict[str, Any] = {"name": name}
    if annotations:
        metadata["annotations"] = dict(annotations)
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": metadata,
        "spec": {"predictor": {**predictor, "model": model}},
    }


@contextlib.contextmanager
def installed() -> Iterator[Installation]:
    """An installation that runs; gone at the end, with all its processes."""
    root = pathlib.Path(tempfile.mkdtemp(prefix="mlship-bench-"))
    where = home.Home(root / "home")
    where.root.mkdir()
    try:
        launch.ensure_running(where, port="auto")
        with client.Client(where) as control:
            yield Installation(where, control, control.status()["gateway"]["url"])
    finally:
        launch.stop(where, replicas=True, deadline=60)
        shutil.rmtree(root, ignore_errors=True)
