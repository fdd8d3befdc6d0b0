"""What stands between a loaded model and its compiled form: nothing to do, a proof that was kept, or one to be made.

    load ──► begun ──┬─ not asked for, or cannot be compiled ──► the original serves, and the report says why
                     ├─ a proof was kept ──────────────────────► its verdict holds from the first request on
                     └─ no proof yet ──► the original serves, ``proving`` ──► ``taken``: the verdict, put in place

``begun`` and ``taken`` run on the loader's thread; ``repository`` has a proof made (``prover``) once the model is
ready. An ``Acceleration`` belongs to one loaded model and holds its newest report.
"""

from __future__ import annotations

import dataclasses
import logging
import pathlib
import time
from typing import Any

from mlship.server import example, logs
from mlship.server import model as contract
from mlship.server.accelerate import attempt, compiled, kernel, proofs, verdict

LOG = logging.getLogger(__name__)


@dataclasses.dataclass(slots=True, eq=False)
class Acceleration:
    """The state of one loaded model. ``report`` is replaced as a whole, so it can be read from any thread.

    ``model``: the model to put a compiled form into; ``facts``: what a proof must be of. Both None: nothing to do.
    """

    report: verdict.Report
    model: compiled.Compiled | None = None
    facts: proofs.Facts | None = None
    row: example.Example | None = None

    @property
    def pending(self) -> bool:
        """Whether a proof is still to be made."""
        return self.report.pending

    def refuse(self, reason: str) -> None:
        """There will be no proof."""
        self.report = verdict.Report(self.report.mode, reason=reason)


def begun(
    model: contract.Model,
    *,
    path: pathlib.Path,
    mode: verdict.Mode,
    kept: pathlib.Path | None,
    row: example.Example | None,
) -> tuple[contract.Model, Acceleration]:
    """The model to serve, and what is left to do before it is compiled.

    Args:
        path: the model's file or folder.
        kept: the folder of proofs, if there is one.
        row: the model's example row.
    """
    if mode is verdict.Mode.OFF:
        return model, Acceleration(verdict.Report(mode, reason="it was not asked for"))
    try:
        attempt.check(model)
        fitted = getattr(model, "fitted", None)
        library = type(fitted).__module__.partition(".")[0]
        known = proofs.facts(path, mode=mode, signature=model.signature, library=library)
    except kernel.Unsupported as error:
        return model, Acceleration(verdict.Report(mode, reason=str(error)))
    except OSError as error:
        return model, Acceleration(verdict.Report(mode, reason=f"its file cannot be read again: {error.strerror}"))
    served = compiled.Compiled(model)
    pending = verdict.Report(mode, reason="the proof is under way", pending=True)
    state = Acceleration(pending, served, known, row)
    if kept is not None:
        taken(state, proofs.Proofs(kept))
    return served, state


def taken(state: Acceleration, found: proofs.Proofs) -> bool:
    """Look for the proof and put its verdict into place; whether there was one that holds."""
    if state.model is None or state.facts is None:
        return False
    begun_at = time.perf_counter()
    proof = found.read(state.facts)
    if proof is None:
        return False
    if proof.report.used:
        try:
            fast = attempt.recalled(state.model.original, report=proof.report, form=proof.form, row=state.row)
        except Exception as error:  # noqa: BLE001 - a kept form that does not work is made again
            said = logs.one_line(f"{type(error).__name__}: {error}", limit=300)
            LOG.warning("kept proof does not hold", extra=logs.fields(error=said))
            found.drop(state.facts)
            return False
        state.model.use(fast, proof.report)
    state.report = proof.report
    LOG.debug("proof taken", extra=logs.fields(seconds=round(time.perf_counter() - begun_at, 4)))
    return True


def told(state: Acceleration, **more: Any) -> None:
    """Say in the log what came of it."""
    if state.report.mode is not verdict.Mode.OFF and not state.pending:
        event = "accelerated" if state.report.used else "not accelerated"
        LOG.info(event, extra=logs.fields(**more, **state.report.wire()))
