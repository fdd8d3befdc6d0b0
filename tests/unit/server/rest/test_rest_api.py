from __future__ import annotations

import gzip
import json
import pathlib
import socket
import zlib
from typing import Any

import httpx
import pytest

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
BODY = {"instances": [[5.1, 3.5, 1.4, 0.2]]}


def raw(server: Any, data: bytes) -> bytes:
    """Everything the server answers to bytes that httpx would not send; ends when it closes the connection."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(30)
        client.connect(str(server.path))
        client.sendall(data)
        received = b""
        while chunk := client.recv(65536):
            received += chunk
        return received


def metric(server: Any, line: str) -> float:
    for found in server.http.get("/metrics").text.splitlines():
        if found.startswith(f"{line} "):
            return float(found.rsplit(" ", 1)[1])
    return 0.0


def test_the_root_says_what_is_here(server: Any) -> None:
    found = server.http.get("/").json()
    assert found["status"] == "alive"
    assert {model["name"] for model in found["models"]} == {"adder", "echo", "iris", "open"}
    assert "/v2/models/{model}/infer" in found["paths"]
    assert "/v1/models/{model}:predict" in found["paths"]


def test_unknown_paths_and_methods_have_the_error_form(server: Any) -> None:
    missing = server.http.get("/v3")
    assert (missing.status_code, missing.json()["code"]) == (404, "NotFound")
    wrong = server.http.get("/v2/models/iris/infer")
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "POST")
    assert "does not take GET" in wrong.json()["error"]


def test_the_requests_id_comes_back(server: Any) -> None:
    for path in ("/v2/health/live", "/nothing"):
        assert server.http.get(path, headers={"X-Request-ID": "abc-1"}).headers["x-request-id"] == "abc-1"
    assert "x-request-id" not in server.http.get("/v2", headers={"X-Request-ID": "x" * 300}).headers
    failed = server.http.post(
        "/v2/models/echo/infer",
        json={"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["fail"]}]},
        headers={"X-Request-ID": "find-me", "traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"},
    )
    assert failed.status_code == 500
    line = next(line for line in server.lines if line.get("request_id") == "find-me")
    assert (line["event"], line["trace_id"]) == ("model failed", TRACE)


@pytest.mark.parametrize(
    ("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress), ("GZIP", gzip.compress)]
)
def test_compressed_bodies_are_inflated(server: Any, encoding: str, pack: Any) -> None:
    answer = server.http.post(
        "/v1/models/iris:predict", content=pack(json.dumps(BODY).encode()), headers={"Content-Encoding": encoding}
    )
    assert answer.json() == {"predictions": [0]}


@pytest.mark.parametrize(
    ("encoding", "content", "status", "said"),
    [
        ("br", b"x", 415, "Use gzip, deflate or none"),
        ("gzip", b"not gzip", 400, "Content-Encoding"),
        ("gzip", gzip.compress(b"x" * 100, mtime=0)[:-9], 400, "cut short"),
        ("gzip", gzip.compress(b"{}", mtime=0) + b"more", 400, "behind its end"),
        ("gzip", gzip.compress(b" " * 2_000_000, mtime=0), 413, "--max-body-bytes"),
    ],
)
def test_compressed_bodies_that_are_not_right(
    server: Any, encoding: str, content: bytes, status: int, said: str
) -> None:
    answer = server.http.post("/v1/models/iris:predict", content=content, headers={"Content-Encoding": encoding})
    assert answer.status_code == status
    assert said in answer.json()["error"] + answer.json().get("hint", "")


def test_a_body_over_the_limit_names_the_setting(server: Any) -> None:
    answer = server.http.post("/v2/models/iris/infer", content=b" " * 1_000_001)
    assert answer.status_code == 413
    assert "--max-body-bytes" in answer.json()["error"] + answer.json().get("hint", "")
    assert "1000001 bytes, this server takes 1000000" in answer.json()["error"]


def test_the_limit_holds_while_streaming(server: Any) -> None:
    def chunks() -> Any:
        for _ in range(40):
            yield b" " * 50_000

    answer = server.http.post("/v2/models/iris/infer", content=chunks())
    assert answer.status_code == 413
    assert server.http.get("/v2/health/live").status_code == 200


def test_an_unknown_model_is_said_before_its_body_is_read(server: Any) -> None:
    head = b"POST /v2/models/nobody/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 999\r\nConnection: close\r\n\r\n"
    assert raw(server, head).startswith(b"HTTP/1.1 404")


def test_what_is_no_http_has_the_error_form(server: Any) -> None:
    answer = raw(server, b"\x16\x03\x01 hello\r\n\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400")
    assert json.loads(body)["error"]


@pytest.mark.parametrize("value", ["0", "-1", "x", "nan", "inf"])
def test_a_timeout_that_is_none_is_refused(server: Any, value: str) -> None:
    answer = server.http.post("/v1/models/iris:predict", json=BODY, headers={"X-Request-Timeout": value})
    assert answer.status_code == 400
    assert "X-Request-Timeout" in answer.json()["error"]


def waiting(path: pathlib.Path) -> dict[str, Any]:
    return {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": [f"wait:{path}"]}]}


@pytest.mark.parametrize(
    ("headers", "parameters"),
    [
        ({"X-Request-Timeout": "0.2"}, {}),
        ({"X-Envoy-Expected-Rq-Timeout-Ms": "200"}, {}),
        ({}, {"timeout": 200_000}),
    ],
)
def test_the_callers_deadline_is_honoured(
    server: Any, tmp_path: pathlib.Path, headers: dict[str, str], parameters: dict[str, Any]
) -> None:
    release = tmp_path / "go"
    try:
        answer = server.http.post(
            "/v2/models/echo/infer", json=waiting(release) | {"parameters": parameters}, headers=headers
        )
    finally:
        release.touch()
    assert answer.status_code == 504
    assert answer.json()["code"] == "DeadlineExceeded"
    server.until(lambda: metric(server, 'mlship_inferences_running{model="echo"}') == 0)


def test_a_body_that_does_not_come_in_time_is_408(server: Any) -> None:
    head = (
        b"POST /v2/models/iris/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 999\r\n"
        b"X-Request-Timeout: 0.1\r\nConnection: close\r\n\r\n{"
    )
    assert raw(server, head).startswith(b"HTTP/1.1 408")


def test_a_client_that_hangs_up_frees_its_place_and_hurts_nobody(server: Any, tmp_path: pathlib.Path) -> None:
    running, queued = tmp_path / "running", tmp_path / "queued"
    before = metric(server, 'mlship_requests_total{code="499",model="echo",protocol="v2"}')

    def connect(path: pathlib.Path) -> socket.socket:
        client = socket.socket(socket.AF_UNIX)
        client.connect(str(server.path))
        content = json.dumps(waiting(path)).encode()
        head = b"POST /v2/models/echo/infer HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(content)
        client.sendall(head + content)
        return client

    first = connect(running)
    server.until((running.with_suffix(".seen")).exists)
    second = connect(queued)
    server.until(lambda: metric(server, 'mlship_queue_depth{model="echo"}') == 1)
    second.close()
    server.until(lambda: metric(server, 'mlship_queue_depth{model="echo"}') == 0)
    running.touch()
    assert first.recv(65536).startswith(b"HTTP/1.1 200")
    first.close()
    code = 'mlship_requests_total{code="499",model="echo",protocol="v2"}'
    server.until(lambda: metric(server, code) == before + 1)
    assert not queued.with_suffix(".seen").exists(), "nobody waited for it, so it did not run"
    assert metric(server, 'mlship_requests_in_flight{protocol="v2"}') == 0


def test_a_full_queue_sheds_with_503_and_retry_after(start: Any, tmp_path: pathlib.Path, server: Any) -> None:
    model = server.folder / "models" / "echo"
    small = start("--model-path", str(model), "--model-name", "echo", "--queue-size", "0", "--workers", "1")
    small.until_ready()
    release = tmp_path / "go"
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(small.path))
        content = json.dumps(waiting(release)).encode()
        client.sendall(b"POST /v2/models/echo/infer HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(content))
        client.sendall(content)
        small.until(release.with_suffix(".seen").exists)
        answer = small.http.post("/v2/models/echo/infer", json=waiting(release))
        live = small.http.get("/v2/health/live")
        release.touch()
        assert client.recv(65536).startswith(b"HTTP/1.1 200")
    assert (answer.status_code, answer.json()["code"]) == (503, "Overloaded")
    assert answer.headers["retry-after"] == "1"
    assert live.status_code == 200
    assert metric(small, 'mlship_requests_shed_total{model="echo"}') == 1


def test_metrics_never_carry_names_that_callers_made_up(server: Any) -> None:
    server.http.post("/v2/models/made-up-by-a-caller/infer", json={})
    exposition = server.http.get("/metrics")
    assert exposition.headers["content-type"].startswith("text/plain")
    assert "made-up-by-a-caller" not in exposition.text
    assert metric(server, 'mlship_requests_total{code="404",model="",protocol="v2"}') >= 1


def test_requests_are_counted_with_their_trace(server: Any) -> None:
    line = 'mlship_requests_total{code="200",model="iris",protocol="v1"}'
    before = metric(server, line)
    server.http.post("/v1/models/iris:predict", json=BODY, headers={"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"})
    assert metric(server, line) == before + 1
    openmetrics = server.http.get("/metrics", headers={"Accept": "application/openmetrics-text"}).text
    assert f'trace_id="{TRACE}"' in openmetrics


def test_many_clients_at_once_get_their_own_answers(server: Any) -> None:
    import concurrent.futures

    def ask(number: int) -> list[str]:
        transport = httpx.HTTPTransport(uds=str(server.path))
        with httpx.Client(transport=transport, base_url="http://server", timeout=60) as client:
            asked = {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": [f"n{number}"]}]}
            answer = client.post("/v2/models/echo/infer", json=asked).json()
        found: list[str] = answer["outputs"][0]["data"]
        return found

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, range(40))) == [[f"n{number}"] for number in range(40)]


def test_pipelined_requests_are_answered_in_order(server: Any) -> None:
    one = b"GET /v2/models/iris/ready HTTP/1.1\r\nHost: x\r\n\r\n"
    last = b"GET /v1/models HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    answer = raw(server, one + one + last)
    assert answer.count(b"HTTP/1.1 200") == 3
    assert answer.endswith(b'{"models":["adder","echo","iris","open"]}')
