"""What a control plane and its zygotes say to each other. Pure; the one module of mlship that both planes import.

A zygote (``server/zygote.py``) is a model server that has imported everything and loaded nothing. Its control plane
(``backends/local/zygotes.py``) holds the other end of a pair of sockets that keep message borders. A message on it is a
``Request`` with two descriptors: the log, and the far end of a *line*, another such pair, on which everything about the
one replica is said from then on: ``Born`` or ``Refused``, then the control plane's ``GO`` once the replica is in its
records, then ``Underway`` after each phase of its start, ``Ready``, and at last ``Ended``. A line that closes before
``GO`` means that nobody wants the replica. A model server that was executed, not forked, has a line as well
(``--ready-fd``), and says ``Underway`` and ``Ready`` on it.

Every message is one JSON object.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

PROGRAM = "mlship.server.zygote"
GO = b"go"
LARGEST = 1 << 20

# The kernel shows a process's first command line and environment for as long as it lives. A zygote is started with
# room in both, in which its children write what they are; ``server/guise.py``.
ROOM = "MLSHIP_ROOM"
ROOM_BYTES = 1024
TITLE_BYTES = 3072


@dataclasses.dataclass(frozen=True, slots=True)
class Request:
    """A replica to fork. ``argv`` are the model server's flags; ``marks`` is the part of ``env`` others find it by.

    ``title`` is what it shall be listed as; ``asked`` is when it was asked for, on the monotonic clock.
    """

    argv: tuple[str, ...]
    title: tuple[str, ...]
    env: Mapping[str, str] = dataclasses.field(repr=False)
    marks: tuple[str, ...]
    cwd: str
    asked: float


@dataclasses.dataclass(frozen=True, slots=True)
class Hello:
    """The zygote has imported everything, in so many seconds."""

    seconds: float


@dataclasses.dataclass(frozen=True, slots=True)
class Born:
    """The replica is there, and waits for ``GO``."""

    pid: int


@dataclasses.dataclass(frozen=True, slots=True)
class Refused:
    """There is no replica, and why."""

    why: str


@dataclasses.dataclass(frozen=True, slots=True)
class Underway:
    """The replica is starting. ``how``: cold or forked; ``phases``: those that are over, in their order, in seconds."""

    how: str
    phases: Mapping[str, float]


@dataclasses.dataclass(frozen=True, slots=True)
class Ready:
    """The replica has its model: it is worth asking. The fields are those of ``Underway``, all phases over."""

    how: str = ""
    phases: Mapping[str, float] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, slots=True)
class Ended:
    """The replica has ended, by itself (``code``) or by a signal."""

    code: int | None
    signal: int | None


Word = Hello | Born | Refused | Underway | Ready | Ended
_WORDS: dict[str, type[Word]] = {kind.__name__: kind for kind in (Hello, Born, Refused, Underway, Ready, Ended)}


def encode_request(request: Request) -> bytes:
    """``request`` as a message."""
    return json.dumps(dataclasses.asdict(request)).encode()


def decode_request(message: bytes) -> Request:
    """The way back. Raises ValueError."""
    value = _object(message)
    try:
        return Request(
            argv=tuple(value["argv"]),
            title=tuple(value["title"]),
            env=dict(value["env"]),
            marks=tuple(value["marks"]),
            cwd=str(value["cwd"]),
            asked=float(value["asked"]),
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"no request: {error!r}") from error


def encode(word: Word) -> bytes:
    """``word`` as a message."""
    return json.dumps({"word": type(word).__name__, **dataclasses.asdict(word)}).encode()


def decode(message: bytes) -> Word:
    """The way back. Raises ValueError."""
    value = _object(message)
    try:
        return _WORDS[value.pop("word")](**value)
    except (KeyError, TypeError) as error:
        raise ValueError(f"no word of a zygote: {error!r}") from error


def _object(message: bytes) -> dict[str, Any]:
    value = json.loads(message)
    if not isinstance(value, dict):
        raise ValueError("expected a JSON object")
    return value
