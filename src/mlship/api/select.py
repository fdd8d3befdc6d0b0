"""Which runtime serves a model: KServe's rules, and the reason in one sentence.

Without a named runtime: not disabled, not multi-model, a format with autoSelect whose name matches and, when the
service gives a version, whose version is the same text; a protocol that matches; namespaced runtimes before cluster
ones; higher priority first, then the older protocol, then the name (predictor_model.go, GetSupportingRuntimes). With a
named runtime autoSelect does not count. One rule is ours: the container must have a command, as there are no images.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

from mlship import errors
from mlship.api import problems, runtime, service

_PROTOCOL_RANK = {"v1": 1, "v2": 2, "grpc-v1": 3, "grpc-v2": 4}
_DEFAULT_PROTOCOLS = ("v1",)
_SHOWN = 12
# KServe's formats that no runtime of ours serves: real names, so nothing else was meant.
_FOREIGN_FORMATS = frozenset(
    {"tensorflow", "pytorch", "triton", "huggingface", "vLLM", "pmml", "paddle", "mlflow"}
    | {"tensorrt", "openvino", "autogluon"}
)


@dataclasses.dataclass(frozen=True, slots=True)
class Selection:
    """The chosen runtime and why it was chosen."""

    runtime: runtime.Runtime
    why: str


def select(
    effective: service.Effective,
    *,
    namespaced: Sequence[runtime.ServingRuntime],
    cluster: Sequence[runtime.ClusterServingRuntime],
) -> Selection:
    """The runtime of a model.

    Args:
        effective: a service whose implementation is MODEL.
        namespaced: the ServingRuntimes of its namespace.
        cluster: every ClusterServingRuntime, ``runtime.builtin()`` among them.

    Raises ``errors.SpecError`` when none fits; it lists every runtime and why it was rejected.
    """
    if effective.runtime:
        return _named(effective, [*namespaced, *cluster])
    rejected: list[str] = []
    for group in (namespaced, cluster):
        fitting: list[runtime.Runtime] = []
        for found in group:
            if why_not := rejection(found, effective):
                rejected.append(f"{found.name}: {why_not}")
            else:
                fitting.append(found)
        if fitting:
            chosen = min(fitting, key=lambda found: _order(found, effective.model_format))
            return Selection(chosen, _why(chosen, effective, fitting))
    raise errors.SpecError(
        f"No runtime serves {_wanted(effective)}. Considered: {_listed(rejected)}.",
        hint=_advice(effective, [*namespaced, *cluster]),
    )


def rejection(found: runtime.Runtime, effective: service.Effective) -> str:
    """Why a runtime does not fit a model; empty when it does."""
    spec = found.spec
    if spec.disabled:
        return "it is disabled"
    if spec.multi_model:
        return "it is for multi-model serving"
    if why := _format_rejection(spec, effective):
        return why
    protocols = spec.protocol_versions or _DEFAULT_PROTOCOLS
    if effective.protocol_version not in protocols:
        return f"it speaks {problems.one_of(protocols)}, not {effective.protocol_version}"
    serving = spec.serving()
    if serving is None or not serving.command:
        return "its container has an image but no command, so that it cannot run on this machine"
    return ""


def _format_rejection(spec: runtime.RuntimeSpec, effective: service.Effective) -> str:
    formats = spec.supported_model_formats or ()
    same = [found for found in formats if found.name == effective.model_format]
    if not same:
        names = sorted({found.name for found in formats})
        return f"it serves {problems.one_of(names)}" if names else "it names no format"
    allowed = [found for found in same if found.auto_select or effective.runtime]
    if not allowed:
        return "it must be named in runtime: its format has no autoSelect"
    if effective.format_version and all(found.version != effective.format_version for found in allowed):
        versions = [found.version for found in allowed if found.version]
        known = f"it serves version {problems.one_of(versions)}" if versions else "it names no version"
        return f"{known}, not {effective.format_version}"
    return ""


def _named(effective: service.Effective, known: Sequence[runtime.Runtime]) -> Selection:
    wanted = effective.runtime
    stand_in = runtime.alias(wanted, effective.model_format)
    for name in (wanted, stand_in):
        found = next((one for one in known if one.name == name), None)
        if found is None:
            continue
        if why_not := rejection(found, effective):
            raise errors.SpecError(
                f"The runtime {wanted} does not serve {_wanted(effective)}: {why_not}.", hint=_advice(effective, known)
            )
        own = f"{found.name} was named"
        return Selection(found, own if name == wanted else f"{found.name} stands for KServe's {wanted} on this machine")
    if wanted in runtime.KSERVE_BUILTIN:
        raise errors.SpecError(
            f"KServe's runtime {problems.cap(wanted, 60)} for {effective.model_format} has no counterpart here.",
            hint=_advice(effective, known),
        )
    close = problems.did_you_mean(wanted, [found.name for found in known])
    raise errors.SpecError(
        f"There is no runtime called {problems.cap(wanted, 60)}.",
        hint=close[:1].upper() + close[1:] if close else "Leave runtime out to have one chosen by format.",
    )


def _order(found: runtime.Runtime, model_format: str) -> tuple[int, int, str]:
    """Smaller is better. The priority of a format is the first given one, absent below every given one."""
    formats = [one for one in found.spec.supported_model_formats or () if one.name == model_format]
    priority = next((one.priority for one in formats if one.priority is not None), 0)
    protocols = found.spec.protocol_versions or ()
    rank = min((_PROTOCOL_RANK.get(one, len(_PROTOCOL_RANK) + 1) for one in protocols), default=0)
    return -priority, rank, found.name


def _why(chosen: runtime.Runtime, effective: service.Effective, fitting: Sequence[runtime.Runtime]) -> str:
    scope = "namespace" if isinstance(chosen, runtime.ServingRuntime) else "cluster"
    reason = f"{chosen.name} ({scope}) serves {_wanted(effective)}"
    others = [found.name for found in fitting if found is not chosen]
    return f"{reason}, before {problems.one_of(others)}" if others else reason


def _wanted(effective: service.Effective) -> str:
    version = f" version {problems.cap(effective.format_version, 40)}" if effective.format_version else ""
    return f"{problems.cap(effective.model_format, 60)}{version} over {effective.protocol_version}"


def _listed(rejected: Sequence[str]) -> str:
    if not rejected:
        return "none is there"
    more = f"; and {len(rejected) - _SHOWN} more" if len(rejected) > _SHOWN else ""
    return "; ".join(rejected[:_SHOWN]) + more


def _advice(effective: service.Effective, known: Iterable[runtime.Runtime]) -> str:
    formats = sorted({one.name for found in known for one in found.spec.supported_model_formats or ()})
    if effective.model_format in formats:
        return ""
    close = problems.nearest(effective.model_format, formats)
    if close and effective.model_format not in _FOREIGN_FORMATS:
        return f"Did you mean {close}?"
    if not formats:
        return ""
    return f"Formats served here: {', '.join(formats)}; or write a ServingRuntime with a command."
