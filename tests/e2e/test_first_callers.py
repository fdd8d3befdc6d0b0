"""Whoever asks for a service that was applied a moment ago waits for its first replica, or is told why none comes."""

import asyncio
import contextlib
import http.server
import json
import threading
import time
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest

from mlship import client

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]
ROWS = {"instances": [[5.1, 3.5, 1.4, 0.2]]}
# Waits while it loads, or dies then, as files in its folder say.
MODEL = """
import os, pathlib, signal, time
here = pathlib.Path({folder!r})
while (here / "hold").exists():
    time.sleep(0.02)
if (here / "die").exists():
    os.kill(os.getpid(), signal.SIGKILL)
if (here / "break").exists():
    raise ValueError("the weights do not fit")

class Model:
    def predict(self, rows):
        return [1.0] * len(rows)
"""
ORDINARY: dict[str, str] = {}
SLEEPS = {"autoscaling.knative.dev/min-scale": "0", "autoscaling.knative.dev/initial-scale": "0"}


def applied(installation, uri: object, *, kind: str = "python", **annotations: str) -> None:
    """Apply the service ``new`` and wait for nothing."""
    body = {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": "new", "annotations": annotations},
        "spec": {"predictor": {"model": {"modelFormat": {"name": kind}, "storageUri": str(uri)}}},
    }
    installation.ok("apply", "-f", "-", stdin=json.dumps(body))


@contextlib.asynccontextmanager
async def asking() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(timeout=60, limits=httpx.Limits(max_connections=100)) as made:
        yield made


async def ask(http: httpx.AsyncClient, url: str) -> httpx.Response:
    """Ask; before Envoy knows of the service its answer is 404, which is no answer of the service."""
    async with asyncio.timeout(90):
        while (answer := await http.post(f"{url}/v1/models/new:predict", json=ROWS)).status_code == 404:
            await asyncio.sleep(0.005)
    return answer


async def until(holds, seconds: float = 60) -> None:
    async with asyncio.timeout(seconds):
        while not await asyncio.to_thread(holds):
            await asyncio.sleep(0.02)


def waiting(installation) -> int:
    with installation.control as control:
        return next((one["waiting"] for one in control.top()["services"] if one["name"] == "new"), 0)


def ready(installation) -> dict[str, str]:
    with installation.control as control:
        return client.condition(control.get("isvc", "new"), "Ready")


@pytest.fixture
def model(tmp_path):
    """A model that waits, dies or fails while it loads, as files beside its folder say."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.py").write_text(MODEL.format(folder=str(tmp_path)))
    return tmp_path / "model"


@pytest.mark.parametrize("scale", [ORDINARY, SLEEPS], ids=["ordinary", "sleeps"])
async def test_callers_wait_from_the_moment_it_is_applied_until_its_first_replica_answers(
    installation, model, tmp_path, scale
):
    (tmp_path / "hold").touch()
    installation.ok("up", "--port", "auto")
    url = installation.url
    applied(installation, model, **scale)
    async with asking() as http:
        calls = [asyncio.ensure_future(ask(http, url)) for _ in range(20)]
        await until(lambda: waiting(installation) == 20)
        assert ready(installation).get("status") != "True", "only a replica that answers makes it ready"
        (tmp_path / "hold").unlink()
        answers = await asyncio.gather(*calls)
        assert [(one.status_code, one.json()) for one in answers] == [(200, {"predictions": [1.0]})] * 20
        await until(lambda: ready(installation).get("status") == "True")
        if scale is ORDINARY:
            # What is called ready is reached without a control plane.
            (plane,) = installation.one("mlship.control.main")
            plane.kill()
            assert [(await ask(http, url)).status_code for _ in range(20)] == [200] * 20


class Source(http.server.ThreadingHTTPServer):
    """A server of one file. It answers when ``go`` is set: with the file, or that there is none (``there``)."""

    daemon_threads = True

    def __init__(self, content: bytes) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.content = content
        self.there = True
        self.go = threading.Event()

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/iris.joblib"


class _Answer(http.server.BaseHTTPRequestHandler):
    server: Source

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        self.server.go.wait(60)
        self.send_response(200 if self.server.there else 404)
        self.send_header("content-length", str(len(self.server.content) if self.server.there else 0))
        self.end_headers()
        if self.command == "GET" and self.server.there:
            with contextlib.suppress(ConnectionError):  # the fetch has given up, and asks again
                self.wfile.write(self.server.content)

    def log_message(self, *arguments: object) -> None: ...


@pytest.fixture
def source(iris) -> Iterator[Source]:
    made = Source(iris.read_bytes())
    serving = threading.Thread(target=made.serve_forever)
    serving.start()
    yield made
    made.go.set()
    made.shutdown()
    serving.join()
    made.server_close()


async def test_a_model_that_is_long_on_its_way_is_waited_for_as_long_as_is_said(installation, source):
    installation.ok("up", "--port", "auto")
    url = installation.url
    held = {"mlship.dev/hold-seconds": "4", "mlship.dev/hold-requests": "2"}
    applied(installation, source.uri, kind="sklearn", **held, **SLEEPS)
    async with asking() as http:
        # Who leaves frees the place.
        leaves = asyncio.ensure_future(ask(http, url))
        await until(lambda: waiting(installation) == 1)
        leaves.cancel()
        await until(lambda: waiting(installation) == 0)
        calls = [asyncio.ensure_future(ask(http, url)) for _ in range(2)]
        await until(lambda: waiting(installation) == 2)
        refused = await ask(http, url)
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert "2 requests wait for default/new already" in refused.json()["error"]
        for late in await asyncio.gather(*calls):
            assert (late.status_code, late.headers["retry-after"]) == (503, "1")
            assert "default/new had no ready replica within 4 s" in late.json()["error"]
            assert f"Fetching {source.uri}" in late.json()["error"]
        source.go.set()
        async with asyncio.timeout(60):
            while (answer := await ask(http, url)).status_code == 503:
                pass
        assert answer.status_code == 200


async def test_a_model_that_is_not_there_is_told_to_who_waits_and_at_once_to_who_comes(installation, source, tmp_path):
    source.there = False
    installation.ok("up", "--port", "auto")
    url = installation.url
    applied(installation, source.uri, kind="sklearn")
    async with asking() as http:
        calls = [asyncio.ensure_future(ask(http, url)) for _ in range(3)]
        await until(lambda: waiting(installation) == 3)
        source.go.set()
        for answer in [*await asyncio.gather(*calls), await ask(http, url)]:
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
            assert "default/new cannot start" in answer.json()["error"]
            assert source.uri in answer.json()["error"]
        installation.ok("destroy", "new")
        applied(installation, tmp_path / "nothing.joblib", kind="sklearn")
        answer = await ask(http, url)
        assert answer.status_code == 503
        assert str(tmp_path / "nothing.joblib") in answer.json()["error"]


@pytest.mark.parametrize(
    ("fault", "said", "scale"), [("die", "SIGKILL", ORDINARY), ("break", "the weights do not fit", SLEEPS)]
)
async def test_a_replica_that_cannot_start_is_told_to_who_waits_and_at_once_to_who_comes(
    installation, model, tmp_path, fault, said, scale
):
    (tmp_path / "hold").touch()
    (tmp_path / fault).touch()
    installation.ok("up", "--port", "auto")
    url = installation.url
    applied(installation, model, **scale)
    async with asking() as http:
        calls = [asyncio.ensure_future(ask(http, url)) for _ in range(3)]
        await until(lambda: waiting(installation) == 3)
        (tmp_path / "hold").unlink()
        answers = await asyncio.gather(*calls)
        began = time.monotonic()
        answers.append(await ask(http, url))
        assert time.monotonic() - began < 20, "held although nothing can come"
    assert [(one.status_code, one.headers["retry-after"]) for one in answers] == [(503, "1")] * 4
    assert all("default/new cannot start" in one.json()["error"] for one in answers)
    assert all(said in one.json()["error"] for one in answers)
