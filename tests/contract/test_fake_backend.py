"""The fake world keeps the promises of a backend."""

from __future__ import annotations

from collections.abc import Callable

import backend_suite
import pytest

from mlship.backends import base, fake
from mlship.plan import actions, observed


class FakeHarness(backend_suite.Harness):
    """Specs mean something by their first argument."""

    uri = "file:///models/iris.pkl"
    missing = "file:///models/nothing.pkl"
    good = actions.ProcessSpec(argv=("good",))
    crashing = actions.ProcessSpec(argv=("crashing",))
    silent = actions.ProcessSpec(argv=("silent",))
    pool = actions.ProcessSpec(argv=("pool",))
    artifact = "/cache/aa"
    broken = "/cache/bad"

    def __init__(self) -> None:
        self.world = fake.Fake()
        self.backend = _ByProgram(self.world)
        self.world.artifacts.lose(self.missing, error="there is nothing at this path")

    async def until(self, service: observed.ServiceKey, holds: Callable[[base.Facts], bool], what: str) -> base.Facts:
        for _ in range(100):
            if holds(facts := self.world.facts(service)):
                return facts
            self.world.time.advance(0.5)
        raise AssertionError(f"never came: {what}")

    def kill(self, replica: observed.Replica) -> None:
        self.world.crash(replica.id, signal=9)

    async def use(self, member: observed.ServiceKey, replica: observed.Replica) -> None:
        if self.world.pools.entries[member].path == self.broken:
            self.world.pools.fails(member, replica.id, "bad bytes")
        else:
            self.world.pools.used(member, replica.id)

    def change(self) -> None:
        self.world.artifacts.put(self.uri, "sha256:changed")


class _ByProgram:
    """The fake world, told by each program what will become of it."""

    def __init__(self, world: fake.Fake) -> None:
        self._world = world
        self.observe, self.watch, self.logs, self.close = world.observe, world.watch, world.logs, world.close

    async def apply(self, service: observed.ServiceKey, todo: list[actions.Action]) -> None:
        boom = observed.Exit(at=0.0, code=3, last_line="boom")
        outcomes = {"crashing": fake.Outcome(exit=boom), "silent": fake.Outcome(hangs=True, message="does not listen")}
        for action in todo:
            if isinstance(action, actions.StartReplica) and action.spec.argv[0] in outcomes:
                self._world.outcome(action.id.revision, outcomes[action.spec.argv[0]])
        await self._world.apply(service, todo)


class TestFakeBackend(backend_suite.BackendSuite):
    @pytest.fixture
    async def harness(self) -> FakeHarness:
        return FakeHarness()
