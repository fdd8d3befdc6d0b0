"""How a user's ``predict`` wants to be called, decided once at load by looking at its parameters.

Three styles run: the native one (``predict(self, inputs)`` with arrays), KServe's (``predict(self, payload,
headers=None)`` with the V1 dictionary) and MLflow's PythonModel (``predict(self, context, model_input, params=None)``).
A style turns the validated inputs into the arguments; ``outputs`` turns whatever comes back into named arrays.
"""

from __future__ import annotations

import dataclasses
import enum
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from mlship import errors
from mlship.protocol import messages
from mlship.server.frameworks import frames

OUTPUT = "output-0"
Inputs = Mapping[str, messages.Array]


class Style(enum.Enum):
    """Whose calling convention a predict follows."""

    NATIVE = "native"
    KSERVE = "kserve"
    MLFLOW = "mlflow"


class Shape(enum.Enum):
    """What the first argument of a native predict is."""

    MAPPING = "mapping"
    ARRAY = "array"
    FRAME = "frame"
    LIST = "list"


@dataclasses.dataclass(frozen=True, slots=True)
class Call:
    """The convention of one predict. ``extras``: the optional arguments it takes besides the data, by keyword."""

    style: Style
    shape: Shape
    extras: frozenset[str]

    def arguments(
        self, inputs: Inputs, parameters: Mapping[str, messages.Scalar], *, context: Any
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Positional and keyword arguments for one request."""
        if self.style is Style.KSERVE:
            return (payload(inputs),), {"headers": {}} if "headers" in self.extras else {}
        if self.style is Style.MLFLOW:
            keywords = {"params": dict(parameters)} if "params" in self.extras else {}
            return (context, _data(inputs, self.shape)), keywords
        keywords = {"parameters": dict(parameters)} if "parameters" in self.extras else {}
        return (_data(inputs, self.shape),), keywords


def of(predict: Callable[..., Any], *, where: str) -> Call:
    """The convention of a bound ``predict``.

    Raises ``errors.ModelError`` when it takes no data or needs arguments that nobody gives.
    """
    found = inspect.signature(predict).parameters
    plain = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    positional = [item for item in found.values() if item.kind in plain]
    takes = [item.name for item in positional]
    if not takes:
        raise errors.ModelError(f"{where}: predict takes no data.", hint="Write it as predict(self, inputs).")
    required = {item.name for item in found.values() if _is_required(item)}
    if takes[0] == "context" and len(takes) > 1:
        call = Call(Style.MLFLOW, _shape(positional[1], Shape.FRAME), frozenset({"params"} & set(found)))
        given = {"context", takes[1]}
    elif takes[0] in ("payload", "request") or (takes[0] == "model_input" and "headers" in takes):
        call, given = Call(Style.KSERVE, Shape.MAPPING, frozenset({"headers"} & set(found))), {takes[0], "headers"}
    elif takes[0] == "model_input":
        call = Call(Style.NATIVE, _shape(positional[0], Shape.FRAME), frozenset({"parameters"} & set(found)))
        given = {takes[0], "parameters"}
    else:
        default = Shape.MAPPING if takes[0] == "inputs" else Shape.ARRAY
        call = Call(Style.NATIVE, _shape(positional[0], default), frozenset({"parameters"} & set(found)))
        given = {takes[0], "parameters"}
    if unknown := sorted(required - given):
        raise errors.ModelError(
            f"{where}: predict needs the arguments {', '.join(unknown)}, which nothing gives.",
            hint="Give them defaults; docs/custom-models.md lists the forms of predict.",
        )
    return call


def _is_required(item: inspect.Parameter) -> bool:
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return item.default is inspect.Parameter.empty and item.kind not in variable


def _shape(item: inspect.Parameter, default: Shape) -> Shape:
    """What an annotation asks for; by the name of the type, so that a string annotation is as good."""
    if item.annotation is inspect.Parameter.empty:
        return default
    text = item.annotation if isinstance(item.annotation, str) else inspect.formatannotation(item.annotation)
    start = text.lower().replace("typing.", "").replace("collections.abc.", "").lstrip("'\" ")
    if start.startswith(("dict", "mapping", "mutablemapping")):
        return Shape.MAPPING
    if "dataframe" in start:
        return Shape.FRAME
    if "ndarray" in start or start.startswith(("np.", "numpy.", "npt.")):
        return Shape.ARRAY
    if start.startswith(("list", "sequence", "iterable")):
        return Shape.LIST
    return default


def _data(inputs: Inputs, shape: Shape) -> Any:
    decoded = {name: _readable(array) for name, array in inputs.items()}
    if shape is Shape.MAPPING:
        return decoded
    if shape is Shape.FRAME:
        return _frame(decoded)
    if len(decoded) != 1:
        raise errors.SpecError(
            f"this model takes one array, got {len(decoded)} inputs: {', '.join(list(decoded)[:10])}.",
            hint="Send one input; a predict(self, inputs) gets all of them as a mapping.",
        )
    array = next(iter(decoded.values()))
    return array.tolist() if shape is Shape.LIST else array


def _readable(array: messages.Array) -> messages.Array:
    """Text as ``str``; an array with an element that is no UTF-8 keeps its ``bytes``: an image, an encoded message."""
    try:
        return frames.text(array)
    except errors.SpecError:
        return array


def _frame(inputs: Inputs) -> Any:
    pandas = frames.pandas()
    if len(inputs) == 1:
        name, array = next(iter(inputs.items()))
        return pandas.DataFrame(array) if array.ndim == 2 else pandas.DataFrame({name: array})
    return frames.Frame(tuple(frames.Column(name) for name in inputs)).read(inputs)


def payload(inputs: Inputs) -> dict[str, Any]:
    """The V1 form of the inputs: rows of one input, or a mapping per row."""
    columns = {name: frames.text(array).tolist() for name, array in inputs.items()}
    if len(columns) == 1:
        return {"instances": next(iter(columns.values()))}
    rows = zip(*columns.values(), strict=True)
    return {"instances": [dict(zip(columns, row, strict=True)) for row in rows]}


def outputs(result: Any, names: tuple[str, ...], *, where: str) -> dict[str, messages.Array]:
    """Whatever predict gave as arrays by output name.

    A mapping names its outputs (a V1 answer's ``predictions`` is the one output), a DataFrame's columns are outputs, a
    tuple gives them in order; anything else is one array. Raises ``errors.ModelError`` for what cannot be an array.
    """
    if isinstance(result, Mapping):
        if set(result) == {"predictions"}:
            return outputs(result["predictions"], names, where=where)
        return {str(name): _array(value, where) for name, value in result.items()}
    if hasattr(result, "columns") and hasattr(result, "to_numpy"):
        return {str(name): _array(result[name], where) for name in result.columns}
    if isinstance(result, tuple) and len(names) > 1 and len(result) == len(names):
        return {name: _array(value, where) for name, value in zip(names, result, strict=True)}
    return {names[0] if names else OUTPUT: _array(result, where)}


def _array(value: Any, where: str) -> messages.Array:
    if value is None:
        raise errors.ModelError(f"{where}: predict gave None.", hint="Return an array, a list or a mapping of them.")
    if isinstance(value, list) and value and isinstance(value[0], Mapping):
        raise errors.ModelError(
            f"{where}: predict gave a list of mappings, which is no array.",
            hint="Return a mapping of arrays: a name and a list for each output.",
        )
    try:
        array = frames.dense(value)
        messages.datatype_of(array.dtype)
    except (ValueError, TypeError, KeyError) as error:
        raise errors.ModelError(
            f"{where}: predict gave a {type(value).__name__}, no array of numbers or strings: {str(error)[:99]}.",
            hint="Return arrays of numbers, booleans or strings.",
        ) from error
    if array.dtype.kind == "O" and not all(isinstance(item, str | bytes) for item in array.ravel()):
        raise errors.ModelError(
            f"{where}: predict gave a list of neither numbers nor strings alone, or whose rows differ in length.",
            hint="Return arrays of one kind, with rows of one length.",
        )
    return np.atleast_1d(array)
