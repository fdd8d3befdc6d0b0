"""Read in pieces or whole, a body says the same, and so does its refusal; written in pieces or whole, too."""

from __future__ import annotations

import json
import random
from typing import Any

import numpy as np
import pytest

from mlship import errors
from mlship.protocol import json_codec, json_slices, messages


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_slices, "PIECE", 8)
    monkeypatch.setattr(json_slices, "LEAST", 12)
    monkeypatch.setattr(json_slices, "_ROWS_WRITTEN", 2)


def said(body: bytes, *, sliced: bool) -> Any:
    """What a body says: its arrays, or its refusal."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_slices, "LEAST", 12 if sliced else 10_000)
        try:
            found = json_codec.decode_infer(body, model_name="m", pause=(lambda: None) if sliced else None)
        except errors.SpecError as error:
            return str(error)
    return found.id, [
        (tensor.name, tensor.datatype, tensor.shape, tensor.data.dtype, tensor.data.tobytes())
        if tensor.datatype != "BYTES"
        else (tensor.name, tensor.data.tolist())
        for tensor in found.inputs
    ]


def body(data: str, *, shape: Any = (6,), datatype: str = "FP64", more: str = "") -> bytes:
    tensor = f'{{"name":"x","shape":{json.dumps(shape)},"datatype":"{datatype}","data":{data}{more}}}'
    return f'{{"id":"7","inputs":[{tensor}]}}'.encode()


FLAT = "[1.5, 2, 3e2, -4.25, null, 0.1]"
ROWS = "[[1.5, 2], [3e2, -4.25], [null, 0.1]]"


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        (FLAT, (6,)),
        (ROWS, (3, 2)),
        ("[[[1.5, 2], [3e2, -4.25]], [[0, 0.1], [0, 1]], [[0, 0], [0, 2]]]", (3, 2, 2)),
        ("[[[[1.5]], [[3e2]]], [[[0.1]], [[1]]], [[[0]], [[2]]]]", (3, 2, 1, 1)),
    ],
)
def test_pauses_come_between_pieces(text: str, shape: tuple[int, ...]) -> None:
    pauses: list[None] = []
    json_codec.decode_infer(body(text, shape=shape), model_name="m", pause=lambda: pauses.append(None))
    assert len(pauses) > 1
    rest = json_slices.cut(body(text, shape=shape)).arrays.values()
    assert [json_slices.read(one, datatype="FP64", where="x")[1] for one in rest] == [shape]


@pytest.mark.parametrize(
    "found",
    [
        body(FLAT),
        body(ROWS, shape=(3, 2)),
        body(ROWS),
        body(ROWS, shape=(2, 3)),
        body(FLAT, shape=(3, 2)),
        body(FLAT, shape=(7,)),
        body(FLAT.replace(" ", "\n\t "), more=' , "parameters": {}'),
        body(ROWS.replace("]", " ]\n"), more=" "),
        body(FLAT, datatype="INT64"),
        body("[1, 2, 3, 4, 5, 6.0]", datatype="INT8"),
        body("[1, 2, 3, 400, 5, 6]", datatype="INT8"),
        body("[1, 2, 3, 4, 5, 6.5]", datatype="INT32"),
        body("[1e39, 2, 3, 4, 5, 6]", datatype="FP32"),
        body("[18446744073709551615, 2, 3, 4, 5, 6]", datatype="UINT64"),
        body("[true, false, true, true, true, false]", datatype="BOOL"),
        body("[true, false, 1, 1, 1, 1, 1, 1, 1, 1]", datatype="BOOL"),
        body("[null, null, null, null, null, null]", datatype="BYTES"),
        body('["data", ":[1,2,3,4,5,6,7,8,9]", "\\"data\\":[1,2,3,4,5,6,7,8,9]", "a", "b", "c"]', datatype="BYTES"),
        body('["mlship array 0", "", "\\u006dlship array 0", "a", "b", "c"]', datatype="BYTES"),
        body("[1, 2, 3, 4, 5, 6, ]"),
        body("[1, 2, 3, 4, 5, 6,, 7]"),
        body("[, 1, 2, 3, 4, 5, 6]"),
        body("[1, 2, 3], [4, 5, 6, 7, 8, 9]"),
        body("[1, 2, 3, [4, 5, 6], 7, 8, 9]"),
        body("[[1, 2], [3, 4], [5, 6, 7]]"),
        body("[[1, 2], [3, 4], 5, 6, 7, 8]"),
        body("[[[1, 2], [3, 4]], [[5, 6], [7, 8]]]", shape=(2, 2, 2)),
        body("[[[1, 2], [3, 4]], [[5, 6], [7, 8]], [[9, 10], [11]]]", shape=(3, 2, 2)),
        body("[[[1, 2], [3, 4]], [[5, 6], [7, 8], []]]", shape=(2, 2, 2)),
        body("[[[1], [2], [3], [4]], [[5], [6], [7], [8]]]", shape=(2, 4, 1)),
        body("[[[1], [2], [3], [4]], [[5], [6], [7], [8]]]", shape=(2, 4)),
        body("[[1, [2, 3]], [4, [5, 6]], [7, [8, 9]]]", shape=(3, 3)),
        body("[[[], []], [[], []], [[], []]]", shape=(3, 2, 0)),
        body("[-0, -0.0, 5e-324, 1e-400, 2, 3, 9007199254740993, 18446744073709551615]", shape=(8,)),
        body("[18446744073709551616, -9223372036854775809, 2, 3, 123456789012345678901234567890]", shape=(5,)),
        body("[1e400, 2, 3, 4, 5, 6]"),
        body("[1, 2, 3, true, 5, 6]"),
        body("[1, 2, 3, 9223372036854775808, 5, 6]", datatype="INT64"),
        body("[-1, 2, 3, 4, 5, 6]", datatype="UINT8"),
        body("[1, 70000, 3, 4, 5, 6]", datatype="FP16"),
        body("[1, 3e38, 3.5e38, 4, 5, 6]", datatype="FP32"),
        body("[[1, 2], [3, 4]] [[5, 6], [7, 8]]"),
        body("[01, 2, 3, 4, 5, 6, 7, 8]"),
        body("[1, 2, 3, 4, NaN, 6, 7, 8]"),
        body("[                              ]", shape=(0,)),
        body("[[], [], [], [], [], [], [], []]", shape=(8, 0)),
        body("[1, 2, 3, 4, 5, 6")[:-4],
        body(FLAT, more=',"data":[1,2,3,4,5,6,7,8,9]'),
        body(FLAT).replace(b'"data"', b'"\\"data"'),
        body(FLAT).replace(b'"data":', b'"data" \n:\t '),
        body(FLAT).replace(b'"id"', b'"data":[1,2,3,4,5,6,7,8,9,0],"id"'),
        body(FLAT).replace(b"{", b'{"data"', 1),
        b'"data":[1,2,3,4,5,6,7,8,9,10]',
        b'{"data":[1,2,3,4,5,6,7,8,9,10]',
        b'{"data":[1,2,3,4,5,6,7,8,9,10]}',
        b"",
    ],
)
def test_pieces_say_what_the_whole_says(found: bytes) -> None:
    assert said(found, sliced=True) == said(found, sliced=False)


@pytest.mark.parametrize("seed", range(5))
def test_so_they_do_whatever_is_changed(seed: int) -> None:
    rng = random.Random(seed)
    alphabet = b'[]{},:"\\ \n0123456789.e-+ntruefalsedata\x00\xff'
    for _ in range(400):
        text = bytearray(rng.choice((body(FLAT), body(ROWS, shape=(3, 2)), body("[1,2,3,4,5,6]", datatype="INT64"))))
        for _ in range(rng.randint(1, 3)):
            at = rng.randrange(len(text))
            text[at : at + rng.randint(0, 2)] = bytes(rng.choices(alphabet, k=rng.randint(0, 2)))
        assert said(bytes(text), sliced=True) == said(bytes(text), sliced=False), bytes(text)


def test_the_json_before_binary_tensors_is_read_in_pieces_too() -> None:
    text = body(FLAT)[:-2] + b',{"name":"y","shape":[1],"datatype":"FP64","parameters":{"binary_data_size":8}}]}'
    text = text.replace(b"0.1],{", b"0.1]},{")
    whole = text + np.array([3.5]).tobytes()
    found = json_codec.decode_infer(whole, model_name="m", header_length=len(text), pause=lambda: None)
    assert [tensor.data.tolist()[0] for tensor in found.inputs] == [1.5, 3.5]


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "int8", "uint64", "bool"])
@pytest.mark.parametrize("shape", [(0,), (9,), (3, 7), (2, 3, 4), ()])
def test_an_answer_written_in_pieces_is_the_same(dtype: str, shape: tuple[int, ...]) -> None:
    array = np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(dtype)
    if dtype.startswith("float") and array.size > 2:
        array.flat[1], array.flat[2] = np.nan, -np.inf
    answer = messages.InferResponse("m", outputs=(messages.Tensor("y", messages.datatype_of(array.dtype), array),))
    request = messages.InferRequest("m")
    pauses: list[None] = []
    sliced = json_codec.encode_infer(answer, request, pause=lambda: pauses.append(None))
    assert sliced == json_codec.encode_infer(answer, request)
    assert bool(pauses) == (array.size > 8)
