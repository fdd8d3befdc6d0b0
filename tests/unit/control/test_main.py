"""The whole control plane as a program, with the real backend and Envoy, through starts, kills and ends."""

from __future__ import annotations

import json
import os
import pathlib
import re
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import httpx
import psutil
import pytest

from mlship import client, errors, home, launch

pytestmark = pytest.mark.e2e

ANSWER = """
import http.server, os, sys
class Answer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        body = os.environ["WORD"].encode()
        self.send_response(200); self.send_header("Content-Length", str(len(body))); self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        pass
print("serving", os.environ["WORD"], flush=True)
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Answer).serve_forever()
"""


def service(script: pathlib.Path, word: str = "hello", name: str = "web") -> dict:
    container = {
        "name": "kserve-container",
        "command": ["python", str(script)],
        "args": ["$(PORT)"],
        "env": [{"name": "WORD", "value": word}],
    }
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": name},
        "spec": {"predictor": {"containers": [container]}},
    }


@pytest.fixture
def script(tmp_path: pathlib.Path) -> pathlib.Path:
    path = tmp_path / "answer.py"
    path.write_text(ANSWER)
    return path


@pytest.fixture
def where(tmp_path: pathlib.Path) -> Iterator[home.Home]:
    found = home.Home(tmp_path / "home")
    yield found
    launch.stop(found, replicas=True, deadline=60)


def until(condition: Callable[[], object], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


def kill(where: home.Home, number: signal.Signals) -> None:
    os.kill(int(where.control_pid.read_text()), number)
    until(lambda: not launch.is_held(where.control_pid))


class Load:
    """Asks without pause on a thread and counts the answers."""

    def __init__(self, url: str) -> None:
        self.answers: dict[str, int] = {}
        self._url = url
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(20)

    def more(self, count: int) -> bool:
        """Waits for ``count`` more answers."""
        begun = sum(self.answers.values())
        until(lambda: sum(self.answers.values()) >= begun + count)
        return True

    def _run(self) -> None:
        with httpx.Client(trust_env=False, timeout=10) as http:
            while not self._stop.is_set():
                try:
                    answer = http.get(self._url)
                    told = answer.text if answer.status_code == 200 else str(answer.status_code)
                except httpx.HTTPError as error:
                    told = type(error).__name__
                self.answers[told] = self.answers.get(told, 0) + 1


def test_no_request_fails_while_the_control_plane_is_killed_and_comes_back(where: home.Home, script: pathlib.Path):
    gateway = launch.ensure_running(where, port="auto", deadline=60)["gateway"]["url"]
    with client.Client(where) as control:
        control.apply(service(script))
        control.wait_ready("web", deadline=60)
    with Load(f"{gateway}/serving/default/web/") as load:
        for number in (signal.SIGTERM, signal.SIGKILL, signal.SIGKILL):
            load.more(20)
            kill(where, number)
            load.more(20)
            assert launch.ensure_running(where, deadline=60)["gateway"]["url"] == gateway
            with client.Client(where) as control:
                control.wait_ready("web", deadline=60)
            load.more(20)
    assert set(load.answers) == {"hello"}
    with client.Client(where) as control:
        restarts = httpx.Client(transport=httpx.HTTPTransport(uds=str(where.control_socket)))
        text = restarts.get("http://mlship/metrics").text
        restarts.close()
        assert "mlship_replica_restarts 0.0" in text
        assert control.why("web")["journal"][0]["actions"], "the journal outlives the control plane"


def test_a_change_replaces_the_replica_and_loses_no_request(where: home.Home, script: pathlib.Path):
    gateway = launch.ensure_running(where, port="auto", deadline=60)["gateway"]["url"]
    with client.Client(where) as control:
        control.apply(service(script, "old"))
        control.wait_ready("web", deadline=60)
        with Load(f"{gateway}/serving/default/web/") as load:
            load.more(20)
            assert control.apply(service(script, "new")).outcome is client.Outcome.CONFIGURED
            control.wait_ready("web", deadline=60)
            load.more(20)
        assert set(load.answers) == {"old", "new"}
        assert any("serving old" in line for line in control.logs("web"))
        control.delete("isvc", "web")
        control.wait_gone("web", deadline=60)
    until(lambda: httpx.get(f"{gateway}/serving/default/web/", trust_env=False).status_code == 404)


def test_a_service_that_dies_says_why(where: home.Home, tmp_path: pathlib.Path):
    launch.ensure_running(where, port="auto", deadline=60)
    broken = tmp_path / "broken.py"
    broken.write_text("raise SystemExit('no weights in this file')\n")
    with client.Client(where) as control:
        control.apply(service(broken))
        seen = []

        def on_change(body: dict) -> None:
            seen.append(json.dumps(body.get("status")))

        with pytest.raises((errors.ModelError, errors.NotReady)):
            control.wait_ready("web", deadline=20, on_change=on_change)
        assert any("no weights in this file" in cause["text"] for cause in control.why("web")["chain"])


def run(where: home.Home, *flags: str) -> subprocess.CompletedProcess[str]:
    """One in the foreground that is expected to end by itself."""
    return subprocess.run(
        [sys.executable, "-m", "mlship.control.main", "--home", str(where.root), *flags],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_a_second_one_names_the_first(where: home.Home):
    pid = launch.ensure_running(where, port="auto", deadline=60)["pid"]
    second = run(where)
    assert second.returncode == 75
    assert f"pid {pid}" in second.stderr


def test_a_taken_port_is_named_and_nothing_is_left(where: home.Home):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = run(where, "--port", str(port))
    assert ended.returncode == 1
    assert f"Port {port}" in ended.stderr and "auto" in ended.stderr
    assert not where.config.exists(), "a port that could not be had is not remembered"
    assert not launch.is_held(where.control_pid)


def test_another_port_is_taken_over(where: home.Home):
    first = launch.ensure_running(where, port="auto", deadline=60)["gateway"]["port"]
    kill(where, signal.SIGTERM)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    found = launch.ensure_running(where, port=str(port), deadline=60)["gateway"]
    assert found["port"] == port != first
    until(lambda: reachable(port))
    assert not reachable(first)


def envoys(where: home.Home) -> list[int]:
    """The pids of its Envoys."""
    found = psutil.process_iter(["cmdline"])
    return [one.pid for one in found if str(where.envoy / "bootstrap.json") in (one.info["cmdline"] or [])]


def test_an_envoy_of_another_configuration_is_started_again_and_one_of_this_is_kept(where: home.Home):
    port = launch.ensure_running(where, port="auto", deadline=60)["gateway"]["port"]
    until(lambda: reachable(port))
    (kept,) = envoys(where)
    kill(where, signal.SIGTERM)
    launch.ensure_running(where, deadline=60)
    assert envoys(where) == [kept]
    kill(where, signal.SIGTERM)
    (record,) = [path for path in where.records.glob("process-*.json") if "MLSHIP_BOOTSTRAP" in path.read_text()]
    digest = re.search(r'MLSHIP_BOOTSTRAP", *"(\w{16})"', record.read_text())
    assert digest is not None
    record.write_text(record.read_text().replace(digest[1], "0" * 16))
    launch.ensure_running(where, deadline=60)
    until(lambda: envoys(where) not in ([kept], []) and reachable(port))


def reachable(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_the_loopback_api_asks_for_the_token(where: home.Home):
    found = launch.ensure_running(where, port="auto", api_port="auto", deadline=60)
    assert stat.S_IMODE(where.token.stat().st_mode) == 0o600
    assert stat.S_IMODE(where.control_socket.stat().st_mode) == 0o600
    assert stat.S_IMODE(where.root.stat().st_mode) == 0o700
    url = f"http://127.0.0.1:{found['apiPort']}"
    assert httpx.get(f"{url}/version", trust_env=False).status_code == 401
    with client.Client(url, token=where.token.read_text().strip()) as control:
        assert control.status()["pid"] == found["pid"]
