"""ONNX models, run by ONNX Runtime on the CPU.

Names, datatypes and shapes are the model's own; a symbolic dimension is free. What scikit-learn converters give as a
sequence of maps (class to probability) becomes a matrix with a column per class, in the order of the classes' names.
The option ``threads`` limits the threads of one inference.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mlship import errors
from mlship.protocol import messages
from mlship.server import model
from mlship.server.artifact import kinds, schema_file, versions
from mlship.server.frameworks import frames, signatures

_CAP = 300
_DATATYPES = {
    "tensor(bool)": "BOOL",
    "tensor(uint8)": "UINT8",
    "tensor(uint16)": "UINT16",
    "tensor(uint32)": "UINT32",
    "tensor(uint64)": "UINT64",
    "tensor(int8)": "INT8",
    "tensor(int16)": "INT16",
    "tensor(int32)": "INT32",
    "tensor(int64)": "INT64",
    "tensor(float16)": "FP16",
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(string)": "BYTES",
}
_MAPS = {
    "seq(map(int64,tensor(float)))": "FP32",
    "seq(map(string,tensor(float)))": "FP32",
    "seq(map(int64,tensor(double)))": "FP64",
    "seq(map(string,tensor(double)))": "FP64",
}


def load(artifact: model.Artifact) -> model.Model:
    """Load an ONNX model; see ``model.Load``."""
    library = kinds.LIBRARIES["onnx"]
    if not kinds.is_installed(library.module):
        raise kinds.missing(library, f"{artifact.file.name} is an ONNX model")
    runtime = importlib.import_module(library.module)
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    if threads := _threads(artifact):
        options.intra_op_num_threads = threads
    try:
        session = runtime.InferenceSession(str(artifact.file), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise errors.ModelError(
            f"{artifact.file.name} does not load: {_said(error)}.", hint=_version_hint(artifact, runtime)
        ) from error
    schema = schema_file.of(artifact)
    return signatures.labelled(Session(artifact, session, schema), schema)


def _threads(artifact: model.Artifact) -> int:
    text = artifact.options.get("threads", "")
    if text and not (text.isdecimal() and int(text) > 0):
        raise errors.SpecError(f"the option threads must be a positive number, got {text[:40]!r}.")
    return int(text) if text else 0


def _version_hint(artifact: model.Artifact, runtime: Any) -> str:
    recorded = artifact.versions
    parts = [f"IR version {recorded['onnx-ir']}"] if "onnx-ir" in recorded else []
    parts += [f"opset {recorded['onnx-opset']}"] if "onnx-opset" in recorded else []
    said = f" The model has {' and '.join(parts)}." if parts else ""
    return versions.hint(recorded) or f"ONNX Runtime {runtime.__version__} is installed.{said}"


def _said(error: BaseException) -> str:
    return " ".join(str(error).split())[:_CAP].rstrip(".")


def _shape(shape: Sequence[Any] | None) -> tuple[int, ...]:
    return tuple(size if isinstance(size, int) and size > 0 else -1 for size in shape or ())


class Session:
    """One inference session. ``run`` may be called from several threads at once (ONNX Runtime's API documentation)."""

    concurrent = 4
    quick = True
    parameters: Mapping[str, type] = {}

    def __init__(self, artifact: model.Artifact, session: Any, schema: schema_file.Schema | None) -> None:
        self._artifact = artifact
        self._session = session
        self._inputs = tuple(self._input(node) for node in session.get_inputs())
        self._outputs = tuple(self._output(node) for node in session.get_outputs())
        self._mapped = frozenset(node.name for node in session.get_outputs() if node.type in _MAPS)
        self._signature = signatures.with_outputs(self._refined(schema), schema)
        self._example = self._row(schema)

    def _input(self, node: Any) -> messages.TensorSpec:
        if node.type not in _DATATYPES:
            raise self._unsupported("input", node)
        return messages.TensorSpec(node.name, _DATATYPES[node.type], _shape(node.shape))

    def _output(self, node: Any) -> messages.TensorSpec:
        if node.type in _MAPS:
            return messages.TensorSpec(node.name, _MAPS[node.type], (-1, -1))
        if node.type not in _DATATYPES:
            raise self._unsupported("output", node)
        return messages.TensorSpec(node.name, _DATATYPES[node.type], _shape(node.shape))

    def _unsupported(self, side: str, node: Any) -> errors.SpecError:
        return errors.SpecError(
            f"{self._artifact.file.name} has the {side} {node.name!r} of type {node.type}, "
            "which the inference protocol cannot carry.",
            hint=f"Export the model so that every {side} is a tensor of numbers or strings.",
            reason=errors.Reason.UNSUPPORTED,
        )

    def _refined(self, schema: schema_file.Schema | None) -> messages.Signature:
        specs = (*self._inputs, *self._outputs)
        columns: tuple[str, ...] = ()
        if schema is not None:
            columns = self._columns(schema)
            self._check_names(schema)
        return messages.Signature(
            inputs=self._inputs,
            outputs=self._outputs,
            default_outputs=tuple(spec.name for spec in self._outputs),
            columns=columns,
            batched=all(spec.shape[:1] == (-1,) for spec in specs),
        )

    def _columns(self, schema: schema_file.Schema) -> tuple[str, ...]:
        if not schema.columns:
            return ()
        widths = [spec.shape[1] for spec in self._inputs if len(spec.shape) == 2]
        if len(self._inputs) != 1 or not widths or widths[0] not in (-1, len(schema.columns)):
            raise errors.SpecError(
                f"{schema.source} names {len(schema.columns)} columns, but the model has the inputs "
                f"{', '.join(f'{spec.name} {list(spec.shape)}' for spec in self._inputs)[:_CAP]}.",
                hint=f"Correct {schema.source}.",
            )
        return schema.columns

    def _check_names(self, schema: schema_file.Schema) -> None:
        known = [spec.name for spec in self._inputs]
        for spec in schema.inputs:
            if spec.name not in known:
                raise errors.SpecError(
                    f"{schema.source} names the input {spec.name!r}, but the model has {', '.join(known)[:_CAP]}.",
                    hint=f"Correct {schema.source}; an ONNX model's inputs keep their names.",
                )

    def _row(self, schema: schema_file.Schema | None) -> dict[str, messages.Array]:
        if schema is None or schema.example is None:
            return {}
        return signatures.example_of(schema, self._inputs, self._signature.columns)

    @property
    def signature(self) -> messages.Signature:
        return self._signature

    @property
    def platform(self) -> str:
        return "onnxruntime_onnx"

    def example(self) -> Mapping[str, messages.Array]:
        """The schema's example; empty without one: an ONNX file remembers nothing of its data."""
        return self._example

    def infer(
        self,
        inputs: Mapping[str, messages.Array],
        *,
        outputs: Sequence[str],
        parameters: Mapping[str, messages.Scalar],
    ) -> Mapping[str, messages.Array]:
        """See ``model.Model.infer``."""
        names = list(outputs or self._signature.default_outputs)
        feeds = {name: frames.text(array, missing="") for name, array in inputs.items()}
        try:
            results = self._session.run(names, feeds)
        except Exception as error:
            family = errors.SpecError if type(error).__name__ == "InvalidArgument" else errors.ModelError
            raise family(f"ONNX Runtime refused the inference: {_said(error)}.") from error
        return {name: self._dense(name, result) for name, result in zip(names, results, strict=True)}

    def _dense(self, name: str, result: Any) -> messages.Array:
        if name not in self._mapped:
            return frames.dense(result)
        keys = sorted({key for row in result for key in row})
        datatype = next(spec.datatype for spec in self._outputs if spec.name == name)
        return np.array([[row.get(key, 0.0) for key in keys] for row in result], dtype=messages.NUMPY_OF[datatype])

    def close(self) -> None:
        """Let the session go."""
        del self._session
