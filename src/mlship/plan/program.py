"""From a service and the runtime that was selected for it to the program a replica runs. Pure.

mlship's own runtimes become the model server's command line; runtimes that a user applied and custom containers are
run as they are written, with KServe's ``/mnt/models`` standing for the fetched artifact. First half of what a revision
is; ``revision`` adds the artifact and hashes both, so whatever is put into the ``ProcessSpec`` here replaces replicas
when it changes. Hence the request timeout goes in as coarse steps only: the gateway keeps the exact one, and a change
of it restarts nothing unless it makes a step.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from mlship import errors
from mlship.api import container, quantity, redact
from mlship.api import runtime as runtimes
from mlship.api import service as services
from mlship.plan import actions

HTTP_SOCKET = "$(MLSHIP_HTTP_SOCKET)"
GRPC_SOCKET = "$(MLSHIP_GRPC_SOCKET)"
MODEL_PATH = "$(MLSHIP_MODEL_PATH)"
PROOFS = "$(MLSHIP_PROOFS)"
# Read by OpenMP, OpenBLAS and MKL when they load: what keeps NumPy, scikit-learn and the boosters within their share.
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

_BACKSTOPS = (600, 3600, 86400)
_NO_LIMIT = 10**7
# KServe's, for a batcher that does not say.
_BATCH_SIZE = 32
# A replica that ends has the time of its slowest request, unless somebody says otherwise: 60 s is the default timeout.
_DRAINS = (60, *_BACKSTOPS)
# Seconds of a grace: for the drain beyond a request's own time, and for what is still to do when the drain is over.
_GRACE_MARGIN = 5.0
_DRAIN_MARGIN = 2.0
_DEFAULT_START_DEADLINE = 120.0


def spec_of(effective: services.Effective, runtime: runtimes.Runtime | None) -> actions.ProcessSpec:
    """The program of one replica.

    Args:
        effective: the service.
        runtime: what ``api.select`` chose; None for a custom container.

    Raises:
        SpecError: the program cannot be started on this machine (an image without a command, a bad template).
    """
    if runtime is not None and runtimes.is_builtin(runtime) and not effective.command:
        return _model_server(effective)
    serving = effective.container if runtime is None else runtime.spec.serving()
    return _foreign(effective, runtime, serving)


def backstop(timeout: float) -> int:
    """The model server's own limit for a request that the gateway limits to ``timeout`` seconds."""
    return next((rung for rung in _BACKSTOPS if timeout <= rung), math.ceil(timeout))


def grace(timeout: float) -> float:
    """Seconds from SIGTERM to SIGKILL for a server whose requests may take ``timeout`` seconds, when nobody says."""
    return next((rung for rung in _DRAINS if timeout <= rung), math.ceil(timeout)) + _GRACE_MARGIN


def drain(grace: float) -> float:
    """Seconds that requests under way have of a ``grace``: less, or the supervisor's SIGKILL cuts off the answers."""
    return max(grace - _DRAIN_MARGIN, 1.0)


def _model_server(effective: services.Effective) -> actions.ProcessSpec:
    argv = (
        *runtimes.COMMAND,
        *("--model-path", MODEL_PATH),
        *("--model-name", effective.name),
        *("--model-format", effective.model_format),
        *("--http-socket", HTTP_SOCKET),
        *("--grpc-socket", GRPC_SOCKET),
        *("--request-timeout", str(_request_timeout(effective))),
        *_batching(effective),
        *(("--max-concurrency", str(limit)) if (limit := effective.container_concurrency) else ()),
        *("--drain-seconds", f"{drain(_grace(effective)):g}"),
        *(("--workers", str(given)) if (given := cores(effective.resources)) else ()),
        *_accelerate(effective.annotations),
        *_warmup(effective.annotations),
        *("--proof-cache", PROOFS),
        *("--log-format", "json"),
        *effective.args,
    )
    return actions.ProcessSpec(
        argv=argv,
        env=_variables(effective.env, _threads(effective.resources)),
        cwd=effective.working_dir,
        probe=actions.Probe(
            path=f"/v2/models/{effective.name}/ready", report=f"/v2/models/{effective.name}/acceleration"
        ),
        start_deadline=_DEFAULT_START_DEADLINE,
        stop_grace=_grace(effective),
    )


def _request_timeout(effective: services.Effective) -> int:
    own = effective.batcher.timeout if effective.batcher else None
    return min(backstop(effective.timeout), own or _NO_LIMIT)


def _batching(effective: services.Effective) -> tuple[str, ...]:
    """KServe's batcher as flags. Its longest wait is kept when it is written; a wait that nobody wrote is none."""
    if effective.batcher is None:
        return ()
    size, wait = effective.batcher.max_batch_size, effective.batcher.max_latency
    return (
        *("--max-batch-size", str(_BATCH_SIZE if size is None else size)),
        *(("--batch-latency-ms", str(wait)) if wait is not None else ()),
    )


def _accelerate(annotations: Mapping[str, str]) -> tuple[str, ...]:
    """The flag only where something was said; the model server's own default is ``auto``."""
    value = annotations.get(services.ACCELERATE, "")
    return ("--accelerate", value) if value else ()


def _warmup(annotations: Mapping[str, str]) -> tuple[str, ...]:
    """What is said there is data, in which nothing is put in place of ``$(NAME)``."""
    value = annotations.get(services.WARMUP, "")
    return ("--warmup", value.replace("$(", "$$(")) if value else ()


def _foreign(
    effective: services.Effective, runtime: runtimes.Runtime | None, serving: container.Container | None
) -> actions.ProcessSpec:
    base = serving or container.ContainerFields()
    command = effective.command or base.command or ()
    if not command:
        raise errors.SpecError(
            f"{_whose(effective, runtime)} has no command, and this machine runs commands, not images.",
            hint="Give the container a command that starts the server, such as [python, -m, my_server].",
        )
    args = effective.args if runtime is None else (*_rendered(effective, runtime, base), *effective.args)
    values = {**_literals(base.env), **effective.env}
    argv = tuple(_mounted(text) for text in (*command, *args))
    env = {name: _mounted(value) for name, value in values.items()}
    sockets = any(HTTP_SOCKET in text for text in (*argv, *env.values()))
    if not sockets:
        env.pop("PORT", None)
    named = {"INFERENCE_SERVICE_NAME": effective.name} if "INFERENCE_SERVICE_NAME" not in env else {}
    return actions.ProcessSpec(
        argv=argv,
        env=_variables({**named, **env}, _threads(effective.resources)),
        cwd=effective.working_dir or base.working_dir or "",
        probe=_probe(base.readiness_probe),
        needs_port=not sockets,
        start_deadline=_start_deadline(base.startup_probe),
        stop_grace=_grace(effective),
    )


def _whose(effective: services.Effective, runtime: runtimes.Runtime | None) -> str:
    if runtime is not None:
        return f"The runtime {runtime.name}"
    return f"The container of {effective.namespace}/{effective.name}"


def _rendered(
    effective: services.Effective, runtime: runtimes.Runtime, base: container.ContainerFields
) -> tuple[str, ...]:
    # KServe adds this annotation before it renders, so runtimes written for it count on it.
    annotations = {"modelFormat": effective.model_format, **effective.annotations}
    return runtimes.render_args(
        base.args or (),
        name=effective.name,
        namespace=effective.namespace,
        labels=effective.labels,
        annotations=annotations,
    )


def _literals(variables: Iterable[container.EnvVar] | None) -> dict[str, str]:
    return {one.name: one.value or "" for one in variables or () if one.value_from is None}


def _mounted(text: str) -> str:
    return text.replace(runtimes.MODEL_DIR, MODEL_PATH)


def _variables(env: Mapping[str, str], threads: Mapping[str, str]) -> tuple[tuple[str, str | actions.Secret], ...]:
    """The variables in the order written, since one may refer to those before it; the user's thread counts win."""
    merged = {**threads, **env}
    return tuple((name, actions.Secret(value) if redact.secret_name(name) else value) for name, value in merged.items())


def cores(resources: container.Resources) -> int:
    """Whole cores that a replica may use; 0 when nothing is said."""
    cpu = (resources.limits or {}).get("cpu", (resources.requests or {}).get("cpu"))
    return 0 if cpu is None else max(1, math.ceil(quantity.cores(cpu)))


def _threads(resources: container.Resources) -> dict[str, str]:
    given = cores(resources)
    return dict.fromkeys(THREAD_VARIABLES, str(given)) if given else {}


def _grace(effective: services.Effective) -> float:
    return grace(effective.timeout) if effective.grace_seconds is None else float(max(effective.grace_seconds, 0))


def _probe(declared: container.Probe | None) -> actions.Probe:
    """Ready by HTTP when the container says how, else when its port accepts a connection."""
    if declared is None:
        return actions.Probe()
    period = float(max(declared.period_seconds or 1, 1))
    timeout = float(max(declared.timeout_seconds or 2, 1))
    http = declared.http_get
    if http is None or (http.scheme or "HTTP").upper() != "HTTP":
        return actions.Probe(period=period, timeout=timeout)
    path = http.path or "/"
    return actions.Probe(path=path if path.startswith("/") else f"/{path}", period=period, timeout=timeout)


def _start_deadline(startup: container.Probe | None) -> float:
    if startup is None:
        return _DEFAULT_START_DEADLINE
    allowed = (startup.failure_threshold or 3) * (startup.period_seconds or 10)
    return float(max(allowed + (startup.initial_delay_seconds or 0), 1))
