"""One wake-up put together from looks: its phases sum to the whole, and each start comes out once."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlship.plan import coldstart, observed

KEY = observed.ServiceKey("default", "iris")
ID = observed.ReplicaId(KEY, "0a1b2c3d", 0)
END = observed.Endpoint("unix:/h")
NOW = 1000.0
SAID = (("wait", 0.001), ("fork", 0.011), ("listening", 0.002), ("load", 0.024), ("warm-up", 0.006))
Why, Phase = coldstart.Why, observed.Phase


def replica(**changes: Any) -> observed.Replica:
    made = observed.Replica(ID, Phase.STARTING, since=NOW, endpoint=END)
    return dataclasses.replace(made, **changes)


def startup(**changes: Any) -> observed.Startup:
    made = observed.Startup(observed.How.FORKED, began_at=NOW + 0.003, phases=SAID, ready_at=NOW + 0.1)
    return dataclasses.replace(made, **changes)


def ready(**changes: Any) -> observed.Replica:
    return replica(**{"phase": Phase.RUNNING, "ready": True, "startup": startup(), **changes})


def world(*replicas: observed.Replica, applied: bool = False, waiting: int = 0, **more: Any) -> observed.Observed:
    gateway = observed.Gateway(running=True, applied=frozenset({END} if applied else ()))
    return observed.Observed(replicas, gateway=gateway, demand=observed.Demand(waiting=waiting), **more)


class Watch:
    """A memory and what has come out."""

    def __init__(self, since: float = NOW - 500) -> None:
        self.memory = coldstart.Memory(since)
        self.over: list[coldstart.ColdStart] = []

    def look(self, seen: observed.Observed, now: float, *, wanted: int = 1, start: bool = False) -> None:
        self.memory, over = coldstart.look(self.memory, seen, wanted=wanted, starts=[ID] if start else [], now=now)
        self.over += over


def test_a_caller_who_waits_is_the_wish_and_the_gates_yes_the_end() -> None:
    watch = Watch()
    watch.memory = dataclasses.replace(watch.memory, wish=coldstart.Wish(NOW - 0.5, Why.CALLER, "00-a-b-01"))
    watch.look(world(waiting=1), NOW, start=True)
    watch.look(world(replica(), waiting=1), NOW + 0.05)
    watch.look(world(ready(), waiting=2), NOW + 0.1)
    watch.look(world(ready(), waiting=2, applied=True), NOW + 0.104)
    assert watch.over == []
    watch.look(world(ready(), applied=True), NOW + 0.106)
    (start,) = watch.over
    assert (start.why, start.how, start.traceparent) == (Why.CALLER, "forked", "00-a-b-01")
    phases = dict(start.phases)
    assert phases == pytest.approx(
        {
            "decide": 0.5, "supervise": 0.056, "zygote": 0.001, "fork": 0.011, "listen": 0.002, "load": 0.024,
            "warm-up": 0.006, "endpoint": 0.004, "answer": 0.002,
        }, abs=1e-6,
    )  # fmt: skip
    assert start.seconds == pytest.approx(0.606)
    watch.look(world(ready(), applied=True), NOW + 5)
    assert len(watch.over) == 1, "it comes out once"


def test_the_gates_own_word_ends_the_wait_even_while_others_wait() -> None:
    watch = Watch()
    watch.look(world(waiting=1), NOW, start=True)
    watch.memory = dataclasses.replace(watch.memory, answered_at=NOW + 0.2)
    watch.look(world(ready(), waiting=1, applied=True), NOW + 0.15)
    assert dict(watch.over[0].phases)["answer"] == pytest.approx(0.05)


def test_without_a_caller_a_start_is_over_when_the_gateway_routes_to_it() -> None:
    watch = Watch()
    watch.look(world(), NOW, start=True)
    watch.look(world(ready(), applied=True), NOW + 0.11)
    assert watch.over[0].why is Why.MISSING
    assert "answer" not in dict(watch.over[0].phases)


def test_a_caller_who_comes_while_it_is_fetched_does_not_shorten_the_story() -> None:
    watch = Watch()
    watch.look(world(), NOW - 4)
    watch.look(world(waiting=1), NOW - 1)
    watch.look(world(waiting=1), NOW, start=True)
    watch.look(world(ready(), waiting=1, applied=True), NOW + 0.11)
    (start,) = watch.over
    assert (start.why, start.wished_at) == (Why.MISSING, NOW - 4)


def test_one_more_beside_ready_ones_was_the_scalers_wish() -> None:
    watch, other = Watch(), dataclasses.replace(ready(), id=observed.ReplicaId(KEY, "0a1b2c3d", 1), startup=None)
    watch.look(world(other), NOW, wanted=2, start=True)
    watch.look(world(ready(), other, applied=True), NOW + 0.2, wanted=2)
    assert [start.why for start in watch.over] == [Why.SCALE]


def test_the_fetch_between_wish_and_action_is_a_phase_with_its_bytes() -> None:
    watch = Watch()
    artifact = observed.Artifact("u", observed.ArtifactState.FETCHING)
    watch.look(world(artifact=artifact), NOW - 5)
    here = dataclasses.replace(
        artifact, state=observed.ArtifactState.READY, size=1_200_000_000, fetched_at=NOW - 0.5, seconds=4.0
    )
    watch.look(world(artifact=here), NOW, start=True)
    watch.look(world(ready(), applied=True, artifact=here), NOW + 0.1)
    (start,) = watch.over
    assert start.phases[:2] == (("download", 4.0), ("decide", 1.0))
    assert "(download 1.2 GB at 300 MB/s)" in coldstart.sentence(start)


def test_the_time_a_failed_fetch_waits_for_its_user_is_no_start() -> None:
    watch = Watch()
    failed = observed.Artifact("u", observed.ArtifactState.FAILED, error="no such file")
    watch.look(world(artifact=failed), NOW - 400)
    watch.look(world(), NOW, start=True)
    watch.look(world(ready(), applied=True), NOW + 0.1)
    assert watch.over[0].seconds == pytest.approx(0.1)


def test_a_replica_that_was_started_again_waited_in_its_back_off() -> None:
    watch = Watch()
    watch.look(world(ready(last_exit=observed.Exit(at=NOW - 2.0)), applied=True), NOW + 0.1)
    (start,) = watch.over
    assert (start.why, start.phases[0]) == (Why.RESTART, ("back-off", pytest.approx(2.003)))


def test_tries_that_ended_badly_are_a_phase_of_their_own() -> None:
    watch = Watch()
    watch.look(world(), NOW - 3, start=True)
    watch.look(world(ready(last_exit=observed.Exit(at=NOW - 1)), applied=True), NOW + 0.1)
    (start,) = watch.over
    assert dict(start.phases)["retry"] == pytest.approx(3.003)
    assert dict(start.phases)["supervise"] == pytest.approx(0.053)
    assert start.seconds == pytest.approx(3.1)


def test_what_began_before_this_control_plane_is_not_counted_and_still_recalled() -> None:
    watch = Watch(since=NOW + 50)
    watch.look(world(ready(), applied=True), NOW + 60)
    assert watch.over == []
    recalled = coldstart.recalled([ready(), replica()])
    assert recalled is not None
    assert dict(recalled.phases)["load"] == pytest.approx(0.024)
    assert coldstart.recalled([replica()]) is None


def test_memory_is_of_replicas_that_are_there_and_of_a_few_starts() -> None:
    watch = Watch()
    for turn in range(8):
        at = NOW + 10 * turn
        watch.look(world(), at, start=True)
        made = ready(startup=startup(began_at=at + 0.01, ready_at=at + 0.1))
        watch.look(world(made, applied=True), at + 0.2)
    assert len(watch.over) == 8
    assert len(watch.memory.newest) == coldstart.KEPT
    watch.look(world(), NOW + 100, wanted=0)
    assert (watch.memory.acted, watch.memory.applied, watch.memory.counted) == ({}, {}, {})


@given(
    times=st.lists(st.floats(0, 100), min_size=5, max_size=5).map(sorted),
    said=st.lists(st.tuples(st.sampled_from(["import", "load", "warm-up", "x"]), st.floats(0, 200)), max_size=5),
    caller=st.booleans(),
)
def test_phases_sum_to_the_whole_and_none_is_negative(
    times: list[float], said: list[tuple[str, float]], caller: bool
) -> None:
    wished, acted, began, prepared, applied = times
    watch = Watch(since=-1.0)
    watch.look(world(waiting=int(caller)), wished)
    watch.look(world(waiting=int(caller)), acted, start=True)
    made = ready(startup=startup(began_at=began, ready_at=prepared, phases=tuple(said)))
    watch.look(world(made, applied=True), applied)
    (start,) = watch.over
    assert start.seconds == pytest.approx(applied - wished, abs=1e-6)
    assert all(seconds >= -1e-9 for _, seconds in start.phases)
    assert coldstart.sentence(start)


def test_the_sentence_leaves_out_what_took_no_time_and_tells_long_ones_in_seconds() -> None:
    start = coldstart.ColdStart(
        ID, observed.How.FORKED, Why.CALLER, NOW, (("decide", 0.003), ("import", 0.0), ("load", 0.024))
    )
    assert coldstart.sentence(start) == "27 ms = decide 3, load 24"
    slow = dataclasses.replace(start, phases=(("download", 12.34), ("decide", 0.01), ("load", 1.0)))
    assert coldstart.sentence(slow) == "13.3 s = download 12.3, decide 0.0, load 1.0"


@pytest.mark.parametrize(
    ("seen", "doing"),
    [
        (world(), None),
        (world(ready(), applied=True), None),
        (world(ready()), "telling the gateway"),
        (world(replica(startup=startup(phases=(), ready_at=None))), "starting a process"),
        (world(replica(startup=startup(phases=SAID[:2], ready_at=None))), "loading the model"),
        (world(replica(startup=startup(ready_at=None))), "answering its first probe"),
        (world(replica(phase=Phase.BACKOFF, message="boom")), "starting again, the last start failed: boom"),
        (
            world(artifact=observed.Artifact("u", observed.ArtifactState.FETCHING, done=5_000_000, total=10_000_000)),
            "fetching the model, 5 MB of 10 MB",
        ),
    ],
)  # fmt: skip
def test_what_a_service_that_is_waking_is_at(seen: observed.Observed, doing: str | None) -> None:
    found = coldstart.underway(seen, NOW + 1)
    assert (None if found is None else found.doing) == doing
