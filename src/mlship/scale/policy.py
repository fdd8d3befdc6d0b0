"""What the user wants of the scaler: bounds, metrics, and how fast. Facts, checked when they are made. Pure.

One policy speaks for three vocabularies. Knative's: stable and panic windows, target utilisation, rates, delays.
Kubernetes' HorizontalPodAutoscaler's: tolerance, stabilisation windows, rates for each period. KEDA's ScaledObject's:
activation, cooldown, idle count, fallback. Where the defaults come from stands with each, and why in
docs/decisions/0020-autoscaling.md. Times are in seconds.
"""

from __future__ import annotations

import dataclasses
import enum


class Kind(enum.Enum):
    """What is measured."""

    CONCURRENCY = "concurrency"
    RPS = "rps"
    QUEUE = "queue"
    CPU = "cpu"
    MEMORY = "memory"
    LATENCY = "latency"
    EXTERNAL = "external"


class Form(enum.Enum):
    """How a measured value becomes a number of replicas.

    LOAD: a sum over the service, so much for each replica (Knative). AVERAGE: the same with a tolerance around what
    runs (``averageValue`` of Kubernetes). VALUE: a value that falls as replicas are added, to be held where the target
    is: a utilisation, a latency (``averageUtilization`` and ``value`` of Kubernetes).
    """

    LOAD = "load"
    AVERAGE = "average"
    VALUE = "value"


@dataclasses.dataclass(frozen=True, slots=True)
class Traits:
    """What a kind of metric brings along, where its user says nothing."""

    form: Form
    utilization: float = 1.0
    activates: bool = False


# 0.7: target-utilization-percentage of Knative. Only what counts requests or jobs can tell that nobody asks: a
# processor is never quite idle (KEDA's rule for its cpu and memory triggers).
TRAITS = {
    Kind.CONCURRENCY: Traits(Form.LOAD, utilization=0.7, activates=True),
    Kind.RPS: Traits(Form.LOAD, utilization=0.7, activates=True),
    Kind.QUEUE: Traits(Form.LOAD, activates=True),
    Kind.CPU: Traits(Form.VALUE),
    Kind.MEMORY: Traits(Form.VALUE),
    Kind.LATENCY: Traits(Form.VALUE),
    Kind.EXTERNAL: Traits(Form.AVERAGE, activates=True),
}
# --horizontal-pod-autoscaler-tolerance
TOLERANCE = 0.1


@dataclasses.dataclass(frozen=True, slots=True)
class Metric:
    """One metric. ``name`` is its key in the readings and its name in sentences.

    ``target`` is in the unit of what is measured: requests, requests for each second, shares (0.8 is 80 %), bytes,
    seconds. ``utilization`` is the share of the target to aim at. ``tolerance`` is how far off the aim nothing
    happens; for LOAD only when shrinking. ``activation``: above this value the service is in use.
    """

    name: str
    kind: Kind
    target: float
    form: Form | None = None
    utilization: float | None = None
    tolerance: float = TOLERANCE
    activation: float = 0.0

    def __post_init__(self) -> None:
        share = 1.0 if self.utilization is None else self.utilization
        if not 0 < self.target < float("inf") or not 0 < share <= 1 or not 0 <= self.tolerance < 1:
            raise ValueError(f"a metric needs target > 0, 0 < utilization <= 1 and 0 <= tolerance < 1, got {self}")

    @property
    def aim(self) -> float:
        """What one replica shall have on average."""
        return self.target * (TRAITS[self.kind].utilization if self.utilization is None else self.utilization)

    @property
    def shape(self) -> Form:
        """The form that holds: its own, or that of its kind."""
        return self.form or TRAITS[self.kind].form

    @property
    def activates(self) -> bool:
        """Whether it can tell that the service is in use, and that it is not."""
        return TRAITS[self.kind].activates


class Unit(enum.Enum):
    """What a rate counts."""

    PODS = "Pods"
    PERCENT = "Percent"


class Select(enum.Enum):
    """Which of several rates holds: the one that changes most, least, or none at all."""

    MAX = "Max"
    MIN = "Min"
    DISABLED = "Disabled"


@dataclasses.dataclass(frozen=True, slots=True)
class Rate:
    """At most ``value`` replicas, or percent of those there were, in any ``period``."""

    unit: Unit
    value: int
    period: float

    def __post_init__(self) -> None:
        if self.value < 1 or not 0 < self.period <= 1800:
            raise ValueError(f"a rate needs value >= 1 and 0 < period <= 1800, got {self}")


@dataclasses.dataclass(frozen=True, slots=True)
class Rules:
    """One direction of ``behavior``. Without rates it is not limited. ``window``: stabilizationWindowSeconds."""

    window: float = 0.0
    rates: tuple[Rate, ...] = ()
    select: Select = Select.MAX

    def __post_init__(self) -> None:
        if not 0 <= self.window <= 3600:
            raise ValueError(f"a stabilisation window is 0 to 3600 seconds, got {self.window}")


@dataclasses.dataclass(frozen=True, slots=True)
class Behavior:
    """``behavior`` of autoscaling/v2."""

    up: Rules = Rules()
    down: Rules = Rules()

    @property
    def longest(self) -> float:
        """The longest period of all rates; 0 without any."""
        return max((rate.period for rate in (*self.up.rates, *self.down.rates)), default=0.0)


# What a HorizontalPodAutoscaler does when its behavior is not written.
KUBERNETES = Behavior(
    up=Rules(rates=(Rate(Unit.PERCENT, 100, 15), Rate(Unit.PODS, 4, 15))),
    down=Rules(window=300, rates=(Rate(Unit.PERCENT, 100, 15),)),
)


@dataclasses.dataclass(frozen=True, slots=True)
class Fallback:
    """At least ``replicas`` once a metric could not be read ``failures`` times in a row (KEDA's fallback)."""

    failures: int
    replicas: int

    def __post_init__(self) -> None:
        if self.failures < 1 or self.replicas < 0:
            raise ValueError(f"a fallback needs failures >= 1 and replicas >= 0, got {self}")


@dataclasses.dataclass(frozen=True, slots=True)
class Policy:
    """How a service is scaled.

    ``idle_replicas``: how many are left when nobody uses it, less than ``min_replicas``; without it, min_replicas.
    ``initial``: what a new service starts with. ``activation``: what one that rested wakes up with, once.
    ``progress``: how long those may take to get ready before they are no longer insisted on.
    ``stable``, ``panic_share``, ``panic_threshold``: the windows, and from which multiple of what the ready replicas
    can do a load is an emergency. ``up_rate``, ``down_rate``: the largest factor of one decision. ``delay``: how long
    fewer replicas must have been enough. ``cooldown``: how long nobody must have used it before it rests; for what is
    averaged over a window, after the window (Knative's pod retention, KEDA's cooldownPeriod). ``interval``: between
    two looks (Knative's tick, KEDA's pollingInterval).
    """

    min_replicas: int = 1
    max_replicas: int = 1
    metrics: tuple[Metric, ...] = ()
    idle_replicas: int | None = None
    initial: int = 1
    activation: int = 1
    progress: float = 600.0
    stable: float = 60.0
    panic_share: float = 0.1
    panic_threshold: float = 2.0
    up_rate: float = 1000.0
    down_rate: float = 2.0
    delay: float = 0.0
    cooldown: float = 0.0
    interval: float = 1.0
    behavior: Behavior = Behavior()
    fallback: Fallback | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.min_replicas <= self.max_replicas or self.max_replicas < 1:
            raise ValueError(f"0 <= min <= max >= 1 is needed, got {self.min_replicas} and {self.max_replicas}")
        if self.idle_replicas is not None and not 0 <= self.idle_replicas < max(1, self.min_replicas):
            raise ValueError(f"idle_replicas {self.idle_replicas} is not below min_replicas {self.min_replicas}")
        if self.initial < 0 or self.activation < 1:
            raise ValueError(f"initial >= 0 and activation >= 1 are needed, got {self.initial} and {self.activation}")
        factors = (self.up_rate, self.down_rate, self.panic_threshold)
        if not all(1 < factor < float("inf") for factor in factors) or not 0 < self.panic_share <= 1:
            raise ValueError("rates and the panic threshold are more than 1, and panic_share is in 0 to 1")
        if min(self.delay, self.cooldown, self.progress) < 0 or min(self.stable, self.interval) <= 0:
            raise ValueError("times are not negative, and the stable window and the interval are more than 0")

    @property
    def rest(self) -> int:
        """Replicas when nobody uses the service."""
        return self.min_replicas if self.idle_replicas is None else self.idle_replicas

    @property
    def floor(self) -> int:
        """The fewest replicas while somebody uses it."""
        return max(1, self.min_replicas)

    @property
    def panic(self) -> float:
        """The panic window: the newest part of the stable one."""
        return self.stable * self.panic_share

    @property
    def down_window(self) -> float:
        """How long fewer replicas must have been enough, by both vocabularies."""
        return max(self.delay, self.behavior.down.window)
