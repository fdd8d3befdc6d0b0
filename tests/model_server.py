"""A real model server in a process of its own, and small custom models for it to serve; for tests of its edges."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from typing import Any

import httpx

DEADLINE = 60.0

# Two inputs, a parameter, and an output that is not given by default.
ADDER = """
    import numpy as np

    class Adder:
        signature = {
            "inputs": [
                {"name": "left", "datatype": "FP32", "shape": [-1, 2]},
                {"name": "right", "datatype": "INT64", "shape": [-1]},
            ],
            "outputs": [
                {"name": "sum", "datatype": "FP64", "shape": [-1]},
                {"name": "count", "datatype": "INT64", "shape": [-1]},
            ],
        }

        def predict(self, inputs, parameters=None):
            factor = (parameters or {}).get("factor", 1)
            rows = len(inputs["right"])
            return {
                "sum": (inputs["left"].sum(axis=1) + inputs["right"]).astype("float64") * factor,
                "count": np.full(rows, rows),
            }
"""

# Text in, text out; waits for the file that "wait:PATH" names, and fails when asked to.
ECHO = """
    import pathlib
    import time

    class Echo:
        signature = {
            "inputs": [{"name": "text", "datatype": "BYTES", "shape": [-1]}],
            "outputs": [{"name": "echo", "datatype": "BYTES", "shape": [-1]}],
        }

        def predict(self, inputs):
            for text in inputs["text"]:
                if text.startswith("wait:"):
                    path = pathlib.Path(text[5:])
                    path.with_suffix(".seen").touch()
                    end = time.monotonic() + 60
                    while not path.exists() and time.monotonic() < end:
                        time.sleep(0.002)
                if text == "fail":
                    raise RuntimeError("the model's own fault")
            return {"echo": inputs["text"]}
"""

# Nothing is known of it: anything is let through. A coroutine.
OPEN = """
    import asyncio

    class Open:
        async def predict(self, inputs):
            await asyncio.sleep(0)
            return inputs
"""

MODELS = {"adder": ADDER, "echo": ECHO, "open": OPEN}


def write_model(folder: pathlib.Path, source: str) -> pathlib.Path:
    """A folder with a custom model in it."""
    folder.mkdir(parents=True)
    (folder / "model.py").write_text(textwrap.dedent(source))
    return folder


@dataclasses.dataclass
class Server:
    """A running server; ``http`` speaks to it, ``grpc_address`` is for a channel."""

    process: subprocess.Popen[bytes]
    folder: pathlib.Path
    http: httpx.Client

    @property
    def grpc_address(self) -> str:
        return f"unix:{self.folder / 'grpc'}"

    @property
    def path(self) -> pathlib.Path:
        return self.folder / "http"

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    @property
    def lines(self) -> list[dict[str, Any]]:
        whole = self.log.rpartition("\n")[0]
        return [json.loads(line) for line in whole.splitlines() if line.startswith("{")]

    def until(self, condition: Callable[[], object]) -> None:
        """Wait until ``condition`` holds, at most the deadline."""
        end = time.monotonic() + DEADLINE
        while not condition():
            assert time.monotonic() < end, self.log
            time.sleep(0.005)

    def until_ready(self) -> None:
        self.until(self.ready)

    def ready(self) -> bool:
        assert self.process.poll() is None, self.log
        return self.up() and self.http.get("/v2/health/ready").status_code == 200

    def up(self) -> bool:
        """Whether somebody accepts connections."""
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(str(self.path)) == 0

    def wait(self) -> int:
        return self.process.wait(DEADLINE)

    def end(self) -> None:
        self.http.close()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(10)


Start = Callable[..., Server]


def start_server(folder: pathlib.Path, *flags: str) -> Server:
    """Start the program with its sockets and its log in ``folder``."""
    log = (folder / "log").open("wb")
    command = [sys.executable, "-m", "mlship.server.main", "--http-socket", str(folder / "http"), *flags]
    environment = {**os.environ, "PYTHONWARNINGS": "default"}
    with log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
    transport = httpx.HTTPTransport(uds=str(folder / "http"))
    client = httpx.Client(transport=transport, base_url="http://server", timeout=DEADLINE)
    return Server(process=process, folder=folder, http=client)
