"""Does this request fit this model? Between the codec and the queue: a request becomes the arrays the model takes.

``bind`` holds every tensor against the model's ``Signature``: name, datatype, shape, columns, batch. What does not
fit is refused with a sentence that says expected and got, and names the nearest valid name, before any model code
runs. A signature that is not known lets everything through. ``columns`` has the models that take named columns.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mlship import errors
from mlship.protocol import messages
from mlship.server import refusals
from mlship.server.fit import columns, fitting

# Consumed by the server and its codecs; what is left belongs to the model or is refused.
CONSUMED = frozenset(
    {"id", "content_type", "headers", "timeout", "binary_data_output", "binary_data", "binary_data_size"}
)

Inputs = Mapping[str, messages.Array]


def bind(request: messages.InferRequest, signature: messages.Signature) -> Inputs:
    """The arrays for ``Model.infer``, by input name (by column name for a model that got columns).

    Raises:
        SpecError: the request does not fit; nothing has run.
    """
    label = f'model "{request.model_name}"'
    tensors = _by_name(request.inputs, label)
    if not signature.known:
        return {name: tensor.data for name, tensor in tensors.items()}
    if signature.columns:
        bound = columns.bind(tensors, signature, label=label)
    else:
        bound = _bind_inputs(tensors, signature.inputs, label=label)
    _check_batch(bound, signature, label=label)
    return bound


@dataclasses.dataclass(frozen=True, slots=True)
class Plain:
    """What a request looks like that needs no fitting: the usual case, told in one look.

    One matrix of the signature's name, datatype and width, with rows, and nothing asked for besides.
    """

    name: str
    dtype: np.dtype[Any]
    rest: tuple[int, ...]

    @classmethod
    def of(cls, signature: messages.Signature) -> Plain | None:
        """None: every request for such a model is to be fitted (``bind``)."""
        if not signature.known or not signature.batched or len(signature.inputs) != 1:
            return None
        (spec,) = signature.inputs
        free, *rest = spec.shape or (0,)
        if free != -1 or -1 in rest or spec.datatype in ("", "BYTES"):
            return None
        if signature.columns and tuple(rest) != (len(signature.columns),):
            return None
        return cls(spec.name, messages.NUMPY_OF[spec.datatype], tuple(rest))

    def rows(self, request: messages.InferRequest) -> int:
        """How many rows a plain request brings; 0: it is none."""
        if len(request.inputs) != 1 or request.parameters or request.outputs:
            return 0
        (tensor,) = request.inputs
        data = tensor.data
        if tensor.name != self.name or data.dtype != self.dtype or data.shape[1:] != self.rest or not data.ndim:
            return 0
        return int(data.shape[0])


def _by_name(inputs: Sequence[messages.Tensor], label: str) -> dict[str, messages.Tensor]:
    found: dict[str, messages.Tensor] = {}
    for tensor in inputs:
        if tensor.name in found:
            raise errors.SpecError(f'{label}: the request has two inputs named "{refusals.shorten(tensor.name)}".')
        found[tensor.name] = tensor
    return found


def _bind_inputs(
    tensors: Mapping[str, messages.Tensor], specs: Sequence[messages.TensorSpec], *, label: str
) -> dict[str, messages.Array]:
    if len(specs) == 1 and list(tensors) == [""]:
        tensors = {specs[0].name: tensors[""]}
    known = {spec.name: spec for spec in specs}
    for name in tensors:
        if name not in known:
            raise refusals.unknown(name, known, what="input", label=label)
    missing = [spec.name for spec in specs if spec.name not in tensors and not spec.optional]
    if missing:
        raise errors.SpecError(
            f"{label}: expected {refusals.listed(known, 'input')}, got none named {refusals.quoted(missing)}."
        )
    return {
        spec.name: fitting.fit(tensors[spec.name].data, spec, label=label) for spec in specs if spec.name in tensors
    }


def _check_batch(bound: Inputs, signature: messages.Signature, *, label: str) -> None:
    if not signature.batched:
        return
    sizes = {name: data.shape[0] for name, data in bound.items() if data.ndim}
    if not sizes:
        return
    (first, rows), *others = sizes.items()
    for name, size in others:
        if size != rows:
            raise errors.SpecError(
                f'{label}: expected as many rows in every input, got {rows} in "{first}" and {size} in "{name}".'
            )
    if rows == 0:
        raise errors.SpecError(
            f"{label}: expected at least one row, got none (shape {fitting.shape(bound[first].shape)})."
        )


def rows(bound: Inputs, signature: messages.Signature) -> int:
    """How many rows these inputs are: the statistics' inference count."""
    if not signature.batched:
        return 1
    return next((data.shape[0] for data in bound.values() if data.ndim), 1)


def outputs(request: messages.InferRequest, signature: messages.Signature) -> tuple[str, ...]:
    """The names of the outputs to give: the requested, else none, which means the model's default ones.

    Raises:
        SpecError: an output that the model does not have.
    """
    label = f'model "{request.model_name}"'
    names = tuple(dict.fromkeys(output.name for output in request.outputs))
    known = {spec.name for spec in signature.outputs}
    if not signature.known or not known:
        return names
    for name in names:
        if name not in known:
            raise refusals.unknown(name, [spec.name for spec in signature.outputs], what="output", label=label)
    return names


def parameters(request: messages.InferRequest, taken: Mapping[str, type] | None) -> Mapping[str, messages.Scalar]:
    """The request's own parameters, for the model.

    Args:
        taken: those the model takes and their types; None: it judges them itself.

    Raises:
        SpecError: a parameter that nobody here would honour, or of the wrong type.
    """
    own = {name: value for name, value in request.parameters.items() if name not in CONSUMED}
    if taken is None:
        return own
    label = f'model "{request.model_name}"'
    for name, value in own.items():
        if name not in taken:
            raise refusals.unknown(name, taken, what="request parameter", label=label)
        if not _is(value, taken[name]):
            raise errors.SpecError(
                f'{label}: request parameter "{name}" expected {taken[name].__name__}, got {type(value).__name__}.'
            )
    return own


def _is(value: messages.Scalar, kind: type) -> bool:
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, int) if kind is float and isinstance(value, int) else isinstance(value, kind)
