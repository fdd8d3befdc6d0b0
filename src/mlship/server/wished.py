"""A loaded model under the names, shapes and answers that another server's configuration gives it.

``loading`` puts it around a model whose folder has such a configuration (``artifact.wishes``); what the model cannot
be under that name is refused here, when its own signature is known.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mlship import errors
from mlship.protocol import messages
from mlship.server import model as contract
from mlship.server import refusals
from mlship.server.artifact.wishes import Output, Wishes


def wished(model: contract.Model, wishes: Wishes | None) -> contract.Model:
    """``model`` as ``wishes`` want it. Raises SpecError: it is not such a model."""
    if wishes is None:
        return model
    return Wished(model, wishes)


class Wished:
    """See the module. Everything that is not named here is the model's own."""

    # What is compiled would answer under the model's own names.
    fitted = None

    def __init__(self, model: contract.Model, wishes: Wishes) -> None:
        self._model = model
        self._wishes = wishes
        own = model.signature
        self.most_rows = wishes.most_rows
        self._inputs = _names(wishes, wishes.inputs, own.inputs, "input") if own.known else {}
        self._source = _source(own, wishes)
        if self._source:
            name = wishes.outputs[0].name if wishes.outputs else self._source
            self._outputs = {name: self._source}
        else:
            self._outputs = _names(wishes, wishes.outputs, own.outputs, "output") if own.outputs else {}
        self.signature = self._signature(own)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    @property
    def platform(self) -> str:
        return self._model.platform

    def _signature(self, own: messages.Signature) -> messages.Signature:
        theirs = {mine: given for given, mine in self._inputs.items()}
        inputs = tuple(dataclasses.replace(spec, name=theirs.get(spec.name, spec.name)) for spec in own.inputs)
        if self._source:
            (name,) = self._outputs
            outputs: tuple[messages.TensorSpec, ...] = (messages.TensorSpec(name, "FP32", self._shape(own)),)
        elif self._outputs:
            by_name = {spec.name: spec for spec in own.outputs}
            outputs = tuple(dataclasses.replace(by_name[mine], name=given) for given, mine in self._outputs.items())
        else:
            outputs = own.outputs
        defaults = tuple(spec.name for spec in outputs) if self._outputs else own.default_outputs
        return dataclasses.replace(own, inputs=inputs, outputs=outputs, default_outputs=defaults)

    def _shape(self, own: messages.Signature) -> tuple[int, ...]:
        if self._wishes.outputs:
            return self._wishes.outputs[0].shape
        return next((spec.shape for spec in own.outputs if spec.name == self._source), (-1,))

    def example(self) -> Mapping[str, messages.Array]:
        """The model's own row, under these names."""
        own = getattr(self._model, "example", None)
        theirs = {mine: given for given, mine in self._inputs.items()}
        return {theirs.get(name, name): data for name, data in (own() if own is not None else {}).items()}

    def infer(
        self,
        inputs: Mapping[str, messages.Array],
        *,
        outputs: Sequence[str],
        parameters: Mapping[str, messages.Scalar],
    ) -> Any:
        """See ``model.Model.infer``."""
        given = {self._inputs.get(name, name): data for name, data in inputs.items()}
        if not self._outputs:
            return self._model.infer(given, outputs=outputs, parameters=parameters)
        wanted = tuple(outputs) or self.signature.default_outputs
        found = self._model.infer(given, outputs=tuple(self._outputs[name] for name in wanted), parameters=parameters)
        if self._source:
            (name,) = self._outputs
            return {name: self._answer(np.asarray(found[self._source]))}
        return {name: found[self._outputs[name]] for name in wanted}

    def _answer(self, data: Any) -> messages.Array:
        wanted, rows = self._wishes.output, len(data)
        single = data.ndim == 1 or data.shape[-1] == 1
        if wanted is Output.PROBABILITIES and single:
            one = data.reshape(rows)
            data = np.stack([1 - one, one], axis=1)
        elif wanted is Output.CLASS and self._source == "predict_proba":
            data = data.argmax(axis=1)
        elif wanted is Output.CLASS:
            data = data.reshape(rows) > self._wishes.threshold if single else data.argmax(axis=1)
        found: messages.Array = np.ascontiguousarray(data, dtype=np.float32)
        # A single column is written either way: as the configuration does.
        return found.reshape(rows, -1) if len(self.signature.outputs[0].shape) > 1 else found

    def close(self) -> None:
        """Close the model."""
        self._model.close()


def _source(own: messages.Signature, wishes: Wishes) -> str:
    """The output of a tree model that FIL's one output is made of; empty where that is not asked."""
    if wishes.output is None:
        return ""
    names = [spec.name for spec in own.outputs]
    wanted = "predict" if wishes.output is Output.PLAIN or "predict_proba" not in names else "predict_proba"
    if wanted not in names:
        raise errors.SpecError(f"{wishes.source}: the model has the outputs {refusals.quoted(names)}, not {wanted}.")
    return wanted


def _names(
    wishes: Wishes, asked: Sequence[messages.TensorSpec], own: Sequence[messages.TensorSpec], what: str
) -> dict[str, str]:
    """The model's names by those that are asked for. Raises SpecError."""
    if not asked:
        return {}
    if wishes.by_place:
        if len(asked) != len(own):
            raise errors.SpecError(
                f"{wishes.source} has {len(asked)} {what}s, and the model has {refusals.listed(_of(own), what)}.",
                hint=f"Correct {wishes.source}.",
            )
        return {spec.name: mine.name for spec, mine in zip(asked, own, strict=True)}
    known = {spec.name: spec for spec in own}
    for spec in asked:
        if spec.name not in known:
            raise refusals.unknown(spec.name, known, what=what, label=wishes.source)
        _check(spec, known[spec.name], what, wishes.source)
    return {spec.name: spec.name for spec in asked} if what == "output" else {}


def _of(specs: Sequence[messages.TensorSpec]) -> list[str]:
    return [spec.name for spec in specs]


def _check(asked: messages.TensorSpec, own: messages.TensorSpec, what: str, source: str) -> None:
    fits = len(asked.shape) == len(own.shape) and all(
        -1 in pair or pair[0] == pair[1] for pair in zip(asked.shape, own.shape, strict=False)
    )
    if not fits or asked.datatype != own.datatype:
        raise errors.SpecError(
            f"{source} says the {what} {asked.name} is {asked.datatype} {list(asked.shape)}, "
            f"the model has {own.datatype} {list(own.shape)}.",
            hint="With max_batch_size over 0 the dims leave out the rows.",
        )
