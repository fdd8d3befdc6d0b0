"""What applying an object would do, without doing it: ``mlship diff``, and what a dry run of the loop answers.

The same rules and the same planner as in the loop judge the object laid over what is stored; for a runtime, every
service that might select it is planned with and without it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from mlship import errors
from mlship.api import redact
from mlship.control import facts, objects, parts, planner, resources, seams, store
from mlship.plan import observed

_MOST_CHANGES = 200


@dataclasses.dataclass(frozen=True, slots=True)
class Difference:
    """One field that would change; ``before`` or ``after`` is None where it is absent."""

    field: str
    before: Any
    after: Any


async def preview(behind: parts.Parts, raw: store.Object) -> dict[str, Any]:
    """The consequences of applying ``raw``. Raises SpecError when it would be refused."""
    resource, key = _address(behind.catalog, raw)
    notices = behind.rules.review(await facts.around(behind.kept, behind.catalog, raw))
    try:
        old: store.Object | None = await behind.kept.get(key)
    except errors.SpecError as error:
        if error.reason is not errors.Reason.NOT_FOUND:
            raise
        old = None
    now = behind.clock()
    new = objects.replaced(old, raw) if old else objects.created(raw, key=key, uid="", now=now)
    changes = list(differences(_asked(old or {}), _asked(new)))[:_MOST_CHANGES]
    plans = [
        {"service": str(service), "summary": plan.summary, "actions": [str(one) for one in plan.actions],
         "why": list(plan.why)}
        async for service, plan in _plans(behind, resource, new)
    ]  # fmt: skip
    return {
        "kind": resource.kind,
        "name": key.name,
        "namespace": key.namespace,
        "exists": old is not None,
        "changed": bool(changes) or old is None,
        "changes": [dataclasses.asdict(one) for one in changes],
        "plans": plans,
        "notices": [dataclasses.asdict(one) for one in notices],
    }


def _address(catalog: resources.Catalog, raw: store.Object) -> tuple[resources.Resource, store.Key]:
    resource = catalog.named(raw.get("apiVersion"), raw.get("kind"))
    metadata = raw.get("metadata")
    if not isinstance(metadata, dict) or not isinstance(metadata.get("name"), str):
        raise errors.SpecError("metadata.name is missing.", hint="Only a named object can be compared.")
    if resource.namespaced:
        metadata.setdefault("namespace", "default")
    return resource, store.Key(resource.id, metadata["namespace"] if resource.namespaced else "", metadata["name"])


async def _plans(behind: parts.Parts, resource: resources.Resource, new: store.Object) -> Any:
    """The plans of the services that ``new`` concerns, where it makes a difference."""
    service = behind.catalog.kind("InferenceService")
    if resource == service:
        world = await facts.around(behind.kept, behind.catalog, new)
        yield await _decide(behind, world)
        return
    if resource.id == facts.scalers(behind.catalog):
        async for found in _with_scaler(behind, new):
            yield found
        return
    if resource.id not in facts.runtimes(behind.catalog):
        return
    page = await behind.kept.page(service.id, namespace=new["metadata"].get("namespace"))
    for body in page.items:
        world = await facts.around(behind.kept, behind.catalog, body)
        key, before = await _decide(behind, world)
        _, after = await _decide(behind, _with_runtime(world, new))
        if after.actions != before.actions:
            yield key, after


async def _with_scaler(behind: parts.Parts, new: store.Object) -> Any:
    """The plan of the service that a ScaledObject targets, if it is there."""
    target, namespace = planner.target_of(new), new["metadata"]["namespace"]
    try:
        world = await facts.world(behind.kept, behind.catalog, observed.ServiceKey(namespace, target))
    except errors.SpecError as error:
        if error.reason is not errors.Reason.NOT_FOUND:
            raise
        return
    others = (one for one in world.scaled if one["metadata"]["name"] != new["metadata"]["name"])
    yield await _decide(behind, dataclasses.replace(world, scaled=(*others, new)))


async def _decide(behind: parts.Parts, world: seams.World) -> tuple[observed.ServiceKey, seams.Decision]:
    metadata = world.service["metadata"]
    key = observed.ServiceKey(metadata["namespace"], metadata["name"])
    world = dataclasses.replace(world, past=behind.facts.past(key))
    return key, behind.planner.decide(world, await behind.facts.of(key), now=behind.clock())


def _with_runtime(world: seams.World, new: store.Object) -> seams.World:
    field = "namespaced" if new["metadata"].get("namespace") else "cluster"
    name = new["metadata"]["name"]
    others = [one for one in getattr(world, field) if one["metadata"]["name"] != name]
    return dataclasses.replace(world, **{field: (*others, new)})  # type: ignore[arg-type]


def _asked(body: store.Object) -> dict[str, Any]:
    """The user's half of an object."""
    metadata = body.get("metadata", {})
    kept = {name: metadata[name] for name in ("labels", "annotations") if metadata.get(name)}
    return {"metadata": kept, "spec": body.get("spec", {})}


def differences(before: Any, after: Any, path: tuple[str | int, ...] = ()) -> Iterator[Difference]:
    """Every field in which two JSON values differ, in the order of ``before``; secret values are not shown."""
    if before == after:
        return
    if isinstance(before, dict) and isinstance(after, dict):
        for name in [*before, *(name for name in after if name not in before)]:
            yield from differences(before.get(name), after.get(name), (*path, name))
    elif isinstance(before, list) and isinstance(after, list):
        for index in range(max(len(before), len(after))):
            left = before[index] if index < len(before) else None
            right = after[index] if index < len(after) else None
            yield from differences(left, right, (*path, index))
    else:
        yield Difference(_field(path), _shown(path, before), _shown(path, after))


def _field(path: tuple[str | int, ...]) -> str:
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")


def _shown(path: tuple[str | int, ...], value: Any) -> Any:
    if value is None:
        return None
    if isinstance(value, dict):
        return {name: _shown((*path, name), one) for name, one in value.items()}
    if isinstance(value, list):
        return [_shown((*path, index), one) for index, one in enumerate(value)]
    if redact.is_secret(path):
        return redact.HIDDEN
    return redact.uri(value) if isinstance(value, str) else value
