"""What nobody wants any more is ended, but not on the word of a lost memory."""

from __future__ import annotations

from mlship.control import orphans
from mlship.plan import actions, observed

KEY = observed.ServiceKey("default", "iris")
REPLICA = observed.ReplicaId(KEY, "r1", 0)
SEEN = observed.Observed(
    replicas=(observed.Replica(REPLICA, observed.Phase.RUNNING, 0.0),),
    artifact=observed.Artifact("/m", observed.ArtifactState.READY),
)


def test_the_grace():
    now = 100.0
    known = orphans.Orphans(lambda: now, grace=60.0)
    assert known.plan(KEY, SEEN) == ((), 160.0)
    now = 159.0
    assert known.plan(KEY, SEEN) == ((), 160.0)
    now = 160.0
    todo, wake_at = known.plan(KEY, SEEN)
    assert [type(one) for one in todo] == [actions.StopReplica, actions.ForgetArtifact]
    assert wake_at is None


def test_a_service_that_is_applied_again_begins_a_new_grace():
    now = 100.0
    known = orphans.Orphans(lambda: now, grace=60.0)
    known.plan(KEY, SEEN)
    known.claimed(KEY)
    now = 170.0
    assert known.plan(KEY, SEEN) == ((), 230.0)


def test_nothing_left_is_nothing_to_do():
    known = orphans.Orphans(lambda: 0.0)
    assert known.plan(KEY, observed.Observed()) == ((), None)


def test_a_model_leaves_its_pool():
    known = orphans.Orphans(lambda: 0.0, grace=0.0)
    enlisted = observed.Enlisted(observed.ServiceKey("default", "modelmesh.sklearn"), "iris", "sha256:aa", "mark")
    todo, _ = known.plan(KEY, observed.Observed(enlisted=enlisted))
    assert todo == (actions.DelistModel(enlisted.pool, "iris", why="no such service is stored"),)
