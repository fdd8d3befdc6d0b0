from __future__ import annotations

import concurrent.futures
import pathlib
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest

import model_server
from mlship.protocol import oip

ROW = [5.1, 3.5, 1.4, 0.2]
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.fixture(scope="module")
def channel(server: Any) -> Iterator[grpc.Channel]:
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(server.grpc_address, options=options) as made:
        yield made


def call(channel: grpc.Channel, method: str, message: Any = None, **options: Any) -> Any:
    found = next(one for one in oip.METHODS if one.name == method)
    message = message if message is not None else found.request_class()
    stub = channel.unary_unary(
        f"/{oip.SERVICE}/{method}",
        request_serializer=lambda one: one if isinstance(one, bytes) else one.SerializeToString(),
        response_deserializer=found.response_class.FromString,
    )
    return stub(message, timeout=options.pop("timeout", 30), **options)


def request(name: str = "iris", rows: Any = (ROW,), *, input_name: str = "input-0", **more: Any) -> Any:
    array = np.asarray(rows, dtype="<f8")
    message = oip.message("ModelInferRequest")(model_name=name, **more)
    message.inputs.add(name=input_name, datatype="FP64", shape=list(array.shape))
    message.raw_input_contents.append(array.tobytes())
    return message


def text(value: str) -> Any:
    message = oip.message("ModelInferRequest")(model_name="echo")
    message.inputs.add(name="text", datatype="BYTES", shape=[1]).contents.bytes_contents.append(value.encode())
    return message


def refusal(channel: grpc.Channel, method: str, message: Any, **options: Any) -> Any:
    with pytest.raises(grpc.RpcError) as caught:
        call(channel, method, message, **options)
    return caught.value


def test_health_and_metadata(channel: grpc.Channel) -> None:
    assert call(channel, "ServerLive").live
    assert call(channel, "ServerReady").ready
    assert call(channel, "ModelReady", oip.message("ModelReadyRequest")(name="iris")).ready
    found = call(channel, "ServerMetadata")
    assert (found.name, list(found.extensions)[:2]) == ("mlship", ["binary_tensor_data", "model_repository"])
    model = call(channel, "ModelMetadata", oip.message("ModelMetadataRequest")(name="iris"))
    assert [(tensor.name, tensor.datatype, list(tensor.shape)) for tensor in model.inputs] == [
        ("input-0", "FP64", [-1, 4])
    ]
    assert list(model.versions) == ["1", "2"]


def test_answers_equal_the_model_in_process(channel: grpc.Channel, iris: tuple[pathlib.Path, Any]) -> None:
    message = request(id="7")
    message.outputs.add(name="predict_proba")
    answer = call(channel, "ModelInfer", message)
    assert (answer.id, answer.model_name, answer.model_version) == ("7", "iris", "2")
    got = np.frombuffer(answer.raw_output_contents[0], dtype="<f8")
    assert got.tolist() == iris[1].predict_proba(np.asarray([ROW])).ravel().tolist()


@pytest.mark.parametrize(
    ("message", "code", "said"),
    [
        (request("nobody"), grpc.StatusCode.NOT_FOUND, "it has models"),
        (request(model_version="9"), grpc.StatusCode.NOT_FOUND, 'has no version "9"'),
        (request(rows=[[1.0]]), grpc.StatusCode.INVALID_ARGUMENT, "expected shape [-1,4], got [1,1]"),
        (request(input_name="x"), grpc.StatusCode.INVALID_ARGUMENT, 'an input named "x"'),
        (b"\xff\xff\xff", grpc.StatusCode.INVALID_ARGUMENT, "no inference.ModelInferRequest"),
        (text("fail"), grpc.StatusCode.INTERNAL, "the model's own fault"),
        (b"\x0a\xc0\x96\xb1\x02" + b"x" * 5_000_000, grpc.StatusCode.RESOURCE_EXHAUSTED, "--max-body-bytes"),
    ],
)
def test_errors_have_their_code_and_the_same_sentence(
    channel: grpc.Channel, message: Any, code: grpc.StatusCode, said: str
) -> None:
    error = refusal(channel, "ModelInfer", message)
    assert error.code() is code
    assert said in error.details()


def test_the_deadline_travels(channel: grpc.Channel, server: Any, tmp_path: pathlib.Path) -> None:
    release = tmp_path / "go"
    error = refusal(channel, "ModelInfer", text(f"wait:{release}"), timeout=0.3)
    release.touch()
    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED


def test_a_cancelled_call_frees_its_place(channel: grpc.Channel, server: Any, tmp_path: pathlib.Path) -> None:
    running, queued = tmp_path / "running", tmp_path / "queued"
    stub = channel.unary_unary(
        f"/{oip.SERVICE}/ModelInfer",
        request_serializer=oip.message("ModelInferRequest").SerializeToString,
        response_deserializer=oip.message("ModelInferResponse").FromString,
    )
    first = stub.future(text(f"wait:{running}"), timeout=30)
    server.until(running.with_suffix(".seen").exists)
    second = stub.future(text(f"wait:{queued}"), timeout=30)
    depth = 'mlship_queue_depth{model="echo"} '
    server.until(lambda: f"{depth}1.0" in server.http.get("/metrics").text)
    second.cancel()
    server.until(lambda: f"{depth}0.0" in server.http.get("/metrics").text)
    running.touch()
    assert first.result().outputs[0].name == "echo"
    assert not queued.with_suffix(".seen").exists()


def test_a_stream_answers_message_by_message(channel: grpc.Channel) -> None:
    stub = channel.stream_stream(
        f"/{oip.SERVICE}/ModelStreamInfer",
        request_serializer=lambda one: one if isinstance(one, bytes) else one.SerializeToString(),
        response_deserializer=oip.message("ModelStreamInferResponse").FromString,
    )
    asked = [request(id="1"), request(rows=[[1.0]], id="2"), b"\xff\xff", text("fail"), request(id="5")]
    answers = list(stub(iter(asked), timeout=30))
    assert [answer.infer_response.id for answer in answers] == ["1", "", "", "", "5"]
    assert "expected shape [-1,4], got [1,1]" in answers[1].error_message
    assert "no inference.ModelInferRequest" in answers[2].error_message
    assert "the model's own fault" in answers[3].error_message


def test_repository_and_statistics(channel: grpc.Channel) -> None:
    found = call(channel, "RepositoryIndex", oip.message("RepositoryIndexRequest")(ready=True))
    assert ("iris", "1", "READY") in [(model.name, model.version, model.state) for model in found.models]
    call(channel, "ModelInfer", request("iris"))
    stats = call(channel, "ModelStatistics", oip.message("ModelStatisticsRequest")(name="iris", version="2"))
    assert stats.model_stats[0].inference_count >= 1
    assert stats.model_stats[0].inference_stats.success.ns > 0


def test_load_and_unload_in_both_wire_forms(start: Any, server: Any) -> None:
    folder = server.folder / "models"
    own = start("--model-repository", str(folder), "--grpc-port", "0", "--host", "127.0.0.1")
    own.until_ready()
    address = next(line["grpc"] for line in own.lines if line["event"] == "listening")
    with grpc.insecure_channel(address) as channel:
        unload = oip.message("RepositoryModelUnloadRequest")(model_name="adder")
        unload.parameters["unload_dependents"].bool_param = False
        assert call(channel, "RepositoryModelUnload", unload).isUnloaded
        ready = oip.message("ModelReadyRequest")(name="adder")
        assert not call(channel, "ModelReady", ready).ready
        assert refusal(channel, "ModelInfer", request("adder")).code() is grpc.StatusCode.UNAVAILABLE
        # KServe's own proto has the name in field 1.
        assert call(channel, "RepositoryModelLoad", oip.message("RepositoryModelLoadRequest")(repository_name="adder"))
        assert call(channel, "ModelReady", ready).ready
        load = oip.message("RepositoryModelLoadRequest")(model_name="adder")
        load.parameters["config"].string_param = "{}"
        assert refusal(channel, "RepositoryModelLoad", load).code() is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize(("service", "answer"), [("", b"\x08\x01"), (oip.SERVICE, b"\x08\x01"), ("iris", b"\x08\x01")])
def test_the_standard_health_check(channel: grpc.Channel, service: str, answer: bytes) -> None:
    check = channel.unary_unary("/grpc.health.v1.Health/Check")
    raw = b"\x0a" + bytes([len(service)]) + service.encode() if service else b""
    assert check(raw, timeout=30) == answer


@pytest.mark.parametrize(
    ("raw", "code"),
    [(b"\x0a\x06nobody", grpc.StatusCode.NOT_FOUND), (b"\x0a\x99", grpc.StatusCode.INVALID_ARGUMENT)],
)
def test_a_health_check_of_what_is_not_there(channel: grpc.Channel, raw: bytes, code: grpc.StatusCode) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary("/grpc.health.v1.Health/Check")(raw, timeout=30)
    assert caught.value.code() is code


def test_many_calls_at_once(channel: grpc.Channel) -> None:
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda number: call(channel, "ModelInfer", request(id=str(number))).id, range(1, 60)))
    assert answers == [str(number) for number in range(1, 60)]


def test_calls_are_counted_and_traced(channel: grpc.Channel, server: Any) -> None:
    metadata = (("traceparent", f"00-{TRACE}-00f067aa0ba902b7-01"), ("x-request-id", "grpc-1"))
    refusal(channel, "ModelInfer", text("fail"), metadata=metadata)
    line = next(line for line in server.lines if line.get("request_id") == "grpc-1")
    assert line["trace_id"] == TRACE
    exposition = server.http.get("/metrics").text
    assert 'mlship_requests_total{code="INTERNAL",model="echo",protocol="grpc"}' in exposition
    assert 'mlship_requests_in_flight{protocol="grpc"} 0.0' in exposition


# Holds who says so until the file beside it appears, and tells how many it holds.
HOLD = """
    import asyncio
    import pathlib

    import numpy as np

    class Hold:
        signature = {
            "inputs": [{"name": "text", "datatype": "BYTES", "shape": [-1]}],
            "outputs": [{"name": "inside", "datatype": "INT64", "shape": [-1]}],
        }

        def __init__(self):
            self.inside = 0

        async def predict(self, inputs):
            here = pathlib.Path(__file__)
            if inputs["text"][0] != "hold":
                return {"inside": np.asarray([0])}
            self.inside += 1
            inside = self.inside
            here.with_name(f"inside-{inside}").touch()
            while not here.with_name("go").exists():
                await asyncio.sleep(0.005)
            self.inside -= 1
            return {"inside": np.asarray([inside])}
"""


@pytest.mark.parametrize(("flags", "most"), [(("--max-concurrency", "3"), 3), ((), 12)])
def test_no_more_requests_run_at_once_than_there_may_be_over_rest_and_grpc(
    start: Any, tmp_path: pathlib.Path, flags: tuple[str, ...], most: int
) -> None:
    path = model_server.write_model(tmp_path / "hold", HOLD)
    sockets = ("--grpc-socket", str(tmp_path / "grpc"))
    server = start("--model-path", str(path), "--model-name", "hold", *sockets, *flags)
    server.until_ready()
    body = {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": ["hold"]}]}

    def ask(number: int) -> None:
        if number % 2:
            assert server.http.post("/v2/models/hold/infer", json=body).status_code == 200
        else:
            message = text("hold")
            message.model_name = "hold"
            call(made, "ModelInfer", message)

    with (
        grpc.insecure_channel(f"unix:{tmp_path / 'grpc'}") as made,
        concurrent.futures.ThreadPoolExecutor(12) as callers,
    ):
        asked = [callers.submit(ask, number) for number in range(12)]
        waiting = 12 - most
        server.until((path / f"inside-{most}").exists)
        server.until(lambda: f'mlship_queue_depth{{model="hold"}} {waiting}.0' in server.http.get("/metrics").text)
        (path / "go").touch()
        for one in asked:
            one.result(60)
    assert not (path / f"inside-{most + 1}").exists()
