"""Twenty thousand malformed V1, V2 and MLflow requests to a real model server: none may be the server's fault."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterator
from typing import Any

import joblib
import numpy as np
import pandas
import psutil
import pytest
from sklearn import compose, datasets, impute, linear_model, pipeline, preprocessing

import model_server
import mutations

CASES = 20_000
SEED = int(os.environ.get("MLSHIP_FUZZ_SEED", "1"))


def _iris(folder: pathlib.Path) -> None:
    data = datasets.load_iris()
    joblib.dump(linear_model.LogisticRegression(max_iter=1000).fit(data.data, data.target), folder / "m.joblib")


def _people(folder: pathlib.Path) -> None:
    """A pipeline over a data frame of numbers and strings with missing values."""
    frame = pandas.DataFrame({"age": [30.0, np.nan, 50.0, 20.0], "city": ["Bern", "Basel", "Bern", "Genf"]})
    numbers = pipeline.make_pipeline(impute.SimpleImputer(), preprocessing.StandardScaler())
    columns = compose.make_column_transformer(
        (numbers, ["age"]), (preprocessing.OneHotEncoder(handle_unknown="ignore"), ["city"])
    )
    fitted = pipeline.make_pipeline(columns, linear_model.LogisticRegression()).fit(frame, [0, 1, 1, 0])
    joblib.dump(fitted, folder / "m.joblib")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[model_server.Server]:
    folder = tmp_path_factory.mktemp("f")
    for name, make in {"iris": _iris, "people": _people}.items():
        (folder / "models" / name).mkdir(parents=True)
        make(folder / "models" / name)
    for name in ("adder", "echo"):
        model_server.write_model(folder / "models" / name, model_server.MODELS[name])
    made = model_server.start_server(
        folder, "--model-repository", str(folder / "models"), "--max-body-bytes", "1000000", "--log-level", "warning"
    )
    try:
        made.until_ready()
        yield made
    finally:
        made.end()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_twenty_thousand_malformed_requests(server: Any) -> None:
    names = ("iris", "people", "adder", "echo")
    examples = {name: server.http.get(f"/v2/models/{name}/example").json() for name in names}
    process = psutil.Process(server.process.pid)
    before = process.num_fds()
    codes: dict[int, int] = {}
    for case in mutations.cases(SEED, CASES, examples=examples):
        answer = server.http.post(case.path, content=case.body, headers=case.headers)
        assert answer.status_code < 500, (case, answer.text)
        if answer.status_code != 200:
            assert answer.json()["error"], case
        codes[answer.status_code] = codes.get(answer.status_code, 0) + 1
    assert codes.keys() <= {200, 400, 404, 408, 413, 415}, codes
    assert codes[200] > CASES // 100, f"the mutations reach no model: {codes}"
    assert process.num_fds() <= before + 5
    assert server.ready()
    assert "Traceback" not in server.log
