"""Never: a body, however broken, makes a codec raise anything but ``SpecError``; what was read can be answered."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable
from typing import Any

import hypothesis
import numpy as np
import orjson
import pytest
from google.protobuf import message as protobuf
from hypothesis import strategies as st

from mlship import errors
from mlship.protocol import grpc_codec, json_codec, messages, mlflow_codec, oip, v1_codec

# A busy machine is no failure.
CALM = hypothesis.settings(deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])

WORDS = [
    *("inputs", "outputs", "parameters", "id", "name", "shape", "datatype", "data", "instances", "columns", "params"),
    *("binary_data_size", "binary_data", "binary_data_output", "content_type", "dataframe_split", "index", "b64", "x"),
    *("dataframe_records", "signature_name", "specversion", "data_base64", *messages.NUMPY_OF, "BF16"),
    *("np", "pd", "str", "base64", "datetime", "json", "pd_json", "2024-01-01T00:00:00Z", "YQ==", '{"a": [1, "b"]}'),
]
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.integers(-2, 5),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(WORDS),
    st.text(max_size=4),
)
KEYS = st.one_of(st.sampled_from(WORDS), st.text(max_size=3))
JSON = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=20
)
VALID: list[Any] = [
    {
        "id": "1",
        "parameters": {"binary_data_output": False, "k": 1},
        "inputs": [
            {"name": "a", "shape": [2, 2], "datatype": "FP32", "data": [[1, 2.5], [3, None]]},
            {
                "name": "b",
                "shape": [2],
                "datatype": "BYTES",
                "data": ["u", "YQ=="],
                "parameters": {"content_type": "str"},
            },
            {"name": "c", "shape": [1], "datatype": "UINT8", "data": [200]},
        ],
        "outputs": [{"name": "y", "parameters": {"binary_data": True}}],
    },
    {"inputs": [{"name": "t", "shape": [1], "datatype": "BYTES", "data": ["2024-01-01"]}]},
    {
        "inputs": [{"name": "t", "shape": [1], "datatype": "BYTES", "data": ['[{"a": 1}]']}],
        "parameters": {"content_type": "pd_json"},
    },
    {"instances": [[1, 2], [3, 4.5]]},
    {"instances": [{"a": 1, "b": {"b64": "YQ=="}}, {"a": [1], "b": None}], "parameters": {"k": "v"}},
    {"inputs": {"a": [1, 2], "b": ["x", "y"]}, "signature_name": "serving_default"},
    {"specversion": "1.0", "id": "1", "data": {"instances": [1]}},
    {"dataframe_split": {"columns": ["a", "b"], "index": [0], "data": [[1, "x"]]}, "params": {"k": 1}},
    {"dataframe_records": [{"a": 1, "b": "x"}, {"a": 2, "b": None}]},
]
CSV = b'a,b,c\n1,x,2.5\n"2","y,z",NA\n'


def answers(request: messages.InferRequest) -> None:
    """An echo of the request leaves in every form, as from a model that returns what it got."""
    outputs = []
    for tensor in request.inputs:
        # The server, not the codec, names the datatype of what a model returned.
        datatype = messages.datatype_of(tensor.data.dtype)
        outputs.append(messages.Tensor(tensor.name, datatype, tensor.data, tensor.parameters))
    response = messages.InferResponse("m", id=request.id, outputs=tuple(outputs))
    with contextlib.suppress(errors.SpecError):
        json_codec.encode_infer(response, request)
    with contextlib.suppress(errors.SpecError):
        grpc_codec.encode_infer(response, request).SerializeToString()
    v1_codec.encode_predict(response)
    mlflow_codec.encode_invocations(response)


def survives(decode: Callable[[], messages.InferRequest]) -> bool:
    """Runs a decoder; True when it took the body. Anything but SpecError goes through."""
    try:
        request = decode()
    except errors.SpecError as error:
        assert 400 <= error.reason.http_status < 500
        assert len(str(error)) < 1000
        assert json_codec.encode_error(error.message, hint=error.hint)
        return False
    answers(request)
    return True


def everywhere(body: bytes, length: int | None = None) -> int:
    """How many of the decoders took the body."""
    return sum(
        (
            survives(lambda: json_codec.decode_infer(body, model_name="m", header_length=length)),
            survives(lambda: v1_codec.decode_predict(body, model_name="m")),
            survives(lambda: mlflow_codec.decode_invocations(body, content_type="", model_name="m")),
            survives(lambda: mlflow_codec.decode_invocations(body, content_type="text/csv", model_name="m")),
        )
    )


def test_the_seeds_are_valid() -> None:
    for payload in VALID:
        assert everywhere(orjson.dumps(payload)), payload
    assert everywhere(CSV)


@hypothesis.settings(CALM)
@hypothesis.given(body=st.binary(max_size=200), length=st.none() | st.integers(-1, 220))
def test_arbitrary_bytes(body: bytes, length: int | None) -> None:
    everywhere(body, length)


@hypothesis.settings(CALM, max_examples=300)
@hypothesis.given(payload=JSON, tail=st.none() | st.binary(max_size=30))
def test_arbitrary_json(payload: Any, tail: bytes | None) -> None:
    text = orjson.dumps(payload)
    everywhere(text + (tail or b""), None if tail is None else len(text))


@hypothesis.settings(CALM, max_examples=300)
@hypothesis.given(content_type=st.text(max_size=40), body=st.text(max_size=60))
def test_arbitrary_text_as_a_table(content_type: str, body: str) -> None:
    raw = body.encode()
    survives(lambda: mlflow_codec.decode_invocations(raw, content_type=content_type, model_name="m"))
    survives(lambda: mlflow_codec.decode_invocations(raw, content_type="text/csv", model_name="m"))


def replaced(payload: Any, chance: random.Random, value: Any) -> Any:
    """``payload`` with one place in it changed: its value, its key, or the place taken away."""
    if not isinstance(payload, dict | list) or not payload or chance.random() < 0.15:
        return value
    keys: list[Any] = list(payload) if isinstance(payload, dict) else list(range(len(payload)))
    key = chance.choice(keys)
    changed = payload.copy()
    what = chance.random()
    if what < 0.1:
        del changed[key]
    elif what < 0.2 and isinstance(changed, dict):
        changed[chance.choice(WORDS)] = changed.pop(key)
    else:
        changed[key] = replaced(payload[key], chance, value)
    return changed


@hypothesis.settings(CALM, max_examples=1000)
@hypothesis.given(
    payload=st.sampled_from(VALID),
    seed=st.integers(0, 2**32),
    value=JSON,
    times=st.integers(1, 3),
    tail=st.binary(max_size=9),
)
def test_valid_bodies_with_places_changed(payload: Any, seed: int, value: Any, times: int, tail: bytes) -> None:
    chance = random.Random(seed)
    for _ in range(times):
        payload = replaced(payload, chance, value)
    text = orjson.dumps(payload)
    everywhere(text)
    everywhere(text + tail, len(text))


@hypothesis.settings(CALM, max_examples=500)
@hypothesis.given(
    body=st.sampled_from([*map(orjson.dumps, VALID), CSV]),
    cuts=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 3), st.binary(max_size=3)), min_size=1, max_size=3),
)
def test_valid_bodies_with_bytes_changed(body: bytes, cuts: list[tuple[int, int, bytes]]) -> None:
    for at, width, put in cuts:
        at %= len(body) + 1
        body = body[:at] + put + body[at + width :]
    everywhere(body)


def messages_to_break() -> list[bytes]:
    kind = oip.message("ModelInferRequest")
    typed = kind(model_name="m", inputs=[{"name": "a", "datatype": "INT16", "shape": [2]}])
    typed.inputs[0].contents.int_contents.extend([1, 2])
    typed.parameters["content_type"].string_param = "str"
    raw = kind(model_name="m", inputs=[{"name": "b", "datatype": "BYTES", "shape": [1, 1]}])
    raw.inputs.add(name="c", datatype="FP64", shape=[1])
    raw.raw_input_contents.extend([b"\x01\x00\x00\x00a", np.float64(0.5).tobytes()])
    raw.outputs.add(name="y").parameters["binary_data"].bool_param = True
    return [typed.SerializeToString(), raw.SerializeToString()]


@hypothesis.settings(CALM, max_examples=1000)
@hypothesis.given(
    raw=st.one_of(st.binary(max_size=100), st.sampled_from(messages_to_break())),
    cuts=st.lists(st.tuples(st.integers(0, 200), st.integers(0, 2), st.binary(max_size=2)), max_size=3),
)
def test_messages_with_bytes_changed(raw: bytes, cuts: list[tuple[int, int, bytes]]) -> None:
    for at, width, put in cuts:
        at %= len(raw) + 1
        raw = raw[:at] + put + raw[at + width :]
    try:
        message = oip.message("ModelInferRequest").FromString(raw)
    except protobuf.DecodeError:
        return  # The transport refuses what is no message.
    survives(lambda: grpc_codec.decode_infer(message))


@pytest.mark.slow
@pytest.mark.timeout(900)
@hypothesis.settings(CALM, max_examples=20_000)
@hypothesis.given(payload=st.sampled_from(VALID), seed=st.integers(0, 2**32), value=JSON, times=st.integers(1, 4))
def test_twenty_thousand_changed_bodies(payload: Any, seed: int, value: Any, times: int) -> None:
    chance = random.Random(seed)
    for _ in range(times):
        payload = replaced(payload, chance, value)
    everywhere(orjson.dumps(payload))
