"""KServe's own inference clients: InferenceRESTClient with V1 and V2, InferenceGRPCClient, and their data types."""

import asyncio
import functools

import checks
import grpc
import httpx
import kserve
import numpy as np
from kserve import InferInput, InferRequest, RESTConfig
from kserve.protocol.infer_type import RequestedOutput

CASES = ("iris", "titanic", "titanic-numbers")


def _rest(call, protocol):
    """Run ``call(client)`` with a REST client that is closed again."""

    async def whole():
        client = kserve.InferenceRESTClient(RESTConfig(protocol=protocol, timeout=30))
        try:
            return await call(client)
        finally:
            await client.close()

    return asyncio.run(whole())


def _grpc(place, call):
    async def whole():
        async with kserve.InferenceGRPCClient(place.grpc, timeout=30) as client:
            return await call(client)

    return asyncio.run(whole())


def _url(address):
    return f"http://{address}"


def _metadata(place, model):
    return tuple(place.metadata(model).items())


def _input(name, datatype, array, *, binary):
    tensor = InferInput(name, list(array.shape), datatype)
    tensor.set_data_from_numpy(array, binary_data=binary)
    return tensor


def _request(place, case, *, binary, **options):
    inputs = [_input(*tensor, binary=binary) for tensor in place.inputs(case)]
    outputs = [RequestedOutput(name) for name in place.expected(case)]
    return InferRequest(checks.model_of(case), inputs, request_outputs=outputs, **options)


def _echo(datatype, array, *, binary, **options):
    inputs = [_input(datatype, datatype, array, binary=binary)]
    return InferRequest("every", inputs, request_outputs=[RequestedOutput(datatype)], **options)


def _compare(place, case, answer):
    found = {output.name: output for output in answer.outputs}
    for name, expected in place.expected(case).items():
        checks.same(found[name].as_numpy(), expected, f"{case} {name}")


def check_v1_predict(place):
    (_, _, rows) = place.inputs("iris")[0]
    answer = _rest(lambda client: client.infer(_url(place.http), {"instances": rows.tolist()}, model_name="iris"), "v1")
    checks.same(np.array(answer["predictions"]), place.expected("iris")["predict"])


def check_v1_predict_rows_by_column(place):
    columns = {name: array.tolist() for name, _, array in place.inputs("titanic-gaps")}
    rows = [
        {name: None if value != value else value for name, value in zip(columns, values, strict=True)}
        for values in zip(*columns.values(), strict=True)
    ]
    answer = _rest(lambda client: client.infer(_url(place.http), {"instances": rows}, model_name="titanic"), "v1")
    checks.same(np.array(answer["predictions"]), place.expected("titanic-gaps")["predict"])


def check_v1_live_and_ready(place):
    assert _rest(lambda client: client.is_server_live(_url(place.server)), "v1") is True
    assert _rest(lambda client: client.is_model_ready(_url(place.http), "iris"), "v1") is True


def check_v1_live_at_the_root(place):
    assert _rest(lambda client: client.is_server_live(_url(place.http)), "v1") is True


def check_v1_unknown_model(place):
    call = functools.partial(
        _rest, lambda client: client.infer(_url(place.http), {"instances": [[1]]}, model_name="nobody"), "v1"
    )
    checks.refused(call, httpx.HTTPStatusError, "404", "iris")


def check_v1_wrong_columns(place):
    call = functools.partial(
        _rest, lambda client: client.infer(_url(place.http), {"instances": [[1.0, 2.0]]}, model_name="iris"), "v1"
    )
    checks.refused(call, httpx.HTTPStatusError, "400", "4", "2")


def check_v2_infer_json(place):
    for case in CASES:
        _compare(place, case, _rest(functools.partial(_infer, place, _request(place, case, binary=False)), "v2"))


async def _infer(place, request, client):
    return await client.infer(_url(place.http), request, model_name=request.model_name)


def check_v2_infer_binary(place):
    for case in CASES:
        request = _request(place, case, binary=True, parameters={"binary_data_output": True})
        _compare(place, case, _rest(functools.partial(_infer, place, request), "v2"))


def check_v2_every_datatype_binary(place):
    for datatype, array in checks.samples():
        request = _echo(datatype, array, binary=True, parameters={"binary_data_output": True})
        answer = _rest(functools.partial(_infer, place, request), "v2")
        assert answer.outputs[0].datatype == datatype
        checks.same(answer.outputs[0].as_numpy(), array, datatype)


def check_v2_every_datatype_json(place):
    for datatype, array in checks.samples():
        if datatype == "FP16":
            continue  # KServe has no JSON form for it.
        request = _echo(datatype, array, binary=False)
        answer = _rest(functools.partial(_infer, place, request), "v2")
        checks.same(answer.outputs[0].as_numpy(), array, datatype)


def check_v2_request_id(place):
    request = _request(place, "iris", binary=False, request_id="seventeen")
    assert _rest(functools.partial(_infer, place, request), "v2").id == "seventeen"


def check_v2_live_and_ready(place):
    assert _rest(lambda client: client.is_server_live(_url(place.server)), "v2") is True
    assert _rest(lambda client: client.is_server_ready(_url(place.server)), "v2") is True
    assert _rest(lambda client: client.is_model_ready(_url(place.http), "iris"), "v2") is True
    assert _rest(lambda client: client.is_model_ready(_url(place.http), "nobody"), "v2") is False


def check_v2_live_and_ready_at_the_root(place):
    assert _rest(lambda client: client.is_server_live(_url(place.http)), "v2") is True
    assert _rest(lambda client: client.is_server_ready(_url(place.http)), "v2") is True


def check_v2_wrong_shape(place):
    inputs = [_input("input-0", "FP64", np.ones((2, 3)), binary=False)]
    call = functools.partial(_rest, functools.partial(_infer, place, InferRequest("iris", inputs)), "v2")
    checks.refused(call, httpx.HTTPStatusError, "400", "input-0", "[-1,4]", "[2,3]")


def check_grpc_infer(place):
    for case in CASES:
        for binary in (False, True):
            request = _request(place, case, binary=binary)
            call = functools.partial(_infer_grpc, request, _metadata(place, request.model_name))
            _compare(place, case, _grpc(place, call))


async def _infer_grpc(request, metadata, client):
    return await client.infer(request, headers=metadata)


def check_grpc_every_datatype(place):
    for datatype, array in checks.samples():
        for binary in (False, True):
            if datatype == "FP16" and not binary:
                continue  # The protocol has no typed contents for it.
            request = _echo(datatype, array, binary=binary)
            answer = _grpc(place, functools.partial(_infer_grpc, request, _metadata(place, "every")))
            assert answer.outputs[0].datatype == datatype
            checks.same(answer.outputs[0].as_numpy(), array, f"{datatype} binary={binary}")


def check_grpc_live_and_ready(place):
    about = _metadata(place, "iris")
    assert _grpc(place, lambda client: client.is_server_live(headers=about)) is True
    assert _grpc(place, lambda client: client.is_server_ready(headers=about)) is True
    assert _grpc(place, lambda client: client.is_model_ready("iris", headers=about)) is True


def check_grpc_unknown_model(place):
    request = InferRequest("nobody", [_input("input-0", "FP64", np.ones((1, 4)), binary=True)])
    call = functools.partial(_grpc, place, functools.partial(_infer_grpc, request, _metadata(place, "iris")))
    error = checks.refused(call, grpc.RpcError, "nobody", "iris")
    assert error.code() is grpc.StatusCode.NOT_FOUND


if __name__ == "__main__":
    checks.run(dict(globals()))
