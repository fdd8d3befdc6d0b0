"""The program of a pool: mlship's own model server over a folder of entries, loading what is asked for. Pure.

What stands here replaces the processes when it changes, so it holds nothing that one model coming or going changes.
"""

from __future__ import annotations

from mlship.api import pooled, service
from mlship.api import runtime as runtimes
from mlship.plan import actions, program

MODELS = "$(MLSHIP_MODELS)"
QUARANTINE = "$(MLSHIP_QUARANTINE)"
READY = "/v2/health/ready"
REPORT = "/mlship/v1/pool"


def spec(family: str, *, processes: int, memory: int | None, timeout: int) -> actions.ProcessSpec:
    """One of ``processes`` processes that hold ``memory`` bytes of models together; None: as the server sees fit."""
    budget = () if memory is None else ("--memory-budget", str(max(memory // max(processes, 1), 1)))
    backstop = program.backstop(timeout)
    # By the coarser steps: a model of another timeout shall not replace the processes of all the others.
    grace = program.grace(backstop)
    return actions.ProcessSpec(
        argv=(
            *runtimes.COMMAND,
            *("--model-repository", MODELS, "--paging", "--quarantine-file", QUARANTINE),
            # The kind of zygote that forks it; each entry has a format of its own.
            *(("--model-format", family) if family else ()),
            *budget,
            *("--http-socket", program.HTTP_SOCKET, "--grpc-socket", program.GRPC_SOCKET),
            *("--request-timeout", str(backstop)),
            *("--drain-seconds", f"{program.drain(grace):g}"),
            *("--proof-cache", program.PROOFS, "--log-format", "json"),
        ),
        probe=actions.Probe(path=READY),
        start_deadline=120.0,
        stop_grace=grace,
    )


def of_parent(
    found: service.InferenceService, effective: service.Effective, runtime: runtimes.Runtime | None
) -> actions.ProcessSpec | None:
    """The program of a server of TrainedModels; None for any other service."""
    if runtime is None or not pooled.is_parent(found):
        return None
    return spec(
        effective.model_format,
        processes=processes_of(found, effective),
        memory=pooled.memory(found.annotations),
        timeout=effective.timeout,
    )


def processes_of(found: service.InferenceService, effective: service.Effective) -> int:
    """How many processes a server of TrainedModels has."""
    return pooled.processes(found.annotations) or max(effective.min_replicas, 1)


def holds_models(program_of: actions.ProcessSpec) -> bool:
    """Whether a program is a pool's."""
    return MODELS in program_of.argv
