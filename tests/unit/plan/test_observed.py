"""The identities that everything else names."""

from __future__ import annotations

from mlship.plan import observed


def test_identities_sort_and_print() -> None:
    key = observed.ServiceKey("team", "iris")
    ids = [observed.ReplicaId(key, "b", 0), observed.ReplicaId(key, "a", 10), observed.ReplicaId(key, "a", 2)]
    assert [str(one) for one in sorted(ids)] == ["team/iris-a-2", "team/iris-a-10", "team/iris-b-0"]


def test_what_is_not_known_is_none_or_empty() -> None:
    nothing = observed.Observed()
    assert (nothing.replicas, nothing.artifact, nothing.gateway.running) == ((), None, False)
    assert observed.Exit(at=0.0).code is None
