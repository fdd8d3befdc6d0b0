"""The registry of kinds: how each is called, where it lives, which class reads it, and what mlship does with it.

``load`` looks a document's kind up here, the control API builds its paths from it, ``honour`` takes its stance.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Sequence

from mlship.api import extras, graph, meta, problems, runtime, scaledobject, service

KSERVE = "serving.kserve.io"


class Stance(enum.StrEnum):
    """What mlship does with objects of a kind."""

    SERVED = "served"
    REFUSED = "refused"
    FOREIGN = "not applicable"


@dataclasses.dataclass(frozen=True, slots=True)
class Kind:
    """One kind. ``model`` is None for kinds that are only known by name; ``reason`` says why it is not served.

    ``versions``: the accepted ones, newest first. ``instead``: what to do with such a document.
    """

    kind: str
    group: str
    versions: tuple[str, ...]
    plural: str
    singular: str
    namespaced: bool = True
    short_names: tuple[str, ...] = ()
    model: type[meta.Object] | None = None
    stance: Stance = Stance.SERVED
    reason: str = ""
    instead: str = ""

    @property
    def api_versions(self) -> tuple[str, ...]:
        """``group/version``, or the bare version of the core group."""
        return tuple(f"{self.group}/{version}" if self.group else version for version in self.versions)


_CLUSTER_ONLY = "is about a Kubernetes cluster and has no meaning for the local backend"
_LEAVE_OUT = "leave it out of what you apply here; it can stay in the file you give to a cluster"
_LLM = "serving large language models is outside of what this version does"
_CACHE = "model caches on cluster nodes do not exist here; downloaded models are cached by content on their own"


def _kserve(kind: str, version: str, model: type[meta.Object], short: str = "", **more: object) -> Kind:
    base = Kind(
        kind=kind,
        group=KSERVE,
        versions=(version,),
        plural=f"{kind.lower()}s",
        singular=kind.lower(),
        short_names=(short,) if short else (),
        model=model,
    )
    return dataclasses.replace(base, **more)  # type: ignore[arg-type]


def _refused(kind: str, version: str, model: type[meta.Object], reason: str, instead: str, **more: object) -> Kind:
    return _kserve(kind, version, model, stance=Stance.REFUSED, reason=reason, instead=instead, **more)  # type: ignore[arg-type]


def _foreign(kind: str, group: str, version: str, *, namespaced: bool = True, plural: str = "") -> Kind:
    return Kind(
        kind=kind,
        group=group,
        versions=(version,),
        plural=plural or f"{kind.lower()}s",
        singular=kind.lower(),
        namespaced=namespaced,
        stance=Stance.FOREIGN,
        reason=_CLUSTER_ONLY,
        instead=_LEAVE_OUT,
    )


_LLM_KINDS = (
    _refused("LLMInferenceService", "v1alpha2", extras.RawObject, _LLM, "apply it to a cluster with KServe",
             short_names=("llmisvc",), versions=("v1alpha2", "v1alpha1")),
    _refused("LLMInferenceServiceConfig", "v1alpha2", extras.RawObject, _LLM, "apply it to a cluster with KServe",
             versions=("v1alpha2", "v1alpha1")),
)  # fmt: skip
_CACHE_KINDS = tuple(
    _refused(kind, "v1alpha1", extras.RawObject, _CACHE, "leave it out", namespaced=kind == "LocalModelNamespaceCache")
    for kind in ("LocalModelCache", "LocalModelNamespaceCache", "LocalModelNode", "LocalModelNodeGroup")
)
_FOREIGN_KINDS = (
    _foreign("Namespace", "", "v1", namespaced=False),
    _foreign("Secret", "", "v1"),
    _foreign("ConfigMap", "", "v1"),
    _foreign("ServiceAccount", "", "v1"),
    _foreign("Service", "", "v1"),
    _foreign("Pod", "", "v1"),
    _foreign("PersistentVolume", "", "v1", namespaced=False),
    _foreign("PersistentVolumeClaim", "", "v1"),
    _foreign("ResourceQuota", "", "v1"),
    _foreign("LimitRange", "", "v1"),
    _foreign("Deployment", "apps", "v1"),
    _foreign("StatefulSet", "apps", "v1"),
    _foreign("DaemonSet", "apps", "v1"),
    _foreign("Job", "batch", "v1"),
    _foreign("CronJob", "batch", "v1"),
    _foreign("Role", "rbac.authorization.k8s.io", "v1"),
    _foreign("RoleBinding", "rbac.authorization.k8s.io", "v1"),
    _foreign("ClusterRole", "rbac.authorization.k8s.io", "v1", namespaced=False),
    _foreign("ClusterRoleBinding", "rbac.authorization.k8s.io", "v1", namespaced=False),
    _foreign("Ingress", "networking.k8s.io", "v1", plural="ingresses"),
    _foreign("NetworkPolicy", "networking.k8s.io", "v1", plural="networkpolicies"),
    _foreign("HorizontalPodAutoscaler", "autoscaling", "v2"),
    _foreign("PodDisruptionBudget", "policy", "v1"),
    _foreign("CustomResourceDefinition", "apiextensions.k8s.io", "v1", namespaced=False),
    _foreign("Gateway", "gateway.networking.k8s.io", "v1"),
    _foreign("HTTPRoute", "gateway.networking.k8s.io", "v1"),
    _foreign("VirtualService", "networking.istio.io", "v1"),
    _foreign("PeerAuthentication", "security.istio.io", "v1"),
    _foreign("AuthorizationPolicy", "security.istio.io", "v1", plural="authorizationpolicies"),
    _foreign("Broker", "eventing.knative.dev", "v1"),
    _foreign("Trigger", "eventing.knative.dev", "v1"),
    _foreign("ServiceMonitor", "monitoring.coreos.com", "v1"),
    _foreign("PodMonitor", "monitoring.coreos.com", "v1"),
    _foreign("TriggerAuthentication", "keda.sh", "v1alpha1"),
    _foreign("Kustomization", "kustomize.config.k8s.io", "v1beta1"),
)

KINDS: dict[str, Kind] = {
    entry.kind: entry
    for entry in (
        _kserve("InferenceService", "v1beta1", service.InferenceService, "isvc"),
        _kserve("ServingRuntime", "v1alpha1", runtime.ServingRuntime),
        _kserve("ClusterServingRuntime", "v1alpha1", runtime.ClusterServingRuntime, namespaced=False),
        _refused("InferenceGraph", "v1alpha1", graph.InferenceGraph, "graphs of services are not run by this version",
                 "deploy its services and call them one after the other", short_names=("ig",)),
        _refused("TrainedModel", "v1alpha1", extras.TrainedModel, "multi-model services are not run by this version",
                 "write one InferenceService per model", short_names=("tm",)),
        _refused("ClusterStorageContainer", "v1alpha1", extras.ClusterStorageContainer,
                 "models are downloaded by mlship itself, not by containers",
                 "use a storageUri of a path, file://, http(s):// or pvc://", namespaced=False),
        *_LLM_KINDS,
        *_CACHE_KINDS,
        Kind("Canary", "flagger.app", ("v1beta1",), "canaries", "canary", model=extras.RawObject,
             stance=Stance.REFUSED, reason="progressive delivery is not done by this version",
             instead="apply the new version to the InferenceService: it takes over when it is ready"),
        Kind("ScaledObject", "keda.sh", ("v1alpha1",), "scaledobjects", "scaledobject", short_names=("so",),
             model=scaledobject.ScaledObject),
        *_FOREIGN_KINDS,
    )
}  # fmt: skip


def find(api_version: str, kind: str) -> Kind | None:
    """The entry of a document's apiVersion and kind, whatever the version; None when the group or kind is another."""
    entry = KINDS.get(kind)
    group = api_version.rpartition("/")[0]
    return entry if entry is not None and entry.group == group else None


def named(word: str) -> Kind | None:
    """The kind a person means: ``isvc``, ``InferenceServices`` or ``inferenceservices.serving.kserve.io``."""
    lowered = word.lower()
    for entry in KINDS.values():
        names = (entry.kind.lower(), entry.plural, entry.singular, f"{entry.plural}.{entry.group}", *entry.short_names)
        if lowered in names:
            return entry
    return None


def unknown(api_version: str, kind: str) -> Sequence[problems.Problem]:
    """Why a document's apiVersion and kind are not accepted; empty when they are."""
    entry = KINDS.get(kind)
    if entry is None:
        hint = problems.did_you_mean(kind, KINDS) or f"mlship serves {problems.one_of(served())}"
        return (problems.refuse(("kind",), f"unknown kind {problems.cap(kind, 60)}", hint),)
    if find(api_version, kind) is None or (entry.model and api_version not in entry.api_versions):
        return (
            problems.refuse(
                ("apiVersion",),
                f"{problems.cap(api_version, 60)} is not an API version of {kind}",
                f"write {problems.one_of(entry.api_versions)}",
            ),
        )
    return ()


def served() -> tuple[str, ...]:
    """The kinds that ``apply`` takes."""
    return tuple(entry.kind for entry in KINDS.values() if entry.stance is Stance.SERVED)
