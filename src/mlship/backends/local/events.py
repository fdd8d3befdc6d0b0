"""What can happen to a supervised process and what then is to be done about it, as data. Pure.

``process.step`` takes an event and gives effects; ``unit.py`` performs the effects and reports the events.
"""

from __future__ import annotations

import dataclasses
import signal

from mlship.plan import observed

# Events: what happened.


@dataclasses.dataclass(frozen=True, slots=True)
class Start:
    """It shall run."""


@dataclasses.dataclass(frozen=True, slots=True)
class Adopted:
    """It was found running, left by a supervisor before us. ``ready``: it had answered its probe by then."""

    pid: int
    ready: bool


@dataclasses.dataclass(frozen=True, slots=True)
class Lost:
    """It was left running by a supervisor before us and has ended meanwhile."""

    exit: observed.Exit
    served: bool


@dataclasses.dataclass(frozen=True, slots=True)
class Spawned:
    pid: int


@dataclasses.dataclass(frozen=True, slots=True)
class SpawnFailed:
    message: str


@dataclasses.dataclass(frozen=True, slots=True)
class Ready:
    """The probe was answered well."""


@dataclasses.dataclass(frozen=True, slots=True)
class NotReady:
    """The probe was answered badly or not at all."""

    message: str


@dataclasses.dataclass(frozen=True, slots=True)
class Exited:
    exit: observed.Exit


@dataclasses.dataclass(frozen=True, slots=True)
class Stop:
    """It shall end for good."""


@dataclasses.dataclass(frozen=True, slots=True)
class Hurry:
    """What is ending shall end now: nobody waits any longer for what it has under way."""


@dataclasses.dataclass(frozen=True, slots=True)
class Restart:
    """It shall end and start anew, by somebody's wish and thus without back-off."""


@dataclasses.dataclass(frozen=True, slots=True)
class DeadlinePassed:
    """``Process.deadline`` has come."""


Event = (
    Start | Adopted | Lost | Spawned | SpawnFailed | Ready | NotReady | Exited | Stop | Hurry | Restart | DeadlinePassed
)

# Effects: what to do about it, in order.


@dataclasses.dataclass(frozen=True, slots=True)
class Spawn:
    """Start the program; report Spawned or SpawnFailed."""


@dataclasses.dataclass(frozen=True, slots=True)
class Signal:
    """Send ``number`` to the process group ``pid``."""

    pid: int
    number: signal.Signals


@dataclasses.dataclass(frozen=True, slots=True)
class Note:
    """Log ``text``. ``problem``: somebody may want to act."""

    text: str
    problem: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Forget:
    """It has ended for good: remove its record and its sockets."""


Effect = Spawn | Signal | Note | Forget
