from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mlship import errors
from mlship.protocol import messages
from mlship.server.fit import columns

NAMES = ("age", "income")
MATRIX = messages.Signature(inputs=(messages.TensorSpec("x", "FP64", (-1, 2)),), columns=NAMES)
FRAME = messages.Signature(inputs=(messages.TensorSpec("x", "", (-1, 2)),), columns=NAMES, frame=True)
MIXED = messages.Signature(
    inputs=(messages.TensorSpec("age", "FP64", (-1,)), messages.TensorSpec("city", "BYTES", (-1,))),
    columns=("age", "city"),
    frame=True,
)


def bind(signature: messages.Signature, **inputs: Any) -> dict[str, messages.Array]:
    tensors = {}
    for name, values in inputs.items():
        key = "" if name == "unnamed" else name
        tensors[key] = messages.Tensor(key, "", values if isinstance(values, np.ndarray) else np.asarray(values))
    return columns.bind(tensors, signature, label='model "m"')


def refusal(signature: messages.Signature, **inputs: Any) -> str:
    with pytest.raises(errors.SpecError) as caught:
        bind(signature, **inputs)
    return str(caught.value)


def test_columns_in_any_order_become_the_matrix() -> None:
    bound = bind(MATRIX, income=[[3], [4]], age=[1, 2])
    np.testing.assert_array_equal(bound["x"], [[1.0, 3.0], [2.0, 4.0]])
    assert bound["x"].dtype == np.float64


def test_a_single_matrix_is_taken_by_its_name_or_without_one() -> None:
    for name in ("x", "unnamed"):
        np.testing.assert_array_equal(bind(MATRIX, **{name: [[1, 2]]})["x"], [[1.0, 2.0]])


def test_a_frame_gets_its_columns_by_name_in_the_models_order() -> None:
    bound = bind(FRAME, income=np.asarray(["high", "low"], dtype=object), age=[1, 2])
    assert list(bound) == ["age", "income"]
    assert [array.shape for array in bound.values()] == [(2,), (2,)]


def test_a_matrix_is_split_where_each_column_has_its_own_datatype() -> None:
    rows = np.asarray([[31, "Bern"], [None, None]], dtype=object)
    for name in ("unnamed", "rows"):
        bound = bind(MIXED, **{name: rows})
        np.testing.assert_array_equal(bound["age"], [31.0, np.nan])
        assert bound["city"].tolist() == ["Bern", None]


@pytest.mark.parametrize(
    ("signature", "inputs", "said"),
    [
        (MATRIX, {"age": [1]}, 'expected columns "age", "income", got none named "income"'),
        (MATRIX, {"age": [1], "incme": [2]}, 'got a column named "incme". Did you mean "income"?'),
        (MATRIX, {"age": [1], "income": [2], "more": [3]}, 'got a column named "more"'),
        (MATRIX, {"y": [[1, 2]]}, 'got an input named "y"'),
        (MATRIX, {"x": [[1, 2, 3]]}, 'expected shape [-1,2] with the columns "age", "income", got [1,3]'),
        (MATRIX, {"x": [1, 2]}, "expected shape [-1,2], got [2]"),
        (MATRIX, {"age": [1], "income": [2, 3]}, 'got 1 in "age" and 2 in "income"'),
        (MATRIX, {"age": ["x"], "income": [2]}, 'input "age": expected FP64, got strings'),
        (MATRIX, {"age": [[1, 2]], "income": [2]}, 'input "age": expected shape [-1], got [1,2]'),
        (MIXED, {"unnamed": [[1, 2, 3]]}, "expected shape [-1,2]"),
        (MIXED, {"unnamed": [1, 2]}, "expected shape [-1,2]"),
        (MIXED, {"unnamed": np.asarray([["a", "b"]], dtype=object)}, 'input "age": expected FP64, got strings'),
        (MIXED, {"age": [1], "city": [2]}, 'input "city": expected BYTES (strings), got INT64'),
    ],
)
def test_what_does_not_fit_is_refused(signature: messages.Signature, inputs: dict[str, Any], said: str) -> None:
    assert said in refusal(signature, **inputs)


def test_an_optional_column_may_be_left_out() -> None:
    signature = messages.Signature(
        inputs=(messages.TensorSpec("a", "FP64", (-1,)), messages.TensorSpec("b", "FP64", (-1,), optional=True)),
        columns=("a", "b"),
        frame=True,
    )
    assert list(bind(signature, a=[1])) == ["a"]
