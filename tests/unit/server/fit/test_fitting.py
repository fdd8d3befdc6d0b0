from __future__ import annotations

import numpy as np
import pytest

from mlship import errors
from mlship.protocol import messages
from mlship.server.fit import fitting


def fit(data: object, shape: tuple[int, ...], datatype: str = "FP64") -> messages.Array:
    return fitting.fit(np.asarray(data), messages.TensorSpec("x", datatype, shape), label='model "m"')


def test_free_dimensions_take_any_size() -> None:
    assert fit(np.zeros((2, 3, 5)), (-1, 3, -1)).shape == (2, 3, 5)


def test_a_column_may_be_written_both_ways() -> None:
    assert fit([[1], [2]], (-1,)).shape == (2,)
    assert fit([1, 2], (-1, 1)).shape == (2, 1)


@pytest.mark.parametrize(
    ("data", "shape"), [([[1, 2]], (-1,)), ([1, 2], (3, 1)), ([1], (-1, 2, 2)), ([[1, 2]], (-1, 1)), (1.0, (-1,))]
)
def test_another_shape_is_refused(data: object, shape: tuple[int, ...]) -> None:
    with pytest.raises(errors.SpecError) as caught:
        fit(data, shape)
    assert f"expected shape {fitting.shape(shape)}, got {fitting.shape(np.shape(data))}" in caught.value.message
