"""A model of the adapter contract that answers by the compiled form what was proven, and by the original all else.

Else is: everything until there is a proof, outputs that were not proven, request parameters, several inputs where one
matrix was proven, numbers that the guard holds back, batches larger than those for which compiled was faster. Nobody
can tell from the answer. The compiled form may come while requests are answered: one assignment puts it in place.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from mlship.protocol import messages
from mlship.server import model as contract
from mlship.server.accelerate import kernel, verdict

_MANY = 1024


class Compiled:
    """The original and, from ``use`` on, its compiled form; everything but the work itself is the original's."""

    def __init__(self, original: contract.Model) -> None:
        self.original = original
        self._signature = original.signature
        spec = self._signature.inputs[0]
        self._input = spec.name
        self._dtype = messages.NUMPY_OF[spec.datatype]
        self._default = self._signature.default_outputs
        # Read once by every call: the kernel, the most rows, the width, the outputs proven (with the default ones).
        self._fast: tuple[kernel.Kernel, float, int, frozenset[str]] | None = None
        self._concurrent = getattr(original, "concurrent", 1)
        self.quick = getattr(original, "quick", False)
        self.joins = getattr(original, "joins", True)
        self.parameters: Mapping[str, type] | None = getattr(original, "parameters", {})

    def use(self, fast: kernel.Kernel, report: verdict.Report) -> None:
        """Answer by ``fast`` what ``report`` has proven, from the next call on. May be called on any thread."""
        rows = math.inf if report.max_rows < 0 else report.max_rows
        self._fast = (fast, rows, fast.features, frozenset(report.outputs))

    @property
    def concurrent(self) -> int:
        """As many as there are, once compiled: kernels only read, and so do the predictions of what can be compiled."""
        return self._concurrent if self._fast is None else _MANY

    @property
    def signature(self) -> messages.Signature:
        return self._signature

    @property
    def platform(self) -> str:
        return self.original.platform

    def example(self) -> Mapping[str, messages.Array]:
        """The original's row, if it names one."""
        own = getattr(self.original, "example", None)
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
        fast = self._fast
        matrix = inputs.get(self._input)
        if fast is None or matrix is None or parameters or len(inputs) != 1 or not self._takes(matrix, fast, outputs):
            return self.original.infer(inputs, outputs=outputs, parameters=parameters)
        return fast[0].answer(matrix, outputs or self._default)

    def _takes(
        self,
        matrix: messages.Array,
        fast: tuple[kernel.Kernel, float, int, frozenset[str]],
        outputs: Sequence[str],
    ) -> bool:
        one, most, width, proven = fast
        if matrix.ndim != 2 or matrix.dtype != self._dtype or not proven.issuperset(outputs):
            return False
        rows, columns = matrix.shape
        return columns == width and 0 < rows <= most and one.guard(matrix)

    def close(self) -> None:
        """Close the original."""
        self.original.close()
