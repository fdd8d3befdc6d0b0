"""What another server's configuration asks of a model besides where it lies: names, shapes, rows in one call. Facts.

Found by ``triton_folder`` and ``mlserver_folder``, honoured by ``wished`` when the model has been loaded.
"""

from __future__ import annotations

import dataclasses
import enum

from mlship.protocol import messages


class Output(enum.Enum):
    """Which of a tree model's answers its output is (FIL's ``output_class`` and ``predict_proba``)."""

    PLAIN = "what the model predicts"
    CLASS = "class numbers"
    PROBABILITIES = "a probability for each class"


@dataclasses.dataclass(frozen=True, slots=True)
class Wishes:
    """``source``: the file that asks; ``inputs`` and ``outputs`` as it names them, empty where it does not.

    ``by_place``: its names are its own, and stand for the model's in their order; otherwise they are the model's.
    ``most_rows``: rows that one call may have, 0: requests are never joined; None: it does not say.
    ``notes``: what is in the file and has no effect here.
    """

    source: str
    inputs: tuple[messages.TensorSpec, ...] = ()
    outputs: tuple[messages.TensorSpec, ...] = ()
    by_place: bool = False
    most_rows: int | None = None
    output: Output | None = None
    threshold: float = 0.5
    notes: tuple[str, ...] = ()
