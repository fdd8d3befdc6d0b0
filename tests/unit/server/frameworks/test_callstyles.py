from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from mlship import errors
from mlship.server.frameworks import callstyles

ROWS = np.array([[1.0, 2.0]])
STYLE, SHAPE = callstyles.Style, callstyles.Shape


def native(inputs): ...  # type: ignore[no-untyped-def]
def array(x, parameters=None): ...  # type: ignore[no-untyped-def]
def kserve(payload, headers=None): ...  # type: ignore[no-untyped-def]
def mlflow(context, model_input, params=None): ...  # type: ignore[no-untyped-def]
def mlflow_3(model_input, params=None): ...  # type: ignore[no-untyped-def]
def texts(x: list[str], **options): ...  # type: ignore[no-untyped-def]
def typed(x: dict[str, np.ndarray]): ...  # type: ignore[no-untyped-def]
def odd(x: int): ...  # type: ignore[no-untyped-def]


@pytest.mark.parametrize(
    ("predict", "style", "shape", "extras"),
    [
        (native, STYLE.NATIVE, SHAPE.MAPPING, set()),
        (array, STYLE.NATIVE, SHAPE.ARRAY, {"parameters"}),
        (kserve, STYLE.KSERVE, SHAPE.MAPPING, {"headers"}),
        (mlflow, STYLE.MLFLOW, SHAPE.FRAME, {"params"}),
        (mlflow_3, STYLE.NATIVE, SHAPE.FRAME, set()),
        (texts, STYLE.NATIVE, SHAPE.LIST, set()),
        (typed, STYLE.NATIVE, SHAPE.MAPPING, set()),
        (odd, STYLE.NATIVE, SHAPE.ARRAY, set()),
    ],
)
def test_the_parameters_decide(predict: Callable[..., Any], style: Any, shape: Any, extras: set[str]) -> None:
    assert callstyles.of(predict, where="here") == callstyles.Call(style, shape, frozenset(extras))


def test_arguments_of_each_style() -> None:
    inputs = {"x": ROWS}
    assert callstyles.of(kserve, where="").arguments(inputs, {"a": 1}, context=None) == (
        ({"instances": [[1.0, 2.0]]},),
        {"headers": {}},
    )
    (context, table), keywords = callstyles.of(mlflow, where="").arguments(inputs, {"a": 1}, context="the context")
    assert (context, keywords) == ("the context", {"params": {"a": 1}})
    assert table.to_numpy().tolist() == ROWS.tolist()
    arguments, keywords = callstyles.of(array, where="").arguments(inputs, {"a": 1}, context=None)
    assert arguments[0] is ROWS
    assert keywords == {"parameters": {"a": 1}}


def test_a_tuple_gives_the_outputs_in_order() -> None:
    found = callstyles.outputs((ROWS, [1]), ("a", "b"), where="here")
    assert {name: values.tolist() for name, values in found.items()} == {"a": [[1.0, 2.0]], "b": [1]}


def test_complex_numbers_are_no_arrays_of_ours() -> None:
    with pytest.raises(errors.ModelError, match="no array of numbers or strings"):
        callstyles.outputs(np.array([1j]), (), where="here")


def test_text_comes_as_str_and_what_is_no_text_as_bytes() -> None:
    call = callstyles.of(native, where="")
    inputs = {
        "word": np.array([b"gr\xc3\xb6\xc3\x9fe"], dtype=object),
        "image": np.array([b"\x89PNG", b"x"], dtype=object),
    }
    ((found,), _) = call.arguments(inputs, {}, context=None)
    assert found["word"].tolist() == ["größe"]
    assert found["image"].tolist() == [b"\x89PNG", b"x"]
