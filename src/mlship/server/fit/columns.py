"""Models that take named columns: one matrix, or one tensor per column; either way the model gets the form it wants.

A request for such a model may hold a single matrix with the columns in order, or a tensor per column in any order.
Columns become a matrix unless the model wants a frame; a matrix becomes columns where the signature describes each
column by itself, as it does when they differ in datatype. Used by ``binding``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from mlship import errors
from mlship.protocol import messages
from mlship.server import refusals
from mlship.server.fit import fitting

Tensors = Mapping[str, messages.Tensor]


def bind(tensors: Tensors, signature: messages.Signature, *, label: str) -> dict[str, messages.Array]:
    """The arrays of a request for a ``signature.columns`` model.

    Returns:
        {input: matrix} or, for a frame or a signature with an input per column, {column: (n,)} in the model's order.
    """
    matrix = matrix_spec(signature)
    sole = next(iter(tensors.values())) if len(tensors) == 1 else None
    if sole is not None and _is_matrix(sole, signature, matrix):
        if matrix is not None:
            return {matrix.name: _fit_matrix(sole.data, matrix, signature, label=label)}
        return _split(sole.data, signature, label=label)
    arrays = _columns(tensors, signature, matrix, label=label)
    if matrix is None or signature.frame:
        return arrays
    return {matrix.name: np.column_stack(list(arrays.values()))}


def matrix_spec(signature: messages.Signature) -> messages.TensorSpec | None:
    """The input that is the whole matrix; None when the signature describes each column by itself."""
    if len(signature.inputs) == 1 and len(signature.inputs[0].shape) == 2:
        spec = signature.inputs[0]
        return spec if spec.name not in signature.columns or len(signature.columns) == 1 else None
    return None


def _is_matrix(sole: messages.Tensor, signature: messages.Signature, matrix: messages.TensorSpec | None) -> bool:
    if sole.name == "":
        return True
    if matrix is not None:
        return sole.name == matrix.name
    return sole.name not in signature.columns and sole.data.ndim == 2


def _fit_matrix(
    data: messages.Array, spec: messages.TensorSpec, signature: messages.Signature, *, label: str
) -> messages.Array:
    if data.ndim == 2 and data.shape[1] != len(signature.columns):
        raise _wrong_width(data, spec.name, signature, label=label)
    return fitting.fit(data, spec, label=label, missing=True)


def _split(data: messages.Array, signature: messages.Signature, *, label: str) -> dict[str, messages.Array]:
    if data.ndim != 2 or data.shape[1] != len(signature.columns):
        raise _wrong_width(data, "", signature, label=label)
    specs = _column_specs(signature, None)
    return {
        name: fitting.fit(data[:, position], specs[name], label=label, missing=True)
        for position, name in enumerate(signature.columns)
    }


def _wrong_width(data: messages.Array, name: str, signature: messages.Signature, *, label: str) -> errors.SpecError:
    wanted = refusals.quoted(signature.columns)
    where = f', input "{name}"' if name else ""
    return errors.SpecError(
        f"{label}{where}: expected shape {fitting.shape((-1, len(signature.columns)))} with the columns {wanted}, "
        f"got {fitting.shape(data.shape)}."
    )


def _columns(
    tensors: Tensors, signature: messages.Signature, matrix: messages.TensorSpec | None, *, label: str
) -> dict[str, messages.Array]:
    specs = _column_specs(signature, matrix)
    known = list(signature.columns)
    for name in tensors:
        if name not in specs:
            choices = [matrix.name, *known] if matrix is not None else known
            raise refusals.unknown(name, choices, what="column" if len(tensors) > 1 else "input", label=label)
    missing = [name for name in known if name not in tensors and not specs[name].optional]
    if missing:
        raise errors.SpecError(
            f"{label}: expected {refusals.listed(known, 'column')}, got none named {refusals.quoted(missing)}."
        )
    arrays = {
        name: fitting.fit(tensors[name].data, specs[name], label=label, missing=True)
        for name in known
        if name in tensors
    }
    _check_lengths(arrays, label=label)
    return arrays


def _check_lengths(arrays: Mapping[str, messages.Array], *, label: str) -> None:
    lengths = {name: len(array) for name, array in arrays.items()}
    (first, rows), *others = lengths.items()
    for name, length in others:
        if length != rows:
            raise errors.SpecError(
                f'{label}: expected as many rows in every column, got {rows} in "{first}" and {length} in "{name}".'
            )


def _column_specs(signature: messages.Signature, matrix: messages.TensorSpec | None) -> dict[str, messages.TensorSpec]:
    """What each column must be: its own input, or the datatype of the matrix; always of shape (n,)."""
    own = {spec.name: spec for spec in signature.inputs} if matrix is None else {}
    datatype = matrix.datatype if matrix is not None else ""
    anything = messages.TensorSpec(name="", datatype=datatype, shape=(-1,))
    return {name: dataclasses.replace(own.get(name, anything), name=name, shape=(-1,)) for name in signature.columns}
