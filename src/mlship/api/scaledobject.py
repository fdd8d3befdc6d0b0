"""ScaledObject: KEDA's way to say how something is scaled, exactly as KEDA has it (keda.sh/v1alpha1).

Typed whole. Rules across fields are in ``check_scaled``; what this version cannot do with a valid one in
``honour_scaled``. It targets an InferenceService, by its own name or as the Deployment that KServe makes of it.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pydantic

from mlship.api import fields, meta, shapes
from mlship.api.fields import Bool, Int32, Str, StrMap, opt, req

PAUSED = "autoscaling.keda.sh/paused"
PAUSED_REPLICAS = "autoscaling.keda.sh/paused-replicas"
PAUSED_IN = "autoscaling.keda.sh/paused-scale-in"
PAUSED_OUT = "autoscaling.keda.sh/paused-scale-out"
# What KEDA takes where nothing is written.
POLLING_SECONDS = 30
COOLDOWN_SECONDS = 300
MIN_REPLICAS = 0
MAX_REPLICAS = 100
# The triggers that ask a program which speaks KEDA's protocol; the second one is listened to as well.
PUSHING = "external-push"
SCALERS = ("external", PUSHING)
# KServe's name for the Deployment of a service's predictor.
PREDICTOR = "-predictor"

Count = Annotated[Int32, pydantic.Field(ge=0)]
Positive = Annotated[Int32, pydantic.Field(ge=1)]


class ScaleTargetRef(fields.Spec):
    """What is scaled."""

    name: Str = req("Name of an InferenceService, or of its Deployment: NAME-predictor.", min_length=1)
    kind: Str | None = opt("InferenceService, or Deployment (default).")
    api_version: Str | None = opt("serving.kserve.io/v1beta1, or apps/v1 (default).")
    env_source_container_name: Str | None = opt("Container whose variables triggers may name.")


class HpaConfig(fields.Spec):
    """Settings of the HorizontalPodAutoscaler that KEDA makes."""

    behavior: Annotated[dict[str, Any], shapes.Shape("ScalingBehavior")] | None = opt("How fast to scale.")
    name: Str | None = opt("Name of the HorizontalPodAutoscaler.")


class ScalingModifiers(fields.Spec):
    """One metric computed from several."""

    formula: Str | None = opt("The formula.")
    target: Str | None = opt("What it is held at.")
    activation_target: Str | None = opt("Above this the service is in use.")
    metric_type: Literal["AverageValue", "Value"] | None = opt("How target is meant.")


class Advanced(fields.Spec):
    """Behaviour, and what happens when the ScaledObject goes."""

    horizontal_pod_autoscaler_config: HpaConfig | None = opt("Behaviour of the scaler.")
    restore_to_original_replica_count: Bool | None = opt(
        "Whether the number from before returns when this object goes."
    )
    scaling_modifiers: ScalingModifiers | None = opt("One metric computed from several.")


class Fallback(fields.Spec):
    """What runs while a metric cannot be read."""

    failure_threshold: Count = req("Failures in a row that are borne; it holds with the next.")
    replicas: Count = req("This many then.")
    behavior: (
        Literal["static", "currentReplicas", "currentReplicasIfHigher", "currentReplicasIfLower", "scalingModifiers"]
        | None
    ) = opt("How replicas is meant; static by default.")


class AuthenticationRef(fields.Spec):
    """How a trigger authenticates."""

    name: Str = req("Name of the TriggerAuthentication.")
    kind: Literal["TriggerAuthentication", "ClusterTriggerAuthentication"] | None = opt("Its kind.")


class Trigger(fields.Spec):
    """One reason to scale."""

    type: Str = req("prometheus, cpu, memory, cron, external or external-push.", min_length=1)
    metadata: StrMap = req("Settings of the trigger; each type has its own.")
    name: Str | None = opt("Name, unique among the triggers.")
    metric_type: Str | None = opt("How the target value is meant: AverageValue, Value or Utilization.")
    authentication_ref: AuthenticationRef | None = opt("How to authenticate.")
    use_cached_metrics: Bool | None = opt("Whether values are kept for the polling interval.")


class ScaledObjectSpec(fields.Spec):
    """What is scaled, between which bounds, and by what."""

    scale_target_ref: ScaleTargetRef = req("What is scaled.")
    triggers: Annotated[tuple[Trigger, ...], pydantic.Field(min_length=1)] = req("The reasons to scale.")
    polling_interval: Positive | None = opt("Seconds between two looks; 30 by default.")
    cooldown_period: Count | None = opt("Seconds without use until it goes to its idle count; 300 by default.")
    initial_cooldown_period: Count | None = opt("Seconds before the first cooldown may begin.")
    idle_replica_count: Count | None = opt("Replicas while nobody uses it; less than minReplicaCount.")
    min_replica_count: Count | None = opt("Fewest replicas; 0 by default.")
    max_replica_count: Positive | None = opt("Most replicas; 100 by default.")
    advanced: Advanced | None = opt("Behaviour, and what happens when this object goes.")
    fallback: Fallback | None = opt("What runs while a metric cannot be read.")


class ScaledObject(meta.Object):
    """How an InferenceService is scaled (KEDA, keda.sh/v1alpha1)."""

    kind: Literal["ScaledObject"] = req("ScaledObject.")
    spec: ScaledObjectSpec = req("What is scaled, and by what.")

    @property
    def target(self) -> str:
        """The name of the InferenceService it scales, in its own namespace; empty when it targets something else."""
        ref = self.spec.scale_target_ref
        kind, group = ref.kind or "Deployment", (ref.api_version or "").rpartition("/")[0]
        if kind == "InferenceService" and group in ("", "serving.kserve.io"):
            return ref.name
        if kind == "Deployment" and group in ("", "apps") and ref.name.endswith(PREDICTOR):
            return ref.name.removesuffix(PREDICTOR)
        return ""


def paused_replicas(found: ScaledObject) -> int | None:
    """The number that the annotation ``paused-replicas`` holds it at; None without one, or one that is no number."""
    text = found.annotations.get(PAUSED_REPLICAS, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None


def metric_type(trigger: Trigger) -> str:
    """How the target of a cpu or memory trigger is meant: its field, or the older entry of its metadata."""
    return trigger.metric_type or trigger.metadata.get("type", "")
