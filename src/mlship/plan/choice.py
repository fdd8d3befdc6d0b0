"""Which runtime a stored service gets, and KServe's word for why it gets none. Pure.

The first step of a plan: the object was judged when it was applied, but runtimes come and go, and the object may be
older than the rules.
"""

from __future__ import annotations

import dataclasses

from mlship import errors
from mlship.api import honour, problems, select
from mlship.api import runtime as runtimes
from mlship.api import service as services


@dataclasses.dataclass(frozen=True, slots=True)
class Choices:
    """A service and the runtimes it may select."""

    service: services.InferenceService
    namespaced: tuple[runtimes.ServingRuntime, ...] = ()
    cluster: tuple[runtimes.ClusterServingRuntime, ...] = ()


def runtime_of(effective: services.Effective, among: Choices) -> runtimes.Runtime | None:
    """The runtime to use, None for a custom container. Raises SpecError when what was asked for cannot be done."""
    cluster = (*among.cluster, *runtimes.builtin())
    chosen = None
    if effective.container is None:
        chosen = select.select(effective, namespaced=among.namespaced, cluster=cluster).runtime
    refused = honour.refusals(among.service, namespaced=among.namespaced, cluster=cluster)
    if refused:
        raise problems.InvalidObject(refused)
    return chosen


def fault(effective: services.Effective, among: Choices, problem: errors.MlshipError) -> str:
    """KServe's reason for a spec that cannot be carried out."""
    if effective.container is not None or isinstance(problem, problems.InvalidObject):
        return "InvalidPredictorSpec"
    known: tuple[runtimes.Runtime, ...] = (*among.namespaced, *among.cluster, *runtimes.builtin())
    named = [one for one in known if one.name == effective.runtime]
    if effective.runtime and not named and not runtimes.alias(effective.runtime, effective.model_format):
        return "RuntimeNotRecognized"
    return "RuntimeDisabled" if any(one.spec.disabled for one in named) else "NoSupportingRuntime"
