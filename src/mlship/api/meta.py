"""What every object has: its name, its bookkeeping, and the conditions of its status.

The fields the server owns (uid, generation, resourceVersion ...) are accepted in what a user applies, because people
apply what they once exported; the store overwrites them. Times are RFC 3339 strings given by the caller.
"""

from __future__ import annotations

import dataclasses
import enum
import re
from collections.abc import Iterable
from typing import Any

from mlship.api import fields, problems
from mlship.api.fields import Bool, Int, Str, StrMap, opt, req

# KServe's rule for InferenceService and InferenceGraph (inference_service_validation.go), as a DNS-1035 label.
SERVICE_NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
# Kubernetes' rule for most objects: a DNS-1123 subdomain.
OBJECT_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
MAX_LABEL = 63
MAX_NAME = 253
DEFAULT_NAMESPACE = "default"

_LABEL_PART = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")
_NOT_NAME = re.compile(r"[^a-z0-9]+")


class OwnerReference(fields.Spec):
    """The object this one belongs to and is deleted with."""

    api_version: Str = req("API version of the owner.")
    kind: Str = req("Kind of the owner.")
    name: Str = req("Name of the owner.")
    uid: Str = req("Uid of the owner.")
    controller: Bool | None = opt("Whether the owner manages this object.")
    block_owner_deletion: Bool | None = opt("Whether the owner may only be deleted after this object.")


class ObjectMeta(fields.Spec):
    """Name, labels, and what the store keeps about an object."""

    name: Str = req("Name, unique within its namespace and kind.")
    namespace: Str | None = opt("Namespace; default when absent.")
    labels: StrMap | None = opt("Labels, kept and selectable.")
    annotations: StrMap | None = opt(
        "Annotations; some of `serving.kserve.io/`, `autoscaling.knative.dev/` and `mlship.dev/` steer it."
    )
    generate_name: Str | None = opt("Prefix of a generated name; not supported, give a name.")
    uid: Str | None = opt("Set by the store.")
    generation: Int | None = opt("Set by the store: counts changes of the spec.")
    resource_version: Str | None = opt("Set by the store; when given, an update of anything newer is refused.")
    creation_timestamp: Str | None = opt("Set by the store.")
    deletion_timestamp: Str | None = opt("Set by the store when the object is being deleted.")
    deletion_grace_period_seconds: Int | None = opt("Set by the store.")
    finalizers: tuple[Str, ...] | None = opt("What must be done before the object may go.")
    owner_references: tuple[OwnerReference, ...] | None = opt("The objects this one belongs to.")
    managed_fields: tuple[dict[str, Any], ...] | None = opt("Accepted as Kubernetes exports it; not used.")
    self_link: Str | None = opt("Accepted as old exports have it; not used.")


class Object(fields.Spec):
    """Base of every kind. ``status`` in what a user writes is never read; the store keeps its own."""

    api_version: Str = req("API group and version.")
    kind: Str = req("Kind.")
    metadata: ObjectMeta = req("Name, namespace, labels, annotations.")
    status: dict[str, Any] | None = opt("Written by mlship.")

    @property
    def name(self) -> str:
        return self.metadata.name

    @property
    def namespace(self) -> str:
        """The namespace, ``default`` when none was written. Without meaning for cluster-wide kinds."""
        return self.metadata.namespace or DEFAULT_NAMESPACE

    @property
    def annotations(self) -> dict[str, str]:
        return self.metadata.annotations or {}

    @property
    def labels(self) -> dict[str, str]:
        return self.metadata.labels or {}


class Truth(enum.StrEnum):
    """The three values of a condition."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


@dataclasses.dataclass(frozen=True, slots=True)
class Condition:
    """One condition of a status, in Kubernetes' form. ``since`` is lastTransitionTime, RFC 3339."""

    type: str
    status: Truth
    reason: str = ""
    message: str = ""
    since: str = ""
    severity: str = ""

    def as_dict(self) -> dict[str, str]:
        """The wire form, without empty fields."""
        wire = {
            "type": self.type,
            "status": self.status.value,
            "severity": self.severity,
            "lastTransitionTime": self.since,
            "reason": self.reason,
            "message": self.message,
        }
        return {key: value for key, value in wire.items() if value}


def merge_conditions(old: Iterable[Condition], new: Iterable[Condition], *, now: str) -> tuple[Condition, ...]:
    """The new conditions, each keeping the time of the old one of its type when the status did not change."""
    before = {condition.type: condition for condition in old}

    def since(condition: Condition) -> str:
        known = before.get(condition.type)
        return known.since if known and known.since and known.status is condition.status else now

    return tuple(dataclasses.replace(condition, since=since(condition)) for condition in new)


def read_conditions(status: dict[str, Any] | None) -> tuple[Condition, ...]:
    """The conditions of a stored status; what has no type or an unknown status is dropped, not guessed."""
    found = (status or {}).get("conditions")
    if not isinstance(found, list):
        return ()
    return tuple(
        Condition(
            type=str(item["type"]),
            status=Truth(item["status"]),
            reason=str(item.get("reason", "")),
            message=str(item.get("message", "")),
            since=str(item.get("lastTransitionTime", "")),
            severity=str(item.get("severity", "")),
        )
        for item in found
        if isinstance(item, dict) and item.get("type") and item.get("status") in set(Truth)
    )


def suggest_name(name: str) -> str:
    """The nearest valid service name: ``My_Model.v2`` becomes ``my-model-v2``."""
    plain = _NOT_NAME.sub("-", name.lower()).strip("-")[:MAX_LABEL].strip("-")
    return plain if plain[:1].isalpha() else f"m-{plain}".strip("-")[:MAX_LABEL]


def check_meta(metadata: ObjectMeta, *, service: bool) -> Iterable[problems.Problem]:
    """The rules of names, labels and annotations. ``service``: the stricter rule of kinds that become host names."""
    pattern, limit = (SERVICE_NAME, MAX_LABEL) if service else (OBJECT_NAME, MAX_NAME)
    if not pattern.fullmatch(metadata.name) or len(metadata.name) > limit:
        start = "starting with a letter, " if service else ""
        yield problems.refuse(
            ("metadata", "name"),
            f"{problems.cap(metadata.name, 80)!r} is not a valid name: lower case letters, digits and -, "
            f"{start}at most {limit} characters",
            f"write for example {suggest_name(metadata.name)}",
        )
    space = metadata.namespace
    if space is not None and (not NAMESPACE.fullmatch(space) or len(space) > MAX_LABEL):
        yield problems.refuse(
            ("metadata", "namespace"),
            f"{problems.cap(space, 80)!r} is not a valid namespace: lower case letters, digits and -, at most 63",
            f"write for example {suggest_name(space)}",
        )
    if metadata.generate_name is not None:
        yield problems.refuse(("metadata", "generateName"), "generated names are not supported", "give metadata.name")
    for where in ("labels", "annotations"):
        for key, value in (getattr(metadata, where) or {}).items():
            yield from _check_pair(("metadata", where), key, value, is_label=where == "labels")


def _check_pair(path: problems.Path, key: str, value: str, *, is_label: bool) -> Iterable[problems.Problem]:
    prefix, slash, name = key.rpartition("/")
    good_prefix = not slash or (OBJECT_NAME.fullmatch(prefix) and len(prefix) <= MAX_NAME)
    if not good_prefix or not _LABEL_PART.fullmatch(name) or len(name) > MAX_LABEL:
        yield problems.refuse(
            (*path, key), "is not a valid key: [prefix/]name of letters, digits, -, _ and ., the name at most 63"
        )
    if is_label and value and (not _LABEL_PART.fullmatch(value) or len(value) > MAX_LABEL):
        yield problems.refuse(
            (*path, key),
            "is not a valid label value: letters, digits, -, _ and ., at most 63 characters",
            "put free text into metadata.annotations",
        )
