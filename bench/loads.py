"""What is sent, and by which program: wrk for closed loops, ``openloop`` for open ones, h2load for gRPC.

Every load runs in a process of its own, ends by itself after its seconds, and is killed when it does not.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import pathlib
import re
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator

from bench import bodies, checks, models, server

_HERE = pathlib.Path(__file__).parent
_SLACK_SECONDS = 30.0


class Failed(Exception):
    """The load program gave no figures; the message is the end of its words."""


@dataclasses.dataclass(frozen=True, slots=True)
class Closed:
    """So many clients, each sending its next request when the last one is answered."""

    name: str
    model: str
    rows: int
    clients: int
    title: str
    dialect: str = ""  # the subject's own when empty
    grpc: bool = False


CLOSED = (
    Closed("iris-1", "iris", 1, 1, "iris, 1 row, 1 client"),
    Closed("iris-64", "iris", 1, 64, "iris, 1 row, 64 clients"),
    Closed("iris-grpc-64", "iris", 1, 64, "iris, 1 row, gRPC, 64 calls at a time", grpc=True),
    Closed("forest-1", "forest", 1, 1, "forest, 1 row, 1 client"),
    Closed("forest-64", "forest", 1, 64, "forest, 1 row, 64 clients"),
    Closed("forest-rows", "forest", 1000, 8, "forest, 1000 x 30, 8 clients"),
    Closed("forest-rows-binary", "forest", 1000, 8, "forest, 1000 x 30, 8 clients, binary", dialect="binary"),
)


def applies(load: Closed, subject: server.subjects.Subject) -> bool:
    """Whether the subject can be asked that."""
    taken = not subject.loads or load.name in subject.loads
    return taken and (not load.grpc or subject.grpc) and (load.dialect != "binary" or subject.binary)


def closed(
    load: Closed, target: server.Server, model: models.Model, *, seconds: float, scratch: pathlib.Path
) -> dict[str, float]:
    """Figures of a closed loop. Raises Failed."""
    rows = model.taken(load.rows)
    if load.grpc:
        return _h2load(load, target, model, seconds=seconds, scratch=scratch)
    body = bodies.body(load.dialect or target.subject.dialect, rows)
    return wrk(target.url, body, clients=load.clients, seconds=seconds, scratch=scratch)


def check(load: Closed, target: server.Server, model: models.Model) -> int:
    """One request of this load, its labels compared; the answer's length. Raises checks.Wrong and checks.NoAnswer."""
    rows = model.taken(load.rows)
    if load.grpc:
        return checks.rpc(target.grpc_port, bodies.infer_message(load.model, rows), model.expected(rows))
    return checks.http(target.url, bodies.body(load.dialect or target.subject.dialect, rows), model.expected(rows))


def wrk(url: str, body: bodies.Body, *, clients: int, seconds: float, scratch: pathlib.Path) -> dict[str, float]:
    """wrk on one thread: it needs few microseconds a request, and the rest of the machine is the server's."""
    file = scratch / "body"
    file.write_bytes(body.data)
    command = ["wrk", "-t1", f"-c{clients}", f"-d{max(1, round(seconds))}s", "--timeout", "10s", "-s"]
    command += [str(_HERE / "wrk.lua"), url, "--", str(file), body.content_type, str(body.head)]
    output = _run(command, seconds)
    found = re.search(r"^RESULT (.*)$", output, re.MULTILINE)
    if found is None:
        raise Failed(output[-300:])
    measured = json.loads(found[1])
    good = measured["requests"] - measured["failed"]
    if good <= 0:
        raise Failed(f"no request was answered with status 200, {measured['failed']} failed")
    kept = {key: float(measured[key]) for key in ("failed", "p50_ms", "p99_ms", "max_ms")}
    return {"rate": max(0.0, good / measured["seconds"]), **kept}


def _h2load(
    load: Closed, target: server.Server, model: models.Model, *, seconds: float, scratch: pathlib.Path
) -> dict[str, float]:
    """gRPC by a client in C: 8 connections with an eighth of the calls each.

    h2load reads HTTP's status, which is 200 for failed calls as well. But a failed call has no message, so the bytes of
    messages that came, over those of one checked answer, are the calls that gRPC counts as good.
    """
    frame = check(load, target, model)
    file, log = scratch / "grpc", scratch / "grpc.log"
    file.write_bytes(bodies.grpc_frame(bodies.infer_message(load.model, model.taken(load.rows))))
    log.unlink(missing_ok=True)
    connections = min(8, load.clients)
    command = ["h2load", "-t1", f"-c{connections}", f"-m{load.clients // connections}", f"-D{max(1, round(seconds))}"]
    command += ["-d", str(file), "-H", "content-type: application/grpc", "-H", "te: trailers", f"--log-file={log}"]
    output = _run([*command, f"http://127.0.0.1:{target.grpc_port}{checks.INFER}"], seconds)
    found = re.search(r"\((\d+)\) data$", output, re.MULTILINE)
    if found is None:
        raise Failed(output[-300:])
    return grpc_figures(log.read_text(), seconds=max(1, round(seconds)), good=round(int(found[1]) / frame))


def grpc_figures(log: str, *, seconds: float, good: int) -> dict[str, float]:
    """Figures from h2load's log: start in microseconds, HTTP's status, microseconds spent. Raises Failed when empty.

    Args:
        good: calls with a message in their answer; may be a few more than those that ended, never counts for more.
    """
    found = [line.split("\t") for line in log.splitlines()]
    spent = sorted(int(took) / 1000 for _, status, took in found if status == "200")
    good = min(good, len(spent))
    if good < 2:
        raise Failed(f"{good} of {len(found)} calls were answered with a message")
    cuts = statistics.quantiles(spent, n=100, method="inclusive")
    failed = float(len(found) - good)
    return {"rate": good / seconds, "failed": failed, "p50_ms": cuts[49], "p99_ms": cuts[98], "max_ms": spent[-1]}


@dataclasses.dataclass(frozen=True, slots=True)
class Open:
    """Requests due at fixed times, ``rate`` in a second, whatever the answers do; ``expected`` are their labels."""

    body: bodies.Body
    expected: list[int]
    rate: float
    seconds: float
    connections: int = 256


def open_loop(url: str, load: Open, scratch: pathlib.Path) -> dict[str, float]:
    """Figures of an open loop. Raises Failed, and checks.Wrong for a last answer with other labels."""
    with started(url, load, scratch) as running:
        return running.finish()


class OpenLoop:
    """An open loop under way, in a process of its own."""

    def __init__(self, url: str, load: Open, scratch: pathlib.Path) -> None:
        self._load = load
        self._files = scratch / f"open-{load.rate:g}"
        body, kept = self._files.with_suffix(".body"), self._files.with_suffix(".answer")
        body.write_bytes(load.body.data)
        kept.unlink(missing_ok=True)
        command = [sys.executable, str(_HERE / "openloop.py"), url, "--body", str(body), "--keep", str(kept)]
        command += ["--rate", str(load.rate), "--seconds", str(load.seconds), "--connections", str(load.connections)]
        command += [part for key, value in load.body.headers.items() for part in ("--header", f"{key}: {value}")]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def finish(self) -> dict[str, float]:
        """Its figures, its last good answer checked. Raises Failed and checks.Wrong."""
        try:
            output, problem = self._process.communicate(timeout=self._load.seconds + _SLACK_SECONDS)
        except subprocess.TimeoutExpired:
            raise Failed("the open loop did not end") from None
        if self._process.returncode:
            raise Failed(problem[-300:])
        figures = {key: float(value) for key, value in json.loads(output).items()}
        if not figures["rate"]:
            raise Failed(f"none of {figures['failed']:.0f} requests was answered with status 200")
        checks.compare(self._files.with_suffix(".answer").read_bytes(), self._load.expected)
        return figures

    def end(self) -> None:
        """Nothing of it is left."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.communicate()


@contextlib.contextmanager
def started(url: str, load: Open, scratch: pathlib.Path) -> Iterator[OpenLoop]:
    """An open loop under way; its process has ended at the end."""
    running = OpenLoop(url, load, scratch)
    try:
        yield running
    finally:
        running.end()


def mixed(url: str, small: Open, big: Open, scratch: pathlib.Path) -> dict[str, float]:
    """The small requests' figures beside the big ones, and theirs as ``big_...``. Raises as ``open_loop``."""
    with started(url, big, scratch) as beside:
        figures = open_loop(url, small, scratch)
        heavy = beside.finish()
    return {**figures, **{f"big_{name}": heavy[name] for name in ("rate", "failed", "p50_ms", "max_ms")}}


def _run(command: list[str], seconds: float) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + _SLACK_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise Failed(f"{command[0]} did not end") from error
    if done.returncode:
        raise Failed((done.stderr or done.stdout)[-300:])
    return done.stdout


def missing_programs() -> list[str]:
    return [name for name in ("wrk", "h2load") if shutil.which(name) is None]
