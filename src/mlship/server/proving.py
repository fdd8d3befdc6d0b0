"""Proves one model and keeps what came of it: ``python -m mlship.server.proving`` with the model server's own flags.

A process of its own, since a proof is seconds of work that would take turns with requests for the interpreter's lock:
here it takes only the time that nobody else wants, what a converter does to memory ends with it, and a library that
crashes takes no server along. It loads the model again, compares both forms, writes the proof and ends. ``prover``
starts it; its last line on standard error says why it failed.

Exit codes: 0 when a proof was written, else 1.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import pathlib
import sys
import time
from collections.abc import Iterator

from mlship import errors
from mlship.server import example, loading, logs, settings
from mlship.server.accelerate import attempt, kernel, measure, proofs, samples, verdict

# About a tenth of a core where others want all of them: requests come first, and the proof comes to its end.
NICE = 10


def run(chosen: settings.Settings) -> None:
    """Prove the one model of ``chosen``.

    Raises:
        MlshipError: the model does not load, or the settings name no model or no folder for proofs.
        OSError: the proof could not be written.
    """
    source, folder = chosen.source, chosen.proof_cache
    if source is None or folder is None or source.accelerate is verdict.Mode.OFF:
        raise errors.SpecError("a proof needs --model-path, --proof-cache and --accelerate auto or exact.")
    with _alone(folder):
        _prove(source, proofs.Proofs(folder))


def _prove(source: loading.Source, kept: proofs.Proofs) -> None:
    model = loading.from_disk(source)
    library = type(getattr(model, "fitted", None)).__module__.partition(".")[0]
    known = proofs.facts(source.path, mode=source.accelerate, signature=model.signature, library=library)
    if kept.read(known) is not None:
        return  # Somebody has proven it while this process waited for its turn.
    made = attempt.run(
        model,
        mode=source.accelerate,
        row=example.of(model),
        clocks=measure.Clocks(time.process_time, time.perf_counter),
        samples=functools.partial(samples.beside, source.path),
    )
    if not made.settled:
        raise errors.ModelError(made.report.reason)
    kept.write(known, proofs.Proof(made.report, kernel.Form() if made.fast is None else made.fast.form))


@contextlib.contextmanager
def _alone(folder: pathlib.Path) -> Iterator[None]:
    """One proof at a time in a folder: replicas of one model start together, and one proof does for all."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (folder / ".lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def command_line(arguments: list[str]) -> int:
    """Flags in, exit code out."""
    os.nice(NICE)
    logs.configure(form="text", level="error")
    try:
        run(settings.parse(arguments))
    except errors.MlshipError as error:
        sys.stderr.write(f"{error.message}\n")
        return 1
    except OSError as error:
        sys.stderr.write(f"the proof could not be written: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(command_line(sys.argv[1:]))
