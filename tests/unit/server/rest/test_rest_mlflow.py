from __future__ import annotations

import pathlib
from typing import Any

import pytest

ROW = [5.1, 3.5, 1.4, 0.2]


def test_the_scoring_servers_paths(start: Any, iris: tuple[pathlib.Path, Any]) -> None:
    server = start("--model-path", str(iris[0]), "--model-name", "iris")
    server.until_ready()
    assert server.http.get("/ping").status_code == 200
    assert server.http.get("/health").status_code == 200
    version = server.http.get("/version")
    assert (version.text, version.headers["content-type"]) == ("0.1.0", "text/plain; charset=utf-8")
    answer = server.http.post("/invocations", json={"inputs": [ROW]})
    assert answer.json() == {"predictions": [0]}
    csv = server.http.post("/invocations", content="a,b,c,d\n5.1,3.5,1.4,0.2\n", headers={"content-type": "text/csv"})
    assert csv.status_code in (200, 400), csv.text
    assert server.http.post("/invocations", json={"inputs": [[1]]}).status_code == 400


def test_with_several_models_the_path_must_name_one(server: Any) -> None:
    answer = server.http.post("/invocations", json={"inputs": [ROW]})
    assert answer.status_code == 400
    assert "/v2/models/NAME/invocations" in answer.json()["error"] + answer.json().get("hint", "")


def test_a_path_may_name_the_model_and_its_version(server: Any) -> None:
    for path in ("/v2/models/iris/invocations", "/v2/models/iris/versions/1/invocations"):
        split = {"dataframe_split": {"columns": [0, 1, 2, 3], "data": [ROW]}}
        assert server.http.post(path, json=split).json() == {"predictions": [0]}
    assert server.http.post("/v2/models/nobody/invocations", json={"inputs": [ROW]}).status_code == 404
    assert server.http.post("/v2/models/iris/versions/9/invocations", json={"inputs": [ROW]}).status_code == 404


@pytest.mark.parametrize(
    ("host", "space", "code"),
    [
        ("iris-default.localhost:8080", "default", 200),
        ("iris-predictor-default.localhost", "default", 200),
        ("iris-a-b.localhost", "a-b", 200),
        ("iris-default-default.localhost", "default", 404),
        ("nobody-default.localhost", "default", 404),
        ("iris-other.localhost", "default", 400),
        ("localhost", "default", 400),
        ("iris-default.localhost", "", 400),
    ],
)
def test_the_host_names_the_model_where_the_gateway_says_so(server: Any, host: str, space: str, code: int) -> None:
    headers = {"host": host} | ({"mlship-namespace": space} if space else {})
    answer = server.http.post("/invocations", json={"inputs": [ROW]}, headers=headers)
    assert answer.status_code == code, answer.text
    if code == 200:
        assert answer.json() == {"predictions": [0]}
