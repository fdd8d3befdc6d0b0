"""What mlship costs on this machine: the numbers of docs/status.md, measured again.

Run it with ``python bench/first_milestone.py`` in an environment with ``mlship[sklearn]``. It makes an installation of
its own in a temporary folder, deploys an iris pipeline, kills the control plane, a replica and Envoy under a steady
load, and prints a table. It takes about two minutes and ends everything it started.
"""

import asyncio
import contextlib
import importlib.util
import json
import os
import pathlib
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator

import joblib
import psutil
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mlship import client, home, launch

_LOAD = pathlib.Path(__file__).parents[1] / "tests" / "e2e" / "load.py"
_spec = importlib.util.spec_from_file_location("load", _LOAD)
load = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(load)

SECONDS = 10


class Bench:
    """An installation and what is done to it."""

    def __init__(self, root: pathlib.Path) -> None:
        self.where = home.Home(root / "home")
        self.model = root / "iris.joblib"
        rows, labels = load_iris(return_X_y=True)
        joblib.dump(make_pipeline(StandardScaler(), LogisticRegression()).fit(rows, labels), self.model)

    def mlship(self, *arguments: str) -> float:
        """Seconds that a command takes. Its failure ends the program."""
        began = time.monotonic()
        program = [sys.executable, "-m", "mlship.cli", *arguments]
        done = subprocess.run(
            program, env={**os.environ, "MLSHIP_HOME": str(self.where.root)}, capture_output=True, text=True
        )
        if done.returncode:
            sys.exit(f"mlship {' '.join(arguments)}: {done.stderr}")
        return time.monotonic() - began

    def processes(self, word: str) -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter(["cmdline"]):
            command = " ".join(process.info["cmdline"] or [])
            if str(self.where.root) in command and word in command:
                found.append(process)
        return found

    def kill(self, word: str) -> int:
        victim = self.processes(word)[0]
        victim.send_signal(signal.SIGKILL)
        return victim.pid

    @property
    def url(self) -> str:
        with client.Client(self.where) as control:
            return control.status()["gateway"]["url"]

    def under_load(self, kill: Callable[[], object]) -> tuple[int, int, float]:
        """Requests, failed ones, and seconds from the kill to the last failed one."""
        killed = []

        async def during(steady: load.Load) -> None:
            await steady.answered(400, since=0)
            killed.append(time.monotonic())
            await asyncio.to_thread(kill)

        steady = load.Load(f"{self.url}/v2/models/iris/infer")
        asyncio.run(steady.run(SECONDS, during))
        away = max((one.ended - killed[0] for one in steady.failed), default=0.0)
        return len(steady.outcomes), len(steady.failed), away


@contextlib.contextmanager
def bench() -> Iterator[Bench]:
    root = pathlib.Path(tempfile.mkdtemp(prefix="mlship-bench-"))
    made = Bench(root)
    try:
        yield made
    finally:
        launch.stop(made.where, replicas=True, deadline=40)
        shutil.rmtree(root, ignore_errors=True)


def line(what: str, value: str) -> None:
    print(f"{what:<58} {value}", flush=True)


def seconds(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} s (of {len(values)}: {min(values):.2f} to {max(values):.2f})"


def commands(made: Bench) -> None:
    line("mlship --help", seconds([made.mlship("--help") for _ in range(9)]))
    cold = []
    for _ in range(5):
        cold.append(made.mlship("deploy", str(made.model), "--port", "auto"))
        made.mlship("destroy", "iris")
        made.mlship("down")
    line("mlship deploy, nothing running before", seconds(cold))
    made.mlship("up", "--port", "auto")
    warm = [made.mlship("deploy", str(made.model), "--name", f"iris-{number}") for number in range(5)]
    line("mlship deploy, control plane and gateway running", seconds(warm))
    for number in range(5):
        made.mlship("destroy", f"iris-{number}")


def memory(made: Bench) -> None:
    made.mlship("deploy", str(made.model), "--replicas", "2", "--name", "iris")
    for what, word in (("replica", "mlship.server.main"), ("control plane", "mlship.control.main"), ("Envoy", "envoy")):
        found = made.processes(word)
        pss = [process.memory_full_info().pss / 2**20 for process in found]
        line(f"memory of a {what} (PSS, {len(found)} running)", f"{statistics.mean(pss):.0f} MiB")


def faults(made: Bench) -> None:
    def revive() -> None:
        made.kill("mlship.control.main")
        launch.ensure_running(made.where)

    for what, kill in (
        ("nothing killed", lambda: None),
        ("control plane killed and started again", revive),
        ("one of two replicas killed", lambda: made.kill("mlship.server.main")),
        ("Envoy killed", lambda: made.kill("/envoy ")),
    ):
        count, failed, away = made.under_load(kill)
        text = f"{failed} of {count} requests failed"
        line(f"{what}, at 200 requests/s", text + (f", the last one {away:.2f} s after the kill" if failed else ""))


def latency(made: Bench) -> None:
    steady = load.Load(f"{made.url}/v2/models/iris/infer")

    async def nothing(_: load.Load) -> None:
        return

    asyncio.run(steady.run(SECONDS, nothing))
    spent = sorted((one.ended - one.due) * 1000 for one in steady.outcomes)
    shown = json.dumps({"p50": round(spent[len(spent) // 2], 1), "p99": round(spent[len(spent) * 99 // 100], 1)})
    line("latency at 200 requests/s, client on the same machine, ms", shown)


def main() -> None:
    with bench() as made:
        line("machine", f"{psutil.cpu_count()} cores, {psutil.virtual_memory().total / 2**30:.0f} GiB")
        commands(made)
        memory(made)
        latency(made)
        faults(made)


if __name__ == "__main__":
    main()
