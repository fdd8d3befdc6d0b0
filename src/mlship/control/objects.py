"""What a write does to an object: what the server owns, when the generation grows, what a status write may touch.

The rules are those of the Kubernetes API server for custom resources with a status subresource. Pure: uid and time
are arguments, and the ledger stamps the ``resourceVersion`` inside its transaction.
"""

from __future__ import annotations

import copy
import datetime
from collections.abc import Mapping
from typing import Any

from mlship.control import store

# Groups of annotations by which a service is told how to run: KServe's, Knative's, KEDA's and mlship's own.
_WISHES = ("serving.kserve.io/", "autoscaling.knative.dev/", "autoscaling.keda.sh/", "mlship.dev/")
_USERS_METADATA = ("labels", "annotations", "finalizers", "ownerReferences")


def timestamp(now: float) -> str:
    """Unix seconds as the API writes times: RFC 3339 in UTC with whole seconds."""
    return datetime.datetime.fromtimestamp(now, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def seconds(text: str) -> float:
    """The inverse of ``timestamp``."""
    return datetime.datetime.fromisoformat(text).timestamp()


def created(raw: Mapping[str, Any], *, key: store.Key, uid: str, now: float) -> store.Object:
    """The object as it is stored first: the user's spec untouched, no status, the server's own metadata."""
    body = _main(raw)
    metadata: dict[str, Any] = {"name": key.name}
    if key.namespace:
        metadata["namespace"] = key.namespace
    metadata |= {"uid": uid, "creationTimestamp": timestamp(now), "generation": 1}
    given = raw.get("metadata") or {}
    metadata |= _users(given)
    if prefix := given.get("generateName"):
        metadata["generateName"] = prefix
    return {**_heading(raw), "metadata": metadata, **body}


def replaced(old: store.Object, raw: Mapping[str, Any]) -> store.Object:
    """``old`` with the user's half of ``raw``. Raises SpecError when a finalizer is added to a deleted object."""
    kept = {name: value for name, value in old["metadata"].items() if name not in _USERS_METADATA}
    metadata = kept | _users(raw.get("metadata") or {})
    if kept.get("deletionTimestamp"):
        added = set(metadata.get("finalizers") or ()) - set(old["metadata"].get("finalizers") or ())
        if added:
            raise store.Unprocessable(
                f"metadata.finalizers: {sorted(added)} cannot be added, the object is being deleted.",
                hint="Finalizers can only be removed now.",
            )
    body = _main(raw)
    if body != _main(old) or _meant(metadata) != _meant(old["metadata"]):
        metadata["generation"] = int(old["metadata"].get("generation", 0)) + 1
    new = {**_heading(raw), "metadata": metadata, **body}
    if "status" in old:
        new["status"] = copy.deepcopy(old["status"])
    return new


def _meant(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The annotations that say what is wanted, as a spec does: who waits for their effect counts generations, too."""
    written = metadata.get("annotations") or {}
    return {name: value for name, value in written.items() if name.startswith(_WISHES)}


def with_status(old: store.Object, raw: Mapping[str, Any]) -> store.Object:
    """``old`` with the status of ``raw`` and nothing else of it."""
    new = copy.deepcopy(old)
    new.pop("status", None)
    if raw.get("status") is not None:
        new["status"] = copy.deepcopy(raw["status"])
    return new


def marked(old: store.Object, *, now: float) -> store.Object:
    """``old`` marked as deleted; one that is marked keeps its time."""
    new = copy.deepcopy(old)
    new["metadata"].setdefault("deletionTimestamp", timestamp(now))
    new["metadata"].setdefault("deletionGracePeriodSeconds", 0)
    return new


def same(left: store.Object, right: store.Object) -> bool:
    """Whether a write from ``left`` to ``right`` would change nothing but the version."""
    return _unversioned(left) == _unversioned(right)


def asks_for_more(event: store.Event) -> bool:
    """Whether an event changed more than the status: only then may there be something to do."""
    if event.previous is None or event.change is store.Change.DELETED:
        return True
    return not same({**event.object, "status": None}, {**event.previous, "status": None})


def check_precondition(key: store.Key, stored: store.Object, given: store.Precondition) -> None:
    """Raises SpecError (Conflict) when the stored object is not the one the caller has seen."""
    metadata = stored["metadata"]
    if given.uid and given.uid != metadata["uid"]:
        raise store.conflict(key, what="uid", given=given.uid, stored=metadata["uid"])
    if given.version and given.version != metadata["resourceVersion"]:
        raise store.conflict(key, what="resourceVersion", given=given.version, stored=metadata["resourceVersion"])


def _heading(raw: Mapping[str, Any]) -> dict[str, Any]:
    return {"apiVersion": raw["apiVersion"], "kind": raw["kind"]}


def _main(raw: Mapping[str, Any]) -> dict[str, Any]:
    skipped = ("apiVersion", "kind", "metadata", "status")
    return {name: copy.deepcopy(value) for name, value in raw.items() if name not in skipped}


def _users(metadata: Mapping[str, Any]) -> dict[str, Any]:
    return {name: copy.deepcopy(metadata[name]) for name in _USERS_METADATA if metadata.get(name)}


def _unversioned(body: store.Object) -> store.Object:
    metadata = {name: value for name, value in body["metadata"].items() if name != "resourceVersion"}
    return {**body, "metadata": metadata}
