"""What the supervisor is asked to keep running, and its form in a record.

A job is everything a later control plane needs to adopt the process or to start it anew, so it is stored whole, secrets
included: records are files of mode 0600 in a folder of mode 0700. ``Job.hash`` tells whether a process that was found
runs what its record says.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Mapping
from typing import Any

from mlship.plan import actions


@dataclasses.dataclass(frozen=True, slots=True)
class Job:
    """A program to keep running and what surrounds it.

    ``address``: where the probe asks, ``unix:/path`` or ``host:port``; empty for a spec that needs a port, which is
    chosen anew at each start. ``provided``: values for ``$(NAME)``. ``sockets``: paths that it binds, removed before a
    start and after its end. ``labels``: the owner's own facts, kept and given back. ``keep``: start it again when it
    ends by itself.
    """

    spec: actions.ProcessSpec
    log: pathlib.Path
    address: str = ""
    provided: tuple[tuple[str, str], ...] = ()
    sockets: tuple[str, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    keep: bool = True

    @property
    def hash(self) -> str:
        """Short hash of everything in it."""
        text = json.dumps(to_json(self), sort_keys=True, ensure_ascii=True)
        return hashlib.sha256(text.encode("ascii")).hexdigest()[:16]


def to_json(job: Job) -> dict[str, Any]:
    """The job as JSON values; ``from_json`` is the way back."""
    spec = dataclasses.asdict(job.spec)
    spec["env"] = [
        [name, {"secret": value.value} if isinstance(value, actions.Secret) else value] for name, value in job.spec.env
    ]
    return {
        "spec": spec,
        "log": str(job.log),
        "address": job.address,
        "provided": dict(job.provided),
        "sockets": list(job.sockets),
        "labels": dict(job.labels),
        "keep": job.keep,
    }


def from_json(value: Mapping[str, Any]) -> Job:
    """The job that ``to_json`` wrote. Raises KeyError, TypeError or ValueError when it is something else."""
    spec = dict(value["spec"])
    spec["argv"] = _texts(spec["argv"])
    spec["env"] = tuple((_text(name), _variable(held)) for name, held in spec["env"])
    spec["probe"] = actions.Probe(**spec["probe"])
    return Job(
        spec=actions.ProcessSpec(**spec),
        log=pathlib.Path(value["log"]),
        address=_text(value["address"]),
        provided=tuple((name, _text(text)) for name, text in value["provided"].items()),
        sockets=_texts(value["sockets"]),
        labels=tuple((name, _text(text)) for name, text in value["labels"].items()),
        keep=bool(value["keep"]),
    )


def _variable(held: Any) -> str | actions.Secret:
    return actions.Secret(_text(held["secret"])) if isinstance(held, dict) else _text(held)


def _texts(values: Any) -> tuple[str, ...]:
    return tuple(_text(value) for value in values)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected text, got {type(value).__name__}")
    return value
