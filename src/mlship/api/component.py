"""What predictor, transformer and explainer share: replicas, scaling, timeouts, logging, batching.

KServe's ComponentExtensionSpec (section 1.3 of its reference). Typed whole, although the local backend does not act
on all of it yet; ``honour`` says which.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pydantic

from mlship.api import fields, shapes
from mlship.api.fields import Int, Int32, Quantity, Str, StrMap, opt, req

ScaleMetric = Literal["cpu", "memory", "concurrency", "rps"]
MetricType = Literal["Utilization", "Value", "AverageValue"]


class MetricTarget(fields.Spec):
    """The value a metric is held at."""

    type: MetricType | None = opt("How the value is meant.")
    value: Quantity | None = opt("A total.")
    average_value: Quantity | None = opt("A value per replica.")
    average_utilization: Int32 | None = opt("Percent of the request, per replica.")


class ResourceMetric(fields.Spec):
    """Scale by cpu or memory."""

    name: Literal["cpu", "memory"] = req("Which resource.")
    target: MetricTarget = req("The value to hold.")


class ExternalQuery(fields.Spec):
    """A query to a metrics backend."""

    backend: Literal["prometheus", "graphite"] | None = opt("Which backend.")
    server_address: Str | None = opt("Its address.")
    query: Str | None = opt("The query.")
    namespace: Str | None = opt("Namespace of the query.")


class AuthenticationName(fields.Spec):
    """The name of a TriggerAuthentication."""

    name: Str = req("Name.")


class AuthenticationRef(fields.Spec):
    """How to authenticate with the metrics backend."""

    authentication_ref: AuthenticationName = req("The TriggerAuthentication.")
    auth_modes: Str | None = opt("Authentication modes.")


class ExternalMetric(fields.Spec):
    """Scale by the result of a query."""

    metric: ExternalQuery = req("The query.")
    target: MetricTarget = req("The value to hold.")
    authentication_ref: AuthenticationRef | None = opt("Authentication.")


class PodQuery(fields.Spec):
    """A query over metrics pushed by the replicas."""

    backend: Literal["opentelemetry"] | None = opt("Which backend.")
    server_address: Str | None = opt("Its address.")
    metric_names: tuple[Str, ...] | None = opt("Metrics used.")
    query: Str | None = opt("The query.")
    operation_over_time: Str | None = opt("last_one, avg, max, min, rate or count.")


class PodMetric(fields.Spec):
    """Scale by what the replicas report."""

    metric: PodQuery = req("The query.")
    target: MetricTarget = req("The value to hold.")


class MetricSpec(fields.Spec):
    """One metric of an autoscaler."""

    type: Literal["Resource", "External", "PodMetric"] = req("Which of the following is set.")
    resource: ResourceMetric | None = opt("Scale by cpu or memory.")
    external: ExternalMetric | None = opt("Scale by a query.")
    podmetric: PodMetric | None = opt("Scale by what the replicas report.")


class AutoScaling(fields.Spec):
    """Metrics and behaviour of the autoscaler."""

    metrics: tuple[MetricSpec, ...] | None = opt("The metrics; the largest answer wins.")
    behavior: Annotated[dict[str, Any], shapes.Shape("ScalingBehavior")] | None = opt("How fast to scale.")


class LoggerStorage(fields.Spec):
    """Where logged payloads go."""

    path: Str | None = opt("Path in the storage.")
    key: Str | None = opt("Entry of the storage secret.")
    parameters: StrMap | None = opt("Storage parameters.")
    service_account_name: Str | None = opt("Service account with access.")


class Logger(fields.Spec):
    """Log requests and responses."""

    url: Str | None = opt("Where to send them.")
    mode: Literal["all", "request", "response"] | None = opt("What to send.")
    metadata_headers: tuple[Str, ...] | None = opt("Request headers to add.")
    metadata_annotations: tuple[Str, ...] | None = opt("Annotations to add.")
    storage: LoggerStorage | None = opt("Store them instead of sending.")
    marshaller_url: Str | None = opt("Service that encodes batches.")
    batch_size: Int | None = opt("Payloads per batch.")
    batch_interval: Str | None = opt("Longest time a batch waits.")


class Batcher(fields.Spec):
    """Join requests into batches."""

    max_batch_size: Int | None = opt("Largest batch; 32 by default.")
    max_latency: Int | None = opt("Longest wait in milliseconds for others to join; none by default (KServe: 5000).")
    timeout: Int | None = opt("Timeout of a batch in seconds.")


class StorageUri(fields.Spec):
    """One of several artifacts."""

    uri: Str = req("Where it is.", min_length=1)
    mount_path: Str | None = opt("Where the server sees it.", pattern=r"^/.*", max_length=255)


class Component(fields.Spec):
    """Replicas, scaling, limits and pod metadata of one component."""

    min_replicas: Int32 | None = opt("Fewest replicas, 1 by default; 0: none while nobody asks.")
    max_replicas: Int32 | None = opt(
        "Most replicas; without it minReplicas, or 10 where a metric of Knative's is written."
    )
    scale_target: Int32 | None = opt("Value of scaleMetric to hold per replica.")
    scale_metric: ScaleMetric | None = opt("What to scale by.")
    scale_metric_type: MetricType | None = opt("How scaleTarget is meant.")
    auto_scaling: AutoScaling | None = opt("Metrics and behaviour of the autoscaler.")
    container_concurrency: Int | None = opt("Requests a replica handles at once; 0 means no limit.")
    timeout: Int | None = opt("Seconds until a request is given up; 60 by default.")
    canary_traffic_percent: Int | None = opt("Share of traffic for the newest revision.")
    logger: Logger | None = opt("Log requests and responses.")
    batcher: Batcher | None = opt("Join requests into batches.")
    labels: StrMap | None = opt("Labels of the replicas.")
    annotations: StrMap | None = opt("Annotations of the replicas.")
    deployment_strategy: Annotated[dict[str, Any], shapes.Shape("DeploymentStrategy")] | None = opt(
        "How replicas are replaced."
    )
    storage_uris: Annotated[tuple[StorageUri, ...], pydantic.Field(min_length=1)] | None = opt(
        "Several artifacts, each with its own mount path; exclusive with storageUri."
    )
