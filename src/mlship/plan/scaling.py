"""How a service is scaled, and what must be measured for it: what an object says, in the words of ``scale``. Pure.

The policy goes into ``scale.decide``; the sources go to the feeds, which answer with ``observed.Demand``; what the
schedules ask for follows from the time alone.
"""

from __future__ import annotations

import dataclasses
import enum

from mlship.scale import policy


class Origin(enum.Enum):
    """Where the values of a metric come from.

    GATEWAY: what Envoy counts of the service (concurrency, requests/s, latency). REPLICAS: what the model servers say
    of themselves (their queues). PROCESSES: the operating system (processor, memory). PROMETHEUS: the answer to a
    query. SCALER: a program that speaks KEDA's protocol for external scalers, which also says whether there is work.
    """

    GATEWAY = "gateway"
    REPLICAS = "replicas"
    PROCESSES = "processes"
    PROMETHEUS = "prometheus"
    SCALER = "scaler"


@dataclasses.dataclass(frozen=True, slots=True)
class Source:
    """How the metric ``metric`` of the policy is measured.

    ``address`` is for PROMETHEUS (its URL) and SCALER (host:port), ``query`` for PROMETHEUS; ``options`` are what else
    the trigger says. ``asker`` is the ScaledObject that a SCALER is asked for; ``pushes``: it is also listened to,
    and tells of work at once (KEDA's external-push). ``request`` is what a utilisation is a share of, for each replica:
    cores or bytes; 0: the values are cores or bytes themselves. ``quantile`` is for latencies. ``interval``: seconds
    between two questions.
    """

    metric: str
    origin: Origin
    address: str = ""
    query: str = ""
    options: tuple[tuple[str, str], ...] = ()
    asker: str = ""
    pushes: bool = False
    request: float = 0.0
    quantile: float = 0.99
    interval: float = 1.0


@dataclasses.dataclass(frozen=True, slots=True)
class Cron:
    """A schedule: ``replicas`` from each ``start`` to the next ``end``, both cron expressions of five fields."""

    name: str
    start: str
    end: str
    timezone: str
    replicas: int


@dataclasses.dataclass(frozen=True, slots=True)
class Scaling:
    """All about the scaling of one service.

    ``by`` names what wrote it, for sentences: minReplicas, an annotation, ScaledObject NAME. ``patience`` and
    ``places`` are those of its gate. ``paused``: this many run and nothing is decided (KEDA's paused-replicas).
    """

    policy: policy.Policy
    sources: tuple[Source, ...] = ()
    crons: tuple[Cron, ...] = ()
    by: str = ""
    patience: float = 60.0
    places: int = 1000
    paused: int | None = None
