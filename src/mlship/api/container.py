"""Container and PodSpec, core/v1: the fields mlship acts on as types, the others checked and kept.

KServe inlines PodSpec into every component and Container into every model block, so these are base classes.
"""

from __future__ import annotations

from typing import Annotated, Any

from mlship.api import fields, shapes
from mlship.api.fields import Bool, Int, IntOrStr, Quantity, Str, StrMap, opt, req

Raw = dict[str, Any]


class EnvVar(fields.Spec):
    """One environment variable."""

    name: Str = req("Name of the variable.")
    value: Str | None = opt("Its value, always a string; quote numbers and true/false.")
    value_from: Annotated[Raw, shapes.Shape("EnvSource")] | None = opt("A value from a cluster object.")


class EnvFrom(fields.Spec):
    """Every entry of a ConfigMap or Secret as variables."""

    prefix: Str | None = opt("Put before every name.")
    config_map_ref: Annotated[Raw, shapes.Shape("EnvFromRef")] | None = opt("The ConfigMap.")
    secret_ref: Annotated[Raw, shapes.Shape("EnvFromRef")] | None = opt("The Secret.")


class Resources(fields.Spec):
    """What a replica asks for and may use at most."""

    requests: dict[Str, Quantity] | None = opt("What a replica needs: cpu, memory ...")
    limits: dict[Str, Quantity] | None = opt("What a replica may use at most.")
    claims: tuple[Annotated[Raw, shapes.Shape("ResourceClaim")], ...] | None = opt("Dynamic resource claims.")


class Port(fields.Spec):
    """A port the container listens on."""

    container_port: Int = req("Port number.")
    name: Str | None = opt("Name; h2c or grpc marks gRPC.")
    protocol: Str | None = opt("TCP (default) or UDP.")
    host_ip: Str | None = opt("Address on the node.", alias="hostIP")
    host_port: Int | None = opt("Port on the node.")


class HttpGet(fields.Spec):
    """A probe by HTTP."""

    path: Str | None = opt("Path.")
    port: IntOrStr | None = opt("Port number or name.")
    host: Str | None = opt("Host name.")
    scheme: Str | None = opt("HTTP or HTTPS.")
    http_headers: tuple[Annotated[Raw, shapes.Shape("Header")], ...] | None = opt("Headers to send.")


class TcpSocket(fields.Spec):
    """A probe by connecting."""

    port: IntOrStr | None = opt("Port number or name.")
    host: Str | None = opt("Host name.")


class Probe(fields.Spec):
    """How to see that a container is alive, ready or started."""

    http_get: HttpGet | None = opt("Ask by HTTP.")
    tcp_socket: TcpSocket | None = opt("Connect.")
    exec: Annotated[Raw, shapes.Shape("Exec")] | None = opt("Run a command.")
    grpc: Annotated[Raw, shapes.Shape("GrpcProbe")] | None = opt("Ask the gRPC health service.")
    initial_delay_seconds: Int | None = opt("Wait before the first probe.")
    period_seconds: Int | None = opt("Time between probes.")
    timeout_seconds: Int | None = opt("Time a probe may take.")
    failure_threshold: Int | None = opt("Failures in a row that count.")
    success_threshold: Int | None = opt("Successes in a row that count.")
    termination_grace_period_seconds: Int | None = opt("Grace when a failing probe ends the container.")


class VolumeMount(fields.Spec):
    """Where a volume appears in the container."""

    name: Str = req("Name of the volume.")
    mount_path: Str = req("Path in the container.")
    sub_path: Str | None = opt("Path in the volume.")
    sub_path_expr: Str | None = opt("Path in the volume, with variables.")
    read_only: Bool | None = opt("Whether it may not be written.")
    recursive_read_only: Str | None = opt("Whether that holds for mounts below it.")
    mount_propagation: Str | None = opt("How mounts propagate.")


class ContainerFields(fields.Spec):
    """The fields of a container without its name: what model blocks inline."""

    image: Str | None = opt("Container image; the local backend runs commands, not images.")
    command: tuple[Str, ...] | None = opt("The program and its first arguments.")
    args: tuple[Str, ...] | None = opt("Arguments, appended to the runtime's own.")
    env: tuple[EnvVar, ...] | None = opt("Environment variables.")
    env_from: tuple[EnvFrom, ...] | None = opt("Variables from cluster objects.")
    resources: Resources | None = opt("What a replica asks for and may use.")
    ports: tuple[Port, ...] | None = opt("Ports the program listens on.")
    working_dir: Str | None = opt("Working directory.")
    readiness_probe: Probe | None = opt("When a replica may get requests.")
    liveness_probe: Probe | None = opt("When a replica must be replaced.")
    startup_probe: Probe | None = opt("When the other probes begin.")
    volume_mounts: tuple[VolumeMount, ...] | None = opt("Mounted volumes.")
    image_pull_policy: Str | None = opt("When to pull the image.")
    lifecycle: Annotated[Raw, shapes.Shape("Lifecycle")] | None = opt("Hooks at start and stop.")
    resize_policy: tuple[Annotated[Raw, shapes.Shape("ResizePolicy")], ...] | None = opt("Resizing in place.")
    restart_policy: Str | None = opt("Restart policy of the container.")
    restart_policy_rules: tuple[Annotated[Raw, shapes.Shape("RestartRule")], ...] | None = opt("Its rules.")
    security_context: Annotated[Raw, shapes.Shape("SecurityContext")] | None = opt("Users and privileges.")
    stdin: Bool | None = opt("Keep standard input open.")
    stdin_once: Bool | None = opt("Close it after the first client.")
    termination_message_path: Str | None = opt("File of the last message.")
    termination_message_policy: Str | None = opt("Where the last message comes from.")
    tty: Bool | None = opt("Allocate a terminal.")
    volume_devices: tuple[Annotated[Raw, shapes.Shape("VolumeDevice")], ...] | None = opt("Block devices.")


class Container(ContainerFields):
    """A container; the local backend runs its command as a process."""

    name: Str = req("Name; the one that serves is called kserve-container, or is the first.")


class EphemeralContainer(Container):
    """A debugging container, as Kubernetes knows it."""

    target_container_name: Str | None = opt("The container to debug.")


class PodFields(fields.Spec):
    """The fields of a PodSpec without its containers. On one machine most have no meaning; each is said to the user."""

    init_containers: tuple[Container, ...] | None = opt("Containers that run before.")
    volumes: tuple[Annotated[Raw, shapes.Shape("Volume")], ...] | None = opt("Volumes to mount.")
    service_account_name: Str | None = opt("Service account of the pod.")
    service_account: Str | None = opt("Older name of serviceAccountName.")
    node_selector: StrMap | None = opt("Labels of the nodes that may run it.")
    node_name: Str | None = opt("The node to run on.")
    affinity: Annotated[Raw, shapes.Shape("Affinity")] | None = opt("Preferences for nodes.")
    tolerations: tuple[Annotated[Raw, shapes.Shape("Toleration")], ...] | None = opt("Tolerated taints.")
    topology_spread_constraints: tuple[Annotated[Raw, shapes.Shape("Spread")], ...] | None = opt("Spreading.")
    image_pull_secrets: tuple[Annotated[Raw, shapes.Shape("SecretRef")], ...] | None = opt("Registry secrets.")
    security_context: Annotated[Raw, shapes.Shape("PodSecurityContext")] | None = opt("Users and privileges.")
    resources: Resources | None = opt("Resources of the whole pod.")
    termination_grace_period_seconds: Int | None = opt("Seconds between asking a replica to stop and killing it.")
    priority_class_name: Str | None = opt("Priority class.")
    priority: Int | None = opt("Priority.")
    preemption_policy: Str | None = opt("Whether it may preempt others.")
    runtime_class_name: Str | None = opt("Runtime class.")
    scheduler_name: Str | None = opt("Scheduler.")
    scheduling_gates: tuple[Annotated[Raw, shapes.Shape("Named")], ...] | None = opt("Scheduling gates.")
    readiness_gates: tuple[Annotated[Raw, shapes.Shape("ReadinessGate")], ...] | None = opt("Readiness gates.")
    resource_claims: tuple[Annotated[Raw, shapes.Shape("PodClaim")], ...] | None = opt("Dynamic resource claims.")
    overhead: dict[Str, Quantity] | None = opt("Overhead of the pod.")
    active_deadline_seconds: Int | None = opt("Longest life of the pod.")
    restart_policy: Str | None = opt("Restart policy of the pod.")
    automount_service_account_token: Bool | None = opt("Whether to mount its token.")
    dns_policy: Str | None = opt("DNS policy.")
    dns_config: Annotated[Raw, shapes.Shape("DnsConfig")] | None = opt("DNS settings.")
    enable_service_links: Bool | None = opt("Variables for services.")
    host_aliases: tuple[Annotated[Raw, shapes.Shape("HostAlias")], ...] | None = opt("Entries of /etc/hosts.")
    host_ipc: Bool | None = opt("Share the node's IPC.", alias="hostIPC")
    host_network: Bool | None = opt("Share the node's network.")
    host_pid: Bool | None = opt("Share the node's processes.", alias="hostPID")
    host_users: Bool | None = opt("Share the node's users.")
    hostname: Str | None = opt("Host name.")
    hostname_override: Str | None = opt("Host name, overriding.")
    os: Annotated[Raw, shapes.Shape("SecretRef")] | None = opt("Operating system.")
    set_hostname_as_fqdn: Bool | None = opt("Use the full name.", alias="setHostnameAsFQDN")
    share_process_namespace: Bool | None = opt("Share processes between containers.")
    subdomain: Str | None = opt("Subdomain.")


class PodSpec(PodFields):
    """A pod: its containers and everything around them."""

    containers: tuple[Container, ...] | None = opt("Containers; the first, or kserve-container, serves.")
