"""MLflow's scoring protocol: its own ScoringServerClient, and the forms of /invocations that its users send by hand.

Answers are compared with the in-process ones of the model ``titanic``: named columns, strings, missing values.
"""

import io
import json

import checks
import numpy as np
import pandas as pd
import requests
from mlflow.pyfunc.scoring_server import client as scoring


def _client(place):
    host, _, rest = place.mlflow.partition(":")
    return scoring.ScoringServerClient(host, rest)


def _frame(place):
    return pd.DataFrame({name: array for name, _, array in place.inputs("titanic-gaps")})


def _post(place, body, content_type="application/json"):
    data = body if isinstance(body, str | bytes) else json.dumps(body)
    return requests.post(
        f"http://{place.mlflow}/invocations", data=data, headers={"Content-Type": content_type}, timeout=30
    )


def _without_nan(frame):
    return frame.astype(object).where(frame.notna(), None)


def _compare(place, predictions):
    checks.same(np.array(predictions), place.expected("titanic-gaps")["predict"])


def _answered(place, body, content_type="application/json"):
    response = _post(place, body, content_type)
    assert response.status_code == 200, (response.status_code, response.text)
    _compare(place, response.json()["predictions"])


def check_client_ping(place):
    _client(place).ping()
    _client(place).wait_server_ready(timeout=10)


def check_client_version(place):
    assert _client(place).get_version()


def check_client_invoke_frame(place):
    _compare(place, _client(place).invoke(_without_nan(_frame(place))).get_predictions().iloc[:, 0].to_numpy())


def check_client_invoke_frame_with_nan(place):
    """The client writes the word NaN, which is not JSON; MLflow's own server takes it."""
    _compare(place, _client(place).invoke(_frame(place)).get_predictions().iloc[:, 0].to_numpy())


def check_dataframe_split(place):
    _answered(place, {"dataframe_split": _without_nan(_frame(place)).to_dict(orient="split")})


def check_dataframe_split_without_index(place):
    split = _without_nan(_frame(place)).to_dict(orient="split")
    _answered(place, {"dataframe_split": {key: split[key] for key in ("columns", "data")}})


def check_dataframe_split_in_another_order_of_columns(place):
    frame = _without_nan(_frame(place))
    _answered(place, {"dataframe_split": frame[frame.columns[::-1]].to_dict(orient="split")})


def check_dataframe_records(place):
    _answered(place, {"dataframe_records": _without_nan(_frame(place)).to_dict(orient="records")})


def check_instances(place):
    _answered(place, {"instances": _without_nan(_frame(place)).to_dict(orient="records")})


def check_inputs(place):
    _answered(place, {"inputs": _without_nan(_frame(place)).to_dict(orient="list")})


def check_csv(place):
    text = io.StringIO()
    _frame(place).to_csv(text, index=False)
    _answered(place, text.getvalue(), "text/csv")


def check_charset(place):
    body = {"dataframe_records": _without_nan(_frame(place)).to_dict(orient="records")}
    _answered(place, body, "application/json; charset=utf-8")


def check_missing_column(place):
    records = _without_nan(_frame(place)).drop(columns=["sex"]).to_dict(orient="records")
    response = _post(place, {"dataframe_records": records})
    assert response.status_code == 400, response.text
    assert "sex" in response.json()["error"]


def check_unknown_field(place):
    response = _post(place, {"dataframe": []})
    assert response.status_code == 400, response.text
    assert "dataframe" in response.json()["error"]


def check_unknown_content_type(place):
    response = _post(place, "x", "text/html")
    assert response.status_code == 415, (response.status_code, response.text)
    assert "text/html" in response.json()["error"]


if __name__ == "__main__":
    checks.run(dict(globals()))
