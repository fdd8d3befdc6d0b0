"""Artifacts of the fake world arrive, fail, change and are tried again."""

from __future__ import annotations

from mlship.backends import fake_artifacts, timeline
from mlship.plan import observed

KEY = observed.ServiceKey("default", "iris")
URI = "file:///m"
State = observed.ArtifactState


def make() -> tuple[fake_artifacts.Artifacts, timeline.Timeline, list[observed.ServiceKey]]:
    changes: list[observed.ServiceKey] = []
    time = timeline.Timeline(100.0)
    return fake_artifacts.Artifacts(time, fetch_seconds=1.0, changed=changes.append), time, changes


def now(artifacts: fake_artifacts.Artifacts) -> observed.Artifact:
    found = artifacts.of(KEY)
    assert found is not None
    return found


def test_a_fetch_takes_its_time_and_a_second_one_joins_it() -> None:
    artifacts, time, changes = make()
    artifacts.fetch(KEY, URI)
    time.advance(0.6)
    artifacts.fetch(KEY, URI)
    assert now(artifacts).state is State.FETCHING
    time.advance(0.4)
    assert now(artifacts).state is State.READY
    assert len(changes) == 2


def test_another_uri_takes_the_place() -> None:
    artifacts, time, _ = make()
    artifacts.fetch(KEY, URI)
    artifacts.fetch(KEY, "file:///other")
    time.advance(5.0)
    assert now(artifacts).uri == "file:///other"


def test_a_lost_source_fails_with_the_time_of_the_next_try() -> None:
    artifacts, time, _ = make()
    artifacts.lose(URI, error="404", retry_after=30.0)
    artifacts.fetch(KEY, URI)
    time.advance(1.0)
    assert (now(artifacts).state, now(artifacts).error, now(artifacts).retry_at) == (State.FAILED, "404", 131.0)
    artifacts.put(URI, "sha256:found")
    assert now(artifacts).stale
    artifacts.fetch(KEY, URI)
    time.advance(1.0)
    assert (now(artifacts).digest, now(artifacts).error) == ("sha256:found", "")


def test_a_failed_refetch_keeps_what_is_there() -> None:
    artifacts, time, _ = make()
    artifacts.put(URI, "sha256:one")
    artifacts.fetch(KEY, URI)
    time.advance(1.0)
    artifacts.put(URI, "sha256:two")
    artifacts.lose(URI, error="404")
    assert now(artifacts).stale
    artifacts.fetch(KEY, URI)
    assert not now(artifacts).stale
    time.advance(1.0)
    assert (now(artifacts).state, now(artifacts).digest, now(artifacts).error) == (State.READY, "sha256:one", "404")


def test_a_forgotten_one_does_not_arrive() -> None:
    artifacts, time, _ = make()
    artifacts.fetch(KEY, URI)
    artifacts.forget(KEY, "file:///other")
    assert artifacts.of(KEY) is not None
    artifacts.forget(KEY, URI)
    time.advance(5.0)
    assert artifacts.of(KEY) is None


def test_one_as_found_goes_on() -> None:
    artifacts, time, _ = make()
    artifacts.seed(KEY, observed.Artifact(URI, State.FETCHING))
    time.advance(1.0)
    assert now(artifacts).state is State.READY
