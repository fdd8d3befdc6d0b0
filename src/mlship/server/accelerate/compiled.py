"""A model of the adapter contract that answers by the compiled form what was proven, and by the original all else.

Else is: outputs that were not proven, request parameters, several inputs where one matrix was proven, numbers that the
guard holds back, batches larger than those for which compiled was faster. Nobody can tell from the answer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from mlship.protocol import messages
from mlship.server import model as contract
from mlship.server.accelerate import kernel, verdict


class Compiled:
    """The original and its compiled form; everything but the work itself is the original's."""

    def __init__(self, original: contract.Model, fast: kernel.Kernel, report: verdict.Report) -> None:
        self._original = original
        self._kernel = fast
        self._proven = frozenset(report.outputs)
        self._max_rows = math.inf if report.max_rows < 0 else report.max_rows
        self._signature = original.signature
        spec = self._signature.inputs[0]
        self._input = spec.name
        self._dtype = messages.NUMPY_OF[spec.datatype]
        self._default = self._signature.default_outputs
        self.concurrent = getattr(original, "concurrent", 1)
        self.quick = True
        self.parameters: Mapping[str, type] | None = getattr(original, "parameters", {})

    @property
    def signature(self) -> messages.Signature:
        return self._signature

    @property
    def platform(self) -> str:
        return self._original.platform

    def example(self) -> Mapping[str, messages.Array]:
        """The original's row, if it names one."""
        own = getattr(self._original, "example", None)
        row: Mapping[str, messages.Array] = {} if own is None else own()
        return row

    def infer(
        self,
        inputs: Mapping[str, messages.Array],
        *,
        outputs: Sequence[str],
        parameters: Mapping[str, messages.Scalar],
    ) -> Mapping[str, messages.Array]:
        """See ``model.Model.infer``."""
        names = outputs or self._default
        matrix = inputs.get(self._input)
        if (
            matrix is None
            or len(inputs) != 1
            or parameters
            or not self._proven.issuperset(names)
            or not self._takes(matrix)
        ):
            return self._original.infer(inputs, outputs=outputs, parameters=parameters)
        return self._kernel.answer(matrix, names)

    def _takes(self, matrix: messages.Array) -> bool:
        return (
            matrix.ndim == 2
            and 0 < matrix.shape[0] <= self._max_rows
            and matrix.shape[1] == self._kernel.features
            and matrix.dtype == self._dtype
            and self._kernel.guard(matrix)
        )

    def close(self) -> None:
        """Close the original."""
        self._original.close()
