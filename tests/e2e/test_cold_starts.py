"""Starts are told of in numbers, as traces and in words, and go wrong in ways that are said and mended."""

import http.server
import json
import os
import pathlib
import re
import shutil
import signal
import threading
import time

import psutil
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

from mlship import launch

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]
REPLICA = "mlship.server.main"
ROW = "[[5.1,3.5,1.4,0.2]]"
PHASES = ["download", "decide", "fork", "load", "endpoint"]


def until(holds, seconds=60):
    deadline = time.monotonic() + seconds
    while not (value := holds()):
        assert time.monotonic() < deadline, holds
        time.sleep(0.02)
    return value


def service(path, *, annotations=None, kind="sklearn"):
    return json.dumps(
        {
            "apiVersion": "serving.kserve.io/v1beta1",
            "kind": "InferenceService",
            "metadata": {"name": "iris", "annotations": annotations or {}},
            "spec": {"predictor": {"model": {"modelFormat": {"name": kind}, "storageUri": str(path)}}},
        }
    )


def why(installation):
    with installation.control as control:
        return control.why("iris")


def last_start(installation):
    """The link of the chain that tells of the last start."""
    found = [link for link in why(installation)["chain"] if link["subject"].startswith("last start at ")]
    return found[0] if found else None


class Receiver(http.server.BaseHTTPRequestHandler):
    """Takes OTLP over HTTP."""

    def do_POST(self):
        request = trace_service_pb2.ExportTraceServiceRequest()
        request.ParseFromString(self.rfile.read(int(self.headers["content-length"])))
        self.server.spans += [
            span for one in request.resource_spans for scope in one.scope_spans for span in scope.spans
        ]
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def receiver(monkeypatch):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as made:
        made.spans = []
        thread = threading.Thread(target=made.serve_forever, daemon=True)
        thread.start()
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{made.server_port}")
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
        yield made
        made.shutdown()
        thread.join(10)


def test_a_start_is_told_in_one_line_as_a_trace_and_after_a_restart(installation, iris, receiver):
    installation.ok("up", "--port", "auto")
    installation.ok("apply", "--wait", "60", "-f", "-", stdin=service(iris))
    link = until(lambda: last_start(installation))
    told = re.fullmatch(r"[\d.]+ m?s = (.*) \(download .*B.*\)", link["message"])
    # What took no half a millisecond is left out.
    names = [one.split()[0] for one in told[1].split(", ")]
    assert {"download", "load"} <= set(names)
    assert [one for one in names if one in PHASES] == [one for one in PHASES if one in names]
    assert link["state"] in ("forked", "cold")
    assert ("fork" in names) == (link["state"] == "forked")
    root = until(lambda: next((span for span in receiver.spans if span.name == "cold start"), None))
    phases = [span for span in receiver.spans if span.parent_span_id == root.span_id]  # the whole is sent last
    assert {"download", "load", "endpoint"} <= {span.name for span in phases}
    assert sum(span.end_time_unix_nano - span.start_time_unix_nano for span in phases) == pytest.approx(
        root.end_time_unix_nano - root.start_time_unix_nano, abs=1e5
    )
    (control,) = installation.one("mlship.control.main")
    control.send_signal(signal.SIGKILL)
    psutil.wait_procs([control], timeout=30)
    launch.ensure_running(installation.where)
    recalled = until(lambda: last_start(installation))
    assert "load" in recalled["message"], "a replica's own part of its start outlives the control plane"
    assert "decide" not in recalled["message"]


def test_a_claim_that_the_model_does_not_keep_is_a_model_that_is_not_ready(installation, iris):
    bad = {"inputs": [{"name": "nothing-like-it", "shape": [1, 4], "datatype": "FP64", "data": [1, 2, 3, 4]}]}
    installation.ok("up", "--port", "auto")
    asked = service(iris, annotations={"mlship.dev/warmup": json.dumps(bad)})
    done = installation.mlship("apply", "--wait", "60", "-f", "-", stdin=asked)
    assert done.code != 0
    assert "warm-up requests in --warmup cannot be used" in json.dumps(why(installation))
    good = {"inputs": [{"name": "input", "shape": [1, 4], "datatype": "FP64", "data": [5.1, 3.5, 1.4, 0.2]}]}
    with_file = installation.where.root.parent / "folder"
    with_file.mkdir()
    shutil.copy(iris, with_file / "model.joblib")
    installation.ok("apply", "--wait", "60", "-f", "-", stdin=service(iris))
    inputs = json.loads(_metadata(installation))["inputs"]
    good["inputs"][0]["name"] = inputs[0]["name"]
    (with_file / "warmup.json").write_text(json.dumps([good]))
    installation.ok("apply", "--wait", "60", "-f", "-", stdin=service(with_file))
    assert installation.mlship("predict", "iris", "--data", ROW).code == 0


def _metadata(installation):
    import urllib.request

    with urllib.request.urlopen(f"{installation.url}/v2/models/iris", timeout=30) as answer:
        return answer.read()


def test_a_model_whose_source_is_gone_wakes_from_the_cache_and_without_it_callers_are_told(
    installation, iris, tmp_path
):
    path = tmp_path / "iris.joblib"
    shutil.copy(iris, path)
    stopped = {"serving.kserve.io/stop": "true"}
    installation.ok("up", "--port", "auto")
    installation.ok("apply", "--wait", "60", "-f", "-", stdin=service(path))
    installation.ok("apply", "-f", "-", stdin=service(path, annotations=stopped))
    until(lambda: not installation.one(REPLICA))
    path.unlink()
    installation.ok("apply", "-f", "-", stdin=service(path))
    with installation.control as control:
        control.wait_ready("iris", deadline=60)
    assert installation.mlship("predict", "iris", "--data", ROW).code == 0
    installation.ok("apply", "-f", "-", stdin=service(path, annotations=stopped))
    until(lambda: not installation.one(REPLICA))
    blobs = installation.where.cache / "blobs"
    for place, _, _ in os.walk(blobs):
        pathlib.Path(place).chmod(0o700)
    shutil.rmtree(blobs)
    installation.ok("apply", "-f", "-", stdin=service(path))
    until(lambda: "ModelFetchFailed" in json.dumps(why(installation)["conditions"]))
    done = until(lambda: (one := installation.mlship("predict", "iris", "--data", ROW)).code and one)
    assert str(path) in done.err
    shutil.copy(iris, path)
    until(lambda: installation.mlship("predict", "iris", "--data", ROW).code == 0)


def test_a_replica_that_dies_while_it_starts_is_tried_again(installation, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.py").write_text(
        "import os, pathlib, signal\n"
        f"tries = pathlib.Path({str(tmp_path / 'tries')!r})\n"
        "tries.write_text((tries.read_text() if tries.exists() else '') + 'x')\n"
        "if len(tries.read_text()) < 3:\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "class Model:\n"
        "    def predict(self, rows):\n"
        "        return rows\n"
    )
    installation.ok("up", "--port", "auto")
    installation.ok("apply", "--wait", "90", "-f", "-", stdin=service(folder, kind="python"))
    assert pathlib.Path(tmp_path / "tries").read_text() == "xxx"
    link = until(lambda: last_start(installation))
    assert "retry" in link["message"]
