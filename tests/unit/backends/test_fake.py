"""The fake world refuses what cannot be, and its time passes only when told. (Its promises: tests/contract.)"""

from __future__ import annotations

import asyncio
import dataclasses

import pytest

from mlship import errors
from mlship.backends import base, consistency, fake
from mlship.plan import actions, observed, routes

KEY = observed.ServiceKey("default", "iris")
ID = observed.ReplicaId(KEY, "0a1b2c3d", 0)
START = actions.StartReplica(ID, actions.ProcessSpec(argv=("x",)))
Phase = observed.Phase


def running() -> fake.Fake:
    world = fake.Fake()
    world.begin(KEY, [START])
    world.time.advance(world.start_seconds)
    return world


def only(world: fake.Fake) -> observed.Replica:
    (found,) = world.facts(KEY).replicas
    return found


def route(*endpoints: observed.Endpoint) -> routes.ServiceRoute:
    splits = (routes.Split("0a1b2c3d", 100, endpoints),) if endpoints else ()
    return routes.ServiceRoute(KEY, created="", timeout=60.0, splits=splits)


def test_nothing_happens_until_time_passes() -> None:
    world = fake.Fake(start_seconds=2.0)
    world.begin(KEY, [START])
    world.time.advance(1.9)
    assert only(world).phase is Phase.STARTING
    world.time.advance(0.1)
    assert (only(world).phase, only(world).ready) == (Phase.RUNNING, True)


def test_a_replica_of_one_id_is_one_program() -> None:
    world = running()
    world.begin(KEY, [START])
    with pytest.raises(consistency.ImpossibleWorld, match="something else"):
        world.begin(KEY, [dataclasses.replace(START, spec=actions.ProcessSpec(argv=("y",)))])


def test_an_ending_replica_cannot_be_started_over() -> None:
    world = running()
    world.begin(KEY, [actions.StopReplica(ID)])
    with pytest.raises(consistency.ImpossibleWorld, match="a second one"):
        world.begin(KEY, [START])


def test_a_model_that_nobody_fetched_cannot_be_loaded() -> None:
    with pytest.raises(consistency.ImpossibleWorld, match="nobody has fetched"):
        fake.Fake().begin(KEY, [dataclasses.replace(START, model_path="/cache/x")])


def test_a_replica_belongs_to_its_service() -> None:
    with pytest.raises(consistency.ImpossibleWorld, match="does not belong"):
        fake.Fake().begin(observed.ServiceKey("default", "wine"), [START])


def test_what_does_not_run_neither_crashes_nor_answers() -> None:
    world = fake.Fake()
    with pytest.raises(consistency.ImpossibleWorld, match="never started"):
        world.crash(ID, code=1)
    world = running()
    world.crash(ID, code=1)
    for trouble in (
        lambda: world.crash(ID, code=1),
        lambda: world.unready(ID, "503"),
        lambda: world.recover(ID),
    ):
        with pytest.raises(consistency.ImpossibleWorld, match="backoff"):
            trouble()


def test_a_route_leads_to_replicas_that_are_there() -> None:
    with pytest.raises(consistency.ImpossibleWorld, match="where no replica is"):
        fake.Fake().route(KEY, route(observed.Endpoint("unix:/nowhere")))


def test_the_gateway_may_use_old_and_new_until_it_has_taken_over() -> None:
    world = running()
    world.begin(KEY, [dataclasses.replace(START, id=dataclasses.replace(ID, ordinal=1))])
    world.time.advance(5.0)
    first, second = (one.endpoint for one in world.facts(KEY).replicas)
    assert first is not None
    assert second is not None
    world.route(KEY, route(first))
    world.time.advance(1.0)
    world.route(KEY, route(second))
    assert world.seen(KEY).gateway.applied == {first, second}
    world.time.advance(1.0)
    assert world.seen(KEY).gateway.applied == {second}
    world.gateway_running = False
    assert world.seen(KEY).gateway.applied == frozenset()


def test_a_crash_backs_off_longer_each_time() -> None:
    world = running()
    waits = []
    for _ in range(8):
        world.crash(ID, code=1)
        waits.append((only(world).restart_at or 0.0) - world.time.now)
        world.time.advance(waits[-1] + world.start_seconds)
        assert only(world).ready
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60]


def test_an_unready_replica_says_why_and_recovers() -> None:
    world = running()
    world.unready(ID, "503")
    assert (only(world).ready, only(world).message) == (False, "503")
    world.recover(ID)
    assert (only(world).ready, only(world).message) == (True, "")


def test_a_world_as_found_goes_on_from_there() -> None:
    world = running()
    world.crash(ID, code=1)
    again = fake.Fake(now=world.time.now)
    again.seed(KEY, world.seen(KEY))
    assert again.seen(KEY) == world.seen(KEY)
    again.time.advance(10.0)
    assert only(again).ready
    with pytest.raises(consistency.ImpossibleWorld, match="there already"):
        again.seed(KEY, world.seen(KEY))


async def test_a_closed_world_takes_no_orders_and_ends_its_watches() -> None:
    world = running()
    news = world.watch()
    assert await anext(news) == KEY
    rest = asyncio.ensure_future(_all(news))
    await asyncio.sleep(0)
    await world.close()
    async with asyncio.timeout(30):
        assert await rest == []
    with pytest.raises(errors.BackendError):
        await world.apply(KEY, [START])


async def _all(news: object) -> list[observed.ServiceKey]:
    return [key async for key in news]  # type: ignore[attr-defined]


async def test_followed_logs_go_on() -> None:
    world = running()
    lines = world.logs(KEY, tail=5, follow=True)
    async with asyncio.timeout(30):
        assert (await anext(lines)).text == "ready"
        coming: asyncio.Future[base.LogLine] = asyncio.ensure_future(anext(lines))
        await asyncio.sleep(0)
        world.crash(ID, code=1, last_line="boom")
        assert (await coming).text == "boom"
    await lines.aclose()  # type: ignore[attr-defined]
