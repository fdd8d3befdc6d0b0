from __future__ import annotations

from typing import Any

import numpy as np

from mlship.protocol import messages
from mlship.server import example

SIGNATURE = messages.Signature(
    inputs=(
        messages.TensorSpec("x", "FP32", (-1, 3)),
        messages.TensorSpec("city", "BYTES", (-1,)),
        messages.TensorSpec("any", "", (-1,)),
        messages.TensorSpec("extra", "FP32", (-1,), optional=True),
    )
)


class Model:
    def __init__(self, signature: messages.Signature, row: Any = None) -> None:
        self.signature = signature
        if row is not None:
            self.example = lambda: row


def test_a_row_is_made_from_the_signature() -> None:
    made = example.of(Model(SIGNATURE))  # type: ignore[arg-type]
    assert made is not None
    assert not made.genuine
    assert {name: (array.shape, array.dtype.kind) for name, array in made.inputs.items()} == {
        "x": ((1, 3), "f"),
        "city": ((1,), "O"),
        "any": ((1,), "f"),
    }


def test_the_models_own_row_wins() -> None:
    made = example.of(Model(SIGNATURE, {"x": np.ones((1, 3))}))  # type: ignore[arg-type]
    assert made is not None
    assert made.genuine
    assert list(made.inputs) == ["x"]


def test_an_unknown_signature_allows_no_row() -> None:
    assert example.of(Model(messages.Signature(known=False))) is None  # type: ignore[arg-type]
    assert example.of(Model(messages.Signature())) is None  # type: ignore[arg-type]


def test_the_body_is_a_v2_request() -> None:
    row = example.Example(
        inputs={
            "x": np.asarray([[1.5, 2.0]], dtype=np.float32),
            "city": np.asarray(["Bern"], dtype=object),
            "code": np.asarray([b"ok"], dtype=object),
            "mixed": np.asarray([1, 2.5], dtype=object),
            "image": np.asarray([b"\xff\x00"], dtype=object),
        },
        genuine=True,
    )
    assert example.infer_body(row) == {
        "inputs": [
            {"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1.5, 2.0]},
            {"name": "city", "shape": [1], "datatype": "BYTES", "data": ["Bern"]},
            {"name": "code", "shape": [1], "datatype": "BYTES", "data": ["ok"]},
            {"name": "mixed", "shape": [2], "datatype": "FP64", "data": [1.0, 2.5]},
            {
                "name": "image",
                "shape": [1],
                "datatype": "BYTES",
                "parameters": {"content_type": "base64"},
                "data": ["/wA="],
            },
        ]
    }


def test_narrow_floats_are_printed_by_their_own_digits() -> None:
    shown = example.infer_body(example.Example({"x": np.array([[4.9, 1.0]], dtype=np.float32)}, genuine=True))
    assert shown["inputs"][0]["data"] == [4.9, 1.0]
