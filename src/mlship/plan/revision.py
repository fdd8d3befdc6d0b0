"""What a revision is: the program and the artifact it runs, under a short hash. Pure.

Two services' replicas are the same revision exactly when a running one need not be replaced. Replica counts, labels
and request timeouts are not part of it; the bytes of the model are, so changed bytes under the same URI are a new one.

The digest of an artifact is known only while the backend reports it. ``Memory`` keeps it in the status, so that a
control plane that has just started, or whose source has vanished, still recognises what runs as the newest revision.
It is proved when read: the hash of what it says must be the revision it names, else all of it is forgotten.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from mlship.plan import actions, observed

LENGTH = 8


# Every look asks four times for the same: a third of what a plan costs.
@functools.lru_cache(maxsize=256)
def short(spec: actions.ProcessSpec, digest: str) -> str:
    """The name of the revision that runs ``spec`` on the artifact ``digest``: 8 hex digits."""
    content = dataclasses.asdict(spec)
    content["env"] = [[name, _plain(value)] for name, value in spec.env]
    text = json.dumps([content, digest], sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()[:LENGTH]


@dataclasses.dataclass(frozen=True, slots=True)
class Memory:
    """What the status remembers of the newest revision: its name, and the artifact it was made of.

    ``program`` is the hash of its program alone, which tells a changed program from a changed artifact.
    """

    revision: str
    uri: str
    digest: str
    program: str

    def as_dict(self) -> dict[str, str]:
        """The form it has in the status."""
        return {"revision": self.revision, "uri": self.uri, "digest": self.digest, "program": self.program}


@dataclasses.dataclass(frozen=True, slots=True)
class Target:
    """The revision that shall serve.

    ``name`` is empty while the artifact's digest is not known. ``model_path`` is empty while the artifact is not there,
    or not needed; ``startable`` tells which: whether replicas of it can be started now.
    """

    spec: actions.ProcessSpec
    name: str = ""
    digest: str = ""
    model_path: str = ""
    startable: bool = False


def target(spec: actions.ProcessSpec, *, uri: str, artifact: observed.Artifact | None, memory: Memory | None) -> Target:
    """What shall run, by what is known of the artifact at ``uri`` (empty: none is needed)."""
    if not uri:
        return Target(spec, name=short(spec, ""), startable=True)
    if artifact is not None and artifact.uri == uri and artifact.state is observed.ArtifactState.READY:
        name = short(spec, artifact.digest)
        return Target(spec, name=name, digest=artifact.digest, model_path=artifact.path, startable=True)
    if memory is not None and memory.uri == fingerprint(uri):
        return Target(spec, name=short(spec, memory.digest), digest=memory.digest)
    return Target(spec)


def remember(made: Target, uri: str) -> Memory | None:
    """What to write into the status about a target, once it has a name."""
    if not made.name:
        return None
    return Memory(made.name, uri=fingerprint(uri), digest=made.digest, program=program(made.spec))


def read(stored: object) -> Memory | None:
    """The memory in a status as it stands; None when it is not one."""
    if not isinstance(stored, Mapping):
        return None
    values: dict[str, Any] = {field.name: stored.get(field.name) for field in dataclasses.fields(Memory)}
    return Memory(**values) if all(isinstance(value, str) for value in values.values()) else None


def recall(stored: object, spec: actions.ProcessSpec) -> Memory | None:
    """The memory in a status, or None when there is none or it contradicts itself."""
    memory = read(stored)
    if memory is None or (memory.program == program(spec) and memory.revision != short(spec, memory.digest)):
        return None
    return memory


def program(spec: actions.ProcessSpec) -> str:
    """The hash of a program without its artifact."""
    return short(spec, "(any)")


def fingerprint(uri: str) -> str:
    """A URI for the status: signed addresses are secrets, so only whether it is the same is kept."""
    return hashlib.sha256(uri.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _plain(value: str | actions.Secret) -> str:
    return value.value if isinstance(value, actions.Secret) else value
