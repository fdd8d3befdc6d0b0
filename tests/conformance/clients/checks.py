"""What the client programs of this folder share: named checks over one place, reported as JSON.

A program is a file whose functions are named ``check_...`` and take a ``Place``; it is run by the Python of the
clients' environment, which has neither mlship nor pytest. The place comes as JSON on stdin, the report leaves as the
last line of stdout: a list of ``{"name", "ok", "detail"}``, one for each function, in order. A failing check never
hides the next one.
"""

import json
import os
import sys
import traceback

import numpy as np

NUMPY_OF = {
    "BOOL": np.bool_,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "FP16": np.float16,
    "FP32": np.float32,
    "FP64": np.float64,
    "BYTES": np.object_,
}


class Place:
    """Where mlship answers, and what it shall answer.

    ``http``: HOST:PORT for paths that name a model. ``server``: the same, perhaps with a path behind it, for paths
    that name none; they are answered for the model ``every``. ``mlflow``: for ``/invocations`` of the model
    ``titanic``. ``grpc``: HOST:PORT; ``route`` is the metadata key that names the service there, empty where the
    model's name in the message is enough. ``factors``: of the model ``scale``, by version.

    A case is rows for a model and the answers to them; those of ``titanic`` have no gaps, ``titanic-numbers`` has
    missing numbers and ``titanic-gaps`` missing strings as well, which binary tensors cannot carry.
    """

    def __init__(self, values):
        self.http = values["http"]
        self.server = values["server"]
        self.mlflow = values["mlflow"]
        self.grpc = values["grpc"]
        self.route = values["route"]
        self.factors = values["factors"]
        self._cases = values["cases"]

    def metadata(self, model):
        """gRPC metadata of a call about a model, as a dictionary."""
        return {self.route: model} if self.route else {}

    def inputs(self, case):
        """(name, datatype, array) of each input of a case."""
        return [_tensor(tensor) for tensor in self._cases[case]["inputs"]]

    def expected(self, case):
        """Arrays by output name: what the model's own library answered in process."""
        return {name: array for name, _, array in map(_tensor, self._cases[case]["expected"])}


def model_of(case):
    """The model that a case is for."""
    return case.partition("-")[0]


def _tensor(tensor):
    array = np.array(tensor["data"], dtype=NUMPY_OF[tensor["datatype"]]).reshape(tensor["shape"])
    return tensor["name"], tensor["datatype"], array


def samples():
    """(datatype, one-dimensional array) for every datatype of the protocol, with the ends of its range."""
    yield "BOOL", np.array([True, False, True])
    for name, dtype in NUMPY_OF.items():
        if name.startswith(("INT", "UINT")):
            limits = np.iinfo(dtype)
            yield name, np.array([limits.min, 0, 7, limits.max], dtype=dtype)
        if name.startswith("FP"):
            limits = np.finfo(dtype)
            yield name, np.array([0.1, -0.0, limits.max, limits.tiny, 1 / 3], dtype=dtype)
    yield "BYTES", np.array(["plain", "größe €", "", "line\nbreak \u0000 null", "日本語"], dtype=np.object_)


def same(got, expected, what=""):
    """Equal to the bit, in dtype and in shape; strings may come as UTF-8 bytes."""
    assert got is not None, f"{what}: there is no such output"
    expected = np.asarray(expected)
    assert list(got.shape) == list(expected.shape), f"{what}: shape {got.shape}, expected {expected.shape}"
    if expected.dtype.kind in "OU":
        got = np.array([_text(value) for value in got.ravel()], dtype=np.object_).reshape(got.shape)
        assert got.tolist() == expected.tolist(), f"{what}: {got.tolist()}, expected {expected.tolist()}"
        return
    assert got.dtype == expected.dtype, f"{what}: {got.dtype}, expected {expected.dtype}"
    assert got.tobytes() == expected.tobytes(), f"{what}: {got.tolist()}, expected {expected.tolist()}"


def _text(value):
    return value.decode() if isinstance(value, bytes) else value


def refused(call, kind, *words):
    """``call`` raises ``kind`` and its text has every one of ``words``; the error."""
    try:
        answer = call()
    except kind as error:
        text = str(error)
        for word in words:
            assert word in text, f"{word!r} is not in the error {text!r}"
        return error
    raise AssertionError(f"expected {kind.__name__}, got an answer: {answer!r}")


def run(namespace):
    """Run every check of a program and print the report."""
    place = Place(json.load(sys.stdin))
    checks = [(name, value) for name, value in namespace.items() if name.startswith("check_")]
    report = [_reported(name.removeprefix("check_"), check, place) for name, check in checks]
    print(json.dumps(report), flush=True)
    os._exit(0)  # Clients' own threads and loops must not keep a finished program.


def _reported(name, check, place):
    try:
        check(place)
    except Exception as error:
        lines = traceback.format_exception(error)
        return {"name": name, "ok": False, "detail": "".join(lines)[-3000:]}
    return {"name": name, "ok": True, "detail": ""}
