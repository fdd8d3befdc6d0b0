"""The flags of the model server as one frozen object. ``main`` parses them once; everything else is handed them."""

from __future__ import annotations

import argparse
import dataclasses
import functools
import pathlib
from collections.abc import Callable, Mapping, Sequence

from mlship import cores, errors
from mlship.server import folder, loading, logs, warmup
from mlship.server.accelerate import verdict

_MEBIBYTE = 1024 * 1024
_MOST_WORKERS = 8
MAX_PROCESSES = 256


@dataclasses.dataclass(frozen=True, slots=True)
class Settings:
    """What to serve (a model, or a folder of models), where, and within which limits.

    ``http_socket`` wins over ``host`` and ``port``; port 0 takes a free one, ``grpc_port`` None means no gRPC,
    ``proof_cache`` None that a compiled form is proven anew at each start; ``ready_fd`` is this server's end of the
    line on which it tells its supervisor how its start goes. Pools of threads are sized to ``cpus``, and so is
    ``threads`` where ``workers`` is None.
    """

    model_path: pathlib.Path | None = None
    model_name: str = "model"
    model_version: str = "1"
    model_format: str = ""
    model_options: Mapping[str, str] = dataclasses.field(default_factory=dict)
    model_repository: pathlib.Path | None = None
    accelerate: verdict.Mode = verdict.Mode.AUTO
    proof_cache: pathlib.Path | None = None
    http_socket: pathlib.Path | None = None
    host: str = "127.0.0.1"
    port: int = 8080
    grpc_socket: pathlib.Path | None = None
    grpc_port: int | None = None
    ready_fd: int | None = None
    warmup_given: str = ""
    warmup_requests: pathlib.Path | None = None
    warmup_seconds: float = 10.0
    warmup_count: int = 3
    max_body_bytes: int = 256 * _MEBIBYTE
    request_timeout: float = 60.0
    cpus: int = dataclasses.field(default_factory=cores.available)
    workers: int | None = None
    worker_processes: int | None = None
    queue_size: int = 1000
    max_concurrency: int = 0
    max_batch_size: int = 128
    batch_latency_ms: float = 0.0
    drain_seconds: float = 30.0
    log_format: str = "json"
    log_level: str = "info"

    def check(self) -> None:
        """Raise SpecError for what no flag's type can say."""
        if (self.model_path is None) == (self.model_repository is None):
            raise errors.SpecError("give either --model-path with --model-name, or --model-repository.")
        if self.warmup_given and self.model_repository is not None:
            raise errors.SpecError(
                "--warmup is for one model.", hint=f"Put a {warmup.NAME} into the folder of each model."
            )
        folder.check_name(self.model_name)
        folder.check_version(self.model_version)

    @property
    def threads(self) -> int:
        """Threads that run models: one for each processor, but 2 at least, so that a slow request stalls nobody."""
        return self.workers or max(2, min(_MOST_WORKERS, self.cpus))

    @property
    def source(self) -> loading.Source | None:
        """The one model, when there is one."""
        if self.model_path is None:
            return None
        return loading.Source(
            name=self.model_name,
            version=self.model_version,
            path=self.model_path,
            format=self.model_format,
            options=self.model_options,
            accelerate=self.accelerate,
            proofs=self.proof_cache,
            processes=self.worker_processes,
            warmup=self.wish,
        )

    @property
    def wish(self) -> warmup.Wish:
        """What models answer before they are ready."""
        return warmup.Wish(self.warmup_given, self.warmup_requests, seconds=self.warmup_seconds, most=self.warmup_count)


def parse(arguments: Sequence[str]) -> Settings:
    """Settings from flags. Raises SpecError for wrong ones; ``--help`` prints and raises SystemExit(0)."""
    values = vars(_parser().parse_args(arguments))
    values["model_options"] = dict(values.pop("model_option") or [])
    settings = Settings(**{key: value for key, value in values.items() if value is not None})
    settings.check()
    return settings


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:  # type: ignore[override]
        raise errors.SpecError(f"{message}.", hint="--help lists the flags.")


@functools.cache
def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m mlship.server.main", description="Serve one model, or a folder of models.", allow_abbrev=False
    )
    what = parser.add_argument_group("what")
    what.add_argument("--model-path", type=pathlib.Path, help="file or folder of the model")
    what.add_argument("--model-name", help="its name in URLs (model)")
    what.add_argument("--model-version", help="its version, a positive number (1)")
    what.add_argument("--model-format", help="its format; found by looking when not given")
    what.add_argument("--model-option", type=_pair, action="append", metavar="K=V", help="handed to the adapter")
    what.add_argument("--model-repository", type=pathlib.Path, help="folder of NAME/artifact or NAME/VERSION/artifact")
    what.add_argument(
        "--accelerate",
        type=mode,
        metavar="auto|exact|off",
        help="compile the model where the compiled form is proven to answer alike: within 1e-6, or to the bit (auto)",
    )
    what.add_argument(
        "--proof-cache",
        type=pathlib.Path,
        metavar="DIR",
        help="where proofs of that are kept from one start to the next",
    )
    where = parser.add_argument_group("where")
    where.add_argument("--http-socket", type=pathlib.Path, help="Unix socket for REST, instead of host and port")
    where.add_argument("--host", help="address for REST and gRPC (127.0.0.1)")
    where.add_argument("--port", type=_whole(0, 65535), help="port for REST, 0 for a free one (8080)")
    where.add_argument("--grpc-socket", type=pathlib.Path, help="Unix socket for gRPC")
    where.add_argument("--grpc-port", type=_whole(0, 65535), help="port for gRPC, 0 for a free one; none by default")
    where.add_argument("--ready-fd", type=_whole(3, 2**20), help=argparse.SUPPRESS)
    first = parser.add_argument_group("before it is ready")
    first.add_argument(
        "--warmup",
        dest="warmup_given",
        metavar="FILE|JSON",
        help="V2 requests that the model must answer before it is ready (warmup.json in its folder, else an example)",
    )
    first.add_argument(
        "--warmup-requests",
        type=pathlib.Path,
        metavar="FILE",
        help="a V2 request on each line, as logged, to answer first",
    )
    first.add_argument("--warmup-seconds", type=_seconds, help="after which no more of them is begun (10)")
    first.add_argument("--warmup-count", type=_whole(1, 1000), help="how many at most (3)")
    limits = parser.add_argument_group("limits")
    limits.add_argument("--max-body-bytes", type=_whole(1, 2**31 - 1), help="largest request, REST and gRPC (256 MiB)")
    limits.add_argument("--request-timeout", type=_seconds, help="seconds a request may take (60)")
    limits.add_argument(
        "--cpus", type=_whole(1, 1024), help="processors that libraries' thread pools are sized to (those there are)"
    )
    limits.add_argument("--workers", type=_whole(1, 1024), help="threads that run models (--cpus, 2 to 8)")
    limits.add_argument(
        "--worker-processes",
        type=_whole(0, MAX_PROCESSES),
        help="processes that run each model instead of threads, 0: none (as the model's own code says, else none)",
    )
    limits.add_argument("--queue-size", type=_whole(0, 10**6), help="requests that may wait for a worker (1000)")
    limits.add_argument(
        "--max-concurrency",
        type=_whole(0, 10**6),
        help="requests of a model that run at the same time, joined or not, 0: no limit; the others wait (0)",
    )
    limits.add_argument(
        "--max-batch-size", type=_whole(0, 10**6), help="rows up to which waiting requests are joined; 1: never (128)"
    )
    limits.add_argument(
        "--batch-latency-ms", type=_milliseconds, help="milliseconds to wait for a fuller batch with a free worker (0)"
    )
    limits.add_argument("--drain-seconds", type=_seconds, help="time for requests under way at shutdown (30)")
    logging = parser.add_argument_group("logs")
    logging.add_argument("--log-format", choices=sorted(logs.FORMATS), help="one JSON object or one text line an event")
    logging.add_argument("--log-level", choices=("debug", "info", "warning", "error"))
    return parser


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise argparse.ArgumentTypeError(f"expected K=V, got {text!r}")
    return key, value


def mode(text: str) -> verdict.Mode:
    """``text`` as a mode. Raises SpecError."""
    try:
        return verdict.Mode(text)
    except ValueError:
        said = f"--accelerate expected {', '.join(verdict.Mode)}, got {text[:60]!r}."
        raise errors.SpecError(said) from None


def _whole(low: int, high: int) -> Callable[[str], int]:
    def parse_whole(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"expected a whole number, got {text!r}") from None
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"expected {low} to {high}, got {value}")
        return value

    return parse_whole


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < 10**7:
        raise argparse.ArgumentTypeError(f"expected a positive number of seconds, got {text!r}")
    return value


def _milliseconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 10**7:
        raise argparse.ArgumentTypeError(f"expected a positive number, or 0, of milliseconds, got {text!r}")
    return value
