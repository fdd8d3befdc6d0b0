"""Read in pieces or whole, rows say the same, and so does their refusal; written in pieces or whole, too."""

from __future__ import annotations

import json
import random
from typing import Any

import numpy as np
import pytest

from mlship import errors
from mlship.protocol import fields, json_pieces, json_slices, messages, mlflow_codec, v1_codec


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_pieces, "PIECE", 8)
    monkeypatch.setattr(v1_codec, "_ROWS_WRITTEN", 2)


def nothing() -> None:
    pass


def said(body: bytes, *, mlflow: bool, pieces: bool) -> Any:
    """What a body says: its tensors and parameters, or its refusal."""
    pause = nothing if pieces else None
    try:
        if mlflow:
            found = mlflow_codec.decode_invocations(body, content_type="", model_name="m", pause=pause)
        else:
            found = v1_codec.decode_predict(body, model_name="m", pause=pause)
    except errors.SpecError as error:
        return str(error)
    tensors = [
        (tensor.name, tensor.datatype, tensor.shape, tensor.data.dtype, tensor.parameters, repr(tensor.data.tolist()))
        for tensor in found.inputs
    ]
    return tensors, found.parameters, found.outputs


ROWS = [
    [1, 2, 3, 4, 5, 6, 7, 8, 9],
    [[1.5, 2], [3, 4], [5, 6], [7, 8], [9, 1e3]],
    [[1, 2], [3, 4], [5, 6], [7, 8], [9, None]],
    [[1, 2], [3, 4], [5, 6], [7, 8], [9]],
    [[1, 2], [3, 4], [5, 6], [7, 8], 9, 10],
    [[[1, 2], [3, 4]], [[5, 6], [7, 8]], [[9, 10], [11, 12]]],
    [[], [], [], [], [], []],
    ["a", "b},{", "],[", "c,d", 'e"]', "\\", None],
    [["a", "],["], ["[", "]"], ["],", ",["]],
    [True, False, True, False, True, False],
    [True, 1, 2, 3, 4, 5, 6, 7],
    [None, None, None, None, "text", "more"],
    [None, None, None, None, None, 1, 2],
    [2**63, 1, 2, 3, 4, 5, 6, 2**64 - 1],
    [-1, 1, 2, 3, 4, 5, 6, 2**64 - 1],
    [2**70, 1, 2, 3, 4],
    [{"b64": "YQ=="}, {"b64": "Yg=="}, {"b64": "Yw=="}],
    [{"b64": "YQ=="}, "text", {"b64": "Yw=="}, "more"],
    [{"b64": "YQ=="}, {"b64": "?"}],
    [{"a": 1, "b": "x"}, {"a": 2.5, "b": "},{"}, {"b": None, "a": 3}],
    [{"a": 1, "b": [{"c": 1}, {"c": 2}]}, {"a": 2, "b": [{"c": 1}, {"c": 2}]}],
    [{"a": 1}, {"a": 2}, {"b": 3}],
    [{"a": 1}, 2, {"a": 3}],
    [{"a": {"b64": "YQ=="}}, {"a": "x"}, {"a": {"b64": "YQ=="}}],
    [1, "a", {"x": 1}, [1, 2], None, 2.5],
    [],
    [1],
]


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("spaces", [(",", ":"), (" ,\n ", "\t: ")])
def test_pieces_say_what_the_whole_says(rows: Any, spaces: tuple[str, str]) -> None:
    bodies = [
        {"instances": rows, "parameters": {"x": 1}},
        {"signature_name": "other", "instances": rows},
        {"inputs": rows, "outputs": ["y"]},
        {"inputs": {"a": rows}},
        {"specversion": "1.0", "data": {"instances": rows}},
        {"instances": rows, "inputs": rows},
        {"dataframe_split": {"columns": ["a", "b"], "data": rows}, "params": {"x": 1}},
        {"dataframe_split": {"index": [1, 2], "data": rows}},
        {"dataframe_split": {"columns": [0, 1], "data": rows}},
        {"dataframe_records": rows},
        {"instances": "mlship rows", "inputs": rows},
        rows,
    ]
    for body in bodies:
        text = json.dumps(body, separators=spaces).encode()
        for mlflow in (False, True):
            assert said(text, mlflow=mlflow, pieces=True) == said(text, mlflow=mlflow, pieces=False), text


def test_missing_numbers_in_mlflows_own_word_are_read_in_pieces() -> None:
    text = b'{"dataframe_split": {"columns": ["a", "b"], "data": [[1.5, NaN], [2, "NaN"], [NaN, "x"], [3, null]]}}'
    assert said(text, mlflow=True, pieces=True) == said(text, mlflow=True, pieces=False)


@pytest.mark.parametrize("seed", range(4))
def test_so_they_do_whatever_is_changed(seed: int) -> None:
    rng = random.Random(seed)
    alphabet = b'[]{},:"\\ \n0123456789.e-+nullNaNinstances\x00\xff'
    for _ in range(400):
        key = rng.choice(["instances", "inputs", "dataframe_records"])
        text = bytearray(json.dumps({key: rng.choice(ROWS)}).encode())
        for _ in range(rng.randint(1, 3)):
            at = rng.randrange(len(text))
            text[at : at + rng.randint(0, 2)] = bytes(rng.choices(alphabet, k=rng.randint(0, 2)))
        for mlflow in (False, True):
            body = bytes(text)
            assert said(body, mlflow=mlflow, pieces=True) == said(body, mlflow=mlflow, pieces=False), body


@pytest.mark.parametrize(
    "rows", [list(range(50)), [[1.5, 2]] * 9, [{"a": 1, "b": "x"}] * 9, ["a,b"] * 9, [1, 2.5, None] * 9]
)
def test_pauses_come_between_pieces(rows: list[Any]) -> None:
    pauses: list[None] = []
    text = json.dumps({"instances": rows}).encode()
    _, found = json_pieces.tensors(
        text, [b'"instances"'], load=fields.parse, read=v1_codec.tensors, pause=lambda: pauses.append(None)
    )
    assert len(pauses) > 3
    assert {len(tensor.data) for tensor in found} == {len(rows)}


@pytest.mark.parametrize(
    "text",
    [b'{"instances": 7}', b'{"instances": [1, 2', b'{"instances": []}', b'{"instances": [1,2,3,4,5,]}', b"[1]", b""],
)
def test_what_is_not_plainly_rows_is_left_to_others(text: bytes) -> None:
    with pytest.raises(json_slices.Unclear):
        json_pieces.tensors(text, [b'"instances"'], load=fields.parse, read=v1_codec.tensors, pause=nothing)


def tensor(name: str, data: Any) -> messages.Tensor:
    array = np.asarray(data)
    return messages.Tensor(name, messages.datatype_of(array.dtype), array)


@pytest.mark.parametrize(
    "outputs",
    [
        [tensor("a", range(7))],
        [tensor("a", [[1.5, float("nan")]] * 5)],
        [tensor("a", np.float32([0.1, 0.2, 0.3, 0.4]))],
        [tensor("a", range(5)), tensor("b", [[1.0, 2.0]] * 5)],
        [tensor("a", range(5)), tensor("b", range(4))],
        [tensor("a", np.array(["x", b"y", None, 1.5, b"\xff"], dtype=object))],
        [tensor("a", 7)],
        [tensor("a", range(1)), tensor("b", range(1))],
    ],
)
def test_answers_written_in_pieces_are_those_written_whole(outputs: list[messages.Tensor]) -> None:
    response = messages.InferResponse(model_name="m", outputs=tuple(outputs))
    assert v1_codec.encode_predict(response, pause=nothing) == v1_codec.encode_predict(response)
