"""Whether a model's bytes must be brought now, or when. Pure: for services, and for models in pools."""

from __future__ import annotations

from mlship.api import redact
from mlship.plan import actions, observed


def due(artifact: observed.Artifact | None, uri: str, now: float) -> tuple[tuple[actions.Action, ...], float | None]:
    """The fetch of ``uri`` (empty: none is needed) that is due at ``now``, or when it will be (Unix seconds)."""
    if not uri:
        forget = (actions.ForgetArtifact(artifact.uri),) if artifact is not None else ()
        return forget, None
    if artifact is None:
        return (actions.FetchArtifact(uri, why="it is not here yet"),), None
    if artifact.uri != uri:
        return (actions.FetchArtifact(uri, why="the service names another model now"),), None
    again = bool(artifact.error) and artifact.retry_at is not None
    if artifact.state is observed.ArtifactState.FETCHING or not (artifact.stale or again):
        return (), None
    if artifact.retry_at is not None and artifact.retry_at > now:
        return (), artifact.retry_at
    why = "the source has changed" if artifact.stale else "the last try failed"
    return (actions.FetchArtifact(uri, why=why),), None


def trouble(artifact: observed.Artifact | None, uri: str) -> tuple[str, str]:
    """Why the bytes of ``uri`` are not here: CamelCase reason and sentence."""
    shown = redact.uri(uri)
    if artifact is None or artifact.uri != uri:
        return "FetchingModel", f"The model will be fetched from {shown}."
    if artifact.state is observed.ArtifactState.FAILED:
        again = "" if artifact.retry_at is None else " It will be tried again."
        said = artifact.error or f"{shown} could not be fetched"
        return "ModelFetchFailed", f"{said if said.endswith(('.', '!', '?')) else said + '.'}{again}"
    return "FetchingModel", f"Fetching {shown}{_progress(artifact)}."


def _progress(artifact: observed.Artifact) -> str:
    if not artifact.total or artifact.total <= 0:
        return ""
    return f" ({min(max(artifact.done, 0) * 10 // artifact.total, 10) * 10} %)"
