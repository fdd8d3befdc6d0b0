"""The tables of ``honour``: field by field, what this version refuses or only notices, and in which words.

Keys are the Python names of the fields. A refused field carries (reason, what works instead); a noticed one the
reason. A test walks the types and fails when a field is in no table and not known to be honoured.
"""

from __future__ import annotations

from mlship.api import autoscaling, service

PARTS = {
    "transformer": ("transformers are not run by this version", "do the work in the model, or in front of the service"),
    "explainer": ("explainers are not run by this version", "remove it"),
    "canary": ("canaries are not run by this version", "apply the new version: it takes over when it is ready"),
}

COMPONENT_REFUSED = {
    "canary_traffic_percent": (
        "traffic is not split by this version",
        "remove it: the new version takes all when ready",
    ),
    "logger": ("payloads are not logged by this version", "remove it; requests are in the service's own log"),
    "storage_uris": ("several artifacts are not loaded by this version", "put them into one folder and use storageUri"),
}
COMPONENT_NOTICED = {
    "deployment_strategy": "has no effect: new replicas always start before old ones stop",
}
_SCALED = frozenset({"scale_target", "scale_metric", "scale_metric_type", "auto_scaling", "container_concurrency"})
COMPONENT_HONOURED = _SCALED | {"batcher", "min_replicas", "max_replicas", "timeout", "labels", "annotations"}

_NODES = "has no effect: there is one machine"
_CLUSTER = "has no effect: it is about a cluster's pods"
_PROCESS = "has no effect: replicas are processes of your user"

POD_REFUSED = {
    "worker_spec": ("models that span nodes are not run by this version", "remove it"),
    "init_containers": ("containers that run before are not run by this version", "do the work before applying"),
    "volumes": ("volumes are not mounted on this machine", "use a path, or pvc:// for a named local folder"),
    "resource_claims": ("there are no resource claims on this machine", "remove it"),
}
POD_NOTICED = {
    "node_selector": _NODES,
    "node_name": _NODES,
    "affinity": _NODES,
    "tolerations": _NODES,
    "topology_spread_constraints": _NODES,
    "scheduler_name": _NODES,
    "scheduling_gates": _NODES,
    "priority_class_name": _NODES,
    "priority": _NODES,
    "preemption_policy": _NODES,
    "overhead": _NODES,
    "service_account_name": _CLUSTER,
    "service_account": _CLUSTER,
    "automount_service_account_token": _CLUSTER,
    "image_pull_secrets": _CLUSTER,
    "runtime_class_name": _CLUSTER,
    "readiness_gates": _CLUSTER,
    "dns_policy": _CLUSTER,
    "dns_config": _CLUSTER,
    "enable_service_links": _CLUSTER,
    "host_aliases": _CLUSTER,
    "hostname": _CLUSTER,
    "hostname_override": _CLUSTER,
    "subdomain": _CLUSTER,
    "set_hostname_as_fqdn": _CLUSTER,
    "host_ipc": _PROCESS,
    "host_network": _PROCESS,
    "host_pid": _PROCESS,
    "host_users": _PROCESS,
    "share_process_namespace": _PROCESS,
    "security_context": _PROCESS,
    "os": _PROCESS,
    "restart_policy": "has no effect: a replica that ends is always started again",
    "active_deadline_seconds": "has no effect: a service has no longest life",
    "storage_container_name": "has no effect: mlship downloads models itself",
    "name": "has no effect without canaries",
}
POD_HONOURED = frozenset({"containers", "termination_grace_period_seconds", "resources"})

BLOCK_REFUSED = {
    "storage": ("storage by a secret entry is not fetched by this version", "use storageUri"),
    "confidential": ("encrypted models are not decrypted by this version", "use a plain model"),
}
_PROBES = ("readiness_probe", "startup_probe")
BLOCK_HONOURED = frozenset(
    {"model_format", "runtime", "storage_uri", "protocol_version", "image", "runtime_version", "name", *_PROBES}
)

_NO_MOUNTS = ("volumes are not mounted on this machine", "use a path, or pvc:// for a named local folder")
CONTAINER_REFUSED = {
    "env_from": ("there are no ConfigMaps and Secrets on this machine", "write the variables as env"),
    "volume_mounts": _NO_MOUNTS,
    "volume_devices": _NO_MOUNTS,
}
NO_BATCHER = ("requests are joined by mlship's own model server only", "remove it, or batch in the program itself")
# Of a custom container they are honoured; a model is ready when an inference succeeded.
PROBES_NOTICED = dict.fromkeys(_PROBES, "has no effect: a model is ready when an inference succeeded")
CONTAINER_NOTICED = {
    "ports": "has no effect: replicas listen on a Unix socket, or on the port in $PORT",
    "liveness_probe": "has no effect: a replica that ends is started again",
    "lifecycle": "has no effect on this machine",
    "image_pull_policy": "has no effect: images are not run on this machine",
    "resize_policy": _NODES,
    "restart_policy": "has no effect: a replica that ends is always started again",
    "restart_policy_rules": "has no effect: a replica that ends is always started again",
    "security_context": _PROCESS,
    "stdin": _PROCESS,
    "stdin_once": _PROCESS,
    "termination_message_path": "has no effect: the last lines are in the log",
    "termination_message_policy": "has no effect: the last lines are in the log",
    "tty": _PROCESS,
}
CONTAINER_HONOURED = frozenset({"command", "args", "env", "resources", "working_dir", "image", "name", *_PROBES})

RESOURCES_NOTICED = {
    "cpu": "is not enforced on this machine: the limit, else the request, is the number of threads",
    "memory": "is not enforced on this machine",
    "ephemeral-storage": "is not enforced on this machine",
}

_MESH = "has no effect: it is for ModelMesh"
RUNTIME_NOTICED = {
    "node_selector": _NODES,
    "affinity": _NODES,
    "tolerations": _NODES,
    "scheduler_name": _NODES,
    "resource_claims": _NODES,
    "image_pull_secrets": _CLUSTER,
    "host_ipc": _PROCESS,
    "volumes": "has no effect: volumes are not mounted on this machine",
    "labels": _CLUSTER,
    "annotations": _CLUSTER,
    "grpc_endpoint": _MESH,
    "grpc_data_endpoint": _MESH,
    "http_data_endpoint": _MESH,
    "replicas": _MESH,
    "storage_helper": _MESH,
    "built_in_adapter": _MESH,
}
RUNTIME_HONOURED = frozenset(
    {"containers", "supported_model_formats", "protocol_versions", "disabled", "multi_model", "worker_spec"}
)

_SCRAPING = "has no effect: nothing scrapes here; each replica gives its own metrics at /metrics"
_S = "serving.kserve.io/"
HONOURED_ANNOTATIONS = autoscaling.KEYS | {f"{_S}stop", f"{_S}deploymentMode", service.ACCELERATE}
ANNOTATIONS = {
    f"{_S}enable-tag-routing": "has no effect: there is one revision at a time",
    f"{_S}disable-localmodel": "has no effect: there are no model caches on nodes",
    f"{_S}enable-metric-aggregation": _SCRAPING,
    f"{_S}enable-prometheus-scraping": _SCRAPING,
    f"{_S}nodegroup": _NODES,
    f"{_S}logger-secret-name": "has no effect: payloads are not logged by this version",
    f"{_S}logger-secret-path": "has no effect: payloads are not logged by this version",
    f"{_S}logger-secret-file": "has no effect: payloads are not logged by this version",
    f"{_S}disable-auto-update": "has no effect: a service follows its runtime",
    f"{_S}gke-accelerator": _NODES,
    f"{_S}storage-initializer-uid": _CLUSTER,
    f"{_S}gpu-resource-types": _NODES,
    f"{_S}server-type": _MESH,
    f"{_S}storageSecretName": "has no effect: there are no Secrets on this machine",
    f"{_S}enable-served-by-header": "has no effect: it is for language models",
    f"{_S}inferencepool-migrated": "has no effect: it is for language models",
    f"{_S}exp-dra-device-class": _NODES,
    f"{_S}exp-dra-cel-selector": _NODES,
    f"{_S}exp-dra-device-count": _NODES,
    f"{_S}exp-dra-container-name": _NODES,
    "storage.kserve.io/readonly": "has no effect: models are always read-only",
    "prometheus.kserve.io/port": _SCRAPING,
    "prometheus.kserve.io/path": _SCRAPING,
}
OUR_PREFIXES = (_S, autoscaling.KNATIVE, autoscaling.OWN)
KNATIVE_PREFIXES = ("serving.knative.dev/", "networking.knative.dev/", "sidecar.istio.io/")

# Of a ScaledObject, by type: what is refused, what is noticed, and what is honoured.
NO_LOGIN = ("there are no TriggerAuthentications on this machine", "use an address that needs no login")
SCALED_REFUSED = {
    "Advanced": {
        "scaling_modifiers": (
            "formulas over several triggers are not computed by this version",
            "compute it in the query of one prometheus trigger",
        )
    },
    "Trigger": {"authentication_ref": NO_LOGIN},
}
SCALED_NOTICED = {
    "ScaleTargetRef": {"env_source_container_name": "has no effect: triggers take no values from variables here"},
    "ScaledObjectSpec": {
        "initial_cooldown_period": "has no effect: a new service rests no sooner than it was ready once"
    },
    "Advanced": {
        "restore_to_original_replica_count": (
            "has no effect: without this object the service's own minReplicas and maxReplicas hold"
        )
    },
    "HpaConfig": {"name": "has no effect: there is no HorizontalPodAutoscaler on this machine"},
    "Trigger": {"use_cached_metrics": "has no effect: each value is asked for once an interval"},
}
SCALED_HONOURED = {
    "ScaleTargetRef": frozenset({"name", "kind", "api_version"}),
    "ScaledObjectSpec": frozenset(
        {
            "scale_target_ref",
            "triggers",
            "polling_interval",
            "cooldown_period",
            "idle_replica_count",
            "min_replica_count",
            "max_replica_count",
            "advanced",
            "fallback",
        }
    ),
    "Advanced": frozenset({"horizontal_pod_autoscaler_config"}),
    "HpaConfig": frozenset({"behavior"}),
    "Trigger": frozenset({"type", "metadata", "name", "metric_type"}),
    "Fallback": frozenset({"failure_threshold", "replicas", "behavior"}),
}

# For the reference page: the tables that speak of a type's fields.
_POD_TABLES = (POD_REFUSED, COMPONENT_REFUSED)
_BODY_TABLES = (BLOCK_REFUSED, CONTAINER_REFUSED)
REFUSED_IN = {
    "ServiceSpec": (PARTS,),
    "Predictor": _POD_TABLES,
    "ModelSpec": _BODY_TABLES,
    "PredictorExtension": _BODY_TABLES,
    "Container": (CONTAINER_REFUSED,),
    **{name: (table,) for name, table in SCALED_REFUSED.items()},
}
NOTICED_IN = {
    "Predictor": (POD_NOTICED, COMPONENT_NOTICED),
    "ModelSpec": (PROBES_NOTICED, CONTAINER_NOTICED),
    "PredictorExtension": (PROBES_NOTICED, CONTAINER_NOTICED),
    "Container": (CONTAINER_NOTICED,),
    "RuntimeSpec": (RUNTIME_NOTICED,),
    **{name: (table,) for name, table in SCALED_NOTICED.items()},
}
