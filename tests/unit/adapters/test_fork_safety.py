"""Each adapter answers in a forked replica, from two threads and more, exactly what the library answers in process."""

import contextlib
import json
import os
import pathlib
import signal
import sys
import warnings

import httpx
import numpy as np
import pytest

import models
from mlship import forks
from mlship.backends.local import expand, zygotes

pytestmark = [
    pytest.mark.skipif(not pathlib.Path("/proc/self/environ").exists(), reason="this system has no /proc"),
    pytest.mark.timeout(240),
]
MAKERS = {
    "sklearn": [models.iris_pipeline, models.cancer_forest, models.wine_boosting, models.digits_svc],
    "xgboost": [models.xgboost_ubj, models.xgboost_wrapper],
    "lightgbm": [models.lightgbm_txt, models.lightgbm_wrapper],
    "catboost": [models.catboost_cbm],
    "onnx": [models.onnx_iris],
    "python": [models.custom_file],
}
DATATYPES = {"f8": "FP64", "f4": "FP32", "i8": "INT64", "i4": "INT32", "O": "BYTES", "b1": "BOOL"}


@pytest.fixture(scope="module")
def nursery(tmp_path_factory):
    folder = tmp_path_factory.mktemp("z")
    made = zygotes.Zygotes(home=folder, logs=folder, inherited=os.environ)
    yield made
    made.close()


@contextlib.contextmanager
def forked(nursery, folder, made):
    argv = (
        *(sys.executable, "-m", "mlship.server.main", "--model-path", str(made.path), "--model-name", "m"),
        *("--model-format", made.format, "--http-socket", str(folder / "h"), "--grpc-socket", str(folder / "g")),
        *("--cpus", "3"),
    )
    with (folder / "log").open("ab") as log:
        newborn = nursery.fork(made.format, expand.Command(argv=argv, env=dict(os.environ)), {}, log.fileno())
    newborn.go()
    try:
        newborn.line.settimeout(60)
        while isinstance(word := forks.decode(newborn.line.recv(forks.LARGEST)), forks.Underway):
            pass
        assert isinstance(word, forks.Ready), (folder / "log").read_text()
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(folder / "h")), base_url="http://m") as client:
            yield client
        os.kill(newborn.pid, signal.SIGTERM)
        assert forks.decode(newborn.line.recv(forks.LARGEST)) == forks.Ended(0, None), (folder / "log").read_text()
    finally:
        newborn.line.close()
        with contextlib.suppress(ProcessLookupError):
            os.kill(newborn.pid, signal.SIGKILL)


def tensor(name, values):
    array = np.asarray(values)
    kind = "O" if array.dtype.kind in "OUT" else array.dtype.str[1:]
    return {"name": name, "datatype": DATATYPES[kind], "shape": list(array.shape), "data": array.tolist()}


def same(answered, expected):
    array = np.asarray(expected)
    values = np.asarray(answered["data"], dtype=object if array.dtype.kind in "OUT" else array.dtype)
    np.testing.assert_array_equal(values.reshape(answered["shape"]), array)


@pytest.mark.parametrize(
    "maker", [maker for makers in MAKERS.values() for maker in makers], ids=lambda maker: maker.__name__
)
def test_a_fork_answers_as_the_library_does(nursery, tmp_path_factory, maker):
    folder = tmp_path_factory.mktemp("f")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = maker(folder)
    body = {
        "inputs": [tensor(name, values) for name, values in made.inputs.items()],
        "outputs": [{"name": name} for name in made.expected],
    }
    with forked(nursery, folder, made) as client:
        for _ in range(3):
            answer = client.post("/v2/models/m/infer", json=body)
            assert answer.status_code == 200, answer.text
            for output in answer.json()["outputs"]:
                same(output, made.expected[output["name"]])
    (started,) = [json.loads(line) for line in (folder / "log").read_text().splitlines() if '"started"' in line]
    assert started["how"] == "forked"
