"""The gateway's ways to a service among several: name, path, host, gRPC metadata and authority."""

import functools

import checks
import numpy as np
import requests
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from tritonclient.utils import InferenceServerException


def _inputs(place, triton, case):
    found = []
    for name, datatype, array in place.inputs(case):
        found.append(triton.InferInput(name, list(array.shape), datatype))
        found[-1].set_data_from_numpy(array)
    return found


def _infer(place, triton, case, client, **options):
    expected = place.expected(case)
    outputs = [triton.InferRequestedOutput(name) for name in expected]
    result = client.infer(case, _inputs(place, triton, case), outputs=outputs, **options)
    for name, values in expected.items():
        checks.same(result.as_numpy(name), values, f"{case} {name}")


def check_http_by_model_name(place):
    with triton_http.InferenceServerClient(place.http) as client:
        for case in ("iris", "titanic"):
            assert client.is_model_ready(case)
            assert client.get_model_metadata(case)["name"] == case
            _infer(place, triton_http, case, client)


def check_http_by_path(place):
    for case in ("iris", "titanic"):
        with triton_http.InferenceServerClient(f"{place.http}/serving/default/{case}") as client:
            assert client.is_server_ready()
            assert [model["name"] for model in client.get_model_repository_index()] == [case]
            _infer(place, triton_http, case, client)


def check_http_by_host(place):
    (_, _, rows) = place.inputs("iris")[0]
    for host in ("iris-default.localhost", "iris-predictor-default.localhost", "iris-default.localhost:1234"):
        url = f"http://{place.http}/v1/models/iris:predict"
        response = requests.post(url, json={"instances": rows.tolist()}, headers={"Host": host}, timeout=10)
        assert response.status_code == 200, (host, response.text)
        checks.same(np.array(response.json()["predictions"]), place.expected("iris")["predict"], host)
        found = requests.get(f"http://{place.http}/v1/models", headers={"Host": host}, timeout=10)
        assert found.json() == {"models": ["iris"]}


def check_host_goes_before_path(place):
    """A service answers for its own models only, also where another's name is in the path."""
    url = f"http://{place.http}/v2/models/titanic"
    response = requests.get(url, headers={"Host": "iris-default.localhost"}, timeout=10)
    assert response.status_code == 404, response.text
    assert "iris" in response.json()["error"]


def check_grpc_by_metadata(place):
    with triton_grpc.InferenceServerClient(place.grpc) as client:
        for case in ("iris", "titanic"):
            for key, value in (
                ("mlship-service", case),
                ("mlship-service", f"default/{case}"),
                ("mm-model-id", case),
                ("seldon-model", case),
            ):
                _infer(place, triton_grpc, case, client, headers={key: value})


def check_grpc_by_authority(place):
    for case in ("iris", "titanic"):
        options = [("grpc.default_authority", f"{case}-default.localhost")]
        with triton_grpc.InferenceServerClient(place.grpc, channel_args=options) as client:
            assert client.is_server_ready()
            assert client.is_model_ready(case)
            _infer(place, triton_grpc, case, client)


def check_grpc_without_a_name_says_how(place):
    with triton_grpc.InferenceServerClient(place.grpc) as client:
        call = functools.partial(client.get_server_metadata)
        checks.refused(call, InferenceServerException, "mlship-service", "iris", "titanic")


def check_server_calls_at_the_root_say_where(place):
    with triton_http.InferenceServerClient(place.http) as client:
        error = checks.refused(client.get_server_metadata, InferenceServerException, "iris", "titanic")
    assert error.status() == "404"


def check_health_at_the_root_is_json(place):
    for path, body in (("/v2/health/live", {"live": True}), ("/v2/health/ready", {"ready": True})):
        response = requests.get(f"http://{place.http}{path}", timeout=10)
        assert response.status_code == 200, response.text
        assert response.headers["content-type"] == "application/json", response.headers
        assert response.json() == body


def check_unknown_namespace(place):
    response = requests.get(f"http://{place.http}/serving/nowhere/iris/v2", timeout=10)
    assert response.status_code == 404
    assert "iris" in response.json()["error"]


def check_each_service_counts_its_own(place):
    with triton_http.InferenceServerClient(place.http) as client:
        before = {name: _count(client, name) for name in ("iris", "titanic")}
        _infer(place, triton_http, "iris", client)
        after = {name: _count(client, name) for name in ("iris", "titanic")}
    rows = len(place.expected("iris")["predict"])
    assert after == {"iris": before["iris"] + rows, "titanic": before["titanic"]}


def _count(client, name):
    return int(client.get_inference_statistics(name)["model_stats"][0]["inference_count"])


def check_request_id_and_trace_context_come_back(place):
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    headers = {"X-Request-ID": "seventeen", "traceparent": trace}
    response = requests.get(f"http://{place.http}/v2/models/iris", headers=headers, timeout=10)
    assert response.headers["x-request-id"] == "seventeen"


if __name__ == "__main__":
    checks.run(dict(globals()))
