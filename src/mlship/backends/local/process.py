"""One supervised process as a machine of eight states. Pure: events and the time in, a new value and effects out.

                 start                    ready
    initial ─────────────► starting ─────────────────► running
       │                   │  ▲   ▲ │                   │  │
       │ adopted, lost     │  │   │ └──── exited ──────┐│  │ exited
       └─► (any of         │  │   │                    ▼▼  │
            starting,      │  │   └── back-off over ── backoff
            running,       │  │       (0 s: at once)   or exited, when it is not to be kept running
            backoff)       │  │ exited, to be started again
                           │  │                            │
     stop, restart,        ▼  │         stop, restart      ▼
     deadline over ────► terminating ◄─────────────────────┘
                           │      │ grace over
                           │      ▼
                           │   killing
                    exited ▼      ▼ exited
                          stopped ─── (forgotten)

``backends/local/unit.py`` owns one such value per process, performs the effects and reports what happened as events.
It waits until ``Process.deadline`` and then reports ``DeadlinePassed``; what that means depends on the state: the start
took too long, the grace is over, the back-off is over. An event that has no arrow raises ``IllegalEvent``.

The back-off: a process that has served is started again at once, then after 1, 2, 4 ... 60 s; a process that never got
ready starts at 1 s; one that says that a repeat is pointless (exit code 65, EX_DATAERR of sysexits.h: the model
does not load) waits 32 s at least. A minute of readiness clears the count.
"""

from __future__ import annotations

import dataclasses
import signal
from collections.abc import Callable
from typing import Any

from mlship.backends.local import events
from mlship.plan import observed

Phase = observed.Phase

EXIT_POINTLESS = 65
HEALTHY_AFTER = 60.0
LONGEST_BACKOFF = 60.0
KILL_AGAIN_AFTER = 5.0
HURRIED_GRACE = 5.0
FAILURES_TO_NOT_READY = 3
_POINTLESS_LEVEL = 6


@dataclasses.dataclass(frozen=True, slots=True)
class Policy:
    """``keep``: start it again when it ends by itself. The others are seconds, as in ``actions.ProcessSpec``."""

    start_deadline: float = 120.0
    stop_grace: float = 30.0
    keep: bool = True


@dataclasses.dataclass(frozen=True, slots=True)
class Process:
    """All that is known of one process.

    ``level`` counts crashes for the back-off; ``deadline`` is when this state ends by itself; ``then_start`` and
    ``failed_start`` say what follows the end of a process that is terminating: a new start, after a back-off if failed.
    """

    policy: Policy = Policy()
    phase: Phase = Phase.INITIAL
    since: float = 0.0
    pid: int | None = None
    ready: bool = False
    ready_since: float | None = None
    served: bool = False
    failures: int = 0
    message: str = ""
    level: int = 0
    restarts: int = 0
    last_exit: observed.Exit | None = None
    deadline: float | None = None
    then_start: bool = False
    failed_start: bool = False


class IllegalEvent(RuntimeError):
    """An event that cannot happen in this state: the caller's bookkeeping is wrong."""


Step = tuple[Process, tuple[events.Effect, ...]]


def step(process: Process, event: events.Event, now: float) -> Step:
    """What ``event`` at ``now`` (Unix seconds) makes of ``process``. Raises IllegalEvent."""
    handler = _TABLE.get((process.phase, type(event)))
    if handler is None:
        raise IllegalEvent(f"{event!r} cannot happen to {process!r}")
    return handler(process, event, now)


def delay(level: int) -> float:
    """Seconds of back-off after the crash that found the count at ``level``: 0, 1, 2, 4 ... 60."""
    return 0.0 if level == 0 else min(LONGEST_BACKOFF, 2.0 ** min(level - 1, 10))


def describe(ended: observed.Exit) -> str:
    """How it ended, as a clause: ``exit code 1: ValueError: ...``."""
    how = "it ended, how is not known"
    if ended.signal is not None:
        how = f"ended by {_signal_name(ended.signal)}"
    elif ended.code is not None:
        how = f"ended with exit code {ended.code}"
    return f"{how}: {ended.last_line}" if ended.last_line else how


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _enter(process: Process, phase: Phase, now: float, **changes: Any) -> Process:
    """``process`` in ``phase``; what belongs to the state it leaves is gone."""
    cleared: dict[str, Any] = {"deadline": None, "then_start": False, "failed_start": False}
    if phase is not Phase.RUNNING:
        cleared |= {"ready": False, "ready_since": None, "failures": 0}
    return dataclasses.replace(process, phase=phase, since=now, **(cleared | changes))


def _begin(process: Process, now: float, *, again: bool) -> Step:
    started = _enter(
        process,
        Phase.STARTING,
        now,
        pid=None,
        served=False,
        message="",
        restarts=process.restarts + again,
        deadline=now + process.policy.start_deadline,
    )
    return started, (events.Spawn(),)


def _start(process: Process, event: events.Start, now: float) -> Step:
    return _begin(process, now, again=process.phase is not Phase.INITIAL)


def _start_after_end(process: Process, event: events.Start | events.Restart, now: float) -> Step:
    return dataclasses.replace(process, then_start=True, failed_start=False), ()


def _restart_at_once(process: Process, event: events.Restart | events.DeadlinePassed, now: float) -> Step:
    return _begin(process, now, again=True)


def _adopted(process: Process, event: events.Adopted, now: float) -> Step:
    note = events.Note(f"adopted, pid {event.pid}")
    if event.ready:
        running = _enter(process, Phase.RUNNING, now, pid=event.pid, ready=True, ready_since=now, served=True)
        return running, (note,)
    deadline = now + process.policy.start_deadline
    return _enter(process, Phase.STARTING, now, pid=event.pid, deadline=deadline), (note,)


def _lost(process: Process, event: events.Lost, now: float) -> Step:
    return _crashed(dataclasses.replace(process, served=event.served), event.exit, now)


def _spawned(process: Process, event: events.Spawned, now: float) -> Step:
    _expect(process.pid is None, process, event)
    return dataclasses.replace(process, pid=event.pid), (events.Note(f"started, pid {event.pid}"),)


def _spawned_too_late(process: Process, event: events.Spawned, now: float) -> Step:
    _expect(process.pid is None, process, event)
    changed = dataclasses.replace(process, pid=event.pid, deadline=now + process.policy.stop_grace)
    return changed, (events.Signal(event.pid, signal.SIGTERM),)


def _spawn_failed(process: Process, event: events.SpawnFailed, now: float) -> Step:
    _expect(process.pid is None, process, event)
    return _crashed(process, observed.Exit(at=now, last_line=event.message), now, message=event.message)


def _spawn_failed_while_ending(process: Process, event: events.SpawnFailed, now: float) -> Step:
    _expect(process.pid is None, process, event)
    return _ended(process, observed.Exit(at=now, last_line=event.message), now)


def _ready(process: Process, event: events.Ready, now: float) -> Step:
    _expect(process.pid is not None, process, event)
    changes: dict[str, Any] = {"ready": True, "served": True, "failures": 0, "message": ""}
    if process.phase is Phase.RUNNING and process.ready:
        return dataclasses.replace(process, **changes), ()
    took = f" after {now - process.since:.1f} s" if process.phase is Phase.STARTING else " again"
    since = process.since if process.phase is Phase.RUNNING else now
    ready = dataclasses.replace(_enter(process, Phase.RUNNING, since), ready_since=now, **changes)
    return ready, (events.Note("ready" + took),)


def _not_ready_yet(process: Process, event: events.NotReady, now: float) -> Step:
    _expect(process.pid is not None, process, event)
    return dataclasses.replace(process, message=event.message), ()


def _not_ready(process: Process, event: events.NotReady, now: float) -> Step:
    failures = process.failures + 1
    if failures < FAILURES_TO_NOT_READY and process.ready:
        return dataclasses.replace(process, failures=failures), ()
    changed = dataclasses.replace(process, failures=failures, ready=False, ready_since=None, message=event.message)
    return changed, (events.Note(f"no longer ready: {event.message}", problem=True),) if process.ready else ()


def _exited(process: Process, event: events.Exited, now: float) -> Step:
    _expect(process.pid is not None, process, event)
    return _crashed(process, event.exit, now)


def _crashed(process: Process, ended: observed.Exit, now: float, *, message: str = "") -> Step:
    message = message or describe(ended)
    if not process.policy.keep:
        gone = _enter(process, Phase.EXITED, now, pid=None, last_exit=ended, message=message)
        return gone, (events.Note(message, problem=ended.code != 0),)
    level = _level(process, ended, now)
    wait = delay(level)
    changed = dataclasses.replace(process, level=level + 1, last_exit=ended)
    if wait == 0:
        started, effects = _begin(changed, now, again=True)
        return started, (events.Note(f"{message}; starting it again", problem=True), *effects)
    waiting = _enter(changed, Phase.BACKOFF, now, pid=None, deadline=now + wait, message=message)
    return waiting, (events.Note(f"{message}; starting it again in {wait:.0f} s", problem=True),)


def _level(process: Process, ended: observed.Exit, now: float) -> int:
    healthy = process.ready_since is not None and now - process.ready_since >= HEALTHY_AFTER
    level = 0 if healthy else process.level
    if not process.served:
        level = max(level, 1)
    if ended.code == EXIT_POINTLESS:
        level = max(level, _POINTLESS_LEVEL)
    return level


def _ended_as_told(process: Process, event: events.Exited, now: float) -> Step:
    _expect(process.pid is not None, process, event)
    return _ended(process, event.exit, now)


def _ended(process: Process, ended: observed.Exit, now: float) -> Step:
    if process.failed_start:
        return _crashed(process, ended, now, message=process.message)
    if process.then_start:
        return _begin(dataclasses.replace(process, last_exit=ended), now, again=True)
    stopped = _enter(process, Phase.STOPPED, now, pid=None, last_exit=ended, message="")
    return stopped, (events.Note("stopped"), events.Forget())


def _stop(process: Process, event: events.Stop, now: float) -> Step:
    """End one that has no process."""
    return _enter(process, Phase.STOPPED, now, pid=None, message=""), (events.Note("stopped"), events.Forget())


def _stop_after_all(process: Process, event: events.Stop, now: float) -> Step:
    return dataclasses.replace(process, then_start=False, failed_start=False), ()


def _already(process: Process, event: events.Event, now: float) -> Step:
    return process, ()


def _terminate(process: Process, event: events.Stop, now: float) -> Step:
    return _terminating(process, now)


def _terminate_to_restart(process: Process, event: events.Restart, now: float) -> Step:
    return _terminating(process, now, then_start=True)


def _terminating(process: Process, now: float, **changes: Any) -> Step:
    if process.pid is None:
        return _enter(process, Phase.TERMINATING, now, **changes), ()
    ending = _enter(process, Phase.TERMINATING, now, deadline=now + process.policy.stop_grace, **changes)
    return ending, (events.Signal(process.pid, signal.SIGTERM),)


def _hurry(process: Process, event: events.Hurry, now: float) -> Step:
    """A second SIGTERM, by which the model server cuts its drain short and tells those who wait."""
    if process.pid is None:
        return process, ()
    soon = now + HURRIED_GRACE
    hurried = dataclasses.replace(process, deadline=soon if process.deadline is None else min(process.deadline, soon))
    return hurried, (events.Note("told to end now"), events.Signal(process.pid, signal.SIGTERM))


def _start_took_too_long(process: Process, event: events.DeadlinePassed, now: float) -> Step:
    _expect_due(process, event, now)
    said = f"; it last said: {process.message}" if process.message else ""
    message = f"not ready {process.policy.start_deadline:.0f} s after its start{said}"
    changed, effects = _terminating(process, now, failed_start=True, message=message)
    return changed, (events.Note(message, problem=True), *effects)


def _grace_over(process: Process, event: events.DeadlinePassed, now: float) -> Step:
    _expect_due(process, event, now)
    if process.pid is None:
        raise IllegalEvent(f"{event!r} cannot happen to {process!r}")
    changed = dataclasses.replace(process, phase=Phase.KILLING, since=now, deadline=now + KILL_AGAIN_AFTER)
    note = events.Note(f"did not end within {process.policy.stop_grace:.0f} s of SIGTERM; killing it", problem=True)
    return changed, (note, events.Signal(process.pid, signal.SIGKILL))


def _kill_again(process: Process, event: events.DeadlinePassed, now: float) -> Step:
    _expect_due(process, event, now)
    if process.pid is None:
        raise IllegalEvent(f"{event!r} cannot happen to {process!r}")
    note = events.Note("still there after SIGKILL: it hangs in the kernel, on a disk or a device", problem=True)
    return dataclasses.replace(process, deadline=now + KILL_AGAIN_AFTER), (
        note,
        events.Signal(process.pid, signal.SIGKILL),
    )


def _backoff_over(process: Process, event: events.DeadlinePassed, now: float) -> Step:
    _expect_due(process, event, now)
    return _begin(process, now, again=True)


def _expect(holds: bool, process: Process, event: events.Event) -> None:
    if not holds:
        raise IllegalEvent(f"{event!r} cannot happen to {process!r}")


def _expect_due(process: Process, event: events.Event, now: float) -> None:
    _expect(process.deadline is not None and now >= process.deadline, process, event)


_TABLE: dict[tuple[Phase, type], Callable[[Process, Any, float], Step]] = {
    (Phase.INITIAL, events.Start): _start,
    (Phase.INITIAL, events.Adopted): _adopted,
    (Phase.INITIAL, events.Lost): _lost,
    (Phase.INITIAL, events.Stop): _stop,
    (Phase.STARTING, events.Spawned): _spawned,
    (Phase.STARTING, events.SpawnFailed): _spawn_failed,
    (Phase.STARTING, events.Ready): _ready,
    (Phase.STARTING, events.NotReady): _not_ready_yet,
    (Phase.STARTING, events.Exited): _exited,
    (Phase.STARTING, events.Stop): _terminate,
    (Phase.STARTING, events.Restart): _terminate_to_restart,
    (Phase.STARTING, events.DeadlinePassed): _start_took_too_long,
    (Phase.RUNNING, events.Ready): _ready,
    (Phase.RUNNING, events.NotReady): _not_ready,
    (Phase.RUNNING, events.Exited): _exited,
    (Phase.RUNNING, events.Stop): _terminate,
    (Phase.RUNNING, events.Restart): _terminate_to_restart,
    (Phase.TERMINATING, events.Start): _start_after_end,
    (Phase.TERMINATING, events.Spawned): _spawned_too_late,
    (Phase.TERMINATING, events.SpawnFailed): _spawn_failed_while_ending,
    (Phase.TERMINATING, events.Exited): _ended_as_told,
    (Phase.TERMINATING, events.Stop): _stop_after_all,
    (Phase.TERMINATING, events.Hurry): _hurry,
    (Phase.TERMINATING, events.Restart): _start_after_end,
    (Phase.TERMINATING, events.DeadlinePassed): _grace_over,
    (Phase.KILLING, events.Start): _start_after_end,
    (Phase.KILLING, events.Exited): _ended_as_told,
    (Phase.KILLING, events.Stop): _stop_after_all,
    (Phase.KILLING, events.Hurry): _already,
    (Phase.KILLING, events.Restart): _start_after_end,
    (Phase.KILLING, events.DeadlinePassed): _kill_again,
    (Phase.STOPPED, events.Start): _start,
    (Phase.STOPPED, events.Stop): _already,
    (Phase.BACKOFF, events.Stop): _stop,
    (Phase.BACKOFF, events.Restart): _restart_at_once,
    (Phase.BACKOFF, events.DeadlinePassed): _backoff_over,
    (Phase.EXITED, events.Start): _start,
    (Phase.EXITED, events.Stop): _stop,
    (Phase.EXITED, events.Restart): _restart_at_once,
}
