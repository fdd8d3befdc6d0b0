from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from mlship.protocol import messages
from mlship.server import calls, joining


class Model:
    """Does what its function does."""

    platform = "test"

    def __init__(self, function: Any = None, **signature: Any) -> None:
        self.function = function or (lambda x: x * 2)
        self.signature = messages.Signature(**signature)
        self.ran: list[int] = []

    def infer(
        self,
        inputs: Mapping[str, messages.Array],
        *,
        outputs: Sequence[str],
        parameters: Mapping[str, messages.Scalar],
    ) -> Any:
        self.ran.append(len(inputs["x"]))
        return {"y": self.function(inputs["x"])}

    def close(self) -> None: ...


def call(*rows: Any, dtype: Any = None, **more: Any) -> calls.Call:
    return calls.Call(inputs={"x": np.asarray(rows, dtype=dtype)}, **more)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (call(1), call(1.0)),
        (call([1, 2]), call([1, 2, 3])),
        (call(1), calls.Call(inputs={"z": np.asarray([1])})),
        (call(1), call(1, outputs=("y",))),
        (call(1, parameters={"a": 1}), call(1, parameters={"a": True})),
        (call(1, parameters={"a": 1}), call(1)),
    ],
)
def test_what_differs_but_in_rows_is_not_joined(one: calls.Call, other: calls.Call) -> None:
    assert joining.key(one) != joining.key(other)


def test_rows_and_the_order_of_parameters_make_no_difference() -> None:
    one = call(1, parameters={"a": 1, "b": "x"})
    assert joining.key(one) == joining.key(call(1, 2, 3, parameters={"b": "x", "a": 1}))


@pytest.mark.parametrize(
    "alone", [calls.Call(inputs={}), calls.Call(inputs={"x": np.asarray(3)}), call(1, parameters={"a": [1]})]
)
def test_what_has_no_rows_runs_by_itself(alone: calls.Call) -> None:
    assert joining.key(alone) is None


@pytest.mark.parametrize(
    ("signature", "joins", "joinable"),
    [({}, True, True), ({"batched": False}, True, False), ({"known": False}, True, False), ({}, False, False)],
)
def test_a_model_is_joinable_by_its_signature_unless_it_says_no(
    signature: dict[str, Any], joins: bool, joinable: bool
) -> None:
    model = Model(**signature)
    model.joins = joins  # type: ignore[attr-defined]
    assert joining.joinable(model) is joinable


def answers(results: Sequence[calls.Result]) -> list[Any]:
    return [None if result.outputs is None else list(result.outputs["y"]) for result in results]


def test_each_gets_the_answer_of_its_own_rows() -> None:
    model = Model()
    assert answers(joining.run(model, [call(1, 2), call(3), call(4, 5, 6)])) == [[2, 4], [6], [8, 10, 12]]
    assert model.ran == [6]


def test_objects_and_lists_are_cut_too() -> None:
    model = Model(lambda x: [f"{value}!" for value in x])
    strings = [call("a", dtype=object), call("bc", None, dtype=object)]
    assert answers(joining.run(model, strings)) == [["a!"], ["bc!", "None!"]]


def test_who_has_left_is_left_out() -> None:
    model = Model()
    assert answers(joining.run(model, [call(1), call(2, abandoned=True), call(3)])) == [[2], None, [6]]
    assert answers(joining.run(model, [call(2, abandoned=True)])) == [None]
    assert model.ran == [2]


def test_a_join_that_fails_answers_nobody() -> None:
    def fail(x: Any) -> Any:
        raise SystemExit(3)

    assert [one.again for one in joining.run(Model(fail), [call(1), call(2)])] == [calls.Again.FAILED] * 2
    (alone,) = joining.run(Model(fail), [call(1)])
    assert alone.again is calls.Again.NO
    assert isinstance(alone.error, SystemExit)


@pytest.mark.parametrize(
    "function", [lambda x: x.sum(), lambda x: x.sum(keepdims=True), lambda x: x[:-1], lambda x: {"of": "another kind"}]
)
def test_outputs_that_are_not_by_rows_are_noticed(function: Any) -> None:
    results = joining.run(Model(function), [call(1), call(2)])
    assert [one.again for one in results] == [calls.Again.NOT_BY_ROWS] * 2
    assert joining.split(["no mapping"], [1]) is None
