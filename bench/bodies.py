"""Rows as the bodies that the servers take, and labels from their answers. Pure but for NumPy.

Three dialects: ``v2`` (the Open Inference Protocol in JSON), ``binary`` (its binary tensors), ``rows`` (an object of
rows, for frameworks where the JSON is one's own). gRPC bodies are V2's ModelInferRequest behind gRPC's five-byte frame.
"""

from __future__ import annotations

import dataclasses
import json
import struct

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True, slots=True)
class Body:
    """What is posted. ``head`` is the length of the JSON part of a binary body, 0 for all others."""

    data: bytes
    content_type: str = "application/json"
    head: int = 0

    @property
    def headers(self) -> dict[str, str]:
        extra = {"Inference-Header-Content-Length": str(self.head)} if self.head else {}
        return {"Content-Type": self.content_type, **extra}


def body(dialect: str, rows: Floats) -> Body:
    """Raises KeyError for a dialect that does not exist."""
    return {"v2": _v2, "binary": _binary, "rows": _rows}[dialect](rows)


def _v2(rows: Floats) -> Body:
    tensor = {"name": "input-0", "shape": list(rows.shape), "datatype": "FP64", "data": rows.ravel().tolist()}
    return Body(json.dumps({"inputs": [tensor]}).encode())


def _rows(rows: Floats) -> Body:
    return Body(json.dumps({"rows": rows.tolist()}).encode())


def _binary(rows: Floats) -> Body:
    data = rows.astype("<f8").tobytes()
    size = {"binary_data_size": len(data)}
    tensor = {"name": "input-0", "shape": list(rows.shape), "datatype": "FP64", "parameters": size}
    head = json.dumps({"inputs": [tensor]}).encode()
    return Body(head + data, content_type="application/octet-stream", head=len(head))


def labels(answer: bytes) -> list[int]:
    """The labels in a JSON answer of any of the servers. Raises ValueError for another shape of answer."""
    found = json.loads(answer)
    if isinstance(found, dict):
        found = found["predictions"] if "predictions" in found else found["outputs"][0]["data"]
    return [int(label) for label in np.asarray(found).ravel()]


def grpc_frame(message: bytes) -> bytes:
    """A message as it travels in a gRPC call: not compressed, its length, itself."""
    return struct.pack(">BI", 0, len(message)) + message
