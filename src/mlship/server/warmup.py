"""What a model answers before it is called ready: real inferences, of requests that somebody gave or of rows made up.

    given     ``--warmup`` (a file, or the JSON itself), else ``warmup.json`` in the model's folder or beside its file:
              a V2 request or a list of them. Whoever gives them says that the model answers them, so one that it
              does not answer is a model that is not loaded.
    logged    ``--warmup-requests``: a file with a V2 request on each line, as a log of requests would have them. One
              that is refused is left out, as its sender was; one that makes the model fail is said in the log.
    example   the model's own example row; else MLflow's ``input_example.json`` beside it; else a row of zeros

The first that there is gives the requests; where it gives only one row, that row is repeated to the sizes of batches
that joined requests may have, since a library prepares itself for a shape when it sees it first. At most ``most``
requests, and none is begun after ``seconds``; the first always is. Repetitions are left out where what came before
them was not quick. What comes back into a process that had it before (``Wish.again``) answers only what was given: the
first request is waiting for it. Runs on the loader's thread; called by ``loading``.
"""

from __future__ import annotations

import dataclasses
import enum
import itertools
import logging
import pathlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import orjson

from mlship import errors
from mlship.protocol import json_codec, messages, mlflow_codec
from mlship.server import example, joining, logs, worker
from mlship.server import model as contract
from mlship.server.accelerate import samples
from mlship.server.fit import binding

LOG = logging.getLogger(__name__)
NAME = "warmup.json"
# Rows of the batches that are tried beside the one row there is.
BATCHES = (8, 32)
# Seconds of warm-up beyond which nothing is repeated: a start shall not wait for what nobody asked for.
CHEAP = 0.1
MOST_BYTES = 8 << 20
_MOST_LINES = 1000

RunCoroutine = Callable[[Any], Any]


@dataclasses.dataclass(frozen=True, slots=True)
class Wish:
    """What was asked for. ``given``: a path, or inline JSON when it begins with ``{`` or ``[``; empty: nothing.

    ``again``: the same bytes were warmed up in this process before, and somebody waits: only what was given is run.
    """

    given: str = ""
    requests: pathlib.Path | None = None
    seconds: float = 10.0
    most: int = 3
    again: bool = False


class Kind(enum.Enum):
    """Who vouches for a sample."""

    GIVEN = "given"
    LOGGED = "logged"
    OWN = "the model's own"
    RECORDED = "recorded with the model"
    MADE = "made up"
    REPEATED = "repeated"


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """One inference, in the form ``Model.infer`` takes; ``name`` is what messages call it."""

    kind: Kind
    name: str
    inputs: Mapping[str, messages.Array]
    outputs: Sequence[str] = ()
    parameters: Mapping[str, messages.Scalar] = dataclasses.field(default_factory=dict)


def run(
    model: contract.Model,
    *,
    label: str,
    path: pathlib.Path,
    wish: Wish,
    row: example.Example | None,
    run_coroutine: RunCoroutine,
    clock: Callable[[], float] = time.monotonic,
) -> float:
    """Have ``model`` answer; the seconds that took.

    Args:
        label: how messages name the model.
        path: its file or folder.
        row: its example row, its own or made up; None when nothing is known of its inputs.

    Raises:
        ModelError: it does not answer what it should.
    """
    begun = clock()
    answered = 0
    for number, sample in enumerate(_samples(model, label=label, path=path, wish=wish, row=row)):
        limit = min(wish.seconds, CHEAP) if sample.kind is Kind.REPEATED else wish.seconds
        if number and clock() - begun >= limit:
            LOG.debug("warm-up cut short", extra=logs.fields(after=number, seconds=limit))
            break
        answered += _answers(model, sample, label, run_coroutine)
    spent = clock() - begun
    LOG.debug("warmed up", extra=logs.fields(inferences=answered, seconds=round(spent, 4)))
    return spent


def _samples(
    model: contract.Model, *, label: str, path: pathlib.Path, wish: Wish, row: example.Example | None
) -> Iterator[Sample]:
    """What is tried, in order. Given requests are counted in their order, logged ones are chosen by their shapes."""
    found = _given(model, label=label, path=path, wish=wish)[: wish.most]
    if wish.again and not found:
        return
    if not found and wish.requests is not None:
        found = list(itertools.islice(_distinct(_logged(model, wish.requests)), wish.most))
    if not found:
        found = _example(model, path, row)
    yield from found
    if len(found) == 1 and joining.joinable(model) and not worker.is_coroutine(model):
        yield from itertools.islice(_batches(found[0]), wish.most - 1)


def _example(model: contract.Model, path: pathlib.Path, row: example.Example | None) -> list[Sample]:
    if row is not None and row.genuine:
        return [Sample(Kind.OWN, "its own example row", row.inputs)]
    if (recorded := _recorded(model, path)) is not None:
        return [recorded]
    return [Sample(Kind.MADE, "a row made of zeros", row.inputs)] if row is not None else []


def _batches(one: Sample) -> Iterator[Sample]:
    """``one``, if it is of one row, repeated to larger batches."""
    if not all(array.ndim and array.shape[0] == 1 for array in one.inputs.values()):
        return
    for rows in BATCHES:
        inputs = {name: np.repeat(array, rows, axis=0) for name, array in one.inputs.items()}
        # That it may be repeated is our own guess, whoever gave the row.
        yield dataclasses.replace(one, kind=Kind.REPEATED, name=f"{rows} rows", inputs=inputs)


def _distinct(found: Iterator[Sample]) -> Iterator[Sample]:
    """The first of each shape: what the model has seen once it is prepared for."""
    seen = set()
    for sample in found:
        shape = tuple((name, array.shape, array.dtype.str) for name, array in sample.inputs.items())
        if shape not in seen:
            seen.add(shape)
            yield sample


def _given(model: contract.Model, *, label: str, path: pathlib.Path, wish: Wish) -> list[Sample]:
    place, text = _text(path, wish)
    if text is None:
        return []
    try:
        value = orjson.loads(text)
        bodies = value if isinstance(value, list) else [value]
        return [
            _sample(model, body, Kind.GIVEN, f"request {number} of {place}") for number, body in enumerate(bodies, 1)
        ]
    except (ValueError, errors.SpecError) as error:
        raise errors.ModelError(
            f"{label}: the warm-up requests in {place} cannot be used: {logs.said(error)}.",
            hint="They are V2 requests (the body of /infer), one or a list of them.",
        ) from error


def _text(path: pathlib.Path, wish: Wish) -> tuple[str, bytes | None]:
    """Where given requests stand, for messages, and what stands there; None when nothing is given."""
    if wish.given.lstrip().startswith(("{", "[")):
        return "--warmup", wish.given.encode()
    folder = path if path.is_dir() else path.parent
    file = folder / (wish.given or NAME)
    try:
        if file.stat().st_size > MOST_BYTES:
            raise errors.ModelError(f"{file} is larger than {MOST_BYTES >> 20} MiB, which no warm-up needs.")
        return str(file), file.read_bytes()
    except FileNotFoundError:
        if not wish.given:
            return "", None
        raise errors.ModelError(
            f"there is no file {file} with warm-up requests.", hint="--warmup takes a path or the JSON itself."
        ) from None
    except OSError as error:
        raise errors.ModelError(f"{file} cannot be read: {error.strerror}.") from error


def _logged(model: contract.Model, file: pathlib.Path) -> Iterator[Sample]:
    try:
        with file.open("rb") as lines:
            for number, line in enumerate(itertools.islice(lines, _MOST_LINES), 1):
                name = f"line {number} of {file.name}"
                try:
                    yield _sample(model, orjson.loads(line), Kind.LOGGED, name)
                except (ValueError, errors.SpecError) as error:
                    LOG.warning("warm-up request left out", extra=logs.fields(request=name, error=logs.said(error)))
    except OSError as error:
        # What was logged helps a start, and is no reason against it.
        LOG.warning("warm-up requests not read", extra=logs.fields(file=str(file), error=error.strerror))


def _sample(model: contract.Model, body: Any, kind: Kind, name: str) -> Sample:
    """A V2 request as a caller would send it. Raises SpecError when it does not fit the model."""
    return _bound(model, json_codec.decode_infer(orjson.dumps(body), model_name="model"), kind, name)


def _bound(model: contract.Model, request: messages.InferRequest, kind: Kind, name: str) -> Sample:
    return Sample(
        kind,
        name,
        inputs=binding.bind(request, model.signature),
        outputs=binding.outputs(request, model.signature),
        parameters=binding.parameters(request, getattr(model, "parameters", {})),
    )


def _recorded(model: contract.Model, path: pathlib.Path) -> Sample | None:
    """MLflow's example beside the model; None when there is none that fits, which MLflow does not promise."""
    file = (path if path.is_dir() else path.parent) / samples.NAME
    try:
        if file.stat().st_size > MOST_BYTES:
            return None
        value = orjson.loads(file.read_bytes())
        if isinstance(value, dict) and "data" in value:
            value = {"dataframe_split": value}
        elif isinstance(value, list):
            value = {"inputs": value}
        request = mlflow_codec.decode_invocations(orjson.dumps(value), content_type="", model_name="model")
        return _bound(model, request, Kind.RECORDED, samples.NAME)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, errors.SpecError) as error:
        LOG.warning("recorded example left out", extra=logs.fields(file=file.name, error=logs.said(error)))
        return None


def _answers(model: contract.Model, sample: Sample, label: str, run_coroutine: RunCoroutine) -> bool:
    """Whether the model answers ``sample``. Raises ModelError when it must and does not."""
    try:
        answer: Any = model.infer(sample.inputs, outputs=sample.outputs, parameters=sample.parameters)
        if worker.is_coroutine(model):
            run_coroutine(answer)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - judged, and told with its cause
        _judge(sample, label, error)
        return False
    return True


def _judge(sample: Sample, label: str, error: BaseException) -> None:
    """A model that fails is not loaded: better known now than by the first caller. That a row which nobody vouches for
    is refused says nothing about it, and neither does what it makes of our own repetitions."""
    refused = isinstance(error, errors.SpecError)
    if sample.kind is Kind.GIVEN:
        raise errors.ModelError(
            f"{label} failed its warm-up with {sample.name}: {logs.said(error)}.",
            hint="Mend the model, or take the request out of its warm-up.",
        ) from error
    if refused and sample.kind is Kind.OWN:
        raise errors.ModelError(f"{label} refused its own example row: {logs.said(error)}.") from error
    if refused or sample.kind in (Kind.LOGGED, Kind.RECORDED, Kind.REPEATED):
        LOG.warning("warm-up row refused", extra=logs.fields(row=sample.name, error=logs.said(error)))
        return
    raise errors.ModelError(f"{label} failed its warm-up inference: {logs.said(error)}.") from error
