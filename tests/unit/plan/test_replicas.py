"""Which replicas start, serve, wait and stop, one rule at a time."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from mlship.plan import observed, replicas

KEY = observed.ServiceKey("default", "iris")
Phase = observed.Phase


def replica(name: str, *, phase: Phase = Phase.RUNNING, ready: bool | None = None, **more: Any) -> observed.Replica:
    """``new-0`` is ordinal 0 of revision new; running ones are ready unless said otherwise."""
    revision, _, ordinal = name.rpartition("-")
    return observed.Replica(
        id=observed.ReplicaId(KEY, revision, int(ordinal)),
        phase=phase,
        since=0.0,
        ready=phase is Phase.RUNNING if ready is None else ready,
        endpoint=observed.Endpoint(f"unix:/run/{name}"),
        **more,
    )


def assign(
    *found: observed.Replica, applied: str = "", running: bool = True, target: str = "new", **more: Any
) -> replicas.Assignment:
    places = frozenset(observed.Endpoint(f"unix:/run/{name}") for name in applied.split())
    seen = observed.Observed(replicas=found, gateway=observed.Gateway(running=running, applied=places))
    settings = {"target": target, "startable": True, "wanted": 1, **more}
    return replicas.assign(KEY, seen, **settings)


def names(found: tuple[observed.Replica, ...]) -> list[str]:
    return [f"{one.id.revision}-{one.id.ordinal}" for one in found]


def test_missing_ordinals_are_started_and_only_those() -> None:
    made = assign(replica("new-1"), wanted=3)
    assert made.start == (0, 2)
    assert names(made.keep) == ["new-1"]


def test_nothing_is_started_before_the_artifact_is_there() -> None:
    assert assign(startable=False).start == ()


def test_one_in_back_off_is_there_and_not_routed() -> None:
    made = assign(replica("new-0", phase=Phase.BACKOFF))
    assert (made.start, made.routed, made.serving) == ((), (), "")
    assert names(made.keep) == ["new-0"]


def test_one_that_ended_for_good_is_started_anew() -> None:
    assert assign(replica("new-0", phase=Phase.EXITED)).start == (0,)


def test_nobody_waits_for_one_that_takes_its_time_to_end() -> None:
    made = assign(replica("new-0", phase=Phase.TERMINATING))
    assert made.start == (1,)
    assert names(made.ending) == ["new-0"]
    found = replica("new-0"), replica("new-1", phase=Phase.TERMINATING), replica("new-2", phase=Phase.KILLING)
    assert assign(*found, wanted=3).start == (3, 4)
    assert assign(*found, replica("new-3", phase=Phase.STARTING), replica("new-4"), wanted=3).start == ()
    settled = assign(replica("new-0"), replica("new-3"), replica("new-4"), wanted=2)
    assert (settled.start, names(settled.keep), names(settled.stop)) == ((), ["new-0", "new-3"], ["new-4"])


@pytest.mark.parametrize("phase", [Phase.STARTING, Phase.BACKOFF, Phase.TERMINATING, Phase.EXITED])
def test_only_running_and_ready_ones_are_routed(phase: Phase) -> None:
    assert assign(replica("new-0", phase=phase, ready=True)).routed == ()
    assert assign(dataclasses.replace(replica("new-0"), endpoint=None)).routed == ()


def test_the_old_revision_serves_until_the_new_one_has_its_capacity() -> None:
    found = (replica("old-0"), replica("old-1"), replica("new-0"), replica("new-1", phase=Phase.STARTING))
    made = assign(*found, wanted=2)
    assert made.serving == "old"
    assert names(made.routed) == ["old-0", "old-1"]
    assert made.stop == made.draining == ()


def test_the_new_revision_takes_over_with_the_capacity_of_the_old_one() -> None:
    made = assign(replica("old-0"), replica("new-0"), replica("new-1", phase=Phase.STARTING), wanted=2, applied="old-0")
    assert names(made.routed) == ["new-0"]
    assert names(made.draining) == ["old-0"]


def test_a_smaller_new_revision_takes_over_when_it_is_complete() -> None:
    made = assign(replica("old-0"), replica("old-1"), replica("new-0"), wanted=1)
    assert made.serving == "new"
    assert names(made.stop) == ["old-0", "old-1"]


def test_what_is_still_routed_to_drains_first() -> None:
    made = assign(replica("old-0"), replica("old-1"), replica("new-0"), applied="old-1 new-0")
    assert names(made.stop) == ["old-0"]
    assert names(made.draining) == ["old-1"]


def test_a_gateway_that_is_down_holds_nothing_back() -> None:
    made = assign(replica("old-0"), replica("new-0"), applied="old-0", running=False)
    assert names(made.stop) == ["old-0"]


def test_a_failing_revision_in_between_is_dropped() -> None:
    found = (replica("good-0"), replica("bad-0", phase=Phase.BACKOFF), replica("new-0", phase=Phase.STARTING))
    made = assign(*found)
    assert made.serving == "good"
    assert names(made.stop) == ["bad-0"]


def test_one_that_served_last_is_kept_while_it_recovers() -> None:
    found = (replica("old-0", phase=Phase.BACKOFF), replica("new-0", phase=Phase.STARTING))
    assert names(assign(*found, last_ready="old").keep) == ["new-0", "old-0"]
    assert names(assign(*found).stop) == ["old-0"]


def test_the_one_the_gateway_routes_to_is_preferred_among_old_ones() -> None:
    found = (replica("a-0"), replica("b-0"))
    assert assign(*found, applied="a-0").serving == "a"
    assert assign(*found, applied="b-0").serving == "b"


def test_surplus_ordinals_go_but_fill_in_for_broken_ones() -> None:
    made = assign(replica("new-0"), replica("new-1"), wanted=1)
    assert names(made.stop) == ["new-1"]
    broken = assign(replica("new-0", phase=Phase.BACKOFF), replica("new-1"), replica("new-2"), wanted=1)
    assert names(broken.routed) == ["new-1"]
    assert names(broken.stop) == ["new-2"]


def test_while_the_target_is_unknown_nothing_is_stopped() -> None:
    made = assign(replica("a-0"), replica("b-0", phase=Phase.BACKOFF), target="")
    assert made.serving == "a"
    assert names(made.keep) == ["a-0", "b-0"]
    assert made.stop == made.draining == made.start == ()


def test_nothing_wanted_ends_all() -> None:
    made = assign(replica("new-0"), replica("old-0"), wanted=0, applied="new-0")
    assert made.serving == ""
    assert names(made.stop) == ["old-0"]
    assert names(made.draining) == ["new-0"]


def test_strangers_doubles_and_the_forgotten_are_not_counted() -> None:
    other = dataclasses.replace(
        replica("new-0"), id=observed.ReplicaId(observed.ServiceKey("default", "wine"), "new", 0)
    )
    double = replica("new-0", phase=Phase.BACKOFF)
    made = assign(other, replica("new-0"), double, replica("new-1", phase=Phase.STOPPED))
    assert names(made.present) == ["new-0"]
    assert made.serving == "new"
