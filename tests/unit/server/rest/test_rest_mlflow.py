from __future__ import annotations

import pathlib
from typing import Any

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
    assert "/v2/models/NAME/infer" in answer.json()["error"] + answer.json().get("hint", "")
