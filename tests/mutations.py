"""Malformed inference requests, made from good ones: the same seed gives the same requests.

Structure is mutated (a node replaced, removed, doubled, renamed), and bytes are (flipped, cut, inserted), and so are
the binary tensors' header and the encoding: what is left is anything from a slightly wrong request to rubbish.
"""

from __future__ import annotations

import copy
import dataclasses
import gzip
import json
import random
from collections.abc import Iterator
from typing import Any

import numpy as np

_VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2, 4, 2**31, 2**63, 2**64, -(2**63) - 1, 1e308, -0.0, 1.5, 10**400,
    "", "x", "1", "NaN", "é\u0000", "\ud800", "a" * 3000, [], {}, [[]], [[[]]], [None], [{}], {"": None}, [1, "a"],
    [[1], [1, 2]],
    [1] * 300, [-1], [0], [0, 4], [4, 0], [2**62, 4], [1, 4], ["1", 4], [1.0, 4],
    "BOOL", "UINT8", "UINT64", "INT8", "INT64", "FP16", "FP32", "FP64", "BYTES", "BF16", "fp32",
    "pd", "np", "str", "base64", "datetime", "json", "application/json",
)  # fmt: skip
_KEYS = (
    "inputs", "outputs", "instances", "parameters", "id", "name", "shape", "datatype", "data", "content_type",
    "timeout", "binary_data", "binary_data_size", "binary_data_output", "signature_name", "model_name", "headers", "x",
    "", "dataframe_split", "dataframe_records", "columns", "b64", "specversion",
)  # fmt: skip
_TOKENS = (
    b"NaN", b"Infinity", b"-Infinity", b"1e999", b"\\u0000", b"\\ud800", b"\xff", b"\x00", b"{", b"[", b'"', b"]", b"}",
    b",", b"[" * 2000, b"null", b'{"a":1,"a":2}', b"0x1", b"-", b".", b"\xef\xbb\xbf", b"//",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Case:
    """A request to send."""

    path: str
    body: bytes
    headers: dict[str, str]


def cases(seed: int, count: int, *, examples: dict[str, Any]) -> Iterator[Case]:
    """``count`` malformed requests.

    Args:
        examples: good V2 infer bodies, by the model's name.
    """
    chance = random.Random(seed)
    for _ in range(count):
        yield _case(chance, examples)


def _case(chance: random.Random, examples: dict[str, Any]) -> Case:
    model = chance.choice(list(examples))
    kind = chance.choice(("v1", "v1", "v2", "v2", "v2", "binary", "mlflow"))
    body, tail, path = _start(chance, kind, model, copy.deepcopy(examples[model]))
    for _ in range(chance.choice((0, 1, 1, 1, 2, 3, 6))):
        body = _mutated(chance, body)
    raw = json.dumps(body).encode()
    headers: dict[str, str] = {}
    if tail or chance.random() < 0.03:
        length = len(raw) if chance.random() < 0.7 else chance.choice((0, 1, len(raw) - 1, len(raw) + 1, 10**9, -1))
        headers["inference-header-content-length"] = chance.choice((str(length),) * 20 + ("x", "", "1e3", "0x10"))
    raw += tail
    if chance.random() < 0.4:
        raw = _damaged(chance, raw)
    if chance.random() < 0.05:
        headers["content-encoding"] = chance.choice(("gzip", "deflate", "br", "identity"))
        raw = gzip.compress(raw) if chance.random() < 0.7 else raw
    if kind == "mlflow":
        headers["content-type"] = chance.choice(
            ("application/json", "text/csv", "", "x/y", "application/json; charset=u")
        )
    if chance.random() < 0.03:
        headers["x-request-timeout"] = chance.choice(("-1", "nan", "x", "5"))
    return Case(path=path, body=raw, headers=headers)


def _start(chance: random.Random, kind: str, model: str, example: dict[str, Any]) -> tuple[Any, bytes, str]:
    inputs = example["inputs"]
    version = chance.choice(("",) * 15 + ("/versions/1", "/versions/9", "/versions/x"))
    if kind in ("v1", "mlflow"):
        path = "/invocations" if kind == "mlflow" else f"/v1/models/{model}{version}:predict"
        rows = _rows(inputs)
        key = chance.choice(("instances", "inputs"))
        if kind == "mlflow" and chance.random() < 0.6:
            names = [tensor["name"] for tensor in inputs]
            split = {"columns": names, "data": [[tensor["data"][0] for tensor in inputs]]}
            return chance.choice(({"dataframe_split": split}, {"dataframe_records": rows})), b"", path
        return {key: rows}, b"", path
    path = f"/v2/models/{model}{version}/infer"
    if kind == "v2":
        example["parameters"] = {}
        return example, b"", path
    tail = b""
    for tensor in inputs:
        if tensor["datatype"] != "BYTES":
            dtype = {"FP32": "<f4", "FP64": "<f8", "INT64": "<i8"}[tensor["datatype"]]
            raw = np.asarray(tensor.pop("data"), dtype=dtype).tobytes()
        else:
            texts = [str(value).encode() for value in tensor.pop("data")]
            raw = b"".join(len(text).to_bytes(4, "little") + text for text in texts)
        tensor["parameters"] = {"binary_data_size": len(raw)}
        tail += raw
    if chance.random() < 0.5:
        example["parameters"] = {"binary_data_output": True}
    return example, tail, path


def _rows(inputs: list[dict[str, Any]]) -> list[Any]:
    if len(inputs) == 1:
        return [inputs[0]["data"]]
    return [{tensor["name"]: tensor["data"][0] if len(tensor["data"]) == 1 else tensor["data"] for tensor in inputs}]


def _nodes(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) inside."""
    found: list[tuple[Any, Any]] = []
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        found.append((value, key))
        found += _nodes(value[key])
    return found


def _mutated(chance: random.Random, body: Any) -> Any:
    nodes = _nodes(body)
    if not nodes or chance.random() < 0.03:
        return copy.deepcopy(chance.choice(_VALUES))
    container, key = chance.choice(nodes)
    what = chance.choice(("replace", "replace", "replace", "remove", "double", "add", "swap"))
    if what == "replace":
        container[key] = copy.deepcopy(chance.choice(_VALUES))
    elif what == "remove":
        del container[key]
    elif what == "add" and isinstance(container, dict):
        container[chance.choice(_KEYS)] = copy.deepcopy(chance.choice(_VALUES))
    elif what == "swap" and isinstance(container, dict):
        container[chance.choice(_KEYS)] = container.pop(key)
    elif isinstance(container, list):
        container.insert(key, copy.deepcopy(container[key]))
    return body


def _damaged(chance: random.Random, raw: bytes) -> bytes:
    data = bytearray(raw)
    for _ in range(chance.choice((1, 1, 2, 5))):
        if not data:
            break
        at = chance.randrange(len(data))
        what = chance.choice(("flip", "cut", "insert", "drop"))
        if what == "flip":
            data[at] ^= 1 << chance.randrange(8)
        elif what == "cut":
            del data[at:]
        elif what == "insert":
            data[at:at] = chance.choice(_TOKENS)
        else:
            del data[at : at + chance.randrange(1, 20)]
    return bytes(data)
