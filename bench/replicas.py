"""mlship's further replicas: from the start of a process to its first answer, and the memory that is its own.

A deployment of one replica is scaled up one by one. A new replica shows by its socket; it is asked until it answers,
and its age then, by the kernel's record of when the process began, is the figure.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping

import httpx
import psutil

from bench import bodies, loads, models, server, subjects
from mlship import home

NAME = "mlship-replicas"
FURTHER = 3
_SECONDS = 60.0
_POLL_SECONDS = 0.002
_MEBIBYTE = 1024 * 1024


def measure(model: models.Model) -> dict[str, float]:
    """``fork_ms`` and ``private_mib`` (medians over the further replicas), ``first_mib``. Raises loads.Failed."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="mb-"))
    watched = server.Server(subjects.BY_NAME["mlship-envoy"], name=model.name, folder=folder)
    place = home.Home(folder / "own")
    environment = {**os.environ, "MLSHIP_HOME": str(place.root), "PYTHONPATH": str(subjects.ROOT.parent / "src")}
    try:
        _mlship(environment, "deploy", str(model.path), "--name", model.name, "--port", str(watched.port))
        first = _memory(_replicas(place))
        further = [_one_more(place, model, environment, count) for count in range(2, 2 + FURTHER)]
        _mlship(environment, "down")
    finally:
        watched.end()
        shutil.rmtree(folder, ignore_errors=True)
        # The folder for sockets may lie elsewhere.
        if place.sockets != place.records:
            shutil.rmtree(place.sockets, ignore_errors=True)
    ages, private = zip(*further, strict=True)
    return {"fork_ms": statistics.median(ages), "private_mib": statistics.median(private), "first_mib": first}


def _memory(found: Mapping[pathlib.Path, int]) -> float:
    """PSS of the replicas, MiB."""
    return sum(psutil.Process(pid).memory_full_info().pss for pid in found.values()) / _MEBIBYTE


def _one_more(place: home.Home, model: models.Model, environment: Mapping[str, str], count: int) -> tuple[float, float]:
    """Scale up to ``count``: milliseconds from the new process's start to its first answer, and its private MiB."""
    known = _replicas(place)
    scale = ("deploy", str(model.path), "--name", model.name, "--replicas", str(count))
    with _started(environment, *scale) as command:
        until = time.monotonic() + _SECONDS
        while not (new := _new(place, known)):
            _wait(until, "no new replica")
        path, pid = new
        answered = _first_answer(path, model, until)
        age = 1000 * (answered - _born(pid))
        if command.wait(_SECONDS):
            raise loads.Failed(f"mlship deploy --replicas {count} ended with {command.returncode}")
    return age, psutil.Process(pid).memory_full_info().uss / _MEBIBYTE


def _first_answer(path: pathlib.Path, model: models.Model, until: float) -> float:
    """When (CLOCK_BOOTTIME) the replica at this socket gave its first answer."""
    body = bodies.body("v2", model.taken(1))
    transport = httpx.HTTPTransport(uds=str(path))
    with httpx.Client(transport=transport, base_url="http://replica") as client:
        while True:
            with contextlib.suppress(httpx.TransportError):
                answer = client.post(f"/v2/models/{model.name}/infer", content=body.data, headers=body.headers)
                if answer.status_code == 200 and answer.json()["outputs"]:
                    return time.clock_gettime(time.CLOCK_BOOTTIME)
            _wait(until, "the new replica does not answer")


def _wait(until: float, problem: str) -> None:
    if time.monotonic() > until:
        raise loads.Failed(problem)
    time.sleep(_POLL_SECONDS)


def _new(place: home.Home, known: Mapping[pathlib.Path, int]) -> tuple[pathlib.Path, int] | None:
    return next(((path, pid) for path, pid in _replicas(place).items() if path not in known and path.exists()), None)


def _replicas(place: home.Home) -> dict[pathlib.Path, int]:
    """The pid behind each replica's HTTP socket, from the records of the control plane; those not started left out."""
    found = {}
    for file in place.records.glob("process-*.json"):
        with contextlib.suppress(OSError, ValueError):
            record = json.loads(file.read_text())
            sockets = [pathlib.Path(one) for one in record["job"]["sockets"] if one.endswith(".h")]
            if sockets and record["pid"]:
                found[sockets[0]] = int(record["pid"])
    return found


def _born(pid: int) -> float:
    """When a process began, in seconds since the machine's start, to a hundredth of a second."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[19]) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def _started(environment: Mapping[str, str], *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    command = [str(subjects.BY_NAME[subjects.OURS].home / "bin" / "python"), "-m", "mlship.cli", *arguments]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "stdin": subprocess.DEVNULL}
    process = subprocess.Popen(command, env=dict(environment), **quiet)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def _mlship(environment: Mapping[str, str], *arguments: str) -> None:
    with _started(environment, *arguments) as process:
        if process.wait(3 * _SECONDS):
            raise loads.Failed(f"mlship {arguments[0]} ended with {process.returncode}")
