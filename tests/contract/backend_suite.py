"""What every backend promises: one suite for the fake world, local processes and whatever comes later.

A test module subclasses ``BackendSuite`` and gives it a ``harness`` fixture. Conditions are waited for with
``harness.until``, which lets time pass: real time for real processes, its own for the fake.
"""

from __future__ import annotations

import abc
import asyncio
from collections.abc import Callable

import pytest

from mlship import errors
from mlship.backends import base
from mlship.plan import actions, observed

Phase, State = observed.Phase, observed.ArtifactState

SERVICE = observed.ServiceKey("default", "iris")
OTHER = observed.ServiceKey("default", "wine")
DEADLINE = 30.0


class Harness(abc.ABC):
    """A backend under test and its surroundings.

    ``uri`` names an artifact that can be fetched, ``missing`` one that cannot. ``good`` becomes ready; ``crashing``
    prints ``boom`` and ends with exit code 3; ``silent`` runs and never gets ready.
    """

    backend: base.Backend
    uri: str
    missing: str
    good: actions.ProcessSpec
    crashing: actions.ProcessSpec
    silent: actions.ProcessSpec

    @abc.abstractmethod
    async def until(self, service: observed.ServiceKey, holds: Callable[[base.Facts], bool], what: str) -> base.Facts:
        """Let time pass until the facts are so; fails the test, saying ``what`` was awaited, when they never are."""

    @abc.abstractmethod
    def kill(self, replica: observed.Replica) -> None:
        """End a replica's process with SIGKILL, as the kernel would."""

    @abc.abstractmethod
    def change(self) -> None:
        """Have ``uri`` hold other bytes."""


def start(
    spec: actions.ProcessSpec,
    *,
    service: observed.ServiceKey = SERVICE,
    revision: str = "0a1b2c3d",
    ordinal: int = 0,
    path: str = "",
) -> actions.StartReplica:
    """An action that starts a replica."""
    return actions.StartReplica(observed.ReplicaId(service, revision, ordinal), spec=spec, model_path=path)


def ready(facts: base.Facts) -> bool:
    return bool(facts.replicas) and all(one.ready for one in facts.replicas)


def fetched(facts: base.Facts) -> bool:
    return facts.artifact is not None and facts.artifact.state is State.READY


def gone(facts: base.Facts) -> bool:
    return not facts.replicas


class BackendSuite:
    """Subclass it and override ``harness``."""

    @pytest.fixture
    async def harness(self) -> Harness:
        raise AssertionError("the subclass gives the harness")

    async def test_of_an_unknown_service_nothing_is_known(self, harness: Harness) -> None:
        assert await harness.backend.observe(observed.ServiceKey("default", "nobody")) == base.Facts()

    async def test_a_replica_is_there_at_once_and_ready_in_time(self, harness: Harness) -> None:
        await harness.backend.apply(SERVICE, [start(harness.good)])
        (at_once,) = (await harness.backend.observe(SERVICE)).replicas
        assert at_once.phase in (Phase.INITIAL, Phase.STARTING)
        assert not at_once.ready
        (replica,) = (await harness.until(SERVICE, ready, "readiness")).replicas
        assert replica.phase is Phase.RUNNING
        assert replica.endpoint is not None
        assert replica.endpoint.http
        assert replica.pid is not None
        assert replica.restarts == 0

    async def test_starting_what_runs_changes_nothing(self, harness: Harness) -> None:
        await harness.backend.apply(SERVICE, [start(harness.good)])
        before = await harness.until(SERVICE, ready, "readiness")
        await harness.backend.apply(SERVICE, [start(harness.good)])
        after = await harness.backend.observe(SERVICE)
        assert [(one.id, one.pid, one.ready) for one in after.replicas] == [
            (one.id, one.pid, one.ready) for one in before.replicas
        ]

    async def test_replicas_answer_at_endpoints_of_their_own(self, harness: Harness) -> None:
        todo = [start(harness.good), start(harness.good, ordinal=1), start(harness.good, revision="ffffffff")]
        await harness.backend.apply(SERVICE, todo)
        facts = await harness.until(SERVICE, lambda facts: ready(facts) and len(facts.replicas) == 3, "three replicas")
        assert len({one.endpoint for one in facts.replicas}) == 3
        assert len({one.pid for one in facts.replicas}) == 3

    async def test_a_stopped_replica_is_forgotten(self, harness: Harness) -> None:
        await harness.backend.apply(SERVICE, [start(harness.good)])
        (replica,) = (await harness.until(SERVICE, ready, "readiness")).replicas
        await harness.backend.apply(SERVICE, [actions.StopReplica(replica.id)])
        at_once = await harness.backend.observe(SERVICE)
        assert not any(one.ready for one in at_once.replicas)
        await harness.until(SERVICE, gone, "its end")

    async def test_stopping_what_is_ending_or_gone_is_no_error(self, harness: Harness) -> None:
        stop = actions.StopReplica(start(harness.good).id)
        await harness.backend.apply(SERVICE, [stop])
        await harness.backend.apply(SERVICE, [start(harness.good)])
        await harness.until(SERVICE, ready, "readiness")
        await harness.backend.apply(SERVICE, [stop, stop])
        await harness.until(SERVICE, gone, "its end")
        await harness.backend.apply(SERVICE, [stop])
        assert gone(await harness.backend.observe(SERVICE))

    async def test_a_stopped_replica_can_be_started_again(self, harness: Harness) -> None:
        await harness.backend.apply(SERVICE, [start(harness.good)])
        (replica,) = (await harness.until(SERVICE, ready, "readiness")).replicas
        await harness.backend.apply(SERVICE, [actions.StopReplica(replica.id)])
        await harness.until(SERVICE, gone, "its end")
        await harness.backend.apply(SERVICE, [start(harness.good)])
        await harness.until(SERVICE, ready, "readiness again")

    async def test_one_that_is_starting_can_be_stopped(self, harness: Harness) -> None:
        await harness.backend.apply(SERVICE, [start(harness.silent)])
        await harness.backend.apply(SERVICE, [actions.StopReplica(start(harness.silent).id)])
        await harness.until(SERVICE, gone, "its end")

    async def test_a_replica_that_never_gets_ready_is_not_called_ready(self, harness: Harness) -> None:
        await harness.backend.apply(SERVICE, [start(harness.silent)])
        facts = await harness.until(SERVICE, lambda facts: bool(facts.replicas[0].message), "what its probe says")
        assert not facts.replicas[0].ready

    async def test_a_killed_replica_comes_back(self, harness: Harness) -> None:
        await harness.backend.apply(SERVICE, [start(harness.good)])
        (before,) = (await harness.until(SERVICE, ready, "readiness")).replicas
        harness.kill(before)

        def back(facts: base.Facts) -> bool:
            return ready(facts) and facts.replicas[0].restarts > 0

        (after,) = (await harness.until(SERVICE, back, "its return")).replicas
        assert after.id == before.id
        assert after.pid != before.pid
        assert after.last_exit is not None
        assert after.last_exit.signal == 9

    async def test_a_crash_is_told_with_code_and_last_line_and_tried_again(self, harness: Harness) -> None:
        await harness.backend.apply(SERVICE, [start(harness.crashing)])

        def crashed(facts: base.Facts) -> bool:
            return facts.replicas[0].phase is Phase.BACKOFF and facts.replicas[0].last_exit is not None

        (replica,) = (await harness.until(SERVICE, crashed, "the crash")).replicas
        assert replica.last_exit is not None
        assert replica.last_exit.code == 3
        assert "boom" in replica.last_exit.last_line
        assert replica.restart_at is not None
        assert replica.pid is None
        assert not replica.ready
        (again,) = (await harness.until(SERVICE, lambda facts: facts.replicas[0].restarts > 0, "another try")).replicas
        assert again.last_exit is not None

    async def test_one_in_back_off_can_be_stopped(self, harness: Harness) -> None:
        await harness.backend.apply(SERVICE, [start(harness.crashing)])
        await harness.until(SERVICE, lambda facts: facts.replicas[0].phase is Phase.BACKOFF, "the back-off")
        await harness.backend.apply(SERVICE, [actions.StopReplica(start(harness.crashing).id)])
        await harness.until(SERVICE, gone, "its end")

    async def test_an_artifact_arrives_with_digest_and_path(self, harness: Harness) -> None:
        await harness.backend.apply(SERVICE, [actions.FetchArtifact(harness.uri)])
        at_once = (await harness.backend.observe(SERVICE)).artifact
        assert at_once is not None
        assert at_once.uri == harness.uri
        artifact = (await harness.until(SERVICE, fetched, "the artifact")).artifact
        assert artifact is not None
        assert artifact.digest
        assert artifact.path
        assert not artifact.stale
        assert not artifact.error

    async def test_a_replica_loads_the_fetched_artifact(self, harness: Harness) -> None:
        await harness.backend.apply(SERVICE, [actions.FetchArtifact(harness.uri)])
        artifact = (await harness.until(SERVICE, fetched, "the artifact")).artifact
        assert artifact is not None
        await harness.backend.apply(SERVICE, [start(harness.good, path=artifact.path)])
        await harness.until(SERVICE, ready, "readiness")

    async def test_two_services_share_an_artifact_and_nothing_else(self, harness: Harness) -> None:
        for service in (SERVICE, OTHER):
            await harness.backend.apply(service, [actions.FetchArtifact(harness.uri)])
        one = (await harness.until(SERVICE, fetched, "the artifact")).artifact
        two = (await harness.until(OTHER, fetched, "the artifact")).artifact
        assert one is not None
        assert two is not None
        assert one.digest == two.digest
        await harness.backend.apply(OTHER, [start(harness.good, service=OTHER)])
        await harness.until(OTHER, ready, "readiness")
        assert gone(await harness.backend.observe(SERVICE))

    async def test_standing_by_is_told_and_needs_no_replica(self, harness: Harness) -> None:
        ahead = actions.StandBy(harness.good)
        await harness.backend.apply(SERVICE, [ahead, ahead])
        facts = await harness.until(SERVICE, lambda facts: facts.standby == ahead.token, "standing by")
        assert facts.replicas == ()
        other = actions.StandBy(harness.crashing)
        await harness.backend.apply(SERVICE, [other])
        await harness.until(SERVICE, lambda facts: facts.standby == other.token, "standing by for another program")
        await harness.backend.apply(SERVICE, [actions.StandDown(), actions.StandDown()])
        await harness.until(SERVICE, lambda facts: not facts.standby, "standing down")

    async def test_a_start_is_told_with_its_beginning_and_its_end(self, harness: Harness) -> None:
        await harness.backend.apply(SERVICE, [start(harness.good)])
        (replica,) = (await harness.until(SERVICE, ready, "readiness")).replicas
        assert replica.startup is not None
        assert replica.startup.ready_at is not None
        assert replica.startup.ready_at >= replica.startup.began_at

    async def test_what_cannot_be_fetched_says_why(self, harness: Harness) -> None:
        await harness.backend.apply(SERVICE, [actions.FetchArtifact(harness.missing)])

        def failed(facts: base.Facts) -> bool:
            return facts.artifact is not None and facts.artifact.state is State.FAILED

        artifact = (await harness.until(SERVICE, failed, "the failure")).artifact
        assert artifact is not None
        assert artifact.error

    async def test_another_uri_takes_the_place_of_the_first(self, harness: Harness) -> None:
        await harness.backend.apply(SERVICE, [actions.FetchArtifact(harness.missing)])
        await harness.backend.apply(SERVICE, [actions.FetchArtifact(harness.uri)])
        artifact = (await harness.until(SERVICE, fetched, "the second artifact")).artifact
        assert artifact is not None
        assert artifact.uri == harness.uri

    async def test_changed_bytes_are_noticed_and_fetched_on_demand(self, harness: Harness) -> None:
        await harness.backend.apply(SERVICE, [actions.FetchArtifact(harness.uri)])
        before = (await harness.until(SERVICE, fetched, "the artifact")).artifact
        assert before is not None
        harness.change()

        def stale(facts: base.Facts) -> bool:
            return facts.artifact is not None and facts.artifact.stale

        noticed = (await harness.until(SERVICE, stale, "the change to be noticed")).artifact
        assert noticed is not None
        assert (noticed.state, noticed.digest) == (State.READY, before.digest)
        await harness.backend.apply(SERVICE, [actions.FetchArtifact(harness.uri, why="the source has changed")])
        begun = (await harness.backend.observe(SERVICE)).artifact
        assert begun is not None
        assert begun.state is State.READY
        assert not begun.stale

        def renewed(facts: base.Facts) -> bool:
            return facts.artifact is not None and facts.artifact.digest != before.digest

        after = (await harness.until(SERVICE, renewed, "the new bytes")).artifact
        assert after is not None
        assert after.state is State.READY
        assert not after.stale

    async def test_a_forgotten_artifact_is_gone(self, harness: Harness) -> None:
        await harness.backend.apply(SERVICE, [actions.FetchArtifact(harness.uri)])
        await harness.until(SERVICE, fetched, "the artifact")
        await harness.backend.apply(SERVICE, [actions.ForgetArtifact(harness.uri)])
        await harness.until(SERVICE, lambda facts: facts.artifact is None, "it to be forgotten")
        await harness.backend.apply(SERVICE, [actions.ForgetArtifact(harness.uri)])

    async def test_a_watch_begins_with_what_is_known_and_goes_on_with_changes(self, harness: Harness) -> None:
        await harness.backend.apply(SERVICE, [start(harness.good)])
        await harness.until(SERVICE, ready, "readiness")
        news = harness.backend.watch()
        async with asyncio.timeout(DEADLINE):
            assert await anext(news) == SERVICE
            coming = asyncio.ensure_future(_next_of(news, OTHER))
            await asyncio.sleep(0)
            await harness.backend.apply(OTHER, [start(harness.good, service=OTHER)])
            assert await coming == OTHER
        await news.aclose()  # type: ignore[attr-defined]

    async def test_logs_end_with_what_was_written_last(self, harness: Harness) -> None:
        await harness.backend.apply(SERVICE, [start(harness.crashing)])
        await harness.until(SERVICE, lambda facts: facts.replicas[0].restarts > 0, "another try")
        lines = [line async for line in harness.backend.logs(SERVICE, tail=50)]
        assert any("boom" in line.text for line in lines)
        assert all(line.replica.service == SERVICE for line in lines)
        assert all("\n" not in line.text for line in lines)
        assert len([line async for line in harness.backend.logs(SERVICE, tail=1)]) == 1

    async def test_logs_of_a_service_without_any_are_not_found(self, harness: Harness) -> None:
        with pytest.raises(errors.SpecError) as refused:
            _ = [line async for line in harness.backend.logs(observed.ServiceKey("default", "nobody"))]
        assert refused.value.reason is errors.Reason.NOT_FOUND


async def _next_of(news: object, service: observed.ServiceKey) -> observed.ServiceKey:
    async for key in news:  # type: ignore[attr-defined]
        if key == service:
            return service
    raise AssertionError("the watch ended")
