from __future__ import annotations

from typing import Any

import pytest

ROW = [5.1, 3.5, 1.4, 0.2]


def test_list_status_predict(server: Any) -> None:
    assert server.http.get("/v1/models").json() == {"models": ["adder", "echo", "iris", "open"]}
    assert server.http.get("/v1/models/iris").json() == {"name": "iris", "ready": True}
    answer = server.http.post("/v1/models/iris:predict", json={"instances": [ROW, ROW]})
    assert (answer.status_code, answer.json()) == (200, {"predictions": [0, 0]})
    assert server.http.post("/v1/models/iris/versions/1:predict", json={"instances": [ROW]}).status_code == 200


@pytest.mark.parametrize(
    ("path", "asked", "status", "said"),
    [
        ("iris:predict", {"instances": [[1, 2]]}, 400, "expected shape [-1,4], got [1,2]"),
        ("iris:predict", {"instances": [["1", "2", "3", "4"]]}, 400, "got strings"),
        ("iris:predict", {}, 400, "instances"),
        ("nobody:predict", {"instances": [ROW]}, 404, "it has models"),
        ("iris:explain", {"instances": [ROW]}, 501, "explanations are not served here"),
        ("nobody:explain", {}, 404, "it has models"),
        ("iris:classify", {}, 404, "nothing at POST"),
    ],
)
def test_refusals(server: Any, path: str, asked: Any, status: int, said: str) -> None:
    answer = server.http.post(f"/v1/models/{path}", json=asked)
    assert answer.status_code == status
    assert said in answer.json()["error"]
