from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.sparse

from mlship import errors
from mlship.server.artifact import kinds
from mlship.server.frameworks import frames

COLUMN = frames.Column


def objects(*values: object) -> np.ndarray:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def test_text_is_decoded_and_gaps_are_filled() -> None:
    found = frames.text(objects(b"gr\xc3\xb6\xc3\x9fe", "as is", None, 3), missing="-")
    assert found.tolist() == ["größe", "as is", "-", 3]
    numbers = np.ones(3)
    assert frames.text(numbers) is numbers
    assert frames.text(np.array([b"a"])).tolist() == ["a"]
    with pytest.raises(errors.SpecError, match="element 1 is not UTF-8"):
        frames.text(objects(b"a", b"\xff"))


def test_a_matrix_is_passed_or_put_together() -> None:
    form = frames.Matrix(features=2, columns=("a", "b"))
    matrix = np.arange(4.0).reshape(2, 2)
    assert form.read({"input-0": matrix}) is matrix
    joined = form.read({"b": np.array([1.0, 3.0]), "a": np.array([[0], [2]])})
    assert np.array_equal(joined, matrix)
    assert joined.dtype == np.float64
    named = frames.Matrix(features=2, columns=("a", "b"), named=True).read({"input-0": matrix})
    assert list(named.columns) == ["a", "b"]


def test_examples_have_the_form_that_is_read() -> None:
    assert frames.Matrix(features=2, row=(1.5, 2.0)).example()["input-0"].tolist() == [[1.5, 2.0]]
    assert frames.Matrix(features=1, datatype="BYTES").example()["input-0"].tolist() == [[""]]
    assert frames.Texts("hello").example()["input-0"].tolist() == ["hello"]
    assert frames.Anything().example() == {}
    row = frames.Frame((COLUMN("a", "FP64"), COLUMN("b", "BYTES", example="x"), COLUMN("c", optional=True))).example()
    assert {name: values.tolist() for name, values in row.items()} == {"a": [0.0], "b": ["x"]}


def test_a_frame_has_columns_in_order_and_nulls_as_the_model_knows_them() -> None:
    form = frames.Frame((COLUMN("a", "FP64"), COLUMN("b", "BYTES"), COLUMN("c", "BYTES", missing=None)))
    table = form.read({"c": objects("x", None), "b": objects(b"y", None), "a": np.array([1.0, math.nan])})
    assert list(table.columns) == ["a", "b", "c"]
    assert table["b"].isna().tolist() == [False, True]
    assert table["c"].tolist() == ["x", None]


def test_a_frame_from_one_matrix() -> None:
    table = frames.Frame((COLUMN("a"), COLUMN("b"))).read({"input-0": np.array([[1, "x"], [2, "y"]], dtype=object)})
    assert table["a"].tolist() == [1, 2]
    assert table["a"].dtype.kind == "i"
    assert table["b"].tolist() == ["x", "y"]


@pytest.mark.parametrize(
    ("values", "kind"),
    [((1, 2), "i"), ((1, 2.5), "f"), ((True, False), "b"), ((1, math.nan), "f"), ((1 << 70, 1), "O")],
)
def test_numbers_in_an_open_column_are_numbers(values: tuple[object, ...], kind: str) -> None:
    assert frames.Frame((COLUMN("a"),)).read({"a": objects(*values)})["a"].dtype.kind == kind


def test_categories_are_those_of_the_model_or_of_the_data() -> None:
    known = frames.Frame((COLUMN("a", categories=("x", "y")),)).read({"a": objects("y", "?")})["a"]
    assert known.cat.codes.tolist() == [1, -1]
    free = frames.Frame((COLUMN("a", categories=()),)).read({"a": objects("q", "p")})["a"]
    assert free.cat.categories.tolist() == ["p", "q"]


def test_texts_and_records() -> None:
    assert frames.Texts().read({"x": objects([b"a"][0], "b").reshape(2, 1)}) == ["a", "b"]
    with pytest.raises(errors.SpecError, match="one of them is null"):
        frames.Texts().read({"x": objects(None)})
    form = frames.Records((COLUMN("a"), COLUMN("b")))
    assert form.read({"a": objects("x", None), "b": np.array([math.nan, 2.0])}) == [{"a": "x"}, {"b": 2.0}]


def test_anything_is_an_array_or_a_table() -> None:
    assert frames.Anything().read({"x": np.ones(2)}).tolist() == [1, 1]
    assert list(frames.Anything().read({"x": np.ones(2), "y": np.ones(2)}).columns) == ["x", "y"]


def test_answers_become_dense_arrays() -> None:
    assert frames.dense(scipy.sparse.csr_array(np.eye(2))).tolist() == [[1, 0], [0, 1]]
    assert frames.dense(["a", "b"]).dtype == object
    assert frames.dense(frames.pandas().DataFrame({"a": [1]})).tolist() == [[1]]
    assert frames.dense(3).shape == ()


def test_pandas_is_asked_for_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kinds, "is_installed", lambda _: False)
    assert not frames.has_pandas()
    frames.pandas.cache_clear()
    with pytest.raises(errors.SpecError, match="pandas is not installed here"):
        frames.pandas()
