from __future__ import annotations

import json
import os
import pathlib
import queue
import signal
import socket
import subprocess
import sys
import textwrap
import threading
from typing import Any

import grpc
import httpx
import pytest

from mlship.server import main

BODY = {"instances": [[5.1, 3.5, 1.4, 0.2]]}

# Loads when the file beside it appears.
SLOW_TO_LOAD = """
    import pathlib
    import time

    class Slow:
        def load(self):
            release = pathlib.Path(__file__).with_name("go")
            end = time.monotonic() + 60
            while not release.exists() and time.monotonic() < end:
                time.sleep(0.005)

        def predict(self, inputs):
            return inputs
"""

BROKEN_WARM_UP = """
    class Broken:
        signature = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}]}

        def predict(self, inputs):
            raise ValueError("no weights\\nat all")
"""

FAILS_TO_LOAD = """
    class Broken:
        def load(self):
            raise FileNotFoundError("weights.bin is missing")

        def predict(self, inputs):
            return inputs
"""

# Ignores everything, the end of the process included.
STUCK = """
    import pathlib
    import time

    class Stuck:
        def predict(self, inputs):
            pathlib.Path(__file__).with_name("seen").touch()
            while True:
                time.sleep(0.01)
"""


def model(folder: pathlib.Path, source: str) -> pathlib.Path:
    folder.mkdir(exist_ok=True)
    (folder / "model.py").write_text(textwrap.dedent(source))
    return folder / "model.py"


def run(*flags: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mlship.server.main", *flags]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def last_line(text: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(text.strip().splitlines()[-1])
    return found


def post_in_background(server: Any, path: str, asked: Any) -> tuple[threading.Thread, list[httpx.Response]]:
    answers: list[httpx.Response] = []

    def ask() -> None:
        transport = httpx.HTTPTransport(uds=str(server.path))
        with httpx.Client(transport=transport, base_url="http://server", timeout=60) as client:
            answers.append(client.post(path, json=asked))

    thread = threading.Thread(target=ask)
    thread.start()
    return thread, answers


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_0_and_removes_its_sockets(
    start: Any, iris: tuple[pathlib.Path, Any], number: signal.Signals
) -> None:
    server = start("--model-path", str(iris[0]), "--model-name", "iris")
    server.until_ready()
    assert oct(server.path.stat().st_mode & 0o777) == "0o600"
    server.process.send_signal(number)
    assert server.wait() == 0
    assert not server.path.exists()
    assert "Traceback" not in server.log


def test_what_is_under_way_is_finished_and_readiness_goes_first(
    start: Any, server: Any, tmp_path: pathlib.Path
) -> None:
    own = start("--model-path", str(server.folder / "models" / "echo"), "--model-name", "echo")
    own.until_ready()
    release = tmp_path / "go"
    asked = {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": [f"wait:{release}"]}]}
    thread, answers = post_in_background(own, "/v2/models/echo/infer", asked)
    own.until(release.with_suffix(".seen").exists)
    own.process.send_signal(signal.SIGTERM)
    own.until(lambda: not own.up())
    assert own.process.poll() is None
    release.touch()
    thread.join(60)
    assert answers[0].status_code == 200
    assert own.wait() == 0


def test_a_drain_ends_when_its_time_is_over_and_says_so_to_who_waits(start: Any, tmp_path: pathlib.Path) -> None:
    path = model(tmp_path / "m", STUCK)
    server = start("--model-path", str(path), "--model-name", "stuck", "--drain-seconds", "0.2", "--workers", "1")
    server.until_ready()
    asked = {"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [1]}]}
    thread, answers = post_in_background(server, "/v2/models/stuck/infer", asked)
    server.until(path.with_name("seen").exists)
    server.process.send_signal(signal.SIGTERM)
    assert server.wait() == 0
    thread.join(60)
    assert (answers[0].status_code, answers[0].json()["code"]) == (503, "NotReady")
    assert "its drain time is over" in answers[0].json()["error"]


def test_who_is_still_sending_or_has_a_stream_open_is_told_too(start: Any, tmp_path: pathlib.Path) -> None:
    path = model(tmp_path / "m", STUCK)
    grpc_path = tmp_path / "grpc"
    server = start("--model-path", str(path), "--model-name", "m", "--drain-seconds", "0.2", "--grpc-socket", grpc_path)
    server.until_ready()
    with socket.socket(socket.AF_UNIX) as upload, grpc.insecure_channel(f"unix:{grpc_path}") as channel:
        upload.connect(str(server.path))
        upload.sendall(b"POST /v2/models/m/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{")
        asked: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        stream = channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")(iter(asked.get, None))
        asked.put(b"no message")
        assert b"ModelInferRequest" in next(stream)
        server.process.send_signal(signal.SIGTERM)
        assert server.wait() == 0
        assert stream.code() is grpc.StatusCode.UNAVAILABLE
        assert "its drain time is over" in stream.details()
        asked.put(None)
        answer = b"".join(iter(lambda: upload.recv(65536), b"")).decode()
    head, _, body = answer.partition("\r\n\r\n")
    assert head.startswith("HTTP/1.1 503")
    assert "\r\nretry-after: 1\r\n" in head
    assert "\r\nconnection: close" in head
    assert json.loads(body)["code"] == "NotReady"
    assert "Traceback" not in server.log


def test_a_second_signal_cuts_the_drain_short(start: Any, tmp_path: pathlib.Path) -> None:
    path = model(tmp_path / "m", STUCK)
    server = start("--model-path", str(path), "--model-name", "stuck", "--drain-seconds", "3600")
    server.until_ready()
    asked = {"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [1]}]}
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(server.path))
        content = json.dumps(asked).encode()
        client.sendall(b"POST /v2/models/stuck/infer HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(content))
        client.sendall(content)
        server.until(path.with_name("seen").exists)
        server.process.send_signal(signal.SIGTERM)
        server.until(lambda: any(line["event"] == "draining" for line in server.lines))
        server.process.send_signal(signal.SIGTERM)
        assert server.wait() == 0


def test_liveness_answers_while_the_model_loads(start: Any, tmp_path: pathlib.Path) -> None:
    path = model(tmp_path / "m", SLOW_TO_LOAD)
    server = start("--model-path", str(path), "--model-name", "slow")
    server.until(server.up)
    assert server.http.get("/v2/health/live").status_code == 200
    server.until(lambda: "LOADING" in server.http.get("/v2/health/ready").text)
    assert server.http.get("/v2/health/ready").status_code == 503
    assert server.http.post("/v1/models/slow:predict", json=BODY).status_code == 503
    assert server.http.get("/v2/models/slow").status_code == 503
    path.with_name("go").touch()
    server.until_ready()


def test_a_signal_while_the_model_loads_ends_it(start: Any, tmp_path: pathlib.Path) -> None:
    server = start("--model-path", str(model(tmp_path / "m", SLOW_TO_LOAD)), "--model-name", "slow")
    server.until(server.up)
    server.process.send_signal(signal.SIGTERM)
    assert server.wait() == 0


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (BROKEN_WARM_UP, "failed its warm-up inference"),
        (FAILS_TO_LOAD, "weights.bin is missing"),
        ("this is not python", "model.py"),
    ],
)
def test_a_model_that_cannot_be_loaded_ends_it_with_65_and_the_cause_last(
    tmp_path: pathlib.Path, source: str, said: str
) -> None:
    path = model(tmp_path / "m", source)
    found = run("--model-path", str(path), "--http-socket", str(tmp_path / "s"))
    assert found.returncode == main.Exit.MODEL
    line = last_line(found.stderr)
    assert (line["level"], line["event"]) == ("error", "model not loaded")
    assert said in line["error"]
    assert "\n" not in line["error"]


def test_a_file_that_is_no_model_says_so_last(tmp_path: pathlib.Path) -> None:
    (tmp_path / "m.pkl").write_bytes(b"")
    for flags in (["--model-path", str(tmp_path / "m.pkl")], ["--model-path", str(tmp_path / "none")]):
        found = run(*flags, "--http-socket", str(tmp_path / "s"))
        assert found.returncode == main.Exit.MODEL
        assert last_line(found.stderr)["error"]
    assert not (tmp_path / "s").exists()


def test_wrong_flags_end_it_with_64() -> None:
    found = run("--model-path", "x", "--port", "many")
    assert found.returncode == main.Exit.USAGE
    assert "expected a whole number" in found.stderr
    assert "Traceback" not in found.stderr


def test_a_taken_port_ends_it_with_69_and_names_the_holder(iris: tuple[pathlib.Path, Any]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
        for flags in (["--port", str(port)], ["--port", "0", "--grpc-port", str(port)]):
            found = run("--model-path", str(iris[0]), *flags)
            assert found.returncode == main.Exit.UNAVAILABLE
            line = last_line(found.stderr)
            assert f"port {port} is taken: process {os.getpid()}" in line["error"]


def test_a_live_socket_is_refused_and_a_dead_one_replaced(start: Any, iris: tuple[pathlib.Path, Any]) -> None:
    server = start("--model-path", str(iris[0]), "--model-name", "iris")
    server.until_ready()
    flags = ("--model-path", str(iris[0]), "--http-socket", str(server.path))
    found = run(*flags)
    assert found.returncode == main.Exit.UNAVAILABLE
    assert "another process listens there" in last_line(found.stderr)["error"]
    assert server.http.get("/v2/health/live").status_code == 200
    server.process.kill()
    server.wait()
    assert server.path.exists()
    log = (server.folder / "second").open("wb")
    with log, subprocess.Popen([sys.executable, "-m", "mlship.server.main", *flags], stderr=log) as second:
        server.until(server.up)
        second.send_signal(signal.SIGTERM)
        assert second.wait(60) == 0


def test_a_repository_serves_what_loads_and_says_what_does_not(
    start: Any, iris: tuple[pathlib.Path, Any], tmp_path: pathlib.Path
) -> None:
    model(tmp_path / "broken", FAILS_TO_LOAD)
    (tmp_path / "iris").mkdir()
    (tmp_path / "iris" / "m.joblib").write_bytes(iris[0].read_bytes())
    server = start("--model-repository", str(tmp_path))
    server.until(server.up)
    server.until(lambda: server.http.get("/v2/models/iris/ready").status_code == 200)
    assert server.http.post("/v1/models/iris:predict", json=BODY).status_code == 200
    ready = server.http.get("/v2/health/ready")
    assert ready.status_code == 503
    assert "weights.bin is missing" in ready.text
    (index,) = [one for one in server.http.post("/v2/repository/index").json() if one["name"] == "broken"]
    assert index["state"] == "UNAVAILABLE"
    assert "weights.bin is missing" in index["reason"]


def test_tcp_with_a_free_port_is_said_in_the_log(start: Any, iris: tuple[pathlib.Path, Any]) -> None:
    server = start("--model-path", str(iris[0]), "--model-name", "iris", "--grpc-port", "0")
    server.until_ready()
    (line,) = [line for line in server.lines if line["event"] == "listening"]
    assert line["pid"] == server.process.pid
    host, _, port = line["grpc"].rpartition(":")
    with socket.create_connection((host, int(port)), timeout=10):
        pass


def test_text_logs(tmp_path: pathlib.Path) -> None:
    found = run("--model-path", str(tmp_path / "none"), "--port", "0", "--log-format", "text")
    assert found.returncode == main.Exit.MODEL
    assert "ERROR   model not loaded error=" in found.stderr.strip().splitlines()[-1]
