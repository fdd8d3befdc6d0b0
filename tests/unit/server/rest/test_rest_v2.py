from __future__ import annotations

import json
import pathlib
import time
from typing import Any

import numpy as np
import pytest

ROW = [5.1, 3.5, 1.4, 0.2]


def body(data: Any = (ROW,), *, name: str = "input-0", datatype: str = "FP64", **more: Any) -> dict[str, Any]:
    array = np.asarray(data)
    tensor = {"name": name, "shape": list(array.shape), "datatype": datatype, "data": array.ravel().tolist()}
    return {"inputs": [tensor], **more}


def test_the_server_says_what_it_is_and_what_works(server: Any) -> None:
    answer = server.http.get("/v2")
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == {
        "name": "mlship",
        "version": "0.1.0",
        "extensions": ["binary_tensor_data", "model_repository", "statistics", "parameters", "content_type"],
    }


def test_health(server: Any) -> None:
    assert server.http.get("/v2/health/live").json() == {"live": True}
    assert server.http.get("/v2/health/ready").json() == {"ready": True}
    assert server.http.get("/v2/models/iris/ready").json() == {"name": "iris", "ready": True}
    assert server.http.get("/v2/models/iris/versions/2/ready").status_code == 200
    assert server.http.head("/v2/health/live").status_code == 200


def test_the_list_and_the_metadata_are_real(server: Any) -> None:
    assert server.http.get("/v2/models").json() == {"models": ["adder", "echo", "iris", "open"]}
    found = server.http.get("/v2/models/iris").json()
    assert found["versions"] == ["1", "2"]
    assert found["inputs"] == [{"name": "input-0", "datatype": "FP64", "shape": [-1, 4]}]
    assert {"name": "predict", "datatype": "INT64", "shape": [-1]} in found["outputs"]
    assert server.http.get("/v2/models/iris/versions/1").json()["versions"] == ["1"]


def test_answers_equal_the_model_in_process(server: Any, iris: tuple[pathlib.Path, Any]) -> None:
    rows = [ROW, [6.8, 2.8, 4.8, 1.4]]
    asked = body(rows, id="7", outputs=[{"name": "predict_proba"}, {"name": "predict"}])
    answer = server.http.post("/v2/models/iris/infer", json=asked).json()
    assert (answer["id"], answer["model_name"], answer["model_version"]) == ("7", "iris", "2")
    assert [output["name"] for output in answer["outputs"]] == ["predict_proba", "predict"]
    assert answer["outputs"][0]["data"] == iris[1].predict_proba(np.asarray(rows)).ravel().tolist()
    assert answer["outputs"][1]["data"] == iris[1].predict(np.asarray(rows)).tolist()


def test_a_version_in_the_path_is_the_one_that_answers(server: Any) -> None:
    answer = server.http.post("/v2/models/iris/versions/1/infer", json=body())
    assert answer.json()["model_version"] == "1"


def test_the_example_can_be_pasted_into_infer(server: Any) -> None:
    for name in ("iris", "adder", "echo"):
        example = server.http.get(f"/v2/models/{name}/example").json()
        assert server.http.post(f"/v2/models/{name}/infer", json=example).status_code == 200
    missing = server.http.get("/v2/models/open/example")
    assert missing.status_code == 404
    assert "model.schema.yaml" in missing.json()["error"]


def test_binary_tensors_in_and_out(server: Any) -> None:
    raw = np.asarray([ROW], dtype="<f8").tobytes()
    asked = {
        "inputs": [
            {"name": "input-0", "shape": [1, 4], "datatype": "FP64", "parameters": {"binary_data_size": len(raw)}}
        ],
        "parameters": {"binary_data_output": True},
    }
    head = json.dumps(asked).encode()
    answer = server.http.post(
        "/v2/models/iris/infer", content=head + raw, headers={"Inference-Header-Content-Length": str(len(head))}
    )
    assert answer.headers["content-type"] == "application/octet-stream"
    length = int(answer.headers["inference-header-content-length"])
    assert json.loads(answer.content[:length])["outputs"][0]["parameters"] == {"binary_data_size": 8}
    assert np.frombuffer(answer.content[length:], dtype="<i8").tolist() == [0]


@pytest.mark.parametrize("value", ["-1", "x", "1.5", "1" * 30, "999999"])
def test_a_bad_header_length_is_the_callers_fault(server: Any, value: str) -> None:
    answer = server.http.post(
        "/v2/models/iris/infer", content=json.dumps(body()), headers={"Inference-Header-Content-Length": value}
    )
    assert answer.status_code == 400
    assert "Inference-Header-Content-Length" in answer.json()["error"]


@pytest.mark.parametrize(
    ("path", "asked", "status", "said"),
    [
        ("iris", body(name="imput-0"), 400, 'Did you mean "input-0"?'),
        ("iris", body([[1.0, 2, 3]]), 400, "expected shape [-1,4], got [1,3]"),
        ("iris", body([["a", "b", "c", "d"]], datatype="BYTES"), 400, "expected FP64, got strings"),
        ("iris", body(outputs=[{"name": "predict_prob"}]), 400, 'Did you mean "predict_proba"?'),
        ("iris", body(parameters={"temperature": 1}), 400, 'named "temperature"'),
        ("iris", body(parameters={"timeout": -1}), 400, '"timeout" expected'),
        ("iris", {"inputs": []}, 400, "input"),
        ("iris", {}, 400, "inputs"),
        ("nobody", body(), 404, 'no model "nobody" on this server, it has models "adder", "echo", "iris", "open"'),
        ("iris/versions/9", body(), 404, 'has no version "9", it has "1", "2"'),
    ],
)
def test_what_does_not_fit_is_refused(server: Any, path: str, asked: Any, status: int, said: str) -> None:
    answer = server.http.post(f"/v2/models/{path}/infer", json=asked)
    assert answer.status_code == status
    assert said in answer.json()["error"] + answer.json().get("hint", "")


def test_the_models_own_failure_is_500_and_logged(server: Any) -> None:
    answer = server.http.post("/v2/models/echo/infer", json=body(["fail"], name="text", datatype="BYTES"))
    assert answer.status_code == 500
    assert "the model's own fault" in answer.json()["error"]
    assert answer.json()["code"] == "ModelFailed"
    assert any(line["event"] == "model failed" and "traceback" in line for line in server.lines)


def test_an_open_models_input_is_let_through(server: Any) -> None:
    answer = server.http.post("/v2/models/open/infer", json=body([[1.5]], name="whatever")).json()
    assert [(output["name"], output["data"]) for output in answer["outputs"]] == [("whatever", [1.5])]


def test_parameters_reach_the_model(server: Any) -> None:
    example = server.http.get("/v2/models/adder/example").json()
    example["inputs"][1]["data"] = [3]
    answer = server.http.post("/v2/models/adder/infer", json=example | {"parameters": {"factor": 5}}).json()
    assert answer["outputs"][0]["data"] == [15.0]


def test_what_came_of_compiling_is_told(server: Any) -> None:
    found = server.http.get("/v2/models/adder/acceleration").json()
    assert (found["name"], found["accelerate"], found["used"]) == ("adder", "auto", False)
    assert server.http.get("/v2/models/nobody/acceleration").status_code == 404


@pytest.mark.timeout(300)
def test_an_accelerated_server_says_so(start: Any, iris: tuple[pathlib.Path, Any]) -> None:
    path, fitted = iris
    server = start("--model-path", str(path), "--accelerate", "exact")
    server.until_ready()
    # The proof is made at a low priority, and so late where everything is busy.
    deadline = time.monotonic() + 240
    while (found := server.http.get("/v2/models/model/acceleration").json())["state"] == "proving":
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert 'mlship_model_compiled{model="model"} 1.0' in server.http.get("/metrics").text
    assert (found["accelerate"], found["converter"], found["identical_bits"]) == ("exact", "numpy", True)
    assert found["proof_rows"] > 0
    body = {"inputs": [{"name": "input-0", "shape": [1, 4], "datatype": "FP64", "data": [5.1, 3.5, 1.4, 0.2]}]}
    answer = server.http.post("/v2/models/model/infer", json=body).json()
    assert answer["outputs"][0]["data"] == fitted.predict([[5.1, 3.5, 1.4, 0.2]]).tolist()
