"""What to do: the actions a plan asks of a backend. Each is a value that prints itself for the journal and the diff."""

from __future__ import annotations

import dataclasses
import hashlib

from mlship.api import redact
from mlship.plan import observed


@dataclasses.dataclass(frozen=True, slots=True)
class Probe:
    """How readiness is asked for: HTTP GET of ``path`` (2xx is ready) or, with no path, whether a connection opens.

    ``report``: a path whose JSON says how the program is with compiling its model, read once it is ready and again
    until that is settled; empty: it has none.
    """

    path: str = ""
    period: float = 1.0
    timeout: float = 2.0
    report: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Secret:
    """A value that never prints itself."""

    value: str = dataclasses.field(repr=False)

    def __str__(self) -> str:
        return "<redacted>"


@dataclasses.dataclass(frozen=True, slots=True)
class ProcessSpec:
    """A program to keep running.

    ``argv`` and the values of ``env`` may hold Kubernetes' ``$(NAME)`` references: to ``env`` and to what the backend
    provides: MLSHIP_HTTP_SOCKET, MLSHIP_GRPC_SOCKET (Unix socket paths), PORT (a free loopback port, when
    ``needs_port``), MLSHIP_MODEL_PATH (the fetched artifact), MLSHIP_PROOFS (a folder for
    proofs of compiled models). ``$$(NAME)`` stays literal. ``python`` as argv[0] is the
    interpreter mlship runs on.

    ``start_deadline`` seconds from start to first readiness; ``stop_grace`` seconds from SIGTERM to SIGKILL.
    """

    argv: tuple[str, ...]
    env: tuple[tuple[str, str | Secret], ...] = ()
    cwd: str = ""
    probe: Probe = Probe()
    needs_port: bool = False
    start_deadline: float = 120.0
    stop_grace: float = 30.0


@dataclasses.dataclass(frozen=True, slots=True)
class FetchArtifact:
    """Bring the bytes of ``uri`` into the cache; again if it is there (``why`` says so)."""

    uri: str
    why: str = ""

    def __str__(self) -> str:
        return f"fetch {redact.uri(self.uri)}" + (f" ({self.why})" if self.why else "")


@dataclasses.dataclass(frozen=True, slots=True)
class StartReplica:
    """Start a replica and keep it running. ``model_path`` is the fetched artifact, empty for a custom container."""

    id: observed.ReplicaId
    spec: ProcessSpec
    model_path: str = ""
    digest: str = ""
    why: str = ""

    def __str__(self) -> str:
        return f"start replica {self.id}" + (f" ({self.why})" if self.why else "")


@dataclasses.dataclass(frozen=True, slots=True)
class StopReplica:
    """End a replica that no longer gets traffic and forget it. Stopping one that is gone is no error."""

    id: observed.ReplicaId
    why: str = ""

    def __str__(self) -> str:
        return f"stop replica {self.id}" + (f" ({self.why})" if self.why else "")


@dataclasses.dataclass(frozen=True, slots=True)
class ForgetArtifact:
    """The service no longer needs its artifact's record (the bytes stay in the cache until collected)."""

    uri: str

    def __str__(self) -> str:
        return f"forget {redact.uri(self.uri)}"


@dataclasses.dataclass(frozen=True, slots=True)
class LookAtArtifact:
    """Compare the artifact's source with what was fetched now, not at the next look; what changed becomes stale.

    No plan asks for it: it is what a user means who applies an object again. Without an artifact it does nothing.
    """

    def __str__(self) -> str:
        return "look whether the model's source has changed"


@dataclasses.dataclass(frozen=True, slots=True)
class StandBy:
    """Have at hand what a start of ``spec`` needs before it is asked for, until ``StandDown``: of a service that
    sleeps, so that its first caller waits for its model alone. One of each service; a later one takes its place.
    """

    spec: ProcessSpec

    @property
    def token(self) -> str:
        """What ``observed.Observed.standby`` says when this is done: short, and of all that a start depends on."""
        names = [name for name, _ in self.spec.env]
        return hashlib.sha256(repr((self.spec.argv, names)).encode()).hexdigest()[:12]

    def __str__(self) -> str:
        return "have everything at hand for the next start"


@dataclasses.dataclass(frozen=True, slots=True)
class StandDown:
    """Nothing needs to be at hand for the service any more."""

    def __str__(self) -> str:
        return "have nothing at hand any more"


Action = FetchArtifact | LookAtArtifact | StartReplica | StopReplica | ForgetArtifact | StandBy | StandDown
