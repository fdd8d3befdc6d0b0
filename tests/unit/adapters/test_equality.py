from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import models
from mlship.protocol import messages
from mlship.server.artifact import find
from mlship.server.fit import binding


@pytest.fixture(scope="session", params=models.MAKERS, ids=lambda maker: maker.__name__)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> models.Made:
    return request.param(tmp_path_factory.mktemp("model"))


def test_the_format_is_found(made: models.Made) -> None:
    assert find.inspect(made.path).format == made.format


def test_answers_equal_those_of_the_library_in_process(made: models.Made, serve: Any) -> None:
    model = serve(made.path)
    answer = model.infer(made.inputs, outputs=tuple(made.expected), parameters={})
    assert list(answer) == list(made.expected)
    for name, values in made.expected.items():
        assert np.array_equal(answer[name], values), name
        assert answer[name].shape == np.shape(values)
    model.close()


def test_the_signature_tells_the_truth(made: models.Made, serve: Any) -> None:
    model = serve(made.path)
    signature = model.signature
    specs = {spec.name: spec for spec in signature.outputs}
    answer = model.infer(made.inputs, outputs=tuple(specs), parameters={})
    assert set(signature.default_outputs) <= set(specs)
    for name, values in answer.items():
        assert messages.datatype_of(values.dtype) == specs[name].datatype
        assert len(values.shape) == len(specs[name].shape)
    model.close()


def test_a_bound_request_reaches_the_model(made: models.Made, serve: Any) -> None:
    model = serve(made.path)
    tensors = tuple(messages.Tensor(name, messages.datatype_of(data.dtype), data) for name, data in made.inputs.items())
    bound = binding.bind(messages.InferRequest("m", inputs=tensors), model.signature)
    answer = model.infer(bound, outputs=tuple(made.expected), parameters={})
    for name, values in made.expected.items():
        assert np.array_equal(answer[name], values), name
    model.close()


def test_the_default_outputs_come_when_none_is_named(made: models.Made, serve: Any) -> None:
    model = serve(made.path)
    answer = model.infer(made.inputs, outputs=(), parameters={})
    assert tuple(answer) == model.signature.default_outputs
    model.close()


def test_the_example_is_answered(made: models.Made, serve: Any) -> None:
    model = serve(made.path)
    row = model.example()
    if made.format != "onnx":
        assert row
        answer = model.infer(row, outputs=(), parameters={})
        assert all(len(values) == 1 for values in answer.values())
    model.close()
