"""The adapter contract: what a framework's file must give so that the server can serve its models.

An adapter is one module with a ``load`` function, found by the entry point group ``mlship.adapters`` under the name
of its model format. It loads or raises; readiness, threads, batching, codecs and validation belong to the server.

Attributes that a model may have besides ``Model``'s, each read once after loading with ``getattr``:

    concurrent: int = 1       so many ``infer`` calls may run at the same time on different threads
    is_async: bool = False    ``infer`` returns at once, with a coroutine that the server awaits on a loop of its own
                              (never the one that serves); its result and its errors are those of ``infer``
    quick: bool = False       ``infer`` is computation in memory and nothing else: no files, no network, no waiting, so
                              that a small call may be run where it arrived
    processes: int = 0        so many processes of its own run the model, each with a copy of it that it loads itself
    runner(loop)              what runs its calls (``worker.Runner``) instead of this server's threads
    endable: bool = False     ``close`` ends calls that are still under way, too
    most_rows: int | None     rows up to which requests are joined where the server's own limit is higher; 0: never
    joins: bool = True        requests may be joined when the signature is ``batched``; False: one request a call
    fitted: object = None     the library's own object, for ``accelerate`` to compile; its methods are what ``infer``
                              calls and nothing else changes what they answer
    example()                 see ``Exemplary``
    parameters                see ``Parametrised``
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Protocol

from mlship.protocol import messages
from mlship.server.artifact.learnt import Stamp
from mlship.server.artifact.wishes import Wishes


@dataclasses.dataclass(frozen=True, slots=True)
class Artifact:
    """A model on disk, as found by looking at it (``artifact.find``): never by executing it.

    ``path`` is what was given (file or folder), ``file`` the file that holds the model, ``format`` the model format
    (an entry point name), ``variant`` how it is stored (pickle, joblib, skops, json, ubj, txt, cbm, onnx, python ...),
    ``versions`` the library versions recorded in it, ``options`` what the user set (flags, model.schema.yaml).
    ``wishes`` is what the configuration of another server asks, where one lies beside it.
    ``stamp`` changes with the file's bytes; None where that cannot be told.
    ``threads`` is how many a library may use for one call where nobody set the option; 0 leaves that to the library.
    """

    path: pathlib.Path
    file: pathlib.Path
    format: str
    variant: str
    versions: Mapping[str, str] = dataclasses.field(default_factory=dict)
    options: Mapping[str, str] = dataclasses.field(default_factory=dict)
    threads: int = 0
    wishes: Wishes | None = None
    stamp: Stamp | None = None


class Model(Protocol):
    """A loaded model. Methods run on worker threads, never on the event loop; ``concurrent`` says how many at once."""

    @property
    def signature(self) -> messages.Signature: ...

    @property
    def platform(self) -> str:
        """The OIP platform string: ``sklearn_pickle``, ``onnxruntime_onnx`` ..."""
        ...

    def infer(
        self,
        inputs: Mapping[str, messages.Array],
        *,
        outputs: Sequence[str],
        parameters: Mapping[str, messages.Scalar],
    ) -> Mapping[str, messages.Array]:
        """Predict.

        Args:
            inputs: arrays by input name, already validated against ``signature`` (datatype cast, shape checked).
                For ``signature.columns`` models that got columns: one array of shape (n,) per column.
            outputs: the names wanted, a subset of the signature's outputs; empty: the default ones.
            parameters: the request's own parameters that the server does not consume.

        Returns:
            Arrays by output name, in order. Raises ``errors.SpecError`` when the data is at fault,
            ``errors.ModelError`` or anything else when the model is.
        """
        ...

    def close(self) -> None:
        """Free what the garbage collector does not (sessions, temporary folders). Called once."""
        ...


class Load(Protocol):
    """The entry point's callable. Raises ``errors.ModelError`` (the artifact is at fault) or ``errors.SpecError``."""

    def __call__(self, artifact: Artifact) -> Model: ...


class Exemplary(Protocol):
    """A model that can name a plausible row of its own data: for the warm-up, the printed curl and the example route.

    Optional: checked with ``hasattr``; without it a row is made from the signature.
    """

    def example(self) -> Mapping[str, messages.Array]:
        """One row in the form ``Model.infer`` takes."""
        ...


class Parametrised(Protocol):
    """A model whose answer the caller may steer with request parameters.

    Optional: a model without it takes none, and a request that sends one is refused.
    """

    @property
    def parameters(self) -> Mapping[str, type] | None:
        """The parameters taken, by name, with the type each value must have; None: the model judges them itself."""
        ...
