"""Many small models in one server process: what each costs in memory, and what loading some does to the others.

    python -m bench.density --models 1000 --registered 10000 --json density.json

Makes distinct scikit-learn models, lists them (and as many entries more as ``--registered`` says) for one server that
loads on use, uses each once, and reads the server's own report. Then one hot model is asked again and again, one
request after the other: alone; while two others are asked at a steady rate; and while others are asked each of which
has to be loaded: the budget has room for about half of them, and those that were used longest ago are gone when their
turn comes again. Goals: 1,000 models within 2 GiB; the hot model's p99 beside ``--rate`` loads a second at most 1.3
times what it is alone.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import itertools
import json
import multiprocessing
import pathlib
import pickle
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
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
# A file that was just written is not yet told from one that is written next.
_SETTLED_SECONDS = 2.5


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
            found |= _again(client, names)
            found |= _side_by_side(client, str(folder / "http"), names, arguments)
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


def _again(client: httpx.Client, names: list[str]) -> dict[str, float]:
    """What a model takes that was here before: the budget has room for half, so each is loaded each time."""
    for name in names:
        use(client, name)
    time.sleep(_SETTLED_SECONDS)
    took = [use(client, name) * 1e3 for name in names]
    return {"again_p50_ms": float(np.percentile(took, 50)), "again_p99_ms": float(np.percentile(took, 99))}


def _side_by_side(client: httpx.Client, root: str, names: list[str], arguments: argparse.Namespace) -> dict[str, Any]:
    """The hot model alone, beside others that stay loaded, and beside such that have to be loaded: medians of rounds.

    Others are asked by a process of their own: threads of one client would wait for each other.
    """
    # From here on each that is loaded takes the place of another.
    for name in names:
        use(client, name)
    staying, passing = names[-2:], collections.deque(names[1:-2])
    rounds: list[list[dict[str, float]]] = []
    for _ in range(arguments.rounds):
        for name in (names[0], *staying):
            use(client, name)
        alone = hot(client, names[0], arguments.seconds)
        found = [alone, _beside(client, root, names[0], collections.deque(staying), arguments.rate, arguments.seconds)]
        rates = (arguments.rate / 4, arguments.rate / 2, arguments.rate)
        rounds.append(found + [_beside(client, root, names[0], passing, rate, arguments.seconds) for rate in rates])
    alone, loaded, *paged = (_median(same) for same in zip(*rounds, strict=True))
    return {
        "hot_alone": alone,
        "hot_beside_loaded": loaded,
        "hot_beside_fewer_loads": paged[:-1],
        "hot_beside_loads": paged[-1],
    }


def _beside(
    client: httpx.Client, root: str, name: str, others: collections.deque[str], rate: float, seconds: float
) -> dict[str, float]:
    """The hot model while ``others`` are asked in turn; they are turned on to who is next."""
    context = multiprocessing.get_context("spawn")
    begin, stop, asked = context.Event(), context.Event(), context.Value("i", 0)
    process = context.Process(target=_paced, args=(root, list(others), rate, begin, stop, asked))
    process.start()
    if not begin.wait(_DEADLINE):
        raise SystemExit("the client of the others did not come up")
    before = _counts(client)
    found = hot(client, name, seconds)
    after = _counts(client)
    stop.set()
    process.join(_DEADLINE)
    if process.exitcode:
        raise SystemExit("the client of the others failed")
    others.rotate(-asked.value)
    return found | {"rate": rate} | {what: after[what] - before[what] for what in after}


def _paced(address: str, names: list[str], rate: float, begin: Any, stop: Any, asked: Any) -> None:
    """Use the models in turn, ``rate`` of them a second, until ``stop``: a process."""
    transport = httpx.HTTPTransport(uds=address)
    with httpx.Client(transport=transport, base_url="http://pool", timeout=_DEADLINE) as client:
        begun = time.monotonic()
        begin.set()
        for number, name in enumerate(itertools.cycle(names)):
            if stop.wait(max(0.0, begun + number / rate - time.monotonic())):
                return
            use(client, name)
            asked.value = number + 1


def _median(rounds: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {figure: float(statistics.median(one[figure] for one in rounds)) for figure in rounds[0]}


def _counts(client: httpx.Client) -> dict[str, int]:
    models = client.get("/mlship/v1/pool").json()["models"]
    return {what: sum(model[what] for model in models) for what in ("loads", "evictions")}


def table(found: Mapping[str, Any]) -> str:
    """For people."""
    alone = found["hot_alone"]["p99_ms"]

    def line(text: str, one: Mapping[str, float]) -> str:
        return f"{text:<48}p50 {one['p50_ms']:5.2f} ms  p99 {one['p99_ms']:5.2f} ms  {one['p99_ms'] / alone:4.2f}"

    loads = [*found["hot_beside_fewer_loads"], found["hot_beside_loads"]]
    return "\n".join(
        (
            f"{found['models']} models of {found['registered'] or found['models']} listed, in one process:",
            f"ready after {found['ready_seconds']:.2f} s, all loaded in {found['load_all_seconds']:.1f} s",
            f"a first use {found['first_use_p50_ms']:.1f} ms (p99 {found['first_use_p99_ms']:.1f} ms),"
            f" of one that was here before {found['again_p50_ms']:.1f} ms (p99 {found['again_p99_ms']:.1f} ms)",
            f"private memory {found['measured'] / 2**20:.0f} MiB, {found['bytes_per_model'] / 1e3:.0f} kB each",
            "a hot model, medians of rounds; in the last column its p99 over that alone",
            line("  alone", found["hot_alone"]),
            line(
                f"  beside {found['hot_beside_loaded']['rate']:g} requests/s to two others", found["hot_beside_loaded"]
            ),
            *(
                line(
                    f"  beside {one['rate']:g} loads/s ({one['loads']:.0f} loads, {one['evictions']:.0f} evictions)",
                    one,
                )
                for one in loads
            ),
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
    parser.add_argument("--seconds", type=float, default=10.0, help="how long the hot model is asked each time")
    parser.add_argument("--rounds", type=int, default=3, help="how often each way of asking it has its turn")
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
