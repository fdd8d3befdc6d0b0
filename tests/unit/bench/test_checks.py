import json
import struct

import numpy as np
import pytest
from bench import bodies, checks

ROWS = np.array([[1.0, 2.0], [3.0, 4.0]])


@pytest.mark.parametrize(
    "answer",
    [
        b"[0, 1]",
        b'{"predictions": [0, 1]}',
        b'{"outputs": [{"name": "p", "shape": [2], "datatype": "INT64", "data": [0, 1]}]}',
    ],
)
def test_labels_are_read_from_every_dialect(answer):
    checks.compare(answer, [0, 1])


def test_labels_are_read_from_binary_answers():
    tensor = {"name": "p", "shape": [2], "datatype": "INT64", "parameters": {"binary_data_size": 16}}
    head = json.dumps({"outputs": [tensor]}).encode()
    checks.compare(head + struct.pack("<2q", 0, 1), [0, 1], head=len(head))
    with pytest.raises(checks.Wrong, match="1 of them wrong"):
        checks.compare(head + struct.pack("<2q", 0, 2), [0, 1], head=len(head))


@pytest.mark.parametrize("answer", [b"", b"{}", b'{"outputs": []}', b"<html>", b'{"predictions": ["cat"]}'])
def test_what_is_no_answer_is_wrong(answer):
    with pytest.raises(checks.Wrong, match="not an answer"):
        checks.compare(answer, [0])


def test_fewer_labels_than_rows_are_wrong():
    with pytest.raises(checks.Wrong, match="1 labels for 2 rows"):
        checks.compare(b"[0]", [0, 1])


def test_nobody_listening_is_no_answer():
    with pytest.raises(checks.NoAnswer):
        checks.http("http://127.0.0.1:1/", bodies.body("v2", ROWS), [0, 1], seconds=1)
    with pytest.raises(checks.NoAnswer, match="gRPC"):
        checks.rpc(1, bodies.infer_message("m", ROWS), [0, 1], seconds=0.2)
    with pytest.raises(checks.NoAnswer):
        checks.compiled("http://127.0.0.1:1/", seconds=1)


def test_grpc_labels_are_read_raw_and_typed():
    from mlship.protocol import oip

    raw = oip.message("ModelInferResponse")()
    raw.outputs.add(name="p", datatype="INT64", shape=[2])
    raw.raw_output_contents.append(struct.pack("<2q", 0, 1))
    typed = oip.message("ModelInferResponse")()
    typed.outputs.add(name="p", datatype="INT64", shape=[2]).contents.int64_contents.extend([0, 1])
    for answer in (raw, typed):
        assert bodies.grpc_labels(answer.SerializeToString()) == [0, 1]
    with pytest.raises(ValueError, match="without outputs"):
        bodies.grpc_labels(b"")
