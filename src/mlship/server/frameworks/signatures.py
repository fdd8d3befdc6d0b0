"""Joins what a model's file says with what its owner says (``model.schema.yaml``).

The owner may name inputs, give datatypes to columns, choose the outputs given by default, and provide an example row;
what contradicts the file is refused at load, with both sides in the sentence. Also here: class names as an output.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mlship import errors
from mlship.protocol import messages
from mlship.server import model
from mlship.server.artifact import schema_file
from mlship.server.frameworks import frames

LABEL = "label"


def refine_form(form: frames.Form, schema: schema_file.Schema | None) -> frames.Form:
    """The form with the names and datatypes of the schema.

    One input renames a matrix; several inputs, each one column, make a DataFrame. Raises ``errors.SpecError`` when the
    schema and the model disagree on the number or the names of the columns.
    """
    if schema is None or not (schema.inputs or schema.columns):
        return form
    if len(schema.inputs) == 1 and (len(schema.inputs[0].shape) == 2 or isinstance(form, frames.Texts)):
        form = _renamed(form, schema, schema.inputs[0])
    elif schema.inputs:
        return _framed(form, schema)
    if not schema.columns:
        return form
    if isinstance(form, frames.Frame):
        _same_names(schema, [spec.name for spec in form.specs], schema.columns)
        return form
    features = form.features if isinstance(form, frames.Matrix) else len(schema.columns)
    if features not in (-1, len(schema.columns)):
        raise _disagree(schema, f"{len(schema.columns)} columns", f"{features} features")
    base = form if isinstance(form, frames.Matrix) else frames.Matrix(features=features)
    if base.named:
        _same_names(schema, base.columns, schema.columns)
        return base
    return dataclasses.replace(base, columns=schema.columns, features=features)


def _renamed(form: frames.Form, schema: schema_file.Schema, spec: messages.TensorSpec) -> frames.Form:
    if isinstance(form, frames.Texts):
        return dataclasses.replace(form, name=spec.name)
    width = spec.shape[1]
    if isinstance(form, frames.Anything):
        return frames.Matrix(features=width, datatype=spec.datatype, name=spec.name)
    if not isinstance(form, frames.Matrix):
        raise _disagree(schema, f"one input {spec.name!r}", f"a column each: {', '.join(form.columns)[:200]}")
    if -1 not in (width, form.features) and width != form.features:
        raise _disagree(schema, f"{width} features", f"{form.features}")
    return dataclasses.replace(form, name=spec.name, datatype=spec.datatype or form.datatype)


def _framed(form: frames.Form, schema: schema_file.Schema) -> frames.Form:
    names = [spec.name for spec in schema.inputs]
    known = {part.name: part for part in form.parts} if isinstance(form, frames.Frame) else {}
    if known:
        _same_names(schema, list(known), names)
    elif isinstance(form, frames.Matrix):
        if form.features not in (-1, len(names)):
            raise _disagree(schema, f"{len(names)} inputs", f"{form.features} features")
        if form.columns:
            _same_names(schema, form.columns, names)
        if not form.named:
            return dataclasses.replace(form, columns=tuple(names))
    elif isinstance(form, frames.Texts):
        raise _disagree(schema, f"{len(names)} inputs", "one input of texts")
    order = list(known) or list(form.columns) or names
    said = {spec.name: spec for spec in schema.inputs}
    return frames.Frame(tuple(_column(said[name], known.get(name)) for name in order))


def _column(spec: messages.TensorSpec, known: frames.Column | None) -> frames.Column:
    base = known or frames.Column(spec.name)
    return dataclasses.replace(base, datatype=spec.datatype or base.datatype, optional=spec.optional or base.optional)


def _same_names(schema: schema_file.Schema, model_names: Sequence[str], names: Sequence[str]) -> None:
    if set(model_names) != set(names):
        raise _disagree(schema, f"the columns {', '.join(names)[:200]}", f"the columns {', '.join(model_names)[:200]}")


def _disagree(schema: schema_file.Schema, said: str, found: str) -> errors.SpecError:
    return errors.SpecError(
        f"{schema.source} says {said}, but the model has {found}.", hint=f"Correct {schema.source}."
    )


def with_outputs(signature: messages.Signature, schema: schema_file.Schema | None) -> messages.Signature:
    """The signature with the schema's outputs as default ones. Raises ``errors.SpecError`` for unknown ones."""
    if schema is None or not schema.outputs:
        return signature
    known = [spec.name for spec in signature.outputs]
    wanted = tuple(spec.name for spec in schema.outputs)
    if unknown := [name for name in wanted if name not in known]:
        raise _disagree(schema, f"the output {unknown[0]!r}", f"the outputs {', '.join(known)}")
    return dataclasses.replace(signature, default_outputs=wanted)


def of(schema: schema_file.Schema) -> messages.Signature:
    """The signature a schema amounts to by itself, for models that say nothing of their own."""
    specs = (*schema.inputs, *schema.outputs)
    inputs = schema.inputs
    if not inputs and schema.columns:
        inputs = (messages.TensorSpec(frames.INPUT, "", (-1, len(schema.columns))),)
    return messages.Signature(
        inputs=inputs,
        outputs=schema.outputs,
        default_outputs=tuple(spec.name for spec in schema.outputs),
        columns=schema.columns,
        batched=all(spec.shape[:1] == (-1,) for spec in specs),
        known=bool(inputs),
    )


def example(schema: schema_file.Schema | None, form: frames.Form) -> dict[str, messages.Array]:
    """The schema's example row as arrays, else the form's own. Raises ``errors.SpecError`` when it does not fit."""
    if schema is None or schema.example is None:
        return form.example()
    return example_of(schema, form.specs, form.columns)


def example_of(
    schema: schema_file.Schema, specs: Sequence[messages.TensorSpec], columns: Sequence[str]
) -> dict[str, messages.Array]:
    """The schema's example row as arrays by input name: a list goes to the first input, a mapping by name."""
    by_name = {spec.name: spec for spec in specs}
    value = schema.example
    if isinstance(value, dict):
        if len(specs) == 1 and set(value) == set(columns):
            return {specs[0].name: _array(schema, specs[0], [[value[name] for name in columns]])}
        if unknown := [name for name in value if name not in by_name]:
            raise _disagree(schema, f"an example value for {unknown[0]!r}", f"the inputs {', '.join(by_name)[:200]}")
        return {name: _array(schema, by_name[name], _batch(item, by_name[name])) for name, item in value.items()}
    if not specs:
        return {}
    if len(specs) > 1:
        row = value[0] if isinstance(value[0], list) else value
        if len(row) != len(specs):
            raise _disagree(schema, f"an example of {len(row)} values", f"{len(specs)} inputs")
        return {spec.name: _array(schema, spec, [item]) for spec, item in zip(specs, row, strict=True)}
    return {specs[0].name: _array(schema, specs[0], _batch(value, specs[0]))}


def _batch(value: Any, spec: messages.TensorSpec) -> Any:
    """A value with as many dimensions as its input; the batch may be left out."""
    return [value] if np.ndim(value) == len(spec.shape) - 1 else value


def _array(schema: schema_file.Schema, spec: messages.TensorSpec, value: Any) -> messages.Array:
    try:
        array = np.array(value, dtype=messages.NUMPY_OF.get(spec.datatype, None))
    except (TypeError, ValueError, OverflowError) as error:
        raise errors.SpecError(
            f"the example in {schema.source} does not fit the input {spec.name!r} "
            f"({spec.datatype or 'any'}, shape {list(spec.shape)}): {str(error)[:200]}."
        ) from error
    fits = len(array.shape) == len(spec.shape) and all(
        want in (-1, have) for want, have in zip(spec.shape, array.shape, strict=True)
    )
    if not fits:
        raise errors.SpecError(
            f"the example in {schema.source} has the shape {list(array.shape)}, "
            f"the input {spec.name!r} takes {list(spec.shape)}."
        )
    return array.astype(object) if array.dtype.kind == "U" else array


class Labelled:
    """A model with one more output, ``label``: the class name of its first default output.

    Integer predictions are looked up at their place among the classifier's own classes, scores at the greatest one,
    and a single score per row is the probability of the second of two classes.
    """

    def __init__(self, inner: Any, classes: Sequence[str]) -> None:
        self._inner = inner
        self._classes = np.array(classes, dtype=object)
        self._source = inner.signature.default_outputs[0]
        self._values = getattr(inner, "class_values", None)
        spec = messages.TensorSpec(LABEL, "BYTES", (-1,))
        said: messages.Signature = inner.signature
        self._signature = dataclasses.replace(said, outputs=(*said.outputs, spec))
        self.fitted = getattr(inner, "fitted", None)
        self.concurrent = getattr(inner, "concurrent", 1)
        self.processes = getattr(inner, "processes", 0)
        self.joins = getattr(inner, "joins", True)
        self.quick = getattr(inner, "quick", False)
        self.parameters = getattr(inner, "parameters", {})

    @property
    def signature(self) -> messages.Signature:
        return self._signature

    @property
    def platform(self) -> str:
        return str(self._inner.platform)

    def example(self) -> Mapping[str, messages.Array]:
        """The inner model's row."""
        row: Mapping[str, messages.Array] = self._inner.example()
        return row

    def infer(
        self,
        inputs: Mapping[str, messages.Array],
        *,
        outputs: Sequence[str],
        parameters: Mapping[str, messages.Scalar],
    ) -> Mapping[str, messages.Array]:
        """See ``model.Model.infer``."""
        if LABEL not in outputs:
            found: Mapping[str, messages.Array] = self._inner.infer(inputs, outputs=outputs, parameters=parameters)
            return found
        asked = tuple(dict.fromkeys([*(name for name in outputs if name != LABEL), self._source]))
        answer = self._inner.infer(inputs, outputs=asked, parameters=parameters)
        named = {**answer, LABEL: self._names(answer[self._source])}
        return {name: named[name] for name in outputs}

    def _names(self, values: messages.Array) -> messages.Array:
        if values.ndim == 2 and values.shape[1] > 1:
            index = values.argmax(axis=1)
        elif values.dtype.kind == "f" and self._values is None:
            index = (values.reshape(-1) > 0.5).astype(np.int64)
        elif self._values is not None:
            index = np.searchsorted(self._values, values.reshape(-1))
        else:
            index = values.reshape(-1).astype(np.int64)
        if index.size and (index.min() < 0 or index.max() >= len(self._classes)):
            raise errors.ModelError(
                f"the model gave class number {int(index.max())}, and its schema names {len(self._classes)} classes."
            )
        return np.asarray(self._classes[index])

    def close(self) -> None:
        """Close the inner model."""
        self._inner.close()


def labelled(inner: model.Model, schema: schema_file.Schema | None) -> model.Model:
    """The model with a ``label`` output when the schema names classes, else the model itself."""
    if schema is None or not schema.classes or not inner.signature.default_outputs:
        return inner
    return Labelled(inner, schema.classes)
