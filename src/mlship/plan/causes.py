"""Why a service is as it is: the chain from its condition down to the last error line and the likely fix. Pure.

``mlship why`` prints it. The chain goes where the trouble is: spec, artifact, replicas, gateway; each link names its
subject and the fact about it, and the last ones say what to do. A healthy service gets a short one: what serves, since
when, and where.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from mlship.api import meta, redact
from mlship.api import service as services
from mlship.plan import acceleration, catalogue, elastic, exits, observed, status

_SHOWN_REPLICAS = 3
_RECENT = 600.0
_SLOW_START = 30.0


@dataclasses.dataclass(frozen=True, slots=True)
class Cause:
    """One link: ``subject`` (a condition, a replica, the gateway ...) is in ``state`` because of ``message``.

    ``fix``: what to do about it; empty where a later link says it.
    """

    subject: str
    state: str
    message: str = ""
    fix: str = ""

    def __str__(self) -> str:
        said = f"{self.subject}: {self.state}"
        return said + (f": {self.message}" if self.message else "") + (f" Fix: {self.fix}" if self.fix else "")


def chain(
    service: services.InferenceService,
    seen: observed.Observed,
    stored: Mapping[str, Any] | None,
    now: float,
    *,
    past: elastic.Past | None = None,
) -> tuple[Cause, ...]:
    """The chain of a service, from the condition to the root; what was decided about its scale comes last.

    Args:
        service: what is wanted.
        seen: what is.
        stored: the newest status (``Plan.status``), or None when there is none yet.
        now: Unix seconds.
        past: of the scaler; None when it is not asked.
    """
    return (*_chain(service, seen, stored, now), *_scale(seen, past))


def _chain(
    service: services.InferenceService, seen: observed.Observed, stored: Mapping[str, Any] | None, now: float
) -> tuple[Cause, ...]:
    conditions = {one.type: one for one in meta.read_conditions(dict(stored or {}))}
    ready = conditions.get("Ready")
    name = f"InferenceService {service.namespace}/{service.name}"
    if ready is None or _behind(service, stored):
        return (Cause(name, "NotLookedAt", "The control plane has not looked at the newest spec yet; try again."),)
    if ready.status is meta.Truth.TRUE and ready.reason in ("ScaledToZero", "Waking"):
        return (Cause(name, "Ready", _with_since(ready)),)
    if ready.status is meta.Truth.TRUE:
        return (Cause(name, "Ready", _since(ready)), *_healthy(seen, stored or {}, now))
    head = Cause(name, "NotReady", _with_since(ready))
    return (head, *_parts(conditions, ready), *_roots(service, seen, stored or {}, ready, now))


def _scale(seen: observed.Observed, past: elastic.Past | None) -> Iterator[Cause]:
    """The last decision of the scaler, with its numbers; the last change of the number; who waits."""
    waiting = seen.demand.waiting
    if waiting:
        callers = "1 caller is" if waiting == 1 else f"{waiting} callers are"
        yield Cause("gate", "Holding", f"{callers} held until a replica answers.")
    if past is None:
        return
    if past.now_said:
        yield Cause("scale", f"at {status.timestamp(past.looked_at)}", f"{past.now_said}.")
    if past.said and past.said != past.now_said:
        yield Cause("scale", f"changed at {status.timestamp(past.changed_at)}", f"{past.said}.")


def _roots(
    service: services.InferenceService,
    seen: observed.Observed,
    stored: Mapping[str, Any],
    ready: meta.Condition,
    now: float,
) -> Iterator[Cause]:
    if _text(stored, "modelStatus", "transitionStatus") == "InvalidSpec":
        yield _explained("spec", "Invalid", ready.message, otherwise="Correct the spec and apply it again.")
        return
    if ready.reason == "Stopped":
        yield Cause("annotation serving.kserve.io/stop", "true", fix="Remove the annotation and apply again.")
        return
    if ready.reason == "ScaledToZero":
        yield Cause("replicas", "held at 0", fix="End the pause of what scales it.")
        return
    yield from _artifact(services.effective(service).storage_uri, seen.artifact)
    yield from _replicas(_newest(seen, stored), now)
    yield from _gateway(seen.gateway)


def _behind(service: services.InferenceService, stored: Mapping[str, Any] | None) -> bool:
    looked_at = (stored or {}).get("observedGeneration")
    generation = service.metadata.generation
    return isinstance(looked_at, int) and generation is not None and looked_at < generation


def _parts(conditions: Mapping[str, meta.Condition], ready: meta.Condition) -> Iterator[Cause]:
    """The conditions that make Ready and do not hold; one that only repeats Ready's words is named without them."""
    for name in ("LatestDeploymentReady", "PredictorReady", "IngressReady"):
        one = conditions.get(name)
        if one is not None and one.status is not meta.Truth.TRUE:
            message = "" if one.message == ready.message else one.message
            yield Cause(f"condition {name}", one.reason or one.status.value, message)


def _artifact(uri: str, artifact: observed.Artifact | None) -> Iterator[Cause]:
    if not uri:
        return
    subject = f"model {redact.uri(uri)}"
    if artifact is None or artifact.uri != uri:
        yield Cause(subject, "NotFetched", "It is fetched next.")
    elif artifact.state is observed.ArtifactState.FETCHING:
        size = f" of {artifact.total}" if artifact.total else ""
        yield Cause(subject, "Fetching", f"{artifact.done}{size} bytes are here.")
    elif artifact.error:
        state = "Failed" if artifact.state is observed.ArtifactState.FAILED else "ChangedButNotFetched"
        again = "" if artifact.retry_at is None else f" The next try is at {status.timestamp(artifact.retry_at)}."
        yield _explained(subject, state, f"{artifact.error}{again}", otherwise="Check storageUri, then apply again.")


def _newest(seen: observed.Observed, stored: Mapping[str, Any]) -> Sequence[observed.Replica]:
    newest = _text(stored, "components", "predictor", "latestCreatedRevision")
    return [one for one in seen.replicas if one.id.revision == newest or not newest]


def _replicas(found: Iterable[observed.Replica], now: float) -> Iterator[Cause]:
    """The replicas that do not serve, those with a failure first."""
    sick = [one for one in found if not (one.ready and one.phase is observed.Phase.RUNNING)]
    sick.sort(key=lambda one: (exits.of(one) is None, one.id))
    for one in sick[:_SHOWN_REPLICAS]:
        yield from _replica(one, now)
    if len(sick) > _SHOWN_REPLICAS:
        yield Cause("replicas", "NotReady", f"{len(sick) - _SHOWN_REPLICAS} more are not ready.")


def _replica(one: observed.Replica, now: float) -> Iterator[Cause]:
    subject = f"replica {one.id}"
    failure = exits.of(one)
    if failure is None:
        yield from _without_failure(one, now)
        return
    ended = one.last_exit
    what = failure.message if ended is None or failure.message == one.message else f"It {exits.how(ended)}"
    times = f" It was started again {one.restarts} times." if one.restarts > 1 else ""
    due = f" The next start is at {status.timestamp(one.restart_at)}." if one.restart_at is not None else ""
    yield Cause(subject, one.phase.value, f"{what}.{times}{due}")
    final = "Mend the model as the line says; a changed file is noticed, another one is deployed as this one was."
    yield _explained(
        "last error line",
        failure.signal or f"exit code {failure.code}",
        failure.last_line or "It wrote nothing.",
        hint_from=failure.message,
        otherwise=final if failure.code == exits.CANNOT_LOAD else f"{_logs(one)} shows what it wrote before.",
    )


def _logs(one: observed.Replica) -> str:
    """The command that shows its output."""
    service = one.id.service
    return f"mlship logs {service.name}" + ("" if service.namespace == "default" else f" -n {service.namespace}")


def _without_failure(one: observed.Replica, now: float) -> Iterator[Cause]:
    subject = f"replica {one.id}"
    if one.phase is observed.Phase.RUNNING:
        text = one.message or "Its readiness probe fails."
        yield _explained(subject, "running, not ready", text, otherwise=f"{_logs(one)} says more.")
    elif one.phase is observed.Phase.STARTING and now - one.since > _SLOW_START:
        text = f"It has been starting since {status.timestamp(one.since)}; its probe says: {one.message or 'nothing'}."
        yield _explained(
            subject, one.phase.value, text, otherwise=f"mlship logs {one.id.service.name} -f shows it load."
        )
    else:
        yield Cause(subject, one.phase.value, one.message or f"since {status.timestamp(one.since)}.")


def _gateway(gateway: observed.Gateway) -> Iterator[Cause]:
    if not gateway.running:
        text = gateway.message or "Envoy is not running."
        fix = "It is started again by itself; if it keeps failing, its log says why (mlship status names the file)."
        found = catalogue.explain(text)
        yield Cause("gateway", "Down", text, found.fix if found else fix)


def _healthy(seen: observed.Observed, stored: Mapping[str, Any], now: float) -> Iterator[Cause]:
    serving = [one for one in _newest(seen, stored) if one.ready]
    since = min((one.since for one in serving), default=now)
    count = "1 replica serves" if len(serving) == 1 else f"{len(serving)} replicas serve"
    newest = _text(stored, "components", "predictor", "latestReadyRevision")
    yield Cause(f"revision {newest}", "Serving", f"{count} since {status.timestamp(since)}.")
    for one in serving:
        ended = one.last_exit
        if ended is not None and 0 <= now - ended.at < _RECENT:
            text = f"It recovered; at {status.timestamp(ended.at)} it {exits.words(ended)}."
            found = catalogue.explain(exits.words(ended))
            yield Cause(f"replica {one.id}", "Restarted", text, found.fix if found else "")
    artifact = seen.artifact
    if artifact is not None and artifact.error:
        yield from _artifact(artifact.uri, artifact)
    yield Cause("gateway", "Routing", _text(stored, "url"))
    compiled = acceleration.of(serving)
    if compiled is not None and compiled.state is not observed.Answering.OFF:
        yield Cause("compiled form", compiled.state.value, acceleration.sentence(compiled))


def _explained(subject: str, state: str, text: str, *, hint_from: str = "", otherwise: str = "") -> Cause:
    """A link with the fix that the catalogue knows for its text, else for ``hint_from``, else ``otherwise``."""
    found = catalogue.explain(text) or (catalogue.explain(hint_from) if hint_from else None)
    if found is None:
        return Cause(subject, state, text, otherwise)
    joined = text if found.cause.rstrip(".") in text else f"{text} {found.cause}"
    return Cause(subject, state, joined, found.fix)


def _with_since(condition: meta.Condition) -> str:
    return " ".join(part for part in (condition.message, _since(condition)) if part)


def _since(condition: meta.Condition) -> str:
    return f"Since {condition.since}." if condition.since else ""


def _text(stored: Mapping[str, Any], *path: str) -> str:
    found: Any = stored
    for key in path:
        found = found.get(key) if isinstance(found, Mapping) else None
    return found if isinstance(found, str) else ""
