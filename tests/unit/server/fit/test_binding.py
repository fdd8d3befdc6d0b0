from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mlship import errors
from mlship.protocol import grpc_codec, json_codec, messages, oip
from mlship.server.fit import binding

MATRIX = messages.Signature(
    inputs=(messages.TensorSpec("x", "FP32", (-1, 4)),),
    outputs=(messages.TensorSpec("label", "INT64", (-1,)), messages.TensorSpec("probabilities", "FP32", (-1, 3))),
)
TWO = messages.Signature(
    inputs=(
        messages.TensorSpec("left", "FP32", (-1, 2)),
        messages.TensorSpec("right", "INT64", (-1,)),
        messages.TensorSpec("weight", "FP32", (-1,), optional=True),
    )
)


def request(*, parameters: Any = None, outputs: tuple[str, ...] = (), **inputs: Any) -> messages.InferRequest:
    tensors = []
    for name, values in inputs.items():
        data = values if isinstance(values, np.ndarray) else np.asarray(values)
        tensors.append(messages.Tensor("" if name == "unnamed" else name, "", data))
    return messages.InferRequest(
        model_name="iris",
        inputs=tuple(tensors),
        outputs=tuple(messages.RequestedOutput(name) for name in outputs),
        parameters=parameters or {},
    )


def refusal(made: messages.InferRequest, signature: messages.Signature) -> str:
    with pytest.raises(errors.SpecError) as caught:
        binding.bind(made, signature)
    assert caught.value.reason is errors.Reason.INVALID
    return str(caught.value)


def test_a_fitting_matrix_is_cast_and_bound() -> None:
    bound = binding.bind(request(x=[[1, 2, 3, 4]]), MATRIX)
    assert list(bound) == ["x"]
    assert bound["x"].dtype == np.float32
    assert binding.rows(bound, MATRIX) == 1


def test_an_unnamed_tensor_is_the_sole_input() -> None:
    assert list(binding.bind(request(unnamed=[[1, 2, 3, 4]]), MATRIX)) == ["x"]
    assert 'named ""' in refusal(request(unnamed=[[1, 2]]), TWO)


@pytest.mark.parametrize(
    ("made", "signature", "said"),
    [
        (request(y=[[1, 2, 3, 4]]), MATRIX, 'model "iris": expected input "x", got an input named "y".'),
        (request(lefft=[[1, 2]], right=[1]), TWO, 'Did you mean "left"?'),
        (request(left=[[1, 2]]), TWO, 'expected inputs "left", "right", "weight", got none named "right".'),
        (request(), MATRIX, 'expected input "x", got none named "x".'),
        (request(x=[[1, 2, 3]]), MATRIX, 'input "x": expected shape [-1,4], got [1,3].'),
        (request(x=[1, 2, 3, 4]), MATRIX, "expected shape [-1,4], got [4]. This looks like one row"),
        (request(x=[["a", "b", "c", "d"]]), MATRIX, "expected FP32, got strings such as 'a'"),
        (request(x=np.zeros((0, 4))), MATRIX, "expected at least one row, got none (shape [0,4])"),
        (request(left=[[1, 2]], right=[1, 2]), TWO, 'got 1 in "left" and 2 in "right"'),
        (request(left=[[1, 2]], right=[2.5]), TWO, "expected INT64, got FP64"),
    ],
)
def test_what_does_not_fit_is_refused_with_expected_and_got(
    made: messages.InferRequest, signature: messages.Signature, said: str
) -> None:
    assert said in refusal(made, signature)


def test_the_same_input_twice_is_refused() -> None:
    twice = request(x=[[1, 2, 3, 4]])
    twice = messages.InferRequest(model_name="iris", inputs=twice.inputs * 2)
    assert 'two inputs named "x"' in refusal(twice, MATRIX)


def test_an_optional_input_may_be_left_out() -> None:
    assert list(binding.bind(request(left=[[1, 2]], right=[1]), TWO)) == ["left", "right"]


def test_a_column_vector_is_a_column() -> None:
    assert binding.bind(request(left=[[1, 2]], right=[[7]]), TWO)["right"].shape == (1,)


def test_an_unknown_signature_lets_everything_through() -> None:
    data = np.asarray(["a"], dtype=object)
    assert binding.bind(request(anything=data), messages.Signature(known=False))["anything"] is data


def test_an_unbatched_signature_is_one_row_whatever_its_shape() -> None:
    signature = messages.Signature(inputs=(messages.TensorSpec("x", "FP32", (3,)),), batched=False)
    bound = binding.bind(request(x=[1, 2, 3]), signature)
    assert binding.rows(bound, signature) == 1


def test_outputs_that_are_not_there_are_refused_with_the_nearest() -> None:
    assert binding.outputs(request(outputs=("label",)), MATRIX) == ("label",)
    assert binding.outputs(request(), MATRIX) == ()
    with pytest.raises(
        errors.SpecError, match='outputs "label", "probabilities", got an output named "lable"'
    ) as caught:
        binding.outputs(request(outputs=("lable",)), MATRIX)
    assert 'Did you mean "label"?' in caught.value.hint


def test_outputs_of_an_unknown_signature_are_the_models_to_judge() -> None:
    assert binding.outputs(request(outputs=("y", "y", "z")), messages.Signature(known=False)) == ("y", "z")


def test_parameters_that_the_server_consumes_are_not_the_models() -> None:
    made = request(parameters={"content_type": "pd", "headers": "x", "timeout": 5, "id": "7"})
    assert binding.parameters(made, {}) == {}


def test_parameters_nobody_would_honour_are_refused() -> None:
    with pytest.raises(errors.SpecError, match='no request parameter, got a request parameter named "temperature"'):
        binding.parameters(request(parameters={"temperature": 0.5}), {})
    with pytest.raises(errors.SpecError) as caught:
        binding.parameters(request(parameters={"metod": "predict"}), {"method": str})
    assert 'Did you mean "method"?' in caught.value.hint


def test_parameters_the_model_takes_have_its_types() -> None:
    taken = {"method": str, "factor": float, "flag": bool, "top": int}
    given = {"method": "a", "factor": 2, "flag": True, "top": 3}
    assert binding.parameters(request(parameters=given), taken) == given
    for wrong in ({"top": True}, {"flag": 1}, {"method": 1}, {"factor": "x"}):
        with pytest.raises(errors.SpecError, match="expected"):
            binding.parameters(request(parameters=wrong), taken)


def test_a_model_may_judge_its_parameters_itself() -> None:
    assert binding.parameters(request(parameters={"anything": 1}), None) == {"anything": 1}


def test_binary_tensors_reach_the_model_without_a_copy() -> None:
    signature = messages.Signature(inputs=(messages.TensorSpec("x", "FP32", (-1, 2)),))
    raw = np.arange(8, dtype="<f4").tobytes()
    text = b'{"inputs":[{"name":"x","shape":[4,2],"datatype":"FP32","parameters":{"binary_data_size":32}}]}'
    text += b" " * (-len(text) % 8)
    body = text + raw
    over_rest = json_codec.decode_infer(body, model_name="m", header_length=len(text))
    bound = binding.bind(over_rest, signature)["x"]
    assert np.shares_memory(bound, np.frombuffer(body, np.uint8))

    message = oip.message("ModelInferRequest")(
        inputs=[{"name": "x", "datatype": "FP32", "shape": [4, 2]}], raw_input_contents=[raw]
    )
    (tensor,) = grpc_codec.decode_infer(message).inputs
    bound = binding.bind(messages.InferRequest("m", inputs=(tensor,)), signature)["x"]
    assert np.shares_memory(bound, tensor.data)
    assert not tensor.data.flags.owndata, "a view of the message's bytes"
    assert bound.tolist() == [[0, 1], [2, 3], [4, 5], [6, 7]]
