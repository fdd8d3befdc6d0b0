"""Answers over the wire equal those of the library in process: to the bit, in datatype and in shape.

Every model of ``models.MAKERS`` lies in one repository that one real server serves, and is asked in three ways: REST
with JSON both ways, REST with binary tensors both ways, gRPC.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import grpc
import httpx
import numpy as np
import pytest

import models
from conformance import places
from mlship.protocol import messages, oip

WAYS = ("json", "binary", "grpc")
HEADER = "Inference-Header-Content-Length"


@dataclasses.dataclass(frozen=True, slots=True)
class Served:
    """The running server and what its models answered in process, by name."""

    http: str
    grpc: str
    made: Mapping[str, models.Made]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("exact")
    made = {}
    for make in models.MAKERS:
        (folder / "models" / make.__name__).mkdir(parents=True)
        made[make.__name__] = make(folder / "models" / make.__name__)
    with places.server(folder / "server.log", "--model-repository", str(folder / "models")) as (http, grpc_address):
        yield Served(http, grpc_address, made)


def tensors(made: models.Made) -> dict[str, Any]:
    return {name: np.ascontiguousarray(array) for name, array in made.inputs.items()}


def without_gaps(made: models.Made) -> models.Made:
    """The rows that have all their strings, where some have not: only JSON has a word for a missing one."""
    strings = [name for name, array in made.inputs.items() if array.dtype == object]
    if not any(None in made.inputs[name].tolist() for name in strings):
        return made
    return places.rows_of(made, places.present(made, *strings))


def raw(array: Any) -> bytes:
    """An array as the protocol's binary form."""
    if array.dtype != object:
        return bytes(array.tobytes())
    encoded = [value.encode() if isinstance(value, str) else value for value in array.ravel()]
    return b"".join(len(value).to_bytes(4, "little") + value for value in encoded)


def read_raw(data: bytes, datatype: str, shape: list[int]) -> Any:
    if datatype != "BYTES":
        return np.frombuffer(data, messages.NUMPY_OF[datatype]).reshape(shape)
    values = []
    while data:
        size = int.from_bytes(data[:4], "little")
        values.append(data[4 : 4 + size].decode())
        data = data[4 + size :]
    return np.array(values, dtype=object).reshape(shape)


def described(name: str, array: Any) -> dict[str, Any]:
    return {"name": name, "datatype": messages.datatype_of(array.dtype), "shape": list(array.shape)}


def ask_json(served: Served, model: str, made: models.Made) -> dict[str, Any]:
    inputs = [
        {**described(name, array), "data": [None if value != value else value for value in array.ravel().tolist()]}
        for name, array in tensors(made).items()
    ]
    request = {"inputs": inputs, "outputs": [{"name": name} for name in made.expected]}
    with httpx.Client(trust_env=False) as http:
        answer = http.post(f"http://{served.http}/v2/models/{model}/infer", content=json.dumps(request))
    assert answer.status_code == 200, answer.text
    return {
        output["name"]: np.array(output["data"], dtype=messages.NUMPY_OF[output["datatype"]]).reshape(output["shape"])
        for output in answer.json()["outputs"]
    }


def ask_binary(served: Served, model: str, made: models.Made) -> dict[str, Any]:
    parts = {name: raw(array) for name, array in tensors(made).items()}
    inputs = [
        {**described(name, array), "parameters": {"binary_data_size": len(parts[name])}}
        for name, array in tensors(made).items()
    ]
    outputs = [{"name": name, "parameters": {"binary_data": True}} for name in made.expected]
    text = json.dumps({"inputs": inputs, "outputs": outputs}).encode()
    with httpx.Client(trust_env=False) as http:
        answer = http.post(
            f"http://{served.http}/v2/models/{model}/infer",
            content=b"".join((text, *parts.values())),
            headers={HEADER: str(len(text))},
        )
    assert answer.status_code == 200, answer.text
    at = int(answer.headers[HEADER])
    found = {}
    for output in json.loads(answer.content[:at])["outputs"]:
        assert "data" not in output
        size = output["parameters"]["binary_data_size"]
        found[output["name"]] = read_raw(answer.content[at : at + size], output["datatype"], output["shape"])
        at += size
    assert at == len(answer.content)
    return found


def ask_grpc(served: Served, model: str, made: models.Made) -> dict[str, Any]:
    method = next(method for method in oip.METHODS if method.name == "ModelInfer")
    request = method.request_class(model_name=model)
    for name, array in tensors(made).items():
        request.inputs.add(**described(name, array))
        request.raw_input_contents.append(raw(array))
    for name in made.expected:
        request.outputs.add(name=name)
    with grpc.insecure_channel(served.grpc) as channel:
        call = channel.unary_unary(
            f"/{oip.SERVICE}/ModelInfer",
            request_serializer=method.request_class.SerializeToString,
            response_deserializer=method.response_class.FromString,
        )
        answer = call(request, timeout=30)
    return {
        output.name: read_raw(content, output.datatype, list(output.shape))
        for output, content in zip(answer.outputs, answer.raw_output_contents, strict=True)
    }


ASK = {"json": ask_json, "binary": ask_binary, "grpc": ask_grpc}


def differences(got: Mapping[str, Any], expected: Mapping[str, Any]) -> list[str]:
    """What is not the same, output by output; floats are compared as bits."""
    found = [] if list(got) == list(expected) else [f"outputs {list(got)}, expected {list(expected)}"]
    for name, array in expected.items():
        want, have = np.ascontiguousarray(array), np.ascontiguousarray(got[name])
        same = have.dtype == want.dtype and have.shape == want.shape
        if same and want.dtype == object:
            same = have.tolist() == want.tolist()
        elif same:
            same = have.tobytes() == want.tobytes()
        if not same:
            found.append(f"{name}: {have.dtype}{have.shape} {have!r}, expected {want.dtype}{want.shape} {want!r}")
    return found


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("model", [make.__name__ for make in models.MAKERS])
def test_answers_equal_those_in_process(model: str, way: str, served: Served) -> None:
    made = served.made[model] if way == "json" else without_gaps(served.made[model])
    assert differences(ASK[way](served, model, made), made.expected) == []


def test_the_table(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    """Twelve models over four frameworks at least; printed, so that whoever reads the run sees what was compared."""
    lines = [("model", "format", "outputs", "rows")]
    for name, made in served.made.items():
        rows = len(next(iter(made.expected.values())))
        lines.append((name, made.format, ", ".join(made.expected), str(rows)))
    widths = [max(len(line[column]) for line in lines) for column in range(3)]
    with capsys.disabled():
        for line in lines:
            padded = "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=False))
            sys.stdout.write(f"\n  {padded}  {line[3]:>4}")
        sys.stdout.write("\n")
    assert len(lines) > 12
    assert len({made.format for made in served.made.values()} - {"python"}) >= 4


def test_a_difference_is_seen() -> None:
    values = np.array([0.1, 0.2])
    assert differences({"y": values}, {"y": values}) == []
    assert differences({"y": np.nextafter(values, 1)}, {"y": values})
    assert differences({"y": values.astype(np.float32)}, {"y": values})
    assert differences({"y": values.reshape(2, 1)}, {"y": values})
    assert differences({"y": np.array([-0.0])}, {"y": np.array([0.0])})
