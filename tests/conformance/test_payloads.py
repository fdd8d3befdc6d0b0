"""The requests of KServe's own end-to-end tests, as they are, against models that take such columns.

They are read in place beside this checkout; a model is trained on made-up rows of the columns a payload names.
"""

from __future__ import annotations

import json
import pathlib
from collections.abc import Iterator
from typing import Any

import httpx
import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import models
from conformance import places

PAYLOADS = pathlib.Path(__file__).parents[3] / "shared" / "kserve" / "payloads"

pytestmark = [
    pytest.mark.skipif(not PAYLOADS.is_dir(), reason="the public payloads are not beside this checkout"),
]


def payload(name: str) -> Any:
    return json.loads((PAYLOADS / f"{name}.json").read_text())


def mixed_row() -> dict[str, Any]:
    row: dict[str, Any] = payload("sklearn_mixed")
    return row


def mixed_model(folder: pathlib.Path) -> None:
    """Numbers scaled, words encoded: a pipeline that wants a DataFrame."""
    random, row = np.random.default_rng(3), mixed_row()
    table = pd.DataFrame(
        {
            name: random.choice([value, "other"], 80) if isinstance(value, str) else random.integers(0, 2 * value, 80)
            for name, value in row.items()
        }
    )
    columns = make_column_transformer(
        (OneHotEncoder(), make_column_selector(dtype_exclude=np.number)), remainder=StandardScaler()
    )
    fitted = make_pipeline(columns, LogisticRegression(max_iter=500)).fit(table, table["LotArea"] > row["LotArea"])
    joblib.dump(fitted, folder / "mixed.joblib")


def wine_model(folder: pathlib.Path) -> None:
    """Columns of numbers by name."""
    names = [tensor["name"] for tensor in payload("mlflow_input_v2")["inputs"]]
    table = pd.DataFrame(np.random.default_rng(4).uniform(0, 40, (80, len(names))), columns=names)
    joblib.dump(LogisticRegression(max_iter=2000).fit(table, table["alcohol"] > 20), folder / "wine.joblib")


def income_model(folder: pathlib.Path) -> None:
    """Rows of whole numbers."""
    rows = np.random.default_rng(5).integers(0, 50, (80, len(payload("income_input")["instances"][0])))
    joblib.dump(LogisticRegression(max_iter=2000).fit(rows, rows[:, 0] > 25), folder / "income.joblib")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    root = tmp_path_factory.mktemp("payloads")
    makers = {"iris": models.iris_pipeline, "mixed": mixed_model, "wine": wine_model, "income": income_model}
    for name, make in makers.items():
        (root / "models" / name).mkdir(parents=True)
        make(root / "models" / name)
    return root


@pytest.fixture(scope="module")
def http(folder: pathlib.Path) -> Iterator[httpx.Client]:
    with (
        places.server(folder / "server.log", "--model-repository", str(folder / "models")) as (address, _),
        httpx.Client(base_url=f"http://{address}", trust_env=False) as client,
    ):
        yield client


def in_process(folder: pathlib.Path, name: str, rows: Any, method: str = "predict") -> Any:
    return getattr(joblib.load(folder / "models" / name / f"{name}.joblib"), method)(rows).tolist()


@pytest.mark.parametrize("name", ["iris_input", "iris_batch_input"])
def test_iris_rows_by_v1(http: httpx.Client, folder: pathlib.Path, name: str) -> None:
    bodies = payload(name)
    for body in bodies if isinstance(bodies, list) else [bodies]:
        answer = http.post("/v1/models/iris:predict", json=body)
        assert answer.json() == {"predictions": in_process(folder, "iris", np.array(body["instances"]))}


@pytest.mark.parametrize("name", ["iris_input_v2", "pmml-input-v2"])
def test_iris_rows_by_v2(http: httpx.Client, folder: pathlib.Path, name: str) -> None:
    """Sent as FP32 to a model of FP64: the numbers are those that FP32 can hold."""
    rows = np.array(payload(name)["inputs"][0]["data"], dtype=np.float32).astype(np.float64)
    answer = http.post("/v2/models/iris/infer", content=(PAYLOADS / f"{name}.json").read_bytes())
    assert answer.json()["outputs"][0]["data"] == in_process(folder, "iris", rows)


def test_income_by_v1(http: httpx.Client, folder: pathlib.Path) -> None:
    answer = http.post("/v1/models/income:predict", content=(PAYLOADS / "income_input.json").read_bytes())
    expected = in_process(folder, "income", np.array(payload("income_input")["instances"]))
    assert answer.json() == {"predictions": expected}


def test_mixed_columns_by_v2(http: httpx.Client, folder: pathlib.Path) -> None:
    request = {**payload("sklearn_mixed_v2"), "outputs": [{"name": "predict_proba"}]}
    answer = http.post("/v2/models/mixed/infer", json=request).json()["outputs"][0]
    expected = in_process(folder, "mixed", pd.DataFrame([mixed_row()]), "predict_proba")
    assert np.reshape(answer["data"], answer["shape"]).tolist() == expected


def test_mixed_columns_by_v1(http: httpx.Client, folder: pathlib.Path) -> None:
    answer = http.post("/v1/models/mixed:predict", json={"instances": [mixed_row()]})
    assert answer.json() == {"predictions": in_process(folder, "mixed", pd.DataFrame([mixed_row()]))}


def test_columns_of_numbers_by_v2(http: httpx.Client, folder: pathlib.Path) -> None:
    request = payload("mlflow_input_v2")
    row = {tensor["name"]: np.array(tensor["data"], np.float32).astype(np.float64) for tensor in request["inputs"]}
    answer = http.post("/v2/models/wine/infer", json={**request, "outputs": [{"name": "predict_proba"}]})
    expected = in_process(folder, "wine", pd.DataFrame(row), "predict_proba")
    output = answer.json()["outputs"][0]
    assert np.reshape(output["data"], output["shape"]).tolist() == expected


def test_an_output_of_another_server_is_named_with_those_there_are(http: httpx.Client) -> None:
    """KServe's server calls every model's output ``output-0``; here outputs have the names of what they are."""
    answer = http.post("/v2/models/iris/infer", content=(PAYLOADS / "iris_input_v2_binary.json").read_bytes())
    assert answer.status_code == 400
    assert all(word in answer.json()["error"] for word in ("output-0", "predict", "predict_proba"))
