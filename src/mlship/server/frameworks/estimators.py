"""Serves any object with scikit-learn's interface: its methods are the outputs, its own answers their datatypes.

Used by the adapters whose models speak that interface (scikit-learn itself, and the wrapper classes of the boosting
libraries). Which outputs a model has, of which datatype and shape, is not guessed: at load every method answers the
example row once, and what comes back is what the signature says.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import numpy as np

from mlship import errors
from mlship.protocol import messages
from mlship.server import model
from mlship.server.artifact import learnt, schema_file
from mlship.server.frameworks import frames, signatures

LOG = logging.getLogger(__name__)
METHODS = ("predict", "predict_proba", "predict_log_proba", "decision_function", "score_samples", "transform")
PARAMETER = "predict_method"
_CAP = 300
# Libraries whose code computes and does nothing else.
_COMPUTING = frozenset({"sklearn", "imblearn", "xgboost", "lightgbm", "catboost", "numpy", "scipy", "builtins"})

Method = Callable[[Any], Any]


@dataclasses.dataclass(frozen=True, slots=True)
class Output:
    """A signature's output: which method gives it, and which of its arrays (None: the method gives just one)."""

    spec: messages.TensorSpec
    method: str
    part: int | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Probed:
    """What came of asking every method for the example row; ``answered``: whether the default one took it."""

    outputs: tuple[Output, ...]
    answered: bool


_PROBED: learnt.Learnt[Probed] = learnt.Learnt()


class Estimator:
    """A model of the adapter contract around an object with predict, predict_proba, transform ..."""

    parameters: Mapping[str, type] = {PARAMETER: str}

    def __init__(
        self,
        methods: Mapping[str, Method],
        *,
        form: frames.Form,
        platform: str,
        class_values: messages.Array | None = None,
        schema: schema_file.Schema | None = None,
        concurrent: int = 1,
        refusals: tuple[type[Exception], ...] = (),
        fitted: Any = None,
        quick: bool = False,
        known_as: Hashable = None,
    ) -> None:
        """
        Args:
            methods: what the model can do, by output name, the default one first.
            form: how it wants its data.
            class_values: the labels a classifier predicts, in the order of its classes.
            schema: what the owner says; its inputs have been heeded in ``form`` (``signatures.refine_form``).
            refusals: the library's own exceptions that mean the data is at fault.
            fitted: the object that the methods are of, for those who can compile it.
            quick: see ``model``.
            known_as: what its methods answered to the example row is kept under this, and not asked again; None: it is.
        """
        self._refusals: tuple[type[Exception], ...] = (ValueError, TypeError, *refusals)
        self._methods = dict(methods)
        self._form = form
        self._example = signatures.example(schema, form)
        probed = _PROBED.get(known_as) if known_as is not None else None
        if probed is None:
            probed = self._probe()
            if known_as is not None:
                _PROBED.keep(known_as, probed)
        self._outputs = {output.spec.name: output for output in probed.outputs}
        if schema is None or schema.example is None:
            self._example = self._example if probed.answered else {}
        self.class_values = class_values
        self.fitted = fitted
        self.concurrent = concurrent
        self.quick = quick
        self._platform = platform
        self._signature = signatures.with_outputs(
            messages.Signature(
                inputs=form.specs,
                outputs=tuple(output.spec for output in self._outputs.values()),
                default_outputs=self._default_outputs(),
                columns=form.columns,
                frame=form.frame,
                known=not isinstance(form, frames.Anything),
            ),
            schema,
        )

    @property
    def signature(self) -> messages.Signature:
        return self._signature

    @property
    def platform(self) -> str:
        return self._platform

    def example(self) -> Mapping[str, messages.Array]:
        """A plausible row; empty when nothing is known of the inputs or the model refuses the row."""
        return self._example

    def infer(
        self,
        inputs: Mapping[str, messages.Array],
        *,
        outputs: Sequence[str],
        parameters: Mapping[str, messages.Scalar],
    ) -> Mapping[str, messages.Array]:
        """See ``model.Model.infer``; without ``outputs`` the request parameter ``predict_method`` names them."""
        names = outputs or self._asked(parameters) or self._signature.default_outputs
        data = self._form.read(inputs)
        results: dict[str, Any] = {}
        answer: dict[str, messages.Array] = {}
        for name in names:
            output = self._outputs[name]
            if output.method not in results:
                results[output.method] = self._call(output.method, data)
            result = results[output.method]
            answer[name] = frames.dense(result if output.part is None else result[output.part])
        return answer

    def close(self) -> None:
        """Nothing to free."""

    def _asked(self, parameters: Mapping[str, messages.Scalar]) -> tuple[str, ...]:
        wanted = parameters.get(PARAMETER)
        if wanted is None:
            return ()
        names = tuple(part.strip() for part in str(wanted).split(",") if part.strip())
        found: list[str] = []
        for name in names:
            of_method = [output.spec.name for output in self._outputs.values() if output.method == name]
            if not of_method and name not in self._outputs:
                raise errors.SpecError(
                    f'the request parameter "{PARAMETER}" asks for {name[:60]!r}, which this model does not have; '
                    f"it has {', '.join(self._methods)}."
                )
            found.extend(of_method or [name])
        return tuple(found)

    def _call(self, method: str, data: Any) -> Any:
        try:
            # A logarithm of zero is an answer here, not a reason to write a warning for every request.
            with np.errstate(divide="ignore", over="ignore", under="ignore"):
                return self._methods[method](data)
        except self._refusals as error:
            raise errors.SpecError(f"the model refused the data: {_said(error)}.") from error

    def _default_outputs(self) -> tuple[str, ...]:
        first = next(iter(self._methods))
        return tuple(name for name, output in self._outputs.items() if output.method == first)

    def _probe(self) -> Probed:
        """Every method's answer to the example row, as outputs; what is not known is left free."""
        found: list[Output] = []
        answered: list[bool] = []
        inputs = dict(self._example)
        for method in list(self._methods):
            try:
                result = self._call(method, self._form.read(inputs)) if inputs else None
            except (errors.SpecError, AttributeError, IndexError, KeyError) as error:
                LOG.info("the example row was refused by %s: %s", method, _said(error))
                result = None
            answered.append(result is not None)
            found.extend(_described(method, result))
        return Probed(tuple(found), answered[0])


def known_as(artifact: model.Artifact) -> Hashable:
    """What tells a model from all others, its options included; None where its file cannot be told from a newer one."""
    if artifact.stamp is None:
        return None
    return (artifact.stamp, artifact.format, artifact.threads, *sorted(artifact.options.items()))


def _said(error: BaseException) -> str:
    return " ".join(str(error).split())[:_CAP].rstrip(".")


def _described(method: str, result: Any) -> list[Output]:
    if isinstance(result, list) and result and all(isinstance(part, np.ndarray) for part in result):
        return [
            Output(_spec(f"{method}_{index}", frames.dense(part)), method, index) for index, part in enumerate(result)
        ]
    if result is None:
        return [Output(messages.TensorSpec(method, "", (-1,)), method)]
    return [Output(_spec(method, frames.dense(result)), method)]


def _spec(name: str, array: messages.Array) -> messages.TensorSpec:
    try:
        datatype = messages.datatype_of(array.dtype)
    except KeyError:
        datatype = ""
    return messages.TensorSpec(name, datatype, (-1, *array.shape[1:]))


def methods_of(fitted: Any, *, keywords: Mapping[str, Any] | None = None) -> dict[str, Method]:
    """The methods of an object that can be served, the default one first.

    Args:
        keywords: given to every predicting method (a number of threads).
    """
    found: dict[str, Method] = {}
    for name in METHODS:
        method = getattr(fitted, name, None)
        if callable(method):
            found[name] = _with(method, dict(keywords)) if keywords and name.startswith("predict") else method
    if "predict" not in found and "transform" in found:
        return {"transform": found.pop("transform"), **found}
    return found


def _with(method: Callable[..., Any], keywords: dict[str, Any]) -> Method:
    return lambda data: method(data, **keywords)


def is_quick(fitted: Any) -> bool:
    """Whether the object, its steps and the functions it was given are all of libraries that only compute."""
    known = getattr(fitted, "get_params", dict)
    try:
        parts = list(known().values())
    except (TypeError, ValueError, AttributeError):  # an estimator that does not keep scikit-learn's conventions
        return False
    return _computes(fitted) and all(_computes(part) for part in parts if callable(part) or hasattr(part, "fit"))


def _computes(part: Any) -> bool:
    named = part if isinstance(part, type) or not hasattr(part, "fit") else type(part)
    module = getattr(named, "__module__", None) or type(part).__module__
    return module.partition(".")[0] in _COMPUTING


def class_values(fitted: Any) -> messages.Array | None:
    """A classifier's labels in the order of its classes; None for anything else."""
    if not hasattr(fitted, "predict"):
        return None
    values = getattr(fitted, "classes_", None)
    if isinstance(values, list) and any(isinstance(value, np.ndarray) for value in values):
        return None  # a classifier of several targets
    return np.asarray(values) if isinstance(values, np.ndarray | list) and np.ndim(values) == 1 else None


def refuse(artifact: model.Artifact, fitted: Any) -> errors.ModelError:
    """The error for an object without any method that can be served."""
    kind = f"{type(fitted).__module__.split('.')[0]}'s {type(fitted).__name__}"
    if hasattr(fitted, "fit_predict"):
        return errors.ModelError(
            f"{artifact.file.name} holds {kind}, which can only label the data it was fitted on: it has no predict.",
            hint="Train a classifier on those labels, or use a model with predict (KMeans, NearestCentroid ...).",
        )
    return errors.ModelError(
        f"{artifact.file.name} holds {kind}, which has none of {', '.join(METHODS)}.",
        hint="Save a fitted estimator, or wrap it in a Python class with predict (docs/custom-models.md).",
    )
