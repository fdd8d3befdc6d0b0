from __future__ import annotations

import pathlib
from typing import Any

import pytest


def test_the_index_has_tritons_form(server: Any) -> None:
    for content in (b"", b"{}", b'{"ready":true}'):
        found = server.http.post("/v2/repository/index", content=content).json()
        assert {"name": "iris", "version": "1", "state": "READY", "reason": ""} in found


def test_unload_load_and_a_model_that_has_come_since(
    start: Any, iris: tuple[pathlib.Path, Any], tmp_path: pathlib.Path
) -> None:
    def put(name: str) -> None:
        (tmp_path / name).mkdir()
        (tmp_path / name / "m.joblib").write_bytes(iris[0].read_bytes())

    put("one")
    server = start("--model-repository", str(tmp_path))
    server.until_ready()
    unloaded = server.http.post("/v2/repository/models/one/unload", json={"parameters": {"unload_dependents": False}})
    assert unloaded.status_code == 200
    assert server.http.post("/v2/repository/index", json={"ready": True}).json() == []
    assert server.http.get("/v2/models/one/ready").status_code == 503
    refused = server.http.post("/v1/models/one:predict", json={"instances": [[1, 2, 3, 4]]})
    assert (refused.status_code, refused.json()["code"]) == (503, "NotReady")
    assert refused.headers["retry-after"] == "1"
    assert server.http.post("/v2/repository/models/one/load", json={}).json() == {"name": "one", "load": True}
    put("two")
    assert server.http.get("/v2/models/two").status_code == 404
    assert server.http.post("/v2/repository/models/two/load").status_code == 200
    assert server.http.get("/v2/models/two/ready").status_code == 200
    (tmp_path / "two" / "m.joblib").write_bytes(b"rubbish")
    broken = server.http.post("/v2/repository/models/two/load")
    assert 400 <= broken.status_code <= 500
    assert server.http.get("/v2/models/two/ready").status_code == 200, "the old one still serves"


@pytest.mark.parametrize(
    ("path", "content", "status"),
    [
        ("models/nobody/load", b"", 404),
        ("models/nobody/unload", b"", 404),
        ("models/..%2F..%2Fetc/load", b"", 404),
        ("models/iris/load", b'{"parameters":{"config":"{}"}}', 501),
        ("models/iris/unload", b'{"parameters":{"now":true}}', 400),
        ("models/iris/load", b"[]", 400),
        ("models/iris/load", b"{", 400),
        ("index", b'{"reddy":true}', 400),
        ("index", b'{"ready":1}', 400),
    ],
)
def test_refusals(server: Any, path: str, content: bytes, status: int) -> None:
    answer = server.http.post(f"/v2/repository/{path}", content=content)
    assert answer.status_code == status
    assert answer.json()["error"]


def test_statistics_count_rows_and_failures(server: Any) -> None:
    before = server.http.get("/v2/models/iris/versions/1/stats").json()["model_stats"][0]
    server.http.post("/v1/models/iris/versions/1:predict", json={"instances": [[1, 2, 3, 4]] * 3})
    server.http.post("/v1/models/iris/versions/1:predict", json={"instances": [["x"]]})
    after = server.http.get("/v2/models/iris/versions/1/stats").json()["model_stats"][0]
    assert after["inference_count"] == before["inference_count"] + 3
    assert after["execution_count"] == before["execution_count"] + 1
    assert after["inference_stats"]["success"]["ns"] > before["inference_stats"]["success"]["ns"]
    assert after["inference_stats"]["fail"] == before["inference_stats"]["fail"], "it was never let in"
    assert {stats["name"] for stats in server.http.get("/v2/models/stats").json()["model_stats"]} == {
        "adder", "echo", "iris", "open",
    }  # fmt: skip
    assert len(server.http.get("/v2/models/iris/stats").json()["model_stats"]) == 2
    assert server.http.get("/v2/models/nobody/stats").status_code == 404
