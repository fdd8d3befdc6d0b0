"""InferenceGraph v1alpha1: services joined into a flow. Typed and validated; not run by this version."""

from __future__ import annotations

from typing import Annotated, Literal

from mlship.api import component, container, fields, meta, shapes
from mlship.api.fields import Bool, Int, Int32, Str, StrMap, opt, req


class Step(fields.Spec):
    """One step of a node: exactly one of nodeName, serviceName, serviceUrl."""

    name: Str | None = opt("Name, unique in its node.")
    node_name: Str | None = opt("Another node.")
    service_name: Str | None = opt("An InferenceService.")
    service_url: Str | None = opt("A URL.")
    data: Str | None = opt("$request or $response.")
    map_predictions_to_instances: Bool | None = opt("Send V1 predictions as instances.")
    weight: Int | None = opt("Splitter: share of the traffic; all add up to 100.")
    condition: Str | None = opt("Switch: a GJSON expression.")
    dependency: Literal["Soft", "Hard"] | None = opt("Hard: stop when this step fails.")


class Node(fields.Spec):
    """A node and how it routes."""

    router_type: Literal["Sequence", "Splitter", "Ensemble", "Switch"] = req("How the node routes.")
    steps: tuple[Step, ...] | None = opt("Its steps.")


class RouterTimeouts(fields.Spec):
    """Timeouts of the router, in seconds."""

    server_read: Int | None = opt("Reading a request.")
    server_write: Int | None = opt("Writing a response.")
    server_idle: Int | None = opt("Idle connections.")
    service_client: Int | None = opt("Calling a service.")


class GraphSpec(fields.Spec):
    """The nodes of a graph and how its router runs."""

    nodes: dict[Str, Node] = req("Nodes by name; root is where requests enter.")
    resources: container.Resources | None = opt("Resources of the router.")
    affinity: Annotated[container.Raw, shapes.Shape("Affinity")] | None = opt("Preferences for nodes.")
    tolerations: tuple[Annotated[container.Raw, shapes.Shape("Toleration")], ...] | None = opt("Tolerated taints.")
    node_selector: StrMap | None = opt("Labels of the nodes that may run it.")
    node_name: Str | None = opt("The node to run on.")
    service_account_name: Str | None = opt("Service account.")
    timeout: Int | None = opt("Timeout in seconds.")
    router_timeouts: RouterTimeouts | None = opt("Timeouts of the router.")
    min_replicas: Int32 | None = opt("Replicas that always run.")
    max_replicas: Int32 | None = opt("Upper bound for replicas.")
    scale_target: Int32 | None = opt("Value of scaleMetric to hold.")
    scale_metric: component.ScaleMetric | None = opt("What to scale by.")


class InferenceGraph(meta.Object):
    """Services joined into a flow (KServe, serving.kserve.io/v1alpha1)."""

    kind: Literal["InferenceGraph"] = req("InferenceGraph.")
    spec: GraphSpec = req("The nodes.")
