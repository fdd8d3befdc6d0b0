"""One call of a model and how it ended: what the queue hands to the worker and gets back. Facts only."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from mlship.protocol import messages

Outputs = Mapping[str, messages.Array]


@dataclasses.dataclass(slots=True, eq=False)
class Call:
    """One ``Model.infer``. ``abandoned`` is set when nobody waits any more: a call not yet begun is then left out.

    ``plain``: its inputs are what the signature says to the last dimension but the rows, and it asks for nothing else:
    all such calls of a model may be joined.
    """

    inputs: Mapping[str, messages.Array]
    outputs: Sequence[str] = ()
    parameters: Mapping[str, messages.Scalar] = dataclasses.field(default_factory=dict)
    abandoned: bool = False
    plain: bool = False


class Again(enum.Enum):
    """Why a call that ran joined with others must run by itself: nobody knows its answer yet."""

    NO = "no"
    FAILED = "the join failed"
    NOT_BY_ROWS = "the outputs have not one row for each row given"


class Result(NamedTuple):
    """How a call ended: outputs or error (neither when it was abandoned before it began), and its nanoseconds.

    ``nanoseconds`` are those of the whole execution, which others may share.
    """

    outputs: Outputs | None = None
    error: BaseException | None = None
    nanoseconds: int = 0
    again: Again = Again.NO
