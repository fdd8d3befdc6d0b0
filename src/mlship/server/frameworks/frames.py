"""Turns validated inputs into what a model's library takes: a matrix, a DataFrame, a list of texts or of records.

Each form is both ends of one promise: ``specs`` and ``columns`` go into the signature, ``read`` takes the arrays that
were validated against it and gives the very object a user would pass in process, so that answers are equal to the bit.
pandas is imported here, and only when a form needs it.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import math
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from mlship import errors
from mlship.protocol import messages
from mlship.server.artifact import kinds

INPUT = "input-0"


@functools.cache
def pandas() -> Any:
    """The pandas module. Raises ``errors.SpecError`` naming the extra when it is not installed."""
    if not kinds.is_installed("pandas"):
        raise kinds.missing(kinds.MODULES["pandas"], "the model takes a DataFrame")
    return importlib.import_module("pandas")


def has_pandas() -> bool:
    """Whether DataFrames can be made here."""
    return kinds.is_installed("pandas")


@dataclasses.dataclass(frozen=True, slots=True)
class Column:
    """A column of a DataFrame. ``missing``: what null becomes in a column of strings. ``example``: a plausible value.

    ``categories``: the model gets a pandas Categorical with these (none: with those of the request).
    """

    name: str
    datatype: str = ""
    missing: Any = math.nan
    optional: bool = False
    example: Any = None
    categories: tuple[Any, ...] | None = None


class Form(Protocol):
    """How a model wants its data."""

    @property
    def specs(self) -> tuple[messages.TensorSpec, ...]: ...
    @property
    def columns(self) -> tuple[str, ...]: ...
    @property
    def frame(self) -> bool: ...
    def read(self, inputs: Mapping[str, messages.Array]) -> Any:
        """The object for the model's predict, of the batch's length."""
        ...

    def example(self) -> dict[str, messages.Array]:
        """One row, in the form ``read`` takes."""
        ...


def text(array: messages.Array, *, missing: Any = None) -> messages.Array:
    """An object array with ``bytes`` decoded as UTF-8 and None replaced by ``missing``; other arrays as they are."""
    if array.dtype.kind == "S":
        array = array.astype(object)
    if array.dtype.kind != "O":
        return array
    found = np.empty(array.size, dtype=object)
    for index, value in enumerate(array.ravel()):
        if isinstance(value, bytes):
            try:
                found[index] = value.decode()
            except UnicodeDecodeError as error:
                raise errors.SpecError(f"element {index} is not UTF-8 text: {error.reason}.") from error
        else:
            found[index] = missing if value is None else value
    return found.reshape(array.shape)


def _flat(array: messages.Array) -> messages.Array:
    return array.reshape(-1) if array.ndim == 2 and array.shape[1] == 1 else array


@dataclasses.dataclass(frozen=True, slots=True)
class Matrix:
    """One two-dimensional array, of numbers unless ``datatype`` says otherwise; ``named``: made a DataFrame.

    ``row``: plausible values, one a feature.
    """

    features: int
    columns: tuple[str, ...] = ()
    datatype: str = "FP64"
    name: str = INPUT
    named: bool = False
    row: tuple[Any, ...] = ()

    @property
    def specs(self) -> tuple[messages.TensorSpec, ...]:
        return (messages.TensorSpec(self.name, self.datatype, (-1, self.features)),)

    @property
    def frame(self) -> bool:
        return False

    def read(self, inputs: Mapping[str, messages.Array]) -> Any:
        if self.columns and all(name in inputs for name in self.columns):
            matrix = np.column_stack([text(_flat(inputs[name])) for name in self.columns])
            if self.datatype in messages.NUMPY_OF:
                matrix = matrix.astype(messages.NUMPY_OF[self.datatype], copy=False)
        else:
            matrix = text(next(iter(inputs.values())), missing=math.nan)
        return pandas().DataFrame(matrix, columns=list(self.columns)) if self.named else matrix

    def example(self) -> dict[str, messages.Array]:
        blank: Any = "" if self.datatype == "BYTES" else 0
        row = self.row or (blank,) * max(self.features, 1)
        return {self.name: np.array([row], dtype=messages.NUMPY_OF.get(self.datatype, np.dtype(object)))}


@dataclasses.dataclass(frozen=True, slots=True)
class Frame:
    """A pandas DataFrame with named columns, each of its own datatype; nulls become the model's missing values."""

    parts: tuple[Column, ...]

    @property
    def specs(self) -> tuple[messages.TensorSpec, ...]:
        return tuple(messages.TensorSpec(part.name, part.datatype, (-1,), "", part.optional) for part in self.parts)

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(part.name for part in self.parts)

    @property
    def frame(self) -> bool:
        return True

    def read(self, inputs: Mapping[str, messages.Array]) -> Any:
        arrays = inputs
        if not any(part.name in inputs for part in self.parts):
            matrix = next(iter(inputs.values()))
            arrays = {part.name: matrix[:, index] for index, part in enumerate(self.parts)}
        values = {part.name: self._column(part, arrays[part.name]) for part in self.parts if part.name in arrays}
        return pandas().DataFrame(values)

    def _column(self, part: Column, array: messages.Array) -> Any:
        array = text(_flat(array), missing=part.missing)
        if array.dtype.kind == "O":
            array = _numbers(array)
        if part.categories is not None:
            return _categorical(array, part.categories)
        if array.dtype.kind == "O" and part.missing is None:
            return pandas().Series(array, dtype=object)
        return array

    def example(self) -> dict[str, messages.Array]:
        return {part.name: _one(part) for part in self.parts if not part.optional}


def _categorical(array: messages.Array, categories: tuple[Any, ...]) -> Any:
    """A pandas Categorical; a value that is none of the categories is missing, as when their order is set in pandas."""
    if not categories:
        return pandas().Categorical(array)
    known = set(categories)
    values = [value if value in known else None for value in array.tolist()]
    return pandas().Categorical(values, categories=list(categories))


def _numbers(array: messages.Array) -> messages.Array:
    """An object array that holds nothing but numbers (and missing values) as an array of numbers."""
    if array.size and all(isinstance(value, bool) for value in array):
        return array.astype(bool)
    if array.size and all(isinstance(value, int | float) and not isinstance(value, bool) for value in array):
        whole = all(isinstance(value, int) for value in array)
        try:
            return array.astype(np.int64 if whole else np.float64)
        except OverflowError:
            return array
    return array


def _one(part: Column) -> messages.Array:
    dtype = messages.NUMPY_OF.get(part.datatype)
    value = part.example
    if dtype is None:
        dtype = np.dtype(object) if value is None or isinstance(value, str) else np.asarray(value).dtype
    if value is None:
        value = "" if dtype.kind == "O" else 0
    return np.array([value], dtype=dtype)


@dataclasses.dataclass(frozen=True, slots=True)
class Texts:
    """A list of texts, for pipelines that start with a vectorizer."""

    sample: str = "text"
    name: str = INPUT

    @property
    def specs(self) -> tuple[messages.TensorSpec, ...]:
        return (messages.TensorSpec(self.name, "BYTES", (-1,)),)

    @property
    def columns(self) -> tuple[str, ...]:
        return ()

    @property
    def frame(self) -> bool:
        return False

    def read(self, inputs: Mapping[str, messages.Array]) -> Any:
        array = _flat(next(iter(inputs.values())))
        if any(value is None for value in array.ravel()):
            raise errors.SpecError("the model takes texts, and one of them is null.")
        return text(array).tolist()

    def example(self) -> dict[str, messages.Array]:
        return {self.name: np.array([self.sample], dtype=object)}


@dataclasses.dataclass(frozen=True, slots=True)
class Records:
    """A list of mappings, for pipelines that start with a DictVectorizer; missing values are left out of a record."""

    fields: tuple[Column, ...]

    @property
    def specs(self) -> tuple[messages.TensorSpec, ...]:
        return Frame(self.fields).specs

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(field.name for field in self.fields)

    @property
    def frame(self) -> bool:
        return True

    def read(self, inputs: Mapping[str, messages.Array]) -> Any:
        arrays = {name: text(_flat(array)).tolist() for name, array in inputs.items()}
        rows = zip(*arrays.values(), strict=True)
        return [
            {name: value for name, value in zip(arrays, row, strict=True) if value is not None and value == value}
            for row in rows
        ]

    def example(self) -> dict[str, messages.Array]:
        return {field.name: _one(field) for field in self.fields}


@dataclasses.dataclass(frozen=True, slots=True)
class Anything:
    """Nothing is known: one array goes as it came, several become the columns of a DataFrame."""

    specs: tuple[messages.TensorSpec, ...] = ()
    columns: tuple[str, ...] = ()
    frame: bool = False

    def read(self, inputs: Mapping[str, messages.Array]) -> Any:
        if len(inputs) == 1:
            return text(next(iter(inputs.values())), missing=math.nan)
        return Frame(tuple(Column(name) for name in inputs)).read(inputs)

    def example(self) -> dict[str, messages.Array]:
        return {}


def dense(result: Any) -> messages.Array:
    """A library's result as an array: sparse filled, DataFrames and lists converted, strings as objects."""
    if hasattr(result, "toarray"):
        result = result.toarray()
    elif hasattr(result, "to_numpy"):
        result = result.to_numpy()
    array = np.asarray(result)
    return array.astype(object) if array.dtype.kind in "UST" else array
