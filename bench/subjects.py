"""Who is measured: each peer in its best documented configurations, and mlship direct and through Envoy.

A subject is one server program with one configuration. ``command`` is filled in when it is started: {python} is its
environment's interpreter, {bin} its folder of programs, {port} and so on are free ports, {folder} one of its own.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Mapping

ROOT = pathlib.Path(__file__).parent
_V2 = "/v2/models/{name}/infer"
_NET = ("--port", "{port}", "--grpc-port", "{grpc_port}", "--name", "{name}")


@dataclasses.dataclass(frozen=True, slots=True)
class Subject:
    """One configuration of one server."""

    name: str
    peer: str
    title: str
    command: tuple[str, ...]
    path: str = _V2
    dialect: str = "v2"
    binary: bool = False
    grpc: bool = False
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def home(self) -> pathlib.Path:
        """The environment that it runs in."""
        return ROOT / ".envs" / self.peer

    @property
    def is_mlship(self) -> bool:
        return self.peer == "mlship"


def _own(peer: str, program: str, *flags: str) -> tuple[str, ...]:
    return ("{python}", str(ROOT / "peers" / peer / program), *flags)


_MLSERVER = (*_NET, "--metrics-port", "{metrics_port}", "--folder", "{folder}")
_SERVE = ("{python}", "-m", "mlship.cli", "serve", "{model}", *_NET)
_BENTO = ("{bin}/bentoml", "serve", "service:Rows", "--working-dir", str(ROOT / "peers" / "bentoml"))
_BENTO_NET = ("--host", "127.0.0.1", "--port", "{port}")

SUBJECTS = (
    Subject("mlship", "mlship", "mlship", _SERVE, binary=True, grpc=True),
    Subject(
        "mlship-envoy",
        "mlship",
        "mlship through Envoy",
        _own("mlship", "through_envoy.py", "--port", "{port}", "--name", "{name}", "--folder", "{folder}"),
        binary=True,
        grpc=True,
    ),
    Subject(
        "pytriton-batch",
        "pytriton",
        "pytriton, dynamic batching",
        _own("pytriton", "server.py", *_NET, "--batch"),
        binary=True,
        grpc=True,
    ),
    Subject(
        "pytriton",
        "pytriton",
        "pytriton",
        _own("pytriton", "server.py", *_NET),
        binary=True,
        grpc=True,
    ),
    Subject(
        "fastapi-async",
        "fastapi",
        "FastAPI, async def",
        _own("fastapi", "server.py", "--port", "{port}"),
        path="/async",
        dialect="rows",
    ),
    Subject(
        "fastapi-thread",
        "fastapi",
        "FastAPI, def",
        _own("fastapi", "server.py", "--port", "{port}"),
        path="/thread",
        dialect="rows",
    ),
    Subject(
        "mlserver-batch",
        "mlserver",
        "MLServer in process, batching",
        _own("mlserver", "server.py", *_MLSERVER, "--workers", "0", "--batch"),
        grpc=True,
    ),
    Subject(
        "mlserver",
        "mlserver",
        "MLServer in process",
        _own("mlserver", "server.py", *_MLSERVER, "--workers", "0"),
        grpc=True,
    ),
    Subject(
        "mlserver-shipped",
        "mlserver",
        "MLServer as shipped",
        _own("mlserver", "server.py", *_MLSERVER, "--workers", "1"),
        grpc=True,
    ),
    Subject(
        "kserve-quiet",
        "kserve",
        "KServe Python server, access log off",
        _own("kserve", "server.py", *_NET, "--quiet"),
        binary=True,
        grpc=True,
    ),
    Subject(
        "kserve",
        "kserve",
        "KServe Python server as shipped",
        _own("kserve", "server.py", *_NET),
        binary=True,
        grpc=True,
    ),
    Subject(
        "litserve-batch",
        "litserve",
        "LitServe, batching",
        _own("litserve", "server.py", "--port", "{port}", "--batch"),
        path="/predict",
        dialect="rows",
    ),
    Subject(
        "litserve",
        "litserve",
        "LitServe",
        _own("litserve", "server.py", "--port", "{port}"),
        path="/predict",
        dialect="rows",
    ),
    Subject(
        "bentoml-batch",
        "bentoml",
        "BentoML, batching",
        (*_BENTO, *_BENTO_NET),
        path="/predict",
        dialect="rows",
        environment={"BENCH_BATCH": "1"},
    ),
    Subject("bentoml", "bentoml", "BentoML", (*_BENTO, *_BENTO_NET), path="/predict", dialect="rows"),
    Subject(
        "rayserve-batch",
        "rayserve",
        "Ray Serve, batching",
        _own("rayserve", "server.py", "--port", "{port}", "--folder", "{folder}", "--batch"),
        path="/predict",
        dialect="rows",
    ),
    Subject(
        "rayserve",
        "rayserve",
        "Ray Serve",
        _own("rayserve", "server.py", "--port", "{port}", "--folder", "{folder}"),
        path="/predict",
        dialect="rows",
    ),
)
BY_NAME = {subject.name: subject for subject in SUBJECTS}
