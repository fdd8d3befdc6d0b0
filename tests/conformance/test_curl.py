"""curl against the model server and against the gateway: what a person types, and what HTTP allows besides."""

from __future__ import annotations

import dataclasses
import gzip
import json
import pathlib
import shutil
import subprocess
from typing import Any

import numpy as np
import pytest

from conformance import places

CURL = shutil.which("curl") or ""
HEADER = "Inference-Header-Content-Length"

pytestmark = [
    pytest.mark.clients,
    pytest.mark.skipif(not CURL, reason="curl is not installed"),
]


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """``trace`` is what curl tells of the connection and the headers."""

    status: int
    body: bytes
    trace: str

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def curl(*arguments: str, stdin: bytes = b"") -> Answer:
    command = [CURL, "--silent", "--show-error", "--verbose", "--noproxy", "*", "--max-time", "30", *arguments]
    done = subprocess.run([*command, "--write-out", "\n%{http_code}"], input=stdin, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    body, _, status = done.stdout.rpartition(b"\n")
    return Answer(int(status), body, done.stderr.decode())


@pytest.fixture(params=["serve", "gateway"])
def place(request: pytest.FixtureRequest) -> places.Place:
    found: places.Place = request.getfixturevalue(request.param)
    return found


def infer_url(place: places.Place, model: str) -> str:
    return f"http://{place.http}/v2/models/{model}/infer"


def rows(place: places.Place) -> dict[str, Any]:
    (tensor,) = place.cases["iris"]["inputs"]
    return {"inputs": [tensor]}


def compare(place: places.Place, answer: Answer) -> None:
    assert answer.status == 200, answer
    (output,) = answer.json["outputs"]
    expected = next(one for one in place.cases["iris"]["expected"] if one["name"] == "predict")
    assert (output["name"], output["datatype"], output["data"]) == ("predict", "INT64", expected["data"])


def test_infer(place: places.Place) -> None:
    body = json.dumps(rows(place))
    compare(place, curl(infer_url(place, "iris"), "-H", "Content-Type: application/json", "-d", body))


def test_without_a_content_type(place: places.Place) -> None:
    """``-d`` alone says that the body is a form; the path says what it is."""
    compare(place, curl(infer_url(place, "iris"), "-d", json.dumps(rows(place))))


def test_nested_rows_and_several_lines(place: places.Place) -> None:
    request = rows(place)
    request["inputs"][0] = {**request["inputs"][0]}
    request["inputs"][0]["data"] = np.reshape(request["inputs"][0]["data"], request["inputs"][0]["shape"]).tolist()
    compare(place, curl(infer_url(place, "iris"), "--data-binary", "@-", stdin=json.dumps(request, indent=2).encode()))


def test_v1(place: places.Place) -> None:
    answer = curl(f"http://{place.http}/v1/models/iris:predict", "-d", '{"instances": [[5.1, 3.5, 1.4, 0.2]]}')
    assert (answer.status, answer.json) == (200, {"predictions": [0]})


def test_chunked_upload(place: places.Place) -> None:
    arguments = ("-H", "Transfer-Encoding: chunked", "--data-binary", "@-")
    answer = curl(infer_url(place, "iris"), *arguments, stdin=json.dumps(rows(place)).encode())
    assert "> transfer-encoding: chunked" in answer.trace.lower()
    compare(place, answer)


def test_expect_100_continue(place: places.Place) -> None:
    """curl sends the body of over a megabyte only when it is told to go on."""
    array = np.arange(200_000, dtype=np.float64)
    tensor = {"name": "FP64", "datatype": "FP64", "shape": [array.size], "data": array.tolist()}
    body = json.dumps({"inputs": [tensor], "outputs": [{"name": "FP64"}]}).encode()
    arguments = ("-H", "Expect: 100-continue", "--expect100-timeout", "20", "--data-binary", "@-")
    answer = curl(infer_url(place, "every"), *arguments, stdin=body)
    assert "100 continue" in answer.trace.lower()
    assert answer.json["outputs"][0]["data"] == array.tolist()


@pytest.mark.parametrize("chunked", [False, True])
def test_gzip_upload(place: places.Place, chunked: bool) -> None:
    arguments = ["-H", "Content-Encoding: gzip", "--data-binary", "@-"]
    if chunked:
        arguments += ["-H", "Transfer-Encoding: chunked"]
    compare(place, curl(infer_url(place, "iris"), *arguments, stdin=gzip.compress(json.dumps(rows(place)).encode())))


def test_compressed_answers_may_be_asked_for(place: places.Place) -> None:
    compare(place, curl(infer_url(place, "iris"), "--compressed", "-d", json.dumps(rows(place))))


def test_binary_in_and_out(place: places.Place, tmp_path: pathlib.Path) -> None:
    array = np.array([0.1, -0.0, 65504.0], dtype=np.float16)
    tensor = {"name": "FP16", "datatype": "FP16", "shape": [3], "parameters": {"binary_data_size": array.nbytes}}
    wanted = {"name": "FP16", "parameters": {"binary_data": True}}
    text = json.dumps({"inputs": [tensor], "outputs": [wanted]}).encode()
    headers = tmp_path / "headers"
    arguments = ("-H", f"{HEADER}: {len(text)}", "--dump-header", str(headers), "--data-binary", "@-")
    answer = curl(infer_url(place, "every"), *arguments, stdin=text + array.tobytes())
    assert answer.status == 200, answer
    found = dict(line.lower().split(": ", 1) for line in headers.read_text().splitlines() if ": " in line)
    length = int(found[HEADER.lower()])
    assert found["content-type"] == "application/octet-stream"
    assert json.loads(answer.body[:length])["outputs"][0]["parameters"]["binary_data_size"] == array.nbytes
    assert answer.body[length:] == array.tobytes()


def test_one_connection_for_many_requests(place: places.Place) -> None:
    url = f"http://{place.http}/v2/models/iris"
    answer = curl("--output", "/dev/null", "--output", "/dev/null", url, url)
    assert "re-using existing connection" in answer.trace.lower()


def test_head(place: places.Place) -> None:
    answer = curl("--head", f"http://{place.http}/v2/models/iris/ready")
    assert answer.status == 200


def test_broken_json(place: places.Place) -> None:
    answer = curl(infer_url(place, "iris"), "-d", '{"inputs": [')
    assert answer.status == 400
    assert "JSON" in answer.json["error"]


def test_get_where_post_belongs(place: places.Place) -> None:
    answer = curl(infer_url(place, "iris"))
    assert answer.status == 405
    assert "< allow: post" in answer.trace.lower()


def test_the_example_is_an_infer_body(place: places.Place) -> None:
    example = curl(f"http://{place.http}/v2/models/iris/example")
    answer = curl(infer_url(place, "iris"), "--data-binary", "@-", stdin=example.body)
    assert (answer.status, answer.json["outputs"][0]["shape"]) == (200, [1])


def test_request_id(place: places.Place) -> None:
    answer = curl(f"http://{place.http}/v2/models/iris", "-H", "X-Request-ID: seventeen")
    assert "< x-request-id: seventeen" in answer.trace.lower()


def test_by_host_name(gateway: places.Place) -> None:
    """curl resolves names below ``localhost`` by itself."""
    port = gateway.http.rpartition(":")[2]
    answer = curl(f"http://iris-default.localhost:{port}/v2/models/iris/infer", "-d", json.dumps(rows(gateway)))
    compare(gateway, answer)


def test_by_path(gateway: places.Place) -> None:
    url = f"http://{gateway.http}/serving/default/iris/v2/models/iris/infer"
    compare(gateway, curl(url, "-d", json.dumps(rows(gateway))))


def test_http2_with_prior_knowledge(gateway: places.Place) -> None:
    answer = curl("--http2-prior-knowledge", infer_url(gateway, "iris"), "-d", json.dumps(rows(gateway)))
    assert "HTTP/2" in answer.trace
    compare(gateway, answer)
