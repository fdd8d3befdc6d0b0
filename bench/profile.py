"""Where the model server's time goes under a closed loop: py-spy's samples, summed up by function.

``python -m bench.profile --connections 1 64`` serves the small model as it is (not compiled), loads it with wrk and
samples it meanwhile; ``--source`` profiles another checkout's ``src`` the same way, for a before and an after. Samples
of threads that wait are left out by py-spy; those of the sampler's own start are not taken.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import os
import pathlib
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator

from bench import bodies, models

_START_SECONDS = 60
_LINE = re.compile(r":\d+\)$")
_ROWS = 25
# A thread there waits for its next job; py-spy takes it for busy.
_WAITING = "Workers._work (mlship/server/worker.py)"


def summed(stacks: Iterable[str]) -> tuple[int, list[tuple[str, float, float]]]:
    """Samples in all and, by function, the share in which it was running and that in which it was on the stack.

    Args:
        stacks: lines of py-spy's raw form: frames with semicolons between them, a blank, how often it was seen.
    """
    own: collections.Counter[str] = collections.Counter()
    held: collections.Counter[str] = collections.Counter()
    for line in stacks:
        frames, _, count = line.rstrip().rpartition(" ")
        if not frames:
            continue
        names = [_LINE.sub(")", frame) for frame in frames.split(";")]
        if names[-1] == _WAITING:
            continue
        own[names[-1]] += int(count)
        held.update(dict.fromkeys(names, int(count)))
    total = sum(own.values())
    return total, [(name, own[name] / total, held[name] / total) for name, _ in own.most_common()]


def page(connections: int, rate: float, stacks: Iterable[str]) -> str:
    """One table."""
    total, functions = summed(stacks)
    lines = [
        f"### {connections} client{'s' if connections > 1 else ''}: {rate:.0f} requests/s while sampled",
        "",
        f"{total} samples of running threads.",
        "",
        "| function | in it | in it or below |",
        "|---|---|---|",
        *(f"| `{name}` | {own:.1%} | {held:.1%} |" for name, own, held in functions[:_ROWS]),
    ]
    return "\n".join(lines) + "\n"


@contextlib.contextmanager
def _server(source: pathlib.Path, model: pathlib.Path, flags: list[str]) -> Iterator[tuple[int, str]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mlship.server.main", "--model-path", str(model), "--model-name", "m"]
    started = subprocess.Popen(
        [*command, "--port", str(port), *flags],
        env={**os.environ, "PYTHONPATH": str(source)},
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}/v2/models/m"
    try:
        _wait(f"{url}/ready", started)
        yield started.pid, f"{url}/infer"
    finally:
        started.terminate()
        started.wait(60)


def _wait(url: str, started: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and started.poll() is None:
        with contextlib.suppress(urllib.error.URLError, ConnectionError), urllib.request.urlopen(url, timeout=5):
            return
        time.sleep(0.1)
    sys.exit(f"the server did not become ready (exit code {started.poll()})")


def _sampled(pid: int, load: list[str], seconds: int, folder: pathlib.Path) -> tuple[float, list[str]]:
    raw = folder / "raw"
    with subprocess.Popen(load, stdout=subprocess.PIPE, text=True) as loading:
        time.sleep(1)
        spy = ["py-spy", "record", "--pid", str(pid), "--duration", str(seconds), "--rate", "400"]
        program = pathlib.Path(sys.executable).parent / spy[0]
        subprocess.run(
            [str(program), *spy[1:], "--format", "raw", "--output", str(raw)], check=True, capture_output=True
        )
        said, _ = loading.communicate()
    found = re.search(r"Requests/sec:\s*([\d.]+)", said)
    if found is None:
        sys.exit(f"wrk gave no rate: {said[:300]}")
    return float(found[1]), raw.read_text().splitlines()


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m bench.profile", description=__doc__.partition("\n")[0])
    parser.add_argument("--source", type=pathlib.Path, default=pathlib.Path(__file__).parents[1] / "src")
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 64])
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--flags", nargs="*", default=["--accelerate=off"], help="of the model server")
    parser.add_argument("--out", type=pathlib.Path, help="where to write the tables; standard output otherwise")
    asked = parser.parse_args()
    model = models.iris()
    tables = []
    with tempfile.TemporaryDirectory() as place, _server(asked.source, model.path, asked.flags) as (pid, url):
        folder = pathlib.Path(place)
        script = folder / "body.lua"
        body = bodies.body("v2", model.taken(1)).data.decode()
        script.write_text(
            f"wrk.method = 'POST'\nwrk.body = [[{body}]]\nwrk.headers['Content-Type'] = 'application/json'\n"
        )
        for connections in asked.connections:
            duration = f"{asked.seconds + 3}s"
            load = ["wrk", "-t1", f"-c{connections}", "-d", duration, "-s", str(script), url]
            rate, stacks = _sampled(pid, load, asked.seconds, folder)
            tables.append(page(connections, rate, stacks))
    if asked.out is None:
        print("\n".join(tables))
    else:
        asked.out.write_text("\n".join(tables))


if __name__ == "__main__":
    main()
