"""Who is measured, as a table: each peer with its variants, mlship in its forms, and the floor below everybody.

A subject is one server program with one configuration. Its command is filled in when it is started: {python} is its
environment's interpreter, {bin} its folder of programs, {port} and so on are free ports, {folder} one of its own.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Iterator, Mapping

ROOT = pathlib.Path(__file__).parent
OURS = "mlship"
FLOOR = "floor"
QUEUE = 64  # requests that may wait, for every server that has such a setting, in the overload


@dataclasses.dataclass(frozen=True, slots=True)
class Subject:
    """One configuration of one server.

    Attributes:
        compiled: it is not measured before it says that a compiled form of the model is in use.
        second: measured only when named or with ``--thorough``.
        loads: the closed loads that it takes; all when empty.
        queue: flags that bound its queue to ``QUEUE`` requests, in the overload; empty where its program reads that
            from BENCH_QUEUE, None where it has no such setting.
        rows_limit: it has to be told of larger requests than 4096 rows (BENCH_ROWS).
        env: the environment that it runs in.
        start_seconds: what starting and ending it takes, roughly, for the estimate.
    """

    name: str
    peer: str
    title: str
    command: tuple[str, ...]
    path: str = "/v2/models/{name}/infer"
    dialect: str = "v2"
    binary: bool = False
    grpc: bool = False
    shared_port: bool = False
    compiled: bool = False
    second: bool = False
    loads: tuple[str, ...] = ()
    queue: tuple[str, ...] | None = None
    rows_limit: bool = False
    env: str = ""
    start_seconds: float = 4.0
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def home(self) -> pathlib.Path:
        """The environment that it runs in."""
        return ROOT / ".envs" / (self.env or self.peer)

    @property
    def is_mlship(self) -> bool:
        return self.peer == OURS

    @property
    def is_peer(self) -> bool:
        """Whether goals and ratios are held against it."""
        return self.peer not in (OURS, FLOOR)


@dataclasses.dataclass(frozen=True, slots=True)
class Variant:
    """What one configuration has beyond its peer's: its name's and title's end, flags, other fields of ``Subject``."""

    suffix: str = ""
    title: str = ""
    flags: tuple[str, ...] = ()
    more: Mapping[str, object] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, slots=True)
class Peer:
    """One server: what all its configurations share, and the configurations."""

    name: str
    title: str
    command: tuple[str, ...]
    variants: tuple[Variant, ...]
    more: Mapping[str, object] = dataclasses.field(default_factory=dict)

    def subjects(self) -> Iterator[Subject]:
        for one in self.variants:
            fields: dict[str, object] = {**self.more, **one.more}
            name = "-".join(part for part in (self.name, one.suffix) if part)
            title = self.title + one.title
            yield Subject(name, self.name, title, (*self.command, *one.flags), **fields)  # type: ignore[arg-type]


def _own(peer: str, *flags: str) -> tuple[str, ...]:
    return ("{python}", str(ROOT / "peers" / peer / "server.py"), "--port", "{port}", *flags)


_GRPC = ("--grpc-port", "{grpc_port}", "--name", "{name}")
_IN = ("--folder", "{folder}")
_V2 = {"grpc": True}
_V2_BINARY = {"grpc": True, "binary": True}
_ROWS = {"dialect": "rows", "path": "/predict"}
_BATCH = ", batching"
_SERVE = (
    "{python}",
    "-m",
    "mlship.server.main",
    "--model-path",
    "{model}",
    "--model-name",
    "{name}",
    "--port",
    "{port}",
)
_BENTO = ("{bin}/bentoml", "serve", "service:Rows", "--working-dir", str(ROOT / "peers" / "bentoml"))

PEERS = (
    Peer(
        OURS,
        "mlship",
        (*_SERVE, "--grpc-port", "{grpc_port}", "--log-level", "warning"),
        (
            Variant("", ", compiled", ("--accelerate", "auto"), {"compiled": True}),
            Variant("original", ", original model", ("--accelerate", "off")),
        ),
        {**_V2_BINARY, "queue": ("--queue-size", str(QUEUE))},
    ),
    Peer(
        OURS,
        "mlship through Envoy",
        _own("mlship", "--name", "{name}", *_IN),
        (
            Variant("envoy", ", compiled", ("--accelerate", "auto"), {"compiled": True}),
            Variant("envoy-original", ", original model", ("--accelerate", "off"), {"second": True}),
        ),
        {**_V2_BINARY, "shared_port": True, "start_seconds": 9.0},
    ),
    Peer(
        FLOOR,
        "floor: a constant, httptools on uvloop",
        _own("floor"),
        (Variant(),),
        {"env": OURS, "loads": ("iris-1", "iris-64"), "start_seconds": 1.0},
    ),
    Peer(
        "pytriton",
        "pytriton",
        _own("pytriton", *_GRPC),
        (Variant("batch", ", dynamic batching", ("--batch",), {"queue": ()}), Variant()),
        {**_V2_BINARY, "rows_limit": True, "start_seconds": 7.0},
    ),
    Peer(
        "fastapi",
        "FastAPI",
        _own("fastapi"),
        (
            Variant("async", ", async def", (), {"path": "/async"}),
            Variant("thread", ", def", (), {"path": "/thread", "second": True}),
        ),
        {**_ROWS, "start_seconds": 3.0},
    ),
    Peer(
        "mlserver",
        "MLServer",
        _own("mlserver", *_GRPC, "--metrics-port", "{metrics_port}", *_IN),
        (
            Variant("batch", " in process, batching", ("--workers", "0", "--batch")),
            Variant("", " in process", ("--workers", "0")),
            Variant("shipped", " as shipped", ("--workers", "1"), {"second": True}),
        ),
        _V2,
    ),
    Peer(
        "kserve",
        "KServe Python server",
        _own("kserve", *_GRPC),
        (Variant("quiet", ", access log off", ("--quiet",)), Variant("", " as shipped", (), {"second": True})),
        _V2_BINARY,
    ),
    Peer("litserve", "LitServe", _own("litserve"), (Variant("batch", _BATCH, ("--batch",)), Variant()), _ROWS),
    Peer(
        "bentoml",
        "BentoML",
        (*_BENTO, "--host", "127.0.0.1", "--port", "{port}"),
        (Variant("batch", _BATCH, (), {"environment": {"BENCH_BATCH": "1"}}), Variant()),
        {**_ROWS, "queue": (), "start_seconds": 5.0},
    ),
    Peer(
        "rayserve",
        "Ray Serve",
        _own("rayserve", *_IN),
        (Variant("batch", _BATCH, ("--batch",)), Variant()),
        {**_ROWS, "queue": (), "start_seconds": 14.0},
    ),
)
SUBJECTS = tuple(subject for peer in PEERS for subject in peer.subjects())
BY_NAME = {subject.name: subject for subject in SUBJECTS}
