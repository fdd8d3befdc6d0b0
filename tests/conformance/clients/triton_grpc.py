"""tritonclient.grpc, as its users call it: unary, asynchronous and streamed, every datatype, repository, errors."""

import functools
import queue

import checks
import numpy as np
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException


def _client(place):
    return triton.InferenceServerClient(place.grpc)


def _input(name, datatype, array):
    tensor = triton.InferInput(name, list(array.shape), datatype)
    tensor.set_data_from_numpy(array)
    return tensor


def _inputs(place, case):
    return [_input(*tensor) for tensor in place.inputs(case)]


def _outputs(names):
    return [triton.InferRequestedOutput(name) for name in names]


def check_infer(place):
    with _client(place) as client:
        for case in ("iris", "titanic", "titanic-numbers"):
            model, expected = checks.model_of(case), place.expected(case)
            result = client.infer(
                model, _inputs(place, case), outputs=_outputs(expected), headers=place.metadata(model)
            )
            for name, values in expected.items():
                checks.same(result.as_numpy(name), values, f"{case} {name}")


def check_outputs_not_named(place):
    with _client(place) as client:
        result = client.infer("iris", _inputs(place, "iris"), headers=place.metadata("iris"))
    checks.same(result.as_numpy("predict"), place.expected("iris")["predict"])


def check_every_datatype(place):
    with _client(place) as client:
        for datatype, array in checks.samples():
            inputs = [_input(datatype, datatype, array)]
            result = client.infer("every", inputs, outputs=_outputs([datatype]), headers=place.metadata("every"))
            assert result.get_output(datatype).datatype == datatype
            checks.same(result.as_numpy(datatype), array, datatype)


def check_bytes_that_are_no_text(place):
    array = np.array([b"\x00\xff\xfe", b"\x80"], dtype=np.object_)
    with _client(place) as client:
        inputs = [_input("BYTES", "BYTES", array)]
        result = client.infer("every", inputs, outputs=_outputs(["BYTES"]), headers=place.metadata("every"))
    assert result.as_numpy("BYTES").tolist() == array.tolist()


def check_live_and_ready(place):
    with _client(place) as client:
        assert client.is_server_live(headers=place.metadata("every"))
        assert client.is_server_ready(headers=place.metadata("every"))
        assert client.is_model_ready("iris", headers=place.metadata("iris"))
        assert client.is_model_ready("iris", "1", headers=place.metadata("iris"))


def check_server_metadata(place):
    with _client(place) as client:
        found = client.get_server_metadata(headers=place.metadata("every"))
    assert found.name == "mlship"
    assert {"model_repository", "statistics"} <= set(found.extensions)


def check_model_metadata(place):
    with _client(place) as client:
        found = client.get_model_metadata("iris", headers=place.metadata("iris"), as_json=True)
    assert found["name"] == "iris"
    assert found["inputs"] == [{"name": "input-0", "datatype": "FP64", "shape": ["-1", "4"]}]
    assert {"predict", "predict_proba"} <= {output["name"] for output in found["outputs"]}


def check_model_config_is_refused_as_not_served(place):
    with _client(place) as client:
        call = functools.partial(client.get_model_config, "iris", headers=place.metadata("iris"))
        assert checks.refused(call, InferenceServerException).status() == "StatusCode.UNIMPLEMENTED"


def check_statistics(place):
    about = place.metadata("iris")
    with _client(place) as client:
        before = client.get_inference_statistics("iris", headers=about).model_stats[0]
        client.infer("iris", _inputs(place, "iris"), headers=about)
        after = client.get_inference_statistics("iris", "1", headers=about).model_stats[0]
    rows = len(place.expected("iris")["predict"])
    assert after.name == "iris"
    assert after.inference_count == before.inference_count + rows
    assert after.execution_count == before.execution_count + 1
    assert after.inference_stats.success.ns > before.inference_stats.success.ns


def check_repository_index(place):
    with _client(place) as client:
        found = client.get_model_repository_index(headers=place.metadata("every")).models
    assert ("every", "1", "READY") in [(model.name, model.version, model.state) for model in found]


def check_unload_and_load(place):
    about = place.metadata("scale")
    inputs = [_input("x", "FP64", np.array([1.5]))]
    with _client(place) as client:
        client.unload_model("scale", headers=about)
        try:
            assert not client.is_model_ready("scale", headers=about)
            call = functools.partial(client.infer, "scale", inputs, headers=about)
            error = checks.refused(call, InferenceServerException, "scale", "not ready")
            assert error.status() == "StatusCode.UNAVAILABLE"
        finally:
            client.load_model("scale", headers=about)
        assert client.is_model_ready("scale", headers=about)
        client.infer("scale", inputs, headers=about)


def check_unknown_model(place):
    with _client(place) as client:
        call = functools.partial(client.infer, "nobody", _inputs(place, "iris"), headers=place.metadata("iris"))
        error = checks.refused(call, InferenceServerException, "nobody", "iris")
    assert error.status() == "StatusCode.NOT_FOUND"


def check_wrong_shape(place):
    inputs = [_input("input-0", "FP64", np.ones((2, 3)))]
    with _client(place) as client:
        call = functools.partial(client.infer, "iris", inputs, headers=place.metadata("iris"))
        error = checks.refused(call, InferenceServerException, "input-0", "[-1,4]", "[2,3]")
    assert error.status() == "StatusCode.INVALID_ARGUMENT"


def check_unknown_output(place):
    with _client(place) as client:
        call = functools.partial(
            client.infer,
            "iris",
            _inputs(place, "iris"),
            outputs=_outputs(["predicted"]),
            headers=place.metadata("iris"),
        )
        checks.refused(call, InferenceServerException, "predicted", "predict")


def check_request_id(place):
    with _client(place) as client:
        result = client.infer("iris", _inputs(place, "iris"), request_id="größe-17", headers=place.metadata("iris"))
    assert result.get_response().id == "größe-17"


def check_versions(place):
    about = place.metadata("scale")
    inputs = [_input("x", "FP64", np.array([1.5]))]
    with _client(place) as client:
        for version, factor in place.factors.items():
            result = client.infer("scale", inputs, model_version=version, headers=about)
            assert result.get_response().model_version == version
            checks.same(result.as_numpy("y"), np.array([1.5 * factor]), version)
        call = functools.partial(client.infer, "scale", inputs, model_version="99", headers=about)
        assert checks.refused(call, InferenceServerException, "99").status() == "StatusCode.NOT_FOUND"


def check_compressed(place):
    with _client(place) as client:
        for algorithm in ("gzip", "deflate"):
            result = client.infer(
                "iris",
                _inputs(place, "iris"),
                outputs=_outputs(["predict"]),
                compression_algorithm=algorithm,
                headers=place.metadata("iris"),
            )
            checks.same(result.as_numpy("predict"), place.expected("iris")["predict"], algorithm)


def _scaled(place, number):
    array = np.array([number, -number], dtype=np.float64)
    return [_input("x", "FP64", array)], array * list(place.factors.values())[-1]


def check_many_async_infers(place):
    answers = queue.Queue()
    with _client(place) as client:
        for number in range(30):
            callback = functools.partial(lambda number, result, error: answers.put((number, result, error)), number)
            inputs, _ = _scaled(place, number)
            client.async_infer("scale", inputs, callback, headers=place.metadata("scale"), client_timeout=30)
        for _ in range(30):
            number, result, error = answers.get(timeout=30)
            assert error is None, error
            checks.same(result.as_numpy("y"), _scaled(place, number)[1], str(number))


def check_stream(place):
    """Answers come in order; an error is the answer to one message, and the stream goes on."""
    answers = queue.Queue()
    wrong = [_input("nothing", "FP64", np.array([1.0]))]
    with _client(place) as client:
        client.start_stream(lambda result, error: answers.put((result, error)), headers=place.metadata("scale"))
        for number in range(10):
            inputs = wrong if number == 4 else _scaled(place, number)[0]
            client.async_stream_infer("scale", inputs, request_id=str(number))
        for number in range(10):
            result, error = answers.get(timeout=30)
            if number == 4:
                assert "nothing" in error.message(), error
                continue
            assert error is None, error
            assert result.get_response().id == str(number)
            checks.same(result.as_numpy("y"), _scaled(place, number)[1], str(number))
        client.stop_stream()


def check_a_large_tensor(place):
    """Eight megabytes each way: over gRPC's own default limit."""
    array = np.arange(1_000_000, dtype=np.float64)
    with _client(place) as client:
        inputs = [_input("FP64", "FP64", array)]
        result = client.infer("every", inputs, outputs=_outputs(["FP64"]), headers=place.metadata("every"))
    checks.same(result.as_numpy("FP64"), array)


def check_client_timeout_is_met(place):
    with _client(place) as client:
        client.infer("iris", _inputs(place, "iris"), client_timeout=20, headers=place.metadata("iris"))


if __name__ == "__main__":
    checks.run(dict(globals()))
