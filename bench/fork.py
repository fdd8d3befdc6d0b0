"""From the request for a replica to its first answer, forked and cold, and what each further replica costs in memory.

    python -m bench.fork [--forks 20] [--out DIR]

For scikit-learn, XGBoost, LightGBM and ONNX: a zygote is started as the supervisor starts it, and asked for replicas
one after another. The clock runs from before the request until the whole answer of a prediction has been read from the
replica's own socket; readiness is not polled, since the replica says it. Cold starts are the same command executed,
with its socket tried every millisecond. "Computing" is the processor time of a forked replica until then: on a machine
that has other work, it says what the clock cannot. Memory is what belongs to no other process (private pages of
``smaps_rollup``) of replicas that live side by side and have answered a hundred times. Prints a table; ``--out`` also
gets fork.json.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pathlib
import select
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

from mlship import forks
from mlship.backends.local import expand, zygotes

FRAMEWORKS = ("sklearn", "xgboost", "lightgbm", "onnx")
_ROW = [5.1, 3.5, 1.4, 0.2]
_DEADLINE = 60.0
_REQUESTS = 100
_TOGETHER = 4


def make_models(folder: pathlib.Path) -> dict[str, tuple[pathlib.Path, dict[str, Any]]]:
    """A small model of each framework, and a request for it."""
    import joblib
    import lightgbm
    import skl2onnx
    import xgboost
    from sklearn import datasets, linear_model, pipeline, preprocessing

    rows, labels = datasets.load_iris(return_X_y=True)
    fitted = pipeline.make_pipeline(preprocessing.StandardScaler(), linear_model.LogisticRegression()).fit(rows, labels)
    joblib.dump(fitted, folder / "iris.joblib")
    xgboost.XGBClassifier(n_estimators=50).fit(rows, labels).get_booster().save_model(folder / "iris.ubj")
    lightgbm.LGBMClassifier(n_estimators=50, verbose=-1).fit(rows, labels).booster_.save_model(folder / "iris.txt")
    graph = skl2onnx.to_onnx(fitted, rows[:1].astype("float32"), options={"zipmap": False})
    (folder / "iris.onnx").write_bytes(graph.SerializeToString())
    return {
        "sklearn": (folder / "iris.joblib", _request("input-0", "FP64")),
        "xgboost": (folder / "iris.ubj", _request("input-0", "FP32")),
        "lightgbm": (folder / "iris.txt", _request("input-0", "FP64")),
        "onnx": (folder / "iris.onnx", _request("X", "FP32")),
    }


def _request(name: str, datatype: str) -> dict[str, Any]:
    return {"inputs": [{"name": name, "datatype": datatype, "shape": [1, 4], "data": [_ROW]}]}


def ask(path: pathlib.Path, body: dict[str, Any]) -> bytes:
    """The answer to a prediction. Raises OSError while nobody listens, ValueError for anything but 200."""
    payload = json.dumps(body).encode()
    head = f"POST /v2/models/m/infer HTTP/1.1\r\nHost: m\r\nConnection: close\r\nContent-Length: {len(payload)}\r\n\r\n"
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(_DEADLINE)
        connection.connect(str(path))
        connection.sendall(head.encode() + payload)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    if not answer.startswith(b"HTTP/1.1 200"):
        raise ValueError(answer[:300].decode(errors="replace"))
    return answer


class Replicas:
    """Starts replicas of one model, forked or cold, in a folder of their own."""

    def __init__(self, folder: pathlib.Path, framework: str, model: pathlib.Path, body: dict[str, Any]) -> None:
        self._folder = folder
        self._framework = framework
        self._model = model
        self._body = body
        self._number = 0
        self._zygotes = zygotes.Zygotes(home=folder, logs=folder, inherited=os.environ)
        self._log = os.open(folder / f"{framework}.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def _command(self) -> tuple[expand.Command, pathlib.Path]:
        self._number += 1
        path = self._folder / f"{self._framework[:3]}{self._number}"
        argv = (
            *(sys.executable, "-m", "mlship.server.main", "--model-path", str(self._model), "--model-name", "m"),
            *("--model-format", self._framework, "--http-socket", str(path), "--grpc-socket", f"{path}g"),
        )
        return expand.Command(argv=argv, env={**os.environ, "PYTHONUNBUFFERED": "1"}), path

    def fork(self) -> tuple[float, int, pathlib.Path]:
        """Seconds to the first answer, the pid, the socket."""
        command, path = self._command()
        begun = time.perf_counter()
        newborn = self._zygotes.fork(self._framework, command, {"MLSHIP_REPLICA": "bench/x"}, self._log)
        newborn.go()
        with newborn.line as line:
            line.settimeout(_DEADLINE)
            word = forks.decode(line.recv(forks.LARGEST))
            if not isinstance(word, forks.Ready):
                raise ValueError(f"the replica said {word}")
            ask(path, self._body)
            return time.perf_counter() - begun, newborn.pid, path

    def cold(self) -> float:
        """Seconds to the first answer of a program that is executed."""
        command, path = self._command()
        begun = time.perf_counter()
        process = subprocess.Popen(command.argv, env=dict(command.env), stdout=self._log, stderr=self._log)
        try:
            while time.perf_counter() - begun < _DEADLINE:
                with contextlib.suppress(OSError, ValueError):
                    ask(path, self._body)
                    return time.perf_counter() - begun
                time.sleep(0.001)
            raise TimeoutError(f"no answer within {_DEADLINE:.0f} s")
        finally:
            process.terminate()
            process.wait()

    def memory(self) -> list[dict[str, float]]:
        """MiB of replicas side by side, each after a hundred answers."""
        together = [self.fork() for _ in range(_TOGETHER)]
        for _, _, path in together:
            for _ in range(_REQUESTS):
                ask(path, self._body)
        found = [_memory(pid) for _, pid, _ in together]
        for _, pid, _ in together:
            _end(pid)
        return found

    def close(self) -> None:
        """End the zygote."""
        self._zygotes.close()
        os.close(self._log)


def _memory(pid: int) -> dict[str, float]:
    sizes: dict[str, float] = {}
    for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, _, rest = line.partition(":")
        sizes[name] = int(rest.split()[0]) / 1024
    private = sizes["Private_Clean"] + sizes["Private_Dirty"]
    return {"rss": sizes["Rss"], "pss": sizes["Pss"], "private": private}


def _cpu(pid: int) -> float:
    """Seconds that the threads of a process have run, whatever else the machine had to do."""
    threads = pathlib.Path(f"/proc/{pid}/task").iterdir()
    return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e9


def _end(pid: int) -> None:
    descriptor = os.pidfd_open(pid)
    try:
        os.kill(pid, signal.SIGKILL)
        select.select([descriptor], [], [], 10)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _folder() -> Iterator[pathlib.Path]:
    with tempfile.TemporaryDirectory(prefix="mlship-fork-") as name:
        yield pathlib.Path(name)


def measure(forks_each: int, colds_each: int) -> dict[str, Any]:
    """The figures of every framework; times in milliseconds, memory in MiB."""
    found: dict[str, Any] = {}
    with _folder() as folder:
        for framework, (model, body) in make_models(folder).items():
            replicas = Replicas(folder, framework, model, body)
            try:
                _end(replicas.fork()[1])  # the first waits until everything is imported
                times, busy = [], []
                for _ in range(forks_each):
                    seconds, pid, _ = replicas.fork()
                    times.append(seconds * 1e3)
                    busy.append(_cpu(pid) * 1e3)
                    _end(pid)
                colds = [replicas.cold() * 1e3 for _ in range(colds_each)]
                memory = replicas.memory()
            finally:
                replicas.close()
            found[framework] = {
                "forked_ms": [round(one, 1) for one in times],
                "forked_median_ms": round(statistics.median(times), 1),
                "forked_cpu_ms": round(statistics.median(busy), 1),
                "cold_median_ms": round(statistics.median(colds), 1) if colds else None,
                "private_mib": round(statistics.median(one["private"] for one in memory), 1),
                "pss_mib": round(statistics.median(one["pss"] for one in memory), 1),
                "started": _last_started(folder / f"{framework}.log"),
            }
    return found


def _last_started(log: pathlib.Path) -> dict[str, Any]:
    """The phases of the last forked start, as the replica logged them."""
    lines = (json.loads(line) for line in log.read_text().splitlines() if line.startswith("{"))
    starts = [line for line in lines if line.get("event") == "started" and line.get("how") == "forked"]
    return {key: value for key, value in starts[-1].items() if key not in {"time", "level", "event", "how"}}


def table(found: dict[str, Any]) -> str:
    """For people."""
    lines = [f"{'':10}{'forked':>10}{'slowest':>10}{'computing':>12}{'cold':>10}{'private':>12}{'PSS':>10}"]
    for framework, one in found.items():
        cold = "" if one["cold_median_ms"] is None else f"{one['cold_median_ms']:.0f} ms"
        lines.append(
            f"{framework:10}{one['forked_median_ms']:7.0f} ms{max(one['forked_ms']):7.0f} ms"
            f"{one['forked_cpu_ms']:9.0f} ms{cold:>10}"
            f"{one['private_mib']:8.1f} MiB{one['pss_mib']:6.0f} MiB"
        )
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.fork", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--forks", type=int, default=20)
    parser.add_argument("--colds", type=int, default=3)
    parser.add_argument("--out", type=pathlib.Path)
    asked = parser.parse_args(arguments)
    found = measure(asked.forks, asked.colds)
    print(table(found))
    if asked.out is not None:
        asked.out.mkdir(parents=True, exist_ok=True)
        (asked.out / "fork.json").write_text(json.dumps(found, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
