"""What goes to the compiled form and what to the original."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mlship.protocol import messages
from mlship.server.accelerate import compiled, kernel, verdict

SIGNATURE = messages.Signature(
    inputs=(messages.TensorSpec("x", "FP64", (-1, 2)),),
    outputs=(messages.TensorSpec("y", "INT64", (-1,)), messages.TensorSpec("z", "INT64", (-1,))),
    default_outputs=("y",),
)
ORIGINAL, COMPILED = 0, 1


class Original:
    signature = SIGNATURE
    platform = "test"
    concurrent = 3
    parameters: dict[str, type] = {"how": str}  # noqa: RUF012
    closed = 0

    def infer(self, inputs: Any, *, outputs: Any, parameters: Any) -> Any:
        return {name: np.full(len(next(iter(inputs.values()))), ORIGINAL) for name in outputs or ("y",)}

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def served() -> compiled.Compiled:
    fast = kernel.Kernel(
        "test", 2, lambda matrix: matrix, {"y": lambda scores: np.full(len(scores), COMPILED)}, kernel.FINITE
    )
    report = verdict.Report(verdict.Mode.AUTO, used=True, outputs=("y",), max_rows=3)
    made = compiled.Compiled(Original())
    made.use(fast, report)
    return made


def test_until_there_is_a_proof_the_original_answers() -> None:
    model = compiled.Compiled(Original())
    assert model.infer({"x": np.ones((1, 2))}, outputs=(), parameters={})["y"] == [ORIGINAL]


@pytest.mark.parametrize(
    ("inputs", "outputs", "parameters", "by"),
    [
        ({"x": np.ones((3, 2))}, (), {}, COMPILED),
        ({"x": np.ones((1, 2))}, ("y",), {}, COMPILED),
        ({"x": np.ones((1, 2))}, ("z",), {}, ORIGINAL),
        ({"x": np.ones((1, 2))}, ("y", "z"), {}, ORIGINAL),
        ({"x": np.ones((1, 2))}, (), {"how": "z"}, ORIGINAL),
        ({"x": np.ones((4, 2))}, (), {}, ORIGINAL),
        ({"x": np.ones((1, 3))}, (), {}, ORIGINAL),
        ({"x": np.ones((1, 2), np.float32)}, (), {}, ORIGINAL),
        ({"x": np.array([[1.0, np.nan]])}, (), {}, ORIGINAL),
        ({"x": np.array([[1.0, np.inf]])}, (), {}, ORIGINAL),
        ({"a": np.ones(2), "b": np.ones(2)}, (), {}, ORIGINAL),
        ({"x": np.ones((1, 2)), "b": np.ones(1)}, (), {}, ORIGINAL),
    ],
)
def test_who_answers(served: compiled.Compiled, inputs: Any, outputs: Any, parameters: Any, by: int) -> None:
    answer = served.infer(inputs, outputs=outputs, parameters=parameters)
    assert list(answer) == list(outputs or ("y",))
    assert all((array == by).all() for array in answer.values())


def test_an_empty_batch_is_the_originals(served: compiled.Compiled) -> None:
    assert served.infer({"x": np.ones((0, 2))}, outputs=(), parameters={})["y"].shape == (0,)


def test_everything_else_is_the_originals(served: compiled.Compiled) -> None:
    assert served.signature is SIGNATURE
    assert (served.platform, served.parameters, served.quick, served.joins) == ("test", {"how": str}, False, True)
    assert compiled.Compiled(Original()).concurrent == 3
    assert served.concurrent > 64
    assert served.example() == {}
    served.close()
    assert served.original.closed == 1  # type: ignore[attr-defined]
