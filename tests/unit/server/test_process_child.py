"""The whole of it: a server with worker processes, asked over HTTP."""

from __future__ import annotations

import concurrent.futures
import os
import pathlib
import signal
from typing import Any

import httpx
import numpy as np
import pytest

import model_server

MODEL = """
    import os
    import pathlib
    import sys
    import time

    HERE = pathlib.Path(__file__).parent

    class Model:
        processes = 2
        signature = {
            "inputs": [{"name": "x", "datatype": "FP64", "shape": [-1]}],
            "outputs": [
                {"name": "y", "datatype": "FP64", "shape": [-1]},
                {"name": "pid", "datatype": "INT64", "shape": [-1]},
                {"name": "text", "datatype": "BYTES", "shape": [-1]},
            ],
        }

        def load(self):
            if (HERE / "broken").exists() and "process_worker" in sys.argv[0]:
                raise ValueError("broken in the process")

        def predict(self, x):
            if x[0] == 13:
                os.kill(os.getpid(), 9)
            if x[0] == 14:
                raise ValueError("fourteen")
            if x[0] == 16:
                (HERE / "begun").touch()
                while not (HERE / "go").exists():
                    time.sleep(0.002)
            return {"y": x * 2, "pid": [os.getpid()] * len(x), "text": ["é"] * len(x)}
"""


@pytest.fixture
def model(tmp_path: pathlib.Path) -> pathlib.Path:
    return model_server.write_model(tmp_path / "m", MODEL)


def ask(server: model_server.Server, *values: float, **extras: Any) -> httpx.Response:
    tensor = {"name": "x", "datatype": "FP64", "shape": [len(values)], "data": list(values)}
    return server.http.post("/v2/models/model/infer", json={"inputs": [tensor], **extras})


def pids(server: model_server.Server, event: str = "worker process started") -> list[int]:
    return [line["pid"] for line in server.lines if line["event"] == event]


def gone(pid: int) -> bool:
    """Whether it has ended; a zombie that nobody has asked for yet has."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_requests_are_answered_by_other_processes(start: model_server.Start, model: pathlib.Path) -> None:
    server = start("--model-path", str(model))
    server.until_ready()
    first, second = pids(server)
    assert {line["model"] for line in server.lines if line["event"] == "worker process started"} == {"model"}
    answer = ask(server, 1, 2).json()
    found = {tensor["name"]: tensor["data"] for tensor in answer["outputs"]}
    assert (found["y"], found["text"]) == ([2, 4], ["é", "é"])
    assert found["pid"][0] in (first, second)
    values = np.arange(50_000) + 100.0
    large = {tensor["name"]: tensor["data"] for tensor in ask(server, *values.tolist()).json()["outputs"]}
    np.testing.assert_array_equal(large["y"], values * 2)
    failed = ask(server, 14)
    assert (failed.status_code, failed.json()["error"].split(" (")[0]) == (500, "predict failed: ValueError: fourteen")
    assert any("traceback" in line and line.get("pid") in (first, second) for line in server.lines)
    server.process.send_signal(signal.SIGTERM)
    assert server.wait() == 0
    assert sorted(pids(server, "worker process ended")) == sorted((first, second))
    assert gone(first)
    assert gone(second)


def test_a_process_that_is_killed_fails_its_request_alone(start: model_server.Start, model: pathlib.Path) -> None:
    server = start("--model-path", str(model))
    server.until_ready()
    died = ask(server, 13)
    assert died.status_code == 500
    assert "killed by SIGKILL" in died.json()["error"]
    assert [ask(server, 1).status_code for _ in range(5)] == [200] * 5
    server.until(lambda: len(pids(server)) == 3)
    assert any(line["event"] == "worker process ended" and line["level"] == "warning" for line in server.lines)


def test_callers_are_told_when_their_time_is_over(start: model_server.Start, model: pathlib.Path) -> None:
    server = start("--model-path", str(model), "--worker-processes", "1")
    server.until_ready()
    late = ask(server, 16, parameters={"timeout": 300_000})
    assert late.status_code == 504
    (model / "go").touch()
    assert ask(server, 1).status_code == 200
    assert len(pids(server)) == 1


def test_the_end_waits_for_what_is_under_way(start: model_server.Start, model: pathlib.Path) -> None:
    server = start("--model-path", str(model))
    server.until_ready()
    with concurrent.futures.ThreadPoolExecutor(1) as threads:
        answer = threads.submit(ask, server, 16)
        server.until((model / "begun").exists)
        # As a terminal does it: to the server and to all it has started.
        for pid in (server.process.pid, *pids(server)):
            os.kill(pid, signal.SIGINT)
        server.until(lambda: "draining" in server.log)
        (model / "go").touch()
        assert answer.result().status_code == 200
    assert server.wait() == 0


def test_the_end_does_not_wait_for_ever(start: model_server.Start, model: pathlib.Path) -> None:
    server = start("--model-path", str(model), "--drain-seconds", "0.2")
    server.until_ready()
    with concurrent.futures.ThreadPoolExecutor(1) as threads:
        answer = threads.submit(ask, server, 16)
        server.until((model / "begun").exists)
        server.process.send_signal(signal.SIGTERM)
        assert answer.result().status_code == 503
    assert server.wait() == 0
    for pid in pids(server):
        server.until(lambda pid=pid: gone(pid))


def test_what_a_process_cannot_load_is_why_the_server_ends(start: model_server.Start, model: pathlib.Path) -> None:
    (model / "broken").touch()
    server = start("--model-path", str(model))
    assert server.wait() == 65
    assert "ValueError: broken in the process" in server.lines[-1]["error"]


def test_unloading_ends_the_processes(start: model_server.Start, model: pathlib.Path) -> None:
    server = start("--model-repository", str(model.parent))
    server.until_ready()
    assert server.http.post("/v2/repository/models/m/unload", json={}).status_code == 200
    assert all(gone(pid) for pid in pids(server))
    assert server.http.post("/v2/repository/models/m/load", json={}).status_code == 200
    assert len(pids(server)) == 4


def test_any_model_may_run_in_processes(start: model_server.Start, iris: tuple[pathlib.Path, Any]) -> None:
    path, fitted = iris
    server = start("--model-path", str(path), "--worker-processes", "1", "--accelerate", "off")
    server.until_ready()
    rows = [[5.1, 3.5, 1.4, 0.2], [6.7, 3.0, 5.2, 2.3]]
    found = server.http.post("/v1/models/model:predict", json={"instances": rows})
    assert found.json()["predictions"] == fitted.predict(rows).tolist()
    assert len(pids(server)) == 1
