"""The writing half of the API's verbs: create, replace, patch, delete, and the status subresource.

A body is fitted to its URL, judged by the rules, and only then given to the store, which settles who was first. What
is stored of the spec is what the user wrote. ``dryRun=All`` goes the whole way but for the last step.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from typing import Any

from starlette import requests, responses

from mlship import errors
from mlship.control import bodies, facts, parts, patches, planner, reading, replies, resources, seams, store
from mlship.plan import actions, observed, pool

# Without vowels and look-alikes, as Kubernetes generates names.
_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
_TRIES = 5
_PATCHES: dict[str, Callable[[Any, Any], Any]] = {
    "application/merge-patch+json": patches.merge,
    "application/json-patch+json": patches.apply,
}


class Writing:
    """POST, PUT, PATCH and DELETE."""

    def __init__(self, behind: parts.Parts) -> None:
        self._parts = behind

    async def create(self, request: requests.Request) -> responses.Response:
        """POST on a collection."""
        resource = reading.resource_of(self._parts.catalog, request)
        if resource.namespaced and "namespace" not in request.path_params:
            raise errors.SpecError(
                f"{resource.plural} are created in a namespace.",
                hint=f"POST to /apis/{resource.api_version}/namespaces/NAMESPACE/{resource.plural}.",
                reason=errors.Reason.METHOD_NOT_ALLOWED,
            )
        raw = await bodies.mapping(request)
        key = _fit(raw, resource, request)
        notices = await self._judge(raw)
        stored = await self._parts.kept.create(key, raw, dry_run=_dry_run(request))
        return replies.json(stored, code=201, notices=notices)

    async def replace(self, request: requests.Request) -> responses.Response:
        """PUT on an object or its status."""
        resource = reading.resource_of(self._parts.catalog, request)
        raw = await bodies.mapping(request)
        key = _fit(raw, resource, request)
        part = _part(request)
        notices = await self._judge(raw) if part is store.Part.MAIN else ()
        given = _precondition(raw["metadata"])
        stored = await self._parts.kept.replace(key, raw, part=part, given=given, dry_run=_dry_run(request))
        await self._look_again(request, resource, key)
        return replies.json(stored, notices=notices)

    async def patch(self, request: requests.Request) -> responses.Response:
        """PATCH on an object or its status."""
        resource = reading.resource_of(self._parts.catalog, request)
        change = _change(request)
        asked = await bodies.document(request)
        key = reading.key_of(resource, request)
        for _ in range(_TRIES - 1):
            try:
                return await self._patch_once(request, resource, key, change=change, asked=asked)
            except errors.SpecError as error:
                # Somebody else wrote between our reading and our writing; who named a version wants to know it.
                if error.reason is not errors.Reason.CONFLICT or isinstance(error, _Named):
                    raise
        return await self._patch_once(request, resource, key, change=change, asked=asked)

    async def _patch_once(
        self,
        request: requests.Request,
        resource: resources.Resource,
        key: store.Key,
        *,
        change: Callable[[Any, Any], Any],
        asked: Any,
    ) -> responses.Response:
        old = await self._parts.kept.get(key)
        seen = old["metadata"]
        raw = change(old, asked)
        if not isinstance(raw, dict) or not isinstance(raw.get("metadata"), dict):
            raise store.Unprocessable("the patch leaves no object with metadata")
        _fit(raw, resource, request)
        given = _precondition(raw["metadata"])
        _refuse_stale(key, given, seen)
        part = _part(request)
        notices = await self._judge(raw) if part is store.Part.MAIN else ()
        pinned = store.Precondition(version=seen["resourceVersion"], uid=seen["uid"])
        stored = await self._parts.kept.replace(key, raw, part=part, given=pinned, dry_run=_dry_run(request))
        await self._look_again(request, resource, key)
        return replies.json(stored, notices=notices)

    async def _look_again(self, request: requests.Request, resource: resources.Resource, key: store.Key) -> None:
        """Who applies a service again, unchanged or not, means the bytes that its URI has now."""
        planned = resource in facts.planned(self._parts.catalog)
        if planned and _part(request) is store.Part.MAIN and not _dry_run(request):
            service = facts.key_of(resource.kind, key.namespace, key.name)
            await self._parts.backend.apply(service, (actions.LookAtArtifact(),))

    async def _judge(self, raw: store.Object) -> Sequence[seams.Notice]:
        """Raises SpecError with every problem; else what has no effect."""
        return self._parts.rules.review(await facts.around(self._parts.kept, self._parts.catalog, raw))

    async def delete(self, request: requests.Request) -> responses.Response:
        """DELETE on an object: gone, or on its way when the loop or a finalizer still holds it."""
        resource = reading.resource_of(self._parts.catalog, request)
        options = await _options(request)
        given = options.get("preconditions") or {}
        wanted = store.Precondition(version=str(given.get("resourceVersion") or ""), uid=str(given.get("uid") or ""))
        key = reading.key_of(resource, request)
        dry = _dry_run(request) or bool(options.get("dryRun"))
        last = await self._parts.kept.delete(key, given=wanted, dry_run=dry)
        notices = await self._left_behind(resource, key)
        if resource.drained or last["metadata"].get("finalizers"):
            return replies.json(last, notices=notices)
        uid = last["metadata"]["uid"]
        return replies.json(replies.success(key.name, group=resource.group, plural=resource.plural, uid=uid))

    async def _left_behind(self, resource: resources.Resource, key: store.Key) -> Sequence[seams.Notice]:
        """The TrainedModels that lose their server, and the ScaledObjects that lose their target."""
        if resource.kind != "InferenceService":
            return ()
        service = observed.ServiceKey(key.namespace, key.name)
        kept, catalog = self._parts.kept, self._parts.catalog
        models = await facts.models_of(kept, catalog, service, staying=True)
        bodies = await facts.scalers_of(kept, catalog, service)
        scalers = [one["metadata"]["name"] for one in bodies if planner.target_of(one) == key.name]
        until = f"until there is an InferenceService {key.name}"
        found = (
            (_named("TrainedModel", [pool.trained_name(one) for one in models]), f"nothing serves its {{}} {until}"),
            (_named("ScaledObject", scalers), f"nothing is scaled by its {{}} {until}"),
        )
        return tuple(seams.Notice("metadata.name", text.format(names)) for names, text in found if names)

    async def delete_collection(self, request: requests.Request) -> responses.Response:
        """DELETE on a collection: every object that matches."""
        resource = reading.resource_of(self._parts.catalog, request)
        options = await _options(request)
        dry = _dry_run(request) or bool(options.get("dryRun"))
        page = await self._parts.kept.page(
            resource.id, namespace=request.path_params.get("namespace"), where=reading.matcher(request)
        )
        for body in page.items:
            given = store.Precondition(uid=body["metadata"]["uid"])
            await self._parts.kept.delete(store.key_of(resource.id, body), given=given, dry_run=dry)
        return replies.json(
            {
                "apiVersion": resource.api_version,
                "kind": f"{resource.kind}List",
                "metadata": {"resourceVersion": str(page.version)},
                "items": list(page.items),
            }
        )


def _named(kind: str, names: Sequence[str]) -> str:
    """``2 ScaledObjects (a, b)``; empty when there are none."""
    if not names:
        return ""
    count = kind if len(names) == 1 else f"{len(names)} {kind}s"
    return f"{count} ({', '.join(names[:5])}{', ...' if len(names) > 5 else ''})"


class _Named(errors.SpecError):
    """A conflict with a version that the caller named."""


def _refuse_stale(key: store.Key, given: store.Precondition, stored: dict[str, Any]) -> None:
    for what, wanted, found in (
        ("uid", given.uid, stored["uid"]),
        ("resourceVersion", given.version, stored["resourceVersion"]),
    ):
        if wanted and wanted != found:
            error = store.conflict(key, what=what, given=wanted, stored=found)
            raise _Named(error.message, hint=error.hint, reason=error.reason)


def _fit(raw: dict[str, Any], resource: resources.Resource, request: requests.Request) -> store.Key:
    """Fill in what the URL says and the body left out; the object's key. Raises SpecError when they differ."""
    for field, expected in (("apiVersion", resource.api_version), ("kind", resource.kind)):
        if raw.setdefault(field, expected) != expected:
            raise errors.SpecError(
                f"{field} is {str(raw[field])[:100]!r}, the URL is that of {resource.kind} ({resource.api_version})"
            )
    metadata = raw.setdefault("metadata", {})
    if not isinstance(metadata, dict):
        raise errors.SpecError(f"metadata is a {type(metadata).__name__}, an object was expected")
    if "namespace" in request.path_params:
        _agree(metadata, "namespace", request.path_params["namespace"])
    if "name" in request.path_params:
        _agree(metadata, "name", request.path_params["name"])
    elif not metadata.get("name"):
        prefix = metadata.get("generateName")
        if not isinstance(prefix, str) or not prefix:
            raise store.Unprocessable("metadata.name is missing.", hint="Give a name, or a generateName to begin with.")
        metadata["name"] = prefix + "".join(secrets.choice(_ALPHABET) for _ in range(5))
    if not isinstance(metadata["name"], str):
        raise errors.SpecError("metadata.name is no string.", hint="Put it into quotes.")
    return store.Key(resource.id, metadata["namespace"] if resource.namespaced else "", metadata["name"])


def _agree(metadata: dict[str, Any], field: str, expected: str) -> None:
    if not metadata.get(field):
        metadata[field] = expected
    if metadata[field] != expected:
        raise errors.SpecError(f"metadata.{field} is {str(metadata[field])[:100]!r}, the URL says {expected!r}")


def _precondition(metadata: dict[str, Any]) -> store.Precondition:
    return store.Precondition(version=str(metadata.get("resourceVersion") or ""), uid=str(metadata.get("uid") or ""))


def _part(request: requests.Request) -> store.Part:
    return store.Part.STATUS if request.url.path.endswith("/status") else store.Part.MAIN


def _dry_run(request: requests.Request) -> bool:
    given = request.query_params.getlist("dryRun")
    if any(value != "All" for value in given):
        raise errors.SpecError(f"dryRun={given[0][:40]!r} is not known.", hint="Write dryRun=All.")
    return bool(given)


def _change(request: requests.Request) -> Callable[[Any, Any], Any]:
    kind = bodies.media_type(request)
    found = _PATCHES.get(kind)
    if found is None:
        raise errors.SpecError(
            f"patches of type {kind!r} are not supported.",
            hint=f"Supported: {', '.join(_PATCHES)}; kubectl apply works without --server-side.",
            reason=errors.Reason.UNSUPPORTED,
        )
    return found


async def _options(request: requests.Request) -> dict[str, Any]:
    """The DeleteOptions of a request; a propagation policy is accepted, there is nothing it could change."""
    found = await bodies.document(request)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise errors.SpecError("the DeleteOptions are no object")
    return found
