"""From a source on disk to a model that has answered once: look at it, find its adapter, load, warm up, accelerate
where that was proven before.

Runs on the loader's thread, never on the event loop. Adapters are found by entry point, so that a framework is
imported only when a model needs it. A model that fails its warm-up is not loaded: better known now than by the first
caller. Called by ``repository``.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import logging
import pathlib
from collections.abc import Callable, Mapping
from typing import cast

from mlship import errors
from mlship.server import acceleration, example, logs, process_runner, warmup, wished
from mlship.server import model as contract
from mlship.server.accelerate import verdict
from mlship.server.artifact import find, versions

ADAPTERS = "mlship.adapters"
LOG = logging.getLogger(__name__)
_REMEMBERED: dict[str, contract.Load] = {}


@dataclasses.dataclass(frozen=True, slots=True)
class Source:
    """Where a version of a model comes from. ``format`` empty: found by looking; ``options`` go to the adapter.

    ``accelerate``: whether it may be compiled, and how close the compiled form must be; ``proofs``: the folder in which
    proofs of that are kept, None when they are not. ``threads``: those its library may use for one call; 0 leaves that
    to the library. ``processes``: in how many processes of its own it runs; 0: on this server's threads; None: as its
    own code says. ``warmup``: what it answers before it is loaded.
    """

    name: str
    version: str
    path: pathlib.Path
    format: str = ""
    options: Mapping[str, str] = dataclasses.field(default_factory=dict)
    accelerate: verdict.Mode = verdict.Mode.OFF
    proofs: pathlib.Path | None = None
    threads: int = 0
    processes: int | None = None
    warmup: warmup.Wish = dataclasses.field(default_factory=warmup.Wish)

    @property
    def label(self) -> str:
        """How messages name it."""
        return f'model "{self.name}" version {self.version}'


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Loaded:
    """A model that works, its example row if it has one, and how far it is with being compiled.

    ``warm_up_seconds``: how long it took to answer for the first times.
    """

    model: contract.Model
    example: example.Example | None
    acceleration: acceleration.Acceleration
    warm_up_seconds: float = 0.0


Load = Callable[[Source], contract.Model]
RunCoroutine = warmup.RunCoroutine


def from_disk(source: Source) -> contract.Model:
    """Look at the artifact and let its adapter load it.

    Raises:
        SpecError, ModelError: as the adapter says, or because there is no adapter.
    """
    artifact = find.inspect(source.path, format=source.format, options=source.options)
    LOG.info("model found", extra=logs.fields(model=source.name, format=artifact.format, file=str(artifact.file)))
    for difference in versions.compare(artifact.versions, versions.installed(artifact.versions)):
        if difference.severity >= versions.Severity.MINOR:
            extra = logs.fields(model=source.name, library=difference.name, why=difference.message)
            LOG.warning("library version differs", extra=extra)
    if artifact.wishes is not None and artifact.wishes.notes:
        extra = logs.fields(model=source.name, file=artifact.wishes.source, fields=", ".join(artifact.wishes.notes))
        LOG.info("fields without effect here", extra=extra)
    model = adapter(artifact.format)(dataclasses.replace(artifact, threads=source.threads))
    return wished.wished(model, artifact.wishes)


def remember(name: str) -> None:
    """Find the adapter of a model format before a model needs it."""
    adapter(name)


def adapter(name: str) -> contract.Load:
    """The adapter of a model format, imported now; found once for all, as finding it takes longer than many a load."""
    if name in _REMEMBERED:
        return _REMEMBERED[name]
    found = importlib.metadata.entry_points(group=ADAPTERS, name=name)
    if not found:
        have = sorted({entry.name for entry in importlib.metadata.entry_points(group=ADAPTERS)})
        raise errors.SpecError(f'no adapter for the model format "{name}" is installed; there are {", ".join(have)}.')
    try:
        _REMEMBERED[name] = cast("contract.Load", next(iter(found)).load())
    except ImportError as error:
        raise _missing(name, error) from error
    return _REMEMBERED[name]


def _missing(name: str, error: ImportError) -> errors.ModelError:
    return errors.ModelError(
        f'the adapter for "{name}" cannot be imported: {logs.one_line(str(error), limit=300)}.',
        hint=f"Install what it needs: pip install 'mlship[{name}]'.",
    )


def load(source: Source, *, open_model: Load, run_coroutine: RunCoroutine) -> Loaded:
    """Open the model and let it answer its example row.

    Raises:
        MlshipError: why it cannot be served; foreign errors are translated, with the cause kept.
    """
    model = _open(source, open_model)
    try:
        row = _example(source, model)
        warm = warmup.run(
            model, label=source.label, path=source.path, wish=source.warmup, row=row, run_coroutine=run_coroutine
        )
        if process_runner.wanted(model, source.processes):
            # One way to be quick: what runs in processes is not compiled as well.
            why = "it runs in processes of its own"
            state = acceleration.Acceleration(verdict.Report(source.accelerate, reason=why))
            spread = process_runner.spread(model, source)
            return Loaded(model=spread, example=row, acceleration=state, warm_up_seconds=warm)
        served, state = acceleration.begun(model, path=source.path, mode=source.accelerate, kept=source.proofs, row=row)
    except BaseException:
        model.close()
        raise
    acceleration.told(state, model=source.name, version=source.version)
    return Loaded(model=served, example=row, acceleration=state, warm_up_seconds=warm)


def _open(source: Source, open_model: Load) -> contract.Model:
    try:
        return open_model(source)
    except errors.MlshipError:
        raise
    except ImportError as error:
        raise errors.ModelError(
            f"{source.label} needs a module that is not installed: {logs.said(error)}.",
            hint=f"Install it: pip install {error.name or 'the module'}.",
        ) from error
    except (Exception, SystemExit) as error:
        raise errors.ModelError(f"{source.label} could not be loaded: {logs.said(error)}.") from error


def _example(source: Source, model: contract.Model) -> example.Example | None:
    try:
        return example.of(model)
    except Exception as error:
        raise errors.ModelError(f"{source.label} failed to name an example row: {logs.said(error)}.") from error
