"""Services that share server processes: which they are, what they say about the pool, and what they may not say. Pure.

KServe's deployment mode ModelMesh makes a service a member of its namespace's pool for its format. An InferenceService
without a storageUri is the other kind of pool: the server of the TrainedModels that name it (KServe's multi-model
serving). In both a process belongs to many models, so nothing about a process can be one model's wish.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping

from mlship import errors
from mlship.api import autoscaling, check_scale, extras, fields, problems, quantity, runtime, service
from mlship.api.problems import Path, Problem

MODE_MESH = "ModelMesh"
PROCESSES = "mlship.dev/pool-processes"
MEMORY = "mlship.dev/pool-memory"
MOST_PROCESSES = 256
# Code of the user's own is not among them: two models' modules of one name would be one in a shared process.
FORMATS = ("sklearn", "xgboost", "lightgbm", "catboost", "onnx")

_PREDICTOR: Path = ("spec", "predictor")
_SHARED = "the processes of a pool belong to all its models"
_ALONE = f"remove it, or remove the annotation {check_scale.MODE} to give the model processes of its own"
_COPIES = "has no effect in a pool: a model has as many copies as it is used"
_NUMBER = f"has no effect on a server of TrainedModels: minReplicas or {PROCESSES} says how many processes it has"
_SCALED = ("max_replicas", "scale_target", "scale_metric", "scale_metric_type", "auto_scaling")
_BLOCK_REFUSED = ("command", "args", "env", "working_dir")


def is_member(found: service.InferenceService) -> bool:
    """Whether the service is a model in its namespace's pool."""
    return check_scale.mode(found.annotations) == MODE_MESH


def is_parent(found: service.InferenceService) -> bool:
    """Whether the service is a server of TrainedModels: a model block without a model, of a format that pools have.

    Servers of other formats get their model elsewhere, as Hugging Face's from its arguments.
    """
    block = next((block for _, block in found.spec.predictor.blocks()), None)
    if block is None or block.storage_uri or block.storage or found.spec.predictor.storage_uris:
        return False
    return not is_member(found) and service.effective(found).model_format in FORMATS


def processes(annotations: Mapping[str, str]) -> int | None:
    """How many processes a pool shall have; None when nothing is said."""
    written = annotations.get(PROCESSES, "")
    return int(written) if written.isdecimal() else None


def memory(annotations: Mapping[str, str]) -> int | None:
    """How many bytes of models a pool's processes may hold together; None when nothing is said."""
    written = annotations.get(MEMORY, "")
    try:
        return quantity.size(written) if written else None
    except errors.SpecError:
        return None


def check(annotations: Mapping[str, str]) -> Iterator[Problem]:
    """The annotations about pools."""
    written = annotations.get(PROCESSES)
    if written is not None and not (written.isdecimal() and 1 <= int(written) <= MOST_PROCESSES):
        reason = f"{problems.cap(written, 40)!r} is not a number of processes from 1 to {MOST_PROCESSES}"
        yield problems.refuse(("metadata", "annotations", PROCESSES), reason, 'write for example "2"')
    written = annotations.get(MEMORY)
    if written is not None and (fields.QUANTITY.fullmatch(written) is None or not memory(annotations)):
        reason = f"{problems.cap(written, 40)!r} is not an amount of memory"
        yield problems.refuse(("metadata", "annotations", MEMORY), reason, 'write for example "4Gi"')


def judge(found: service.InferenceService) -> Iterator[Problem]:
    """What a service says that a pool, or its not being in one, leaves without effect or makes impossible."""
    if is_member(found):
        yield from _member(found)
    elif is_parent(found):
        yield from _parent(found)
    else:
        for name in (PROCESSES, MEMORY):
            if name in found.annotations:
                reason = f"has no effect: the service is in no pool; {check_scale.MODE}: {MODE_MESH} would put it there"
                yield problems.notice(("metadata", "annotations", name), reason)


def own_runtime(chosen: runtime.Runtime, found: service.InferenceService) -> Iterator[Problem]:
    """Why ``chosen`` cannot serve many models."""
    if (is_member(found) or is_parent(found)) and not runtime.is_builtin(chosen):
        name, _ = next(found.spec.predictor.blocks())
        path = (*_PREDICTOR, name, *(("runtime",) if name == "model" else ()))
        reason = f"{chosen.name} is a program of your own, and pools run mlship's own model server"
        known = service.effective(found).model_format
        yield problems.refuse(path, reason, f"write runtime: mlship-{known}" if known in FORMATS else "")


def _member(found: service.InferenceService) -> Iterator[Problem]:
    predictor = found.spec.predictor
    name, block = next(predictor.blocks(), ("", None))
    if block is None:
        yield problems.refuse(
            (*_PREDICTOR, "containers"), f"a program of your own is not run in a pool: {_SHARED}", _ALONE
        )
        return
    path = (*_PREDICTOR, name)
    yield from _format(found, path)
    for field in _BLOCK_REFUSED:
        if getattr(block, field):
            yield problems.refuse((*path, _alias(block, field)), f"cannot be one model's: {_SHARED}", _ALONE)
    for field in ("batcher", "container_concurrency"):
        if getattr(predictor, field):
            yield problems.refuse((*_PREDICTOR, _alias(predictor, field)), f"cannot be one model's: {_SHARED}", _ALONE)
    if service.WARMUP in found.annotations:
        where: Path = ("metadata", "annotations", service.WARMUP)
        yield problems.notice(where, "has no effect in a pool: a model is loaded when it is asked for")
    if block.resources is not None:
        reason = f"has no effect in a pool; the annotations {PROCESSES} and {MEMORY} say what all its models share"
        yield problems.notice((*path, "resources"), reason)
    yield from _scaled(found, ("min_replicas", *_SCALED), _COPIES, keys=autoscaling.KEYS)
    if predictor.termination_grace_period_seconds is not None:
        yield problems.notice((*_PREDICTOR, "terminationGracePeriodSeconds"), f"has no effect: {_SHARED}")


def _format(found: service.InferenceService, path: Path) -> Iterator[Problem]:
    known = service.effective(found).model_format
    if known and known not in FORMATS:
        why = (
            "has code of its own, and two models' modules would meet" if known == "python" else "is not served in pools"
        )
        field = (*path, "modelFormat", "name") if path[-1] == "model" else path
        yield problems.refuse(field, f"{problems.cap(known, 40)} {why}; pools serve {problems.one_of(FORMATS)}", _ALONE)


def _scaled(
    found: service.InferenceService, fields: Iterable[str], why: str, *, keys: Collection[str]
) -> Iterator[Problem]:
    """What is said about a number of replicas, where it is no model's."""
    predictor = found.spec.predictor
    for field in fields:
        if getattr(predictor, field) is not None:
            yield problems.notice((*_PREDICTOR, _alias(predictor, field)), why)
    for name in found.annotations:
        if name in keys:
            yield problems.notice(("metadata", "annotations", name), why)


def _parent(found: service.InferenceService) -> Iterator[Problem]:
    name, block = next(found.spec.predictor.blocks())
    path = (*_PREDICTOR, name)
    for field in _BLOCK_REFUSED:
        if getattr(block, field):
            yield problems.refuse(
                (*path, _alias(block, field)), "is not taken by a server of TrainedModels", "remove it"
            )
    if found.spec.predictor.container_concurrency:
        where = (*_PREDICTOR, "containerConcurrency")
        yield problems.refuse(where, "is not taken by a server of TrainedModels", "remove it")
    yield from _scaled(found, _SCALED, _NUMBER, keys=autoscaling.KEYS.difference(autoscaling.keys("least")))
    reason = "is not given: the service loads no model of its own, and serves the TrainedModels that name it"
    yield problems.notice((*path, "storageUri"), reason, "write storageUri if it shall serve one model")


def trained_format(found: extras.TrainedModel) -> Iterator[Problem]:
    """The framework of a TrainedModel."""
    if found.spec.model.framework not in FORMATS:
        reason = f"{problems.cap(found.spec.model.framework, 40)} is not served in pools"
        hint = problems.did_you_mean(found.spec.model.framework, FORMATS) or f"they serve {problems.one_of(FORMATS)}"
        yield problems.refuse(("spec", "model", "framework"), reason, hint)


def _alias(part: object, name: str) -> str:
    found = getattr(type(part), "model_fields", {})
    return str(found[name].alias or name) if name in found else name
