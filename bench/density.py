"""Many small models in one server process: what each costs in memory, and what loading some does to the others.

    python -m bench.density --models 1000 --registered 10000 --json density.json

Makes distinct scikit-learn models, lists them (and as many entries more as ``--registered`` says) for one server that
loads on use, uses each once, and reads the server's own report. Then one hot model is asked again and again, alone and
while others are asked at a steady rate, each of which has to be loaded: the budget has room for about half of them, and
those that were used longest ago are gone when their turn comes again. Goals: 1,000 models within 2 GiB; the hot model's
p99 at most 1.3 times what it is alone.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import itertools
import json
import pathlib
import pickle
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import httpx
import numpy as np

from bench import conditions

GOAL_BYTES, GOAL_RATIO = 2 * 2**30, 1.3
_BODY = json.dumps(
    {"inputs": [{"name": "input-0", "shape": [1, 4], "datatype": "FP64", "data": [5.1, 3.5, 1.4, 0.2]}]}
).encode()
_DEADLINE = 120.0
_SPREAD = 3 * 1024 * 1024


def write_models(folder: pathlib.Path, count: int) -> list[pathlib.Path]:
    """``count`` distinct classifiers, logistic regressions and trees in turn, trained on iris with noise."""
    from sklearn import datasets
    from sklearn.linear_model import LogisticRegression
    from sklearn.tree import DecisionTreeClassifier

    features, target = datasets.load_iris(return_X_y=True)
    random = np.random.default_rng(0)
    made = []
    for number in range(count):
        rows = features + random.normal(scale=0.1, size=features.shape)
        model = DecisionTreeClassifier(random_state=number) if number % 2 else LogisticRegression(max_iter=200)
        path = folder / f"model-{number}.pkl"
        path.write_bytes(pickle.dumps(model.fit(rows, target)))
        made.append(path)
    return made


def write_entries(root: pathlib.Path, models: list[pathlib.Path], registered: int) -> list[str]:
    """Entries for every model, and more for the same files up to ``registered``; the names of the first ones."""
    names = [f"model-{number}" for number in range(max(registered, len(models)))]
    for number, name in enumerate(names):
        entry = {"name": name, "path": str(models[number % len(models)]), "format": "sklearn", "digest": name}
        (root / f"{name}.json").write_text(json.dumps(entry))
    return names[: len(models)]


@contextlib.contextmanager
def pool(root: pathlib.Path, place: pathlib.Path, *flags: str) -> Iterator[tuple[httpx.Client, float]]:
    """A running pool server, and the seconds until it was ready."""
    address = place / "http"
    command = [sys.executable, "-m", "mlship.server.main", "--model-repository", str(root), "--paging"]
    command += ["--http-socket", str(address), "--log-level", "warning", *flags]
    begun = time.monotonic()
    process = subprocess.Popen(command)
    try:
        while not _answers(address):
            if process.poll() is not None or time.monotonic() - begun > _DEADLINE:
                raise SystemExit("the pool server did not come up")
            time.sleep(0.005)
        seconds = time.monotonic() - begun
        transport = httpx.HTTPTransport(uds=str(address))
        with httpx.Client(transport=transport, base_url="http://pool", timeout=_DEADLINE) as client:
            yield client, seconds
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(_DEADLINE)


def _answers(path: pathlib.Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


def use(client: httpx.Client, name: str) -> float:
    """Ask a model once; the seconds it took."""
    begun = time.perf_counter()
    client.post(f"/v2/models/{name}/infer", content=_BODY).raise_for_status()
    return time.perf_counter() - begun


def hot(client: httpx.Client, name: str, seconds: float) -> dict[str, float]:
    """Ask one model again and again, one request at a time: milliseconds."""
    end = time.monotonic() + seconds
    took = []
    while time.monotonic() < end:
        took.append(use(client, name) * 1e3)
    p50, p99, worst = np.percentile(took, [50, 99, 100])
    return {"requests": len(took), "p50_ms": float(p50), "p99_ms": float(p99), "max_ms": float(worst)}


def paced(client: httpx.Client, names: list[str], rate: float, stop: threading.Event) -> int:
    """Use the models in turn, ``rate`` of them a second, until ``stop``; how many."""
    begun = time.monotonic()
    for number, name in enumerate(itertools.cycle(names)):
        if stop.wait(max(0.0, begun + number / rate - time.monotonic())):
            return number
        use(client, name)
    return 0


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """All figures."""
    with tempfile.TemporaryDirectory(prefix="density-") as text:
        folder = pathlib.Path(text)
        root = folder / "listed"
        root.mkdir()
        (folder / "files").mkdir()
        names = write_entries(root, write_models(folder / "files", arguments.models), arguments.registered)
        with pool(root, folder, *_budget(arguments.budget)) as (client, seconds):
            found = {"models": arguments.models, "registered": arguments.registered, "ready_seconds": seconds}
            found |= _filled(client, names)
        with pool(root, folder, *_budget(arguments.budget)) as (client, _):
            use(client, names[0])
            use(client, names[1])
            measured = client.get("/mlship/v1/pool").json()["measured"]
        # Room for about half of them; less would be lost in what two starts of a process differ by.
        small = measured + _SPREAD + arguments.models * found["bytes_per_model"] / 2
        with pool(root, folder, *_budget(int(small))) as (client, _):
            found |= _side_by_side(client, names, arguments)
        return found


def _filled(client: httpx.Client, names: list[str]) -> dict[str, Any]:
    use(client, names[0])
    use(client, names[1])
    time.sleep(1.0)
    before = client.get("/mlship/v1/pool").json()
    begun = time.monotonic()
    took = [use(client, name) * 1e3 for name in names[2:]]
    seconds = time.monotonic() - begun
    after = client.get("/mlship/v1/pool").json()
    grown = after["measured"] - before["measured"]
    return {
        "first_two_measured": before["measured"],
        "measured": after["measured"],
        "loaded": after["loaded"],
        "bytes_per_model": grown / len(names[2:]),
        "load_all_seconds": seconds,
        "first_use_p50_ms": float(np.percentile(took, 50)),
        "first_use_p99_ms": float(np.percentile(took, 99)),
    }


def _side_by_side(client: httpx.Client, names: list[str], arguments: argparse.Namespace) -> dict[str, Any]:
    # From here on each that is loaded takes the place of another.
    for name in names:
        use(client, name)
    before = _counts(client)
    alone = hot(client, names[0], arguments.seconds)
    stop = threading.Event()
    transport = httpx.HTTPTransport(uds=str(client._transport._pool._uds))  # type: ignore[attr-defined]
    with (
        httpx.Client(transport=transport, base_url="http://pool", timeout=_DEADLINE) as other,
        concurrent.futures.ThreadPoolExecutor(1) as threads,
    ):
        paging = threads.submit(paced, other, names[1:], arguments.rate, stop)
        beside = hot(client, names[0], arguments.seconds)
        stop.set()
        used = paging.result()
    after = _counts(client)
    return {
        "hot_alone": alone,
        "hot_beside_loads": beside,
        "asked_beside": used,
        "loads": after["loads"] - before["loads"],
        "evictions": after["evictions"] - before["evictions"],
    }


def _counts(client: httpx.Client) -> dict[str, int]:
    models = client.get("/mlship/v1/pool").json()["models"]
    return {what: sum(model[what] for model in models) for what in ("loads", "evictions")}


def table(found: Mapping[str, Any]) -> str:
    """For people."""
    alone, beside = found["hot_alone"], found["hot_beside_loads"]
    return "\n".join(
        (
            f"{found['models']} models of {found['registered'] or found['models']} listed, in one process:",
            f"ready after {found['ready_seconds']:.2f} s, all loaded in {found['load_all_seconds']:.1f} s,"
            f" a first use {found['first_use_p50_ms']:.1f} ms (p99 {found['first_use_p99_ms']:.1f} ms)",
            f"private memory {found['measured'] / 2**20:.0f} MiB, {found['bytes_per_model'] / 1e3:.0f} kB each",
            f"a hot model alone                p50 {alone['p50_ms']:6.2f} ms  p99 {alone['p99_ms']:6.2f} ms",
            f"beside {found['loads']} loads, {found['evictions']} evictions"
            f"  p50 {beside['p50_ms']:6.2f} ms  p99 {beside['p99_ms']:6.2f} ms",
        )
    )


def _budget(total: int | None) -> list[str]:
    return ["--memory-budget", str(total)] if total else []


def main(given: Sequence[str]) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.density", description=__doc__)
    parser.add_argument("--models", type=int, default=1000, help="models that are made and used")
    parser.add_argument("--registered", type=int, default=10000, help="entries that are listed")
    parser.add_argument("--budget", type=int, help="memory budget while all are loaded, in bytes")
    parser.add_argument("--rate", type=float, default=20.0, help="loads a second beside the hot model")
    parser.add_argument("--seconds", type=float, default=20.0, help="how long the hot model is asked")
    parser.add_argument("--json", type=pathlib.Path, help="where the figures are written")
    arguments = parser.parse_args(given)
    before = conditions.now()
    found = measure(arguments)
    print(f"{conditions.line(before)}\n{table(found)}")
    if arguments.json is not None:
        conditions.keep(arguments.json, "density", before, **found)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
