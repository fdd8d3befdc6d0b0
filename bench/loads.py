"""What is sent, and by which program: wrk for closed loops, ``openloop`` for open ones, h2load for gRPC.

Every load runs in a process of its own, ends by itself after its seconds, and is killed when it does not.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
import re
import shutil
import statistics
import subprocess
import sys

from bench import bodies, models, server
from mlship.protocol import oip

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
    return (not load.grpc or subject.grpc) and (load.dialect != "binary" or subject.binary)


def closed(
    load: Closed, target: server.Server, model: models.Model, *, seconds: float, scratch: pathlib.Path
) -> dict[str, float]:
    """Figures of a closed loop. Raises Failed."""
    rows = model.taken(load.rows)
    if load.grpc:
        return _h2load(load, target, rows, seconds=seconds, scratch=scratch)
    body = bodies.body(load.dialect or target.subject.dialect, rows)
    return wrk(target.url, body, clients=load.clients, seconds=seconds, scratch=scratch)


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
    kept = {key: float(measured[key]) for key in ("failed", "p50_ms", "p99_ms", "max_ms")}
    return {"rate": max(0.0, good / measured["seconds"]), **kept}


def _h2load(
    load: Closed, target: server.Server, rows: bodies.Floats, *, seconds: float, scratch: pathlib.Path
) -> dict[str, float]:
    """gRPC by a client in C: 8 connections with an eighth of the calls each.

    h2load reads HTTP's status, which is 200 for most failed calls as well: whoever calls this checks one call by hand.
    """
    message = infer_message(load.model, rows)
    file, log = scratch / "grpc", scratch / "grpc.log"
    file.write_bytes(bodies.grpc_frame(message))
    log.unlink(missing_ok=True)
    connections = min(8, load.clients)
    command = ["h2load", "-t1", f"-c{connections}", f"-m{load.clients // connections}", f"-D{max(1, round(seconds))}"]
    command += ["-d", str(file), "-H", "content-type: application/grpc", "-H", "te: trailers", f"--log-file={log}"]
    _run([*command, f"http://127.0.0.1:{target.grpc_port}/inference.GRPCInferenceService/ModelInfer"], seconds)
    return grpc_figures(log.read_text(), seconds=max(1, round(seconds)))


def grpc_figures(log: str, *, seconds: float) -> dict[str, float]:
    """Figures from h2load's log: start in microseconds, status, microseconds spent. Raises Failed when it is empty."""
    found = [line.split("\t") for line in log.splitlines()]
    spent = sorted(int(took) / 1000 for _, status, took in found if status == "200")
    if len(spent) < 2:
        raise Failed("no call was answered")
    cuts = statistics.quantiles(spent, n=100, method="inclusive")
    failed = float(len(found) - len(spent))
    return {"rate": len(spent) / seconds, "failed": failed, "p50_ms": cuts[49], "p99_ms": cuts[98], "max_ms": spent[-1]}


def infer_message(model: str, rows: bodies.Floats) -> bytes:
    """A ModelInferRequest with raw contents."""
    message = oip.message("ModelInferRequest")(model_name=model)
    message.inputs.add(name="input-0", datatype="FP64", shape=list(rows.shape))
    message.raw_input_contents.append(rows.astype("<f8").tobytes())
    return bytes(message.SerializeToString())


def open_loop(
    url: str, body: bodies.Body, *, rate: float, seconds: float, scratch: pathlib.Path, connections: int = 256
) -> dict[str, float]:
    """Figures of an open loop. Raises Failed."""
    process = start_open_loop(url, body, rate=rate, seconds=seconds, scratch=scratch, connections=connections)
    return finish_open_loop(process, seconds=seconds)


def start_open_loop(
    url: str,
    body: bodies.Body,
    *,
    rate: float,
    seconds: float,
    scratch: pathlib.Path,
    connections: int = 256,
    tag: str = "",
) -> subprocess.Popen[str]:
    file = scratch / f"open{tag}"
    file.write_bytes(body.data)
    command = [sys.executable, str(_HERE / "openloop.py"), url, "--body", str(file), "--rate", str(rate)]
    command += ["--seconds", str(seconds), "--connections", str(connections)]
    command += [part for key, value in body.headers.items() for part in ("--header", f"{key}: {value}")]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish_open_loop(process: subprocess.Popen[str], *, seconds: float) -> dict[str, float]:
    """Its figures. Raises Failed; the process has ended either way."""
    try:
        output, problem = process.communicate(timeout=seconds + _SLACK_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise Failed("the open loop did not end") from None
    if process.returncode:
        raise Failed(problem[-300:])
    return {key: float(value) for key, value in json.loads(output).items()}


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
