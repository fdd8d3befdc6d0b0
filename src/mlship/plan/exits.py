"""How replicas fail, in words and in classes. Pure.

Shared by ``status``, which states the fact, and ``causes``, which explains it. One exit code has a meaning of its own:
65 (EX_DATAERR of sysexits.h) is the model server saying that the model cannot be loaded and that a repeat is pointless.
"""

from __future__ import annotations

import dataclasses
import signal

from mlship.plan import observed

CANNOT_LOAD = 65
CRASH_LOOP = 3
# A shell reports the death of its child by signal n as exit code 128 + n.
_SHELL_SIGNALS = 128
_LIMIT = 300

_MEANING = {
    "SIGKILL": "killed, often because memory ran out",
    "SIGSEGV": "a crash in native code",
    "SIGBUS": "a crash in native code or a file that shrank under it",
    "SIGILL": "an instruction this CPU does not have",
    "SIGABRT": "native code gave up",
    "SIGTERM": "somebody asked it to end",
    "SIGINT": "somebody interrupted it",
}


@dataclasses.dataclass(frozen=True, slots=True)
class Failure:
    """A replica that does not serve because it failed. ``final``: starting it again will not help."""

    replica: observed.ReplicaId
    at: float
    message: str
    final: bool
    code: int | None = None
    signal: str = ""
    last_line: str = ""


def of(replica: observed.Replica) -> Failure | None:
    """What is wrong with a replica that ended by itself and has not recovered; None when nothing is."""
    ended = replica.last_exit
    if replica.ready or ended is None:
        return None
    # One that has served long is started again without a back-off, however many restarts its life has seen.
    looping = replica.phase is observed.Phase.BACKOFF and replica.restarts >= CRASH_LOOP
    final = ended.code == CANNOT_LOAD or looping or replica.phase is observed.Phase.EXITED
    return Failure(
        replica=replica.id,
        at=ended.at,
        message=said(replica),
        final=final,
        code=ended.code,
        signal=signal_of(ended),
        last_line=ended.last_line[:_LIMIT],
    )


def said(replica: observed.Replica) -> str:
    """How the last exit of a replica reads, one sentence without a full stop."""
    ended = replica.last_exit
    if ended is None:
        return replica.message[:_LIMIT]
    if ended.code == CANNOT_LOAD:
        return ended.last_line[:_LIMIT] or how(ended)
    # A start that took too long ends in a signal of our own: what the supervisor says is the reason, not the signal.
    if replica.message.startswith("not ready "):
        return replica.message[:_LIMIT]
    return words(ended)


def words(ended: observed.Exit) -> str:
    """``how`` with the last line behind it: ``ended with exit code 1: ImportError: ...``."""
    return f"{how(ended)}: {ended.last_line[:_LIMIT]}" if ended.last_line else how(ended)


def how(ended: observed.Exit) -> str:
    """``ended with exit code 1``, ``ended by SIGKILL (killed, often because memory ran out)``."""
    name = signal_of(ended)
    if name:
        meaning = _MEANING.get(name)
        return f"ended by {name}" + (f" ({meaning})" if meaning else "")
    if ended.code == CANNOT_LOAD:
        return f"ended with exit code {CANNOT_LOAD} (the model cannot be loaded)"
    return "ended, how is not known" if ended.code is None else f"ended with exit code {ended.code}"


def signal_of(ended: observed.Exit) -> str:
    """The name of the signal that ended a process, empty when none did."""
    number = ended.signal
    if number is None and ended.code is not None and ended.code > _SHELL_SIGNALS:
        number = ended.code - _SHELL_SIGNALS
    if number is None:
        return ""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}" if ended.signal is not None else ""


def exit_code(failure: Failure) -> int | None:
    """The code as Kubernetes writes it: 128 + n for a process that a signal ended."""
    if failure.code is not None or not failure.signal:
        return failure.code
    try:
        return _SHELL_SIGNALS + signal.Signals[failure.signal].value
    except KeyError:
        return None
