"""The artifacts of the fake world: what each URI holds, and what each service has fetched of it."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable

from mlship.backends import timeline
from mlship.plan import observed

State = observed.ArtifactState


@dataclasses.dataclass(frozen=True, slots=True)
class _Source:
    """What a URI holds: bytes with a digest, or nothing and why."""

    digest: str
    error: str = ""
    reason: str = ""
    retry_after: float | None = None


class Artifacts:
    """Fetches take ``fetch_seconds``. A URI that nobody said anything about holds something of its own."""

    def __init__(
        self, time: timeline.Timeline, *, fetch_seconds: float, changed: Callable[[observed.ServiceKey], None]
    ) -> None:
        self._time = time
        self._fetch_seconds = fetch_seconds
        self._changed = changed
        self._sources: dict[str, _Source] = {}
        self._held: dict[observed.ServiceKey, observed.Artifact] = {}

    def of(self, service: observed.ServiceKey) -> observed.Artifact | None:
        """What a service has."""
        return self._held.get(service)

    def put(self, uri: str, digest: str) -> None:
        """Have ``uri`` hold bytes of this digest; who had fetched others sees that they are stale."""
        self._sources[uri] = _Source(digest)
        for key, artifact in self._held.items():
            if artifact.uri == uri and artifact.state is not State.FETCHING and artifact.digest != digest:
                self._held[key] = dataclasses.replace(artifact, stale=True)
                self._changed(key)

    def lose(self, uri: str, *, error: str, reason: str = "NotFound", retry_after: float | None = None) -> None:
        """Have every fetch of ``uri`` fail from now on."""
        self._sources[uri] = _Source("", error=error, reason=reason, retry_after=retry_after)

    def seed(self, service: observed.ServiceKey, artifact: observed.Artifact) -> None:
        """Begin with an artifact as found elsewhere; one that was failing or stale will be well when it is fetched."""
        self._held[service] = artifact
        if artifact.state is State.READY and not artifact.stale:
            self._sources.setdefault(artifact.uri, _Source(artifact.digest))
        elif artifact.state is State.FETCHING:
            self._begin(service, artifact.uri)

    def fetch(self, service: observed.ServiceKey, uri: str) -> None:
        """Begin a fetch; nothing when one of this URI is under way."""
        had = self._held.get(service)
        same = had is not None and had.uri == uri
        if same and self._time.waits(("fetch", service)):
            return
        if had is not None and same and had.state is State.READY:
            self._held[service] = dataclasses.replace(had, stale=False, error="", reason="", retry_at=None)
        else:
            self._held[service] = observed.Artifact(uri=uri, state=State.FETCHING)
        self._begin(service, uri)
        self._changed(service)

    def forget(self, service: observed.ServiceKey, uri: str) -> None:
        """Drop a service's artifact, if it is this one."""
        had = self._held.get(service)
        if had is not None and had.uri == uri:
            del self._held[service]
            self._time.cancel(("fetch", service))
            self._changed(service)

    def _begin(self, service: observed.ServiceKey, uri: str) -> None:
        self._time.later(self._fetch_seconds, ("fetch", service), lambda: self._arrived(service, uri))

    def _arrived(self, service: observed.ServiceKey, uri: str) -> None:
        source = self._sources.setdefault(uri, _Source(_digest_of(uri)))
        self._held[service] = self._failed(self._held[service], source) if source.error else _complete(uri, source)
        self._changed(service)

    def _failed(self, had: observed.Artifact, source: _Source) -> observed.Artifact:
        retry_at = None if source.retry_after is None else self._time.now + source.retry_after
        stays = had.state is State.READY
        left = had if stays else observed.Artifact(had.uri, state=State.FAILED)
        return dataclasses.replace(left, error=source.error, reason=source.reason, retry_at=retry_at)


def _complete(uri: str, source: _Source) -> observed.Artifact:
    path = f"/cache/{source.digest}"
    return observed.Artifact(uri=uri, state=State.READY, digest=source.digest, path=path, size=1, done=1)


def _digest_of(uri: str) -> str:
    return "sha256:" + hashlib.sha256(uri.encode("utf-8", "surrogatepass")).hexdigest()
