"""tritonclient.http, as its users call it: JSON and binary tensors, every datatype, metadata, repository, errors."""

import checks
import numpy as np
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException


def _client(url, **options):
    return triton.InferenceServerClient(url, **options)


def _input(name, datatype, array, *, binary=True):
    tensor = triton.InferInput(name, list(array.shape), datatype)
    tensor.set_data_from_numpy(array, binary_data=binary)
    return tensor


def _inputs(place, case, *, binary=True):
    return [_input(*tensor, binary=binary) for tensor in place.inputs(case)]


def _outputs(names, *, binary=True):
    return [triton.InferRequestedOutput(name, binary_data=binary) for name in names]


def _check_answers(place, *cases, binary_in, binary_out, **options):
    with _client(place.http) as client:
        for case in cases:
            expected = place.expected(case)
            result = client.infer(
                checks.model_of(case),
                _inputs(place, case, binary=binary_in),
                outputs=_outputs(expected, binary=binary_out),
                **options,
            )
            for name, values in expected.items():
                checks.same(result.as_numpy(name), values, f"{case} {name}")


def check_infer_json(place):
    _check_answers(place, "iris", "titanic", binary_in=False, binary_out=False)


def check_infer_binary(place):
    _check_answers(place, "iris", "titanic", "titanic-numbers", binary_in=True, binary_out=True)


def check_infer_binary_in_json_out(place):
    _check_answers(place, "iris", "titanic", "titanic-numbers", binary_in=True, binary_out=False)


def check_infer_json_in_binary_out(place):
    _check_answers(place, "iris", "titanic", binary_in=False, binary_out=True)


def check_outputs_not_named(place):
    with _client(place.http) as client:
        result = client.infer("iris", _inputs(place, "iris"))
    checks.same(result.as_numpy("predict"), place.expected("iris")["predict"])


def check_every_datatype_binary(place):
    with _client(place.http) as client:
        for datatype, array in checks.samples():
            result = client.infer("every", [_input(datatype, datatype, array)], outputs=_outputs([datatype]))
            assert result.get_output(datatype)["datatype"] == datatype
            checks.same(result.as_numpy(datatype), array, datatype)


def check_every_datatype_json(place):
    with _client(place.http) as client:
        for datatype, array in checks.samples():
            if datatype == "FP16":
                continue  # The client itself has no JSON form for it.
            inputs = [_input(datatype, datatype, array, binary=False)]
            result = client.infer("every", inputs, outputs=_outputs([datatype], binary=False))
            assert result.get_output(datatype)["datatype"] == datatype
            checks.same(result.as_numpy(datatype), array, datatype)


def check_bytes_that_are_no_text(place):
    array = np.array([b"\x00\xff\xfe", b"\x80"], dtype=np.object_)
    with _client(place.http) as client:
        result = client.infer("every", [_input("BYTES", "BYTES", array)], outputs=_outputs(["BYTES"]))
    assert result.as_numpy("BYTES").tolist() == array.tolist()


def check_some_outputs_binary(place):
    expected = place.expected("iris")
    outputs = _outputs(["predict"], binary=False) + _outputs(["predict_proba"], binary=True)
    with _client(place.http) as client:
        result = client.infer("iris", _inputs(place, "iris"), outputs=outputs)
    assert "data" in result.get_output("predict")
    assert result.get_output("predict_proba")["parameters"]["binary_data_size"] == expected["predict_proba"].nbytes
    for name in ("predict", "predict_proba"):
        checks.same(result.as_numpy(name), expected[name], name)


def check_live_and_ready(place):
    with _client(place.server) as client:
        assert client.is_server_live()
        assert client.is_server_ready()
    with _client(place.http) as client:
        assert client.is_model_ready("iris")
        assert client.is_model_ready("iris", "1")
        assert not client.is_model_ready("nobody")


def check_live_and_ready_at_the_root(place):
    with _client(place.http) as client:
        assert client.is_server_live()
        assert client.is_server_ready()


def check_server_metadata(place):
    with _client(place.server) as client:
        found = client.get_server_metadata()
    assert found["name"] == "mlship"
    assert {"binary_tensor_data", "model_repository", "statistics"} <= set(found["extensions"])


def check_model_metadata(place):
    with _client(place.http) as client:
        found = client.get_model_metadata("iris")
    assert found["name"] == "iris"
    assert found["versions"] == ["1"]
    assert found["inputs"] == [{"name": "input-0", "datatype": "FP64", "shape": [-1, 4]}]
    outputs = {output["name"]: output for output in found["outputs"]}
    assert outputs["predict"]["datatype"] == "INT64"
    assert outputs["predict_proba"]["shape"] == [-1, 3]


def check_metadata_tells_how_to_call(place):
    """A request made from nothing but the metadata is answered."""
    with _client(place.http) as client:
        tensor = client.get_model_metadata("iris")["inputs"][0]
        shape = [2 if size == -1 else size for size in tensor["shape"]]
        array = np.ones(shape, dtype=checks.NUMPY_OF[tensor["datatype"]])
        result = client.infer("iris", [_input(tensor["name"], tensor["datatype"], array)])
    assert result.as_numpy("predict").shape == (2,)


def check_model_config_is_refused_as_not_served(place):
    with _client(place.server) as client:
        assert "model_configuration" not in client.get_server_metadata()["extensions"]
    with _client(place.http) as client:
        error = checks.refused(lambda: client.get_model_config("iris"), InferenceServerException, "config")
    assert error.status() == "404"


def check_statistics(place):
    with _client(place.http) as client:
        before = client.get_inference_statistics("iris")["model_stats"][0]
        client.infer("iris", _inputs(place, "iris"))
        after = client.get_inference_statistics("iris", "1")["model_stats"][0]
    rows = len(place.expected("iris")["predict"])
    assert after["name"] == "iris"
    assert int(after["inference_count"]) == int(before["inference_count"]) + rows
    assert int(after["execution_count"]) == int(before["execution_count"]) + 1
    assert int(after["inference_stats"]["success"]["ns"]) > int(before["inference_stats"]["success"]["ns"])


def check_statistics_of_all(place):
    with _client(place.server) as client:
        found = client.get_inference_statistics()["model_stats"]
    assert "every" in [model["name"] for model in found]


def check_repository_index(place):
    with _client(place.server) as client:
        found = {(model["name"], model["version"]): model["state"] for model in client.get_model_repository_index()}
    assert found["every", "1"] == "READY"


def check_unload_and_load(place):
    array = np.array([1.5])
    with _client(place.http) as client:
        client.unload_model("scale")
        try:
            assert not client.is_model_ready("scale")
            call = lambda: client.infer("scale", [_input("x", "FP64", array)])  # noqa: E731
            error = checks.refused(call, InferenceServerException, "scale", "not ready")
            assert error.status() == "503"
        finally:
            client.load_model("scale")
        assert client.is_model_ready("scale")
        client.infer("scale", [_input("x", "FP64", array)])


def check_load_with_parameters_is_refused(place):
    with _client(place.http) as client:
        checks.refused(lambda: client.load_model("scale", config='{"x": 1}'), InferenceServerException, "config")


def check_unknown_model(place):
    with _client(place.http) as client:
        call = lambda: client.infer("nobody", _inputs(place, "iris"))  # noqa: E731
        error = checks.refused(call, InferenceServerException)
        assert error.status() == "404"
        # Who answers differs between the server and the gateway; both say what there is.
        assert "iris" in error.message()


def check_wrong_shape(place):
    with _client(place.http) as client:
        call = lambda: client.infer("iris", [_input("input-0", "FP64", np.ones((2, 3)))])  # noqa: E731
        error = checks.refused(call, InferenceServerException, "input-0", "[-1,4]", "[2,3]")
    assert error.status() == "400"


def check_wrong_datatype(place):
    array = np.array([["a", "b", "c", "d"]], dtype=np.object_)
    with _client(place.http) as client:
        call = lambda: client.infer("iris", [_input("input-0", "BYTES", array)])  # noqa: E731
        error = checks.refused(call, InferenceServerException, "FP64", "strings")
    assert error.status() == "400"


def check_wrong_input_name(place):
    with _client(place.http) as client:
        call = lambda: client.infer("iris", [_input("input_0", "FP64", np.ones((1, 4)))])  # noqa: E731
        checks.refused(call, InferenceServerException, "input_0", "input-0")


def check_unknown_output(place):
    with _client(place.http) as client:
        call = lambda: client.infer("iris", _inputs(place, "iris"), outputs=_outputs(["predicted"]))  # noqa: E731
        checks.refused(call, InferenceServerException, "predicted", "predict")


def check_request_id(place):
    with _client(place.http) as client:
        result = client.infer("iris", _inputs(place, "iris"), request_id="größe-17")
        assert result.get_response()["id"] == "größe-17"
        assert "id" not in client.infer("iris", _inputs(place, "iris")).get_response()


def check_versions_in_the_path(place):
    with _client(place.http) as client:
        for version, factor in place.factors.items():
            result = client.infer("scale", [_input("x", "FP64", np.array([1.5]))], model_version=version)
            assert result.get_response()["model_version"] == version
            checks.same(result.as_numpy("y"), np.array([1.5 * factor]), version)
            assert client.is_model_ready("scale", version)
            assert version in client.get_model_metadata("scale", version)["versions"]
        call = lambda: client.infer("scale", [_input("x", "FP64", np.array([1.5]))], model_version="99")  # noqa: E731
        assert checks.refused(call, InferenceServerException, "99").status() == "404"


def check_compressed_requests(place):
    for algorithm in ("gzip", "deflate"):
        for binary in (True, False):
            _check_answers(place, "iris", binary_in=binary, binary_out=binary, request_compression_algorithm=algorithm)


def check_compressed_answers_may_be_asked_for(place):
    for algorithm in ("gzip", "deflate"):
        for binary in (True, False):
            _check_answers(place, "iris", binary_in=binary, binary_out=binary, response_compression_algorithm=algorithm)


def check_many_async_infers(place):
    """Thirty requests over eight connections, each with its own rows and its own answer."""
    with _client(place.http, concurrency=8) as client:
        calls = [
            client.async_infer("scale", [_input("x", "FP64", np.array([number, -number], dtype=np.float64))])
            for number in range(30)
        ]
        (factor,) = list(place.factors.values())[-1:]
        for number, call in enumerate(calls):
            expected = np.array([number, -number], dtype=np.float64) * factor
            checks.same(call.get_result(timeout=30).as_numpy("y"), expected, str(number))


def check_a_large_tensor(place):
    """Four megabytes each way."""
    array = np.arange(500_000, dtype=np.float64)
    with _client(place.http, network_timeout=60) as client:
        result = client.infer("every", [_input("FP64", "FP64", array)], outputs=_outputs(["FP64"]))
    checks.same(result.as_numpy("FP64"), array)


def check_timeout_parameter(place):
    with _client(place.http) as client:
        client.infer("iris", _inputs(place, "iris"), timeout=10_000_000)


if __name__ == "__main__":
    checks.run(dict(globals()))
