"""What is: the facts a backend and the gateway report about one service, the second argument of ``plan.reconcile``.

Facts carry the time they were made at as Unix seconds; a fact that is not known is None, never 0 or False.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping

from mlship.plan import scaling
from mlship.scale import readings


@dataclasses.dataclass(frozen=True, slots=True, order=True)
class ServiceKey:
    """Identity of a service: what queues, backends and the gateway call it."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclasses.dataclass(frozen=True, slots=True, order=True)
class ReplicaId:
    """Identity of a replica. ``revision`` is the short hash of what it runs, ``ordinal`` counts from 0."""

    service: ServiceKey
    revision: str
    ordinal: int

    def __str__(self) -> str:
        return f"{self.service}-{self.revision}-{self.ordinal}"


class Phase(enum.StrEnum):
    """The eight states of a supervised process (diagram in ``backends/local/process.py``)."""

    INITIAL = "initial"
    STARTING = "starting"
    RUNNING = "running"
    TERMINATING = "terminating"
    KILLING = "killing"
    STOPPED = "stopped"
    BACKOFF = "backoff"
    EXITED = "exited"


@dataclasses.dataclass(frozen=True, slots=True)
class Exit:
    """How a process ended. ``code`` and ``signal`` are None when it was not our child; ``last_line`` is its log's."""

    at: float
    code: int | None = None
    signal: int | None = None
    last_line: str = ""


@dataclasses.dataclass(frozen=True, slots=True, order=True)
class Endpoint:
    """Where a replica answers: ``unix:/path`` or ``127.0.0.1:port``; ``grpc`` is empty when it speaks no gRPC."""

    http: str
    grpc: str = ""


class Answering(enum.StrEnum):
    """Who answers in a replica: the original, while nobody asked for more, or while the proof is being made, or after
    all; or the compiled form."""

    OFF = "off"
    PROVING = "proving"
    COMPILED = "compiled"
    ORIGINAL = "original"


@dataclasses.dataclass(frozen=True, slots=True)
class Acceleration:
    """What a replica says of compiling its model.

    ``reason``: why the original answers; ``speed_ups``: how many times faster, by number of rows; ``rows``: how many
    were compared; ``difference``: the largest, relative; ``changed``: labels that differ; ``outputs``: those compiled.
    """

    state: Answering
    mode: str
    reason: str = ""
    speed_ups: tuple[tuple[int, float], ...] = ()
    rows: int = 0
    difference: float = 0.0
    changed: int = 0
    outputs: tuple[str, ...] = ()


class How(enum.StrEnum):
    """How a replica came to be: its program was executed, or a process that had imported everything was forked."""

    COLD = "cold"
    FORKED = "forked"


@dataclasses.dataclass(frozen=True, slots=True)
class Startup:
    """The newest start of a replica. ``began_at``: when its backend began it; ``ready_at``: its first good probe.

    ``phases``: what the replica itself says of it, name and seconds in their order; more of them while it starts.
    """

    how: How
    began_at: float
    phases: tuple[tuple[str, float], ...] = ()
    ready_at: float | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Replica:
    """A replica as found. ``ready``: it answered its readiness probe lately; ``message``: what the probe said if not.

    ``since`` is when the phase was entered; ``restart_at`` when a back-off ends; ``acceleration`` and ``startup`` None:
    not known.
    """

    id: ReplicaId
    phase: Phase
    since: float
    ready: bool = False
    endpoint: Endpoint | None = None
    pid: int | None = None
    restarts: int = 0
    last_exit: Exit | None = None
    restart_at: float | None = None
    message: str = ""
    acceleration: Acceleration | None = None
    startup: Startup | None = None


class ArtifactState(enum.StrEnum):
    FETCHING = "fetching"
    READY = "ready"
    FAILED = "failed"


@dataclasses.dataclass(frozen=True, slots=True)
class Artifact:
    """The model's bytes as found. ``stale``: the source has changed since they were fetched.

    A READY artifact that is being fetched again stays READY with its old digest until the new bytes are complete;
    a re-fetch that fails keeps it READY and fills ``error``. ``stale`` and ``error`` end when a fetch begins.
    ``retry_at`` with an ``error`` is the time for another try; None means that only a change is worth one: of the
    source, which makes it ``stale`` (FAILED ones too), or of the service. ``fetched_at`` is when the last fetch ended
    that brought the bytes, and ``seconds`` how long it took; None: before this control plane began.
    """

    uri: str
    state: ArtifactState
    digest: str = ""
    path: str = ""
    size: int = 0
    done: int = 0
    total: int | None = None
    stale: bool = False
    error: str = ""
    reason: str = ""
    retry_at: float | None = None
    fetched_at: float | None = None
    seconds: float = 0.0


class Held(enum.StrEnum):
    """How a process of a pool has a model: not in memory but ready to load it, loading it, in memory, or it failed."""

    STANDBY = "standby"
    LOADING = "loading"
    LOADED = "loaded"
    FAILED = "failed"


@dataclasses.dataclass(frozen=True, slots=True)
class Placement:
    """A model in one process of its pool, as that process says.

    ``digest`` is of the entry as the process has read it, ``size`` the bytes it takes in memory. ``reason``: why it
    cannot be loaded as the entry says. LOADED with a reason: what the entry said before answers on.
    """

    replica: ReplicaId
    state: Held
    reason: str = ""
    digest: str = ""
    size: int | None = None
    quarantined: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Enlisted:
    """A model's entry in a pool: ``digest`` is what the entry asks for; ``placements`` one for each process heard of.

    ``mark`` is ``actions.Entry.mark``; ``replicas`` are the pool's processes.
    """

    pool: ServiceKey
    name: str
    digest: str
    mark: str
    placements: tuple[Placement, ...] = ()
    replicas: tuple[Replica, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Gateway:
    """The gateway as found.

    ``applied``: the endpoints of this service that it may send requests to, those that it is being told of and those
    that it has not yet let go of included. ``carried``: those of them that a request is sure to be sent to by now;
    None: all.
    """

    running: bool = False
    url: str = ""
    applied: frozenset[Endpoint] = frozenset()
    carried: frozenset[Endpoint] | None = None
    message: str = ""

    @property
    def reached(self) -> frozenset[Endpoint]:
        """The endpoints that a request is sure to be sent to by now."""
        return self.applied if self.carried is None else self.carried


@dataclasses.dataclass(frozen=True, slots=True)
class Demand:
    """How much a service is used: what ``scale.readings.Readings`` needs beside replicas and schedules.

    ``metrics`` by the name a policy gives them; one that is missing is not known. ``sources`` are what they were
    measured by (None: by what was asked for): the first look at a changed object is shown what its old form asked for.
    ``waiting`` callers are held at the gate. ``busy``: whether requests came within the stable window; None: not known.
    ``gated``: whether a request to a service at zero would be held.
    """

    metrics: Mapping[str, readings.Reading] = dataclasses.field(default_factory=dict)
    waiting: int = 0
    busy: bool | None = None
    gated: bool = False
    sources: tuple[scaling.Source, ...] | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Observed:
    """All facts about one service. ``standby``: what starts are prepared for (``actions.StandBy.token``).

    Of a model in a pool, ``gateway`` is about the pool's endpoints. ``requests``: of a pool, how many each of its
    models has had, by name, since its processes began; ``entries``: how many models are enlisted in it.
    """

    replicas: tuple[Replica, ...] = ()
    artifact: Artifact | None = None
    enlisted: Enlisted | None = None
    requests: Mapping[str, int] = dataclasses.field(default_factory=dict)
    entries: int = 0
    gateway: Gateway = Gateway()
    demand: Demand = Demand()
    standby: str = ""
