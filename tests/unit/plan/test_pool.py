"""What a pool is to be by what its members say, and how it begins and ends."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlship.backends import fake
from mlship.plan import actions, observed, pool, pool_program, reconcile

KEY = pool.key_of("default", "sklearn")
MEMBER = pool.Membership(KEY, "sklearn", timeout=60)


def wanted(*members: pool.Membership, cores: int = 8) -> pool.Wanted:
    return pool.gather(KEY, members or (MEMBER,), cores=cores)


def test_a_pool_cannot_have_the_name_of_a_service_and_a_trained_model_may():
    assert pool.is_pool(KEY)
    assert not pool.is_pool(observed.ServiceKey("default", "modelmesh"))
    trained = pool.trained_key("default", "iris")
    assert pool.trained_name(trained) == "iris"
    assert pool.trained_name(observed.ServiceKey("default", "iris")) == ""
    assert pool.member_key(KEY, "iris") == observed.ServiceKey("default", "iris")
    assert pool.member_key(observed.ServiceKey("default", "many"), "iris") == trained


def test_without_a_word_there_are_two_processes_and_never_more_than_cores():
    assert wanted().processes == 2
    assert wanted(cores=1).processes == 1
    assert wanted(dataclasses.replace(MEMBER, processes=6), cores=4).processes == 4
    assert wanted(dataclasses.replace(MEMBER, processes=1)).processes == 1


@given(st.permutations([(1, None, 60), (3, 2**30, 60), (None, 2**31, 30), (2, None, 600)]))
def test_the_most_of_each_counts_in_any_order(said):
    members = [pool.Membership(KEY, "sklearn", timeout, processes, memory) for processes, memory, timeout in said]
    made = wanted(*members)
    assert (made.processes, made.memory, made.timeout, made.members) == (3, 2**31, 600, 4)


def test_the_program_knows_the_budget_of_one_process_and_nothing_of_one_model():
    spec = pool_program.spec("sklearn", processes=2, memory=2**30, timeout=60)
    assert spec.argv[spec.argv.index("--memory-budget") + 1] == str(2**29)
    assert spec.probe == actions.Probe("/v2/health/ready")
    assert pool_program.holds_models(spec)
    assert "--memory-budget" not in pool_program.spec("sklearn", processes=2, memory=None, timeout=60).argv


class World:
    """A pool in the fake world."""

    def __init__(self) -> None:
        self.fake = fake.Fake()
        self.wanted = wanted()
        self.empty_since: float | None = None

    def look(self) -> reconcile.Plan:
        made = pool.plan(self.wanted, self.fake.seen(KEY), self.fake.time.now, empty_since=self.empty_since)
        self.fake.begin(KEY, made.actions)
        self.fake.route(KEY, made.route)
        return made

    def settle(self) -> reconcile.Plan:
        for _ in range(50):
            made = self.look()
            self.fake.time.advance(1.0)
        return made

    def ready(self) -> int:
        return sum(one.ready for one in self.fake.facts(KEY).replicas)


@pytest.fixture
def world() -> World:
    return World()


def test_it_begins_with_its_first_member_and_routes_by_the_model(world):
    first = world.look()
    assert first.summary() == "start 2 replicas; wait for readiness"
    assert first.route is not None
    assert first.route.splits == ()
    assert "starting" in first.route.message
    made = world.settle()
    assert world.ready() == 2
    assert made.route.pool is not None
    assert len(made.route.splits[0].endpoints) == 2


def test_another_budget_replaces_its_processes_without_a_gap(world):
    world.settle()
    before = {one.id.revision for one in world.fake.facts(KEY).replicas}
    world.wanted = dataclasses.replace(world.wanted, memory=2**30)
    for _ in range(50):
        assert world.look().route.splits
        world.fake.time.advance(0.5)
    assert before.isdisjoint({one.id.revision for one in world.fake.facts(KEY).replicas})


def test_a_model_more_or_less_replaces_nothing(world):
    world.settle()
    world.wanted = dataclasses.replace(world.wanted, members=7)
    assert world.look().actions == ()


def test_after_the_last_member_it_waits_and_then_ends(world):
    world.settle()
    world.empty_since = world.fake.time.now
    world.wanted = dataclasses.replace(world.wanted, members=0, processes=1)
    made = world.look()
    assert made.actions == ()
    assert made.wake_at == world.empty_since + pool.GRACE
    assert made.route.splits
    world.fake.time.advance(pool.GRACE)
    assert world.settle().finished
    assert world.fake.facts(KEY).replicas == ()


def test_a_member_that_comes_back_in_time_finds_the_same_processes(world):
    world.settle()
    before = [one.pid for one in world.fake.facts(KEY).replicas]
    world.empty_since = world.fake.time.now
    world.look()
    world.empty_since = None
    world.settle()
    assert [one.pid for one in world.fake.facts(KEY).replicas] == before


def test_it_does_not_end_while_a_model_is_enlisted_that_nobody_speaks_for(world):
    world.settle()
    entry = actions.Entry("iris", "sklearn", "/cache/aa", "sha256:aa")
    world.fake.begin(KEY, [actions.EnlistModel(KEY, entry)])
    world.empty_since = world.fake.time.now - 2 * pool.GRACE
    made = world.look()
    assert (made.actions, made.wake_at) == ((), world.fake.time.now + pool.GRACE)
    world.fake.begin(KEY, [actions.DelistModel(KEY, "iris")])
    assert world.settle().finished


def test_one_that_never_had_a_process_is_finished_at_once(world):
    world.empty_since = world.fake.time.now
    assert world.look().finished
