"""What ``api`` knows of kinds and rules, in the form the control API needs: the catalog, and the judge of new objects.

Kinds that this version refuses are served, too: whoever applies one is told by name why not and what to do instead,
where an unknown path would only say that nothing is there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from mlship.api import honour, kinds, load, meta, problems, runtime, scaledobject
from mlship.control import planner, resources, scalers, seams

_SERVERS_METADATA = (
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "managedFields",
    "selfLink",
    "generateName",
)
_AGE = resources.Column("Age", ".metadata.creationTimestamp", type="date")
_SHARE = ".status.components.predictor.traffic[?(@.{}=='{}')].percent"

# The printer columns of KServe's CRDs, and of KEDA's as far as there is something to show.
_COLUMNS: dict[str, tuple[resources.Column, ...]] = {
    "InferenceService": (
        resources.Column("URL", ".status.url"),
        resources.Column("Ready", ".status.conditions[?(@.type=='Ready')].status"),
        resources.Column("Prev", _SHARE.format("tag", "prev"), type="integer"),
        resources.Column("Latest", _SHARE.format("latestRevision", "true"), type="integer"),
        resources.Column("PrevRolledoutRevision", ".status.components.predictor.previousRolledoutRevision"),
        resources.Column("LatestReadyRevision", ".status.components.predictor.latestReadyRevision"),
        _AGE,
    ),
    "ServingRuntime": (
        resources.Column("Disabled", ".spec.disabled", type="boolean"),
        resources.Column("ModelType", ".spec.supportedModelFormats[*].name"),
        resources.Column("Containers", ".spec.containers[*].name"),
        _AGE,
    ),
}
_COLUMNS["ScaledObject"] = (
    resources.Column("ScaleTargetKind", ".status.scaleTargetKind"),
    resources.Column("ScaleTargetName", ".spec.scaleTargetRef.name"),
    resources.Column("Min", ".spec.minReplicaCount", type="integer"),
    resources.Column("Max", ".spec.maxReplicaCount", type="integer"),
    resources.Column("Ready", ".status.conditions[?(@.type=='Ready')].status"),
    resources.Column("Paused", ".status.conditions[?(@.type=='Paused')].status"),
    resources.Column("Triggers", ".status.triggersTypes"),
    _AGE,
)
_COLUMNS["TrainedModel"] = (*_COLUMNS["InferenceService"][:2], _AGE)
_COLUMNS["ClusterServingRuntime"] = _COLUMNS["ServingRuntime"]
# Where an object says which other it is about: what is stored is found by it.
_TARGETS = {"ScaledObject": ("spec", "scaleTargetRef", "name"), "TrainedModel": ("spec", "inferenceService")}


def catalog() -> resources.Catalog:
    """Every kind that has a class, in each of its versions."""
    return resources.Catalog(
        resources.Resource(
            group=entry.group,
            version=version,
            kind=entry.kind,
            plural=entry.plural,
            singular=entry.singular,
            short_names=entry.short_names,
            namespaced=entry.namespaced,
            columns=_COLUMNS.get(entry.kind, (_AGE,)),
            drained=entry.kind in ("InferenceService", "TrainedModel"),
            target=_TARGETS.get(entry.kind, ()),
            served=entry.stance is kinds.Stance.SERVED,
        )
        for entry in kinds.KINDS.values()
        if entry.model is not None and entry.stance is not kinds.Stance.FOREIGN
        for version in entry.versions
    )


class Judge:
    """``seams.Rules`` over ``api.load`` and ``api.honour``, and what is installed here.

    Args:
        asks_scalers: whether programs that speak KEDA's protocol can be asked.
    """

    def __init__(self, asks_scalers: Callable[[], bool] = scalers.installed) -> None:
        self._asks_scalers = asks_scalers

    def review(self, world: seams.World) -> Sequence[seams.Notice]:
        """See ``seams.Rules``. What the server itself writes into metadata and status is not judged."""
        raw = world.service
        given = {name: value for name, value in raw["metadata"].items() if name not in _SERVERS_METADATA}
        plain = {name: value for name, value in raw.items() if name != "status"}
        parsed = load.parse({**plain, "metadata": given})
        judged = honour.judge(
            parsed,
            namespaced=planner.understood(world.namespaced, runtime.ServingRuntime),
            cluster=(*planner.understood(world.cluster, runtime.ClusterServingRuntime), *runtime.builtin()),
        )
        found = (*judged, *self._not_installed(parsed))
        refused = [one for one in found if one.severity is problems.Severity.REFUSE]
        if refused:
            raise problems.InvalidObject(refused)
        return tuple(
            seams.Notice(one.field, "; ".join(part for part in (one.reason, one.hint) if part)) for one in found
        )

    def _not_installed(self, found: meta.Object) -> Iterator[problems.Problem]:
        if not isinstance(found, scaledobject.ScaledObject) or self._asks_scalers():
            return
        for index, trigger in enumerate(found.spec.triggers):
            if trigger.type in scaledobject.SCALERS:
                yield problems.refuse(("spec", "triggers", index, "type"), *scalers.MISSING)
