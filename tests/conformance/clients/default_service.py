"""What works without naming anything while one service exists: the gateway's root is that service (``titanic``)."""

import checks
import numpy as np
import pandas as pd
import requests
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from mlflow.pyfunc.scoring_server import client as scoring


def _compare(place, result):
    for name, values in place.expected("titanic").items():
        checks.same(result.as_numpy(name), values, name)


def _infer(place, triton, client):
    inputs = []
    for name, datatype, array in place.inputs("titanic"):
        inputs.append(triton.InferInput(name, list(array.shape), datatype))
        inputs[-1].set_data_from_numpy(array)
    outputs = [triton.InferRequestedOutput(name) for name in place.expected("titanic")]
    return client.infer("titanic", inputs, outputs=outputs)


def check_triton_http(place):
    with triton_http.InferenceServerClient(place.http) as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.get_server_metadata()["name"] == "mlship"
        assert [model["name"] for model in client.get_model_repository_index()] == ["titanic"]
        assert [model["name"] for model in client.get_inference_statistics()["model_stats"]] == ["titanic"]
        _compare(place, _infer(place, triton_http, client))


def check_triton_grpc(place):
    with triton_grpc.InferenceServerClient(place.grpc) as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("titanic")
        assert client.get_server_metadata().name == "mlship"
        assert [model.name for model in client.get_model_repository_index().models] == ["titanic"]
        _compare(place, _infer(place, triton_grpc, client))


def check_mlflow_client(place):
    host, _, port = place.http.partition(":")
    client = scoring.ScoringServerClient(host, int(port))
    client.ping()
    assert client.get_version()
    frame = pd.DataFrame({name: array for name, _, array in place.inputs("titanic-numbers")})
    answer = client.invoke(frame).get_predictions().iloc[:, 0].to_numpy()
    checks.same(answer, place.expected("titanic-numbers")["predict"])


def check_v1_list(place):
    assert requests.get(f"http://{place.http}/v1/models", timeout=10).json() == {"models": ["titanic"]}


def check_unknown_model_is_still_unknown(place):
    body = {"instances": [[1.0]]}
    response = requests.post(f"http://{place.http}/v1/models/nobody:predict", json=body, timeout=10)
    assert response.status_code == 404, response.text
    assert "titanic" in response.json()["error"]


def check_numpy_rows_by_v1(place):
    columns = {name: array.tolist() for name, _, array in place.inputs("titanic")}
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    url = f"http://{place.http}/v1/models/titanic:predict"
    answer = requests.post(url, json={"instances": rows}, timeout=10).json()
    checks.same(np.array(answer["predictions"]), place.expected("titanic")["predict"])


if __name__ == "__main__":
    checks.run(dict(globals()))
