"""The feeds with a real scaler of KEDA's protocol: asked, listened to, gone, back again, and wrong."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable

import pytest

import keda_scaler
from mlship import aio
from mlship.control import external_scaler, feeds, followed, queries, scalers, workqueue
from mlship.plan import observed, scaling
from mlship.scale import policy as policies
from mlship.scale import readings

IRIS = observed.ServiceKey("team", "iris")
NAME = "jobs of others"


class Admin:
    """There is no traffic to read."""

    async def stats(self, pattern: str) -> str:
        return ""


def by(scaler: keda_scaler.Scaler, *, pushes: bool = False, interval: float = 0.01, **told: str) -> scaling.Scaling:
    policy = policies.Policy(
        min_replicas=0, max_replicas=9, metrics=(policies.Metric(NAME, policies.Kind.EXTERNAL, 1.0),)
    )
    options = tuple(sorted({"scalerAddress": scaler.address, **told}.items()))
    source = scaling.Source(
        NAME, scaling.Origin.SCALER, address=scaler.address, options=options, asker="shop", pushes=pushes,
        interval=interval,
    )  # fmt: skip
    return scaling.Scaling(policy, (source,))


@contextlib.asynccontextmanager
async def feeding() -> AsyncIterator[feeds.Feeds]:
    made = feeds.Feeds(Admin())
    failures: list[BaseException] = []
    async with aio.tasks(lambda name, error: failures.append(error)) as owner:
        owner.start(made.run(), name="feeds")
        yield made
    assert failures == []


def reading(made: feeds.Feeds) -> readings.Reading:
    return made.of(IRIS, now=made._clock()).metrics[NAME]


async def woken(made: feeds.Feeds) -> observed.ServiceKey:
    async with asyncio.timeout(30):
        return await anext(made.watch())


async def test_a_sleeping_service_has_its_scaler_asked_for_its_scaled_object(until: Callable[..., object]) -> None:
    async with keda_scaler.scaler() as scaler, feeding() as made:
        scaler.values["jobs"] = [(0, 12.5)]
        made.follow(IRIS, by(scaler, topic="orders"), observed.Observed())
        await until(lambda: reading(made).whole)  # type: ignore[misc]
        assert reading(made) == readings.Reading(stable=2.5, active=False)
        scaler.active, scaler.values["jobs"] = True, [(40, 0.0)]
        assert await woken(made) == IRIS
        await until(lambda: reading(made) == readings.Reading(stable=8.0, active=True))  # type: ignore[misc]
        assert scaler.calls("StreamIsActive") == 0
        for _, about in scaler.asked:
            assert (about.name, about.namespace) == ("shop", "team")
            assert about.scalerMetadata == {"scalerAddress": scaler.address, "topic": "orders"}


@pytest.mark.parametrize(
    ("specs", "values", "expected"),
    [
        ([("jobs", 4, 0.0)], {"jobs": [(10, 0.0)]}, 2.5),
        ([("jobs", 4, 2.0)], {"jobs": [(10, 0.5)]}, 0.25),
        ([("jobs", 4, 0.0)], {"jobs": [(1, 0.0), (0, 2.5)]}, 0.875),
        ([("a", 10, 0.0), ("b", 10, 0.0), ("c", 1, 0.0)], {"a": [(5, 0.0)], "b": [(30, 0.0)], "c": [(1, 0.0)]}, 3.0),
        ([], {}, None),
        ([("jobs", 0, 0.0)], {"jobs": [(1, 0.0)]}, None),
        ([("jobs", -1, 0.0)], {"jobs": [(1, 0.0)]}, None),
        ([("jobs", 0, math.nan)], {"jobs": [(1, 0.0)]}, None),
        ([("jobs", 1, 0.0)], {}, None),
        ([("jobs", 1, 0.0)], {"jobs": [(1, math.inf)]}, None),
        ([("jobs", 1, 0.0)], {"jobs": [(1, math.nan)]}, None),
        ([("a", 1, 0.0), ("b", 1, 0.0)], {"a": [(1, 0.0)]}, None),
        ([(str(number), 1, 0.0) for number in range(40)], {}, None),
    ],
)
async def test_what_a_scaler_may_answer(
    specs: list[tuple[str, int, float]], values: dict[str, list[tuple[int, float]]], expected: float | None
) -> None:
    async with keda_scaler.scaler() as scaler:
        scaler.specs, scaler.values = specs, values
        asked = external_scaler.opened(scaler.address, asker="s", namespace="d", options={})
        try:
            if expected is None:
                with pytest.raises(queries.Unanswered):
                    await asked.share()
            else:
                assert await asked.share() == expected
        finally:
            await asked.close()


async def test_what_is_no_message_is_unknown(until: Callable[..., object]) -> None:
    async with keda_scaler.scaler() as scaler, feeding() as made:
        scaler.broken = True
        made.follow(IRIS, by(scaler, pushes=True), observed.Observed())
        await until(lambda: reading(made).failures >= 2)  # type: ignore[misc]
        assert (reading(made).stable, reading(made).active) == (None, None)
        scaler.broken = False
        await until(lambda: reading(made) == readings.Reading(stable=0.0, active=False))  # type: ignore[misc]


async def test_activity_is_known_where_the_amount_is_not(until: Callable[..., object]) -> None:
    async with keda_scaler.scaler() as scaler, feeding() as made:
        scaler.active, scaler.specs = True, []
        made.follow(IRIS, by(scaler), observed.Observed())
        await until(lambda: reading(made).failures >= 2)  # type: ignore[misc]
        found = reading(made)
        assert (found.stable, found.active, found.whole) == (None, True, False)


async def test_a_push_wakes_at_once_without_waiting_for_an_interval(until: Callable[..., object]) -> None:
    async with keda_scaler.scaler() as scaler, feeding() as made:
        made.follow(IRIS, by(scaler, pushes=True, interval=3600.0), observed.Observed())
        await until(lambda: scaler.listeners and reading(made).active is False)  # type: ignore[misc]
        await until(lambda: reading(made).stable == 0.0)  # type: ignore[misc]
        scaler.values["jobs"] = [(0, 15.0)]
        scaler.push(True)
        assert await woken(made) == IRIS
        assert reading(made).active is True
        await until(lambda: reading(made).stable == 3.0)  # type: ignore[misc]
        assert await woken(made) == IRIS, "the amount came after the word"
        assert reading(made).active is True
        assert scaler.calls("IsActive") == 1
        scaler.push(True)
        scaler.push(False)
        await until(lambda: reading(made).active is False)  # type: ignore[misc]
        assert not made._pressing, "what goes on or ends is no news that cannot wait"


async def test_a_push_is_newer_than_the_answer_to_a_question_from_before_it(
    until: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(external_scaler, "_SECONDS", 0.5)
    async with keda_scaler.scaler() as scaler, feeding() as made:
        scaler.silent = True
        made.follow(IRIS, by(scaler, pushes=True, interval=3600.0), observed.Observed())
        await until(lambda: scaler.listeners and scaler.calls("IsActive") == 1)  # type: ignore[misc]
        scaler.push(True)
        await until(lambda: reading(made).failures == 1)  # type: ignore[misc]
        found = reading(made)
        assert (found.stable, found.active) == (None, True)


async def test_silence_is_unknown_and_never_nothing(
    until: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(external_scaler, "_SECONDS", 0.05)
    async with keda_scaler.scaler() as scaler, feeding() as made:
        made.follow(IRIS, by(scaler), observed.Observed())
        await until(lambda: reading(made).whole)  # type: ignore[misc]
        scaler.silent = True
        await until(lambda: reading(made).failures >= 3)  # type: ignore[misc]
        assert (reading(made).stable, reading(made).active, reading(made).whole) == (None, None, False)


async def test_a_metric_that_takes_too_long_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    async with keda_scaler.scaler() as scaler:
        asked = external_scaler.opened(scaler.address, asker="s", namespace="d", options={})
        assert await asked.active() is False
        monkeypatch.setattr(external_scaler, "_SECONDS", 0.0)
        with pytest.raises(queries.Unanswered):
            await asked.share()
        await asked.close()


async def test_a_scaler_that_comes_back_is_asked_and_heard_again(
    until: Callable[..., object], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(scalers, "_AGAIN", workqueue.Backoff(first=0.01, last=0.05))
    async with keda_scaler.scaler() as scaler, feeding() as made:
        made.follow(IRIS, by(scaler, pushes=True), observed.Observed())
        await until(lambda: scaler.listeners and reading(made).whole)  # type: ignore[misc]
        await scaler.stop()
        await until(lambda: reading(made).failures >= 3)  # type: ignore[misc]
        assert reading(made).stable is None
        await scaler.start()
        await until(lambda: scaler.listeners and reading(made).whole, seconds=30.0)  # type: ignore[misc]
        assert reading(made).failures == 0
        scaler.push(True)
        assert await woken(made) == IRIS
    warned = [one for one in caplog.records if one.levelno == logging.WARNING and one.name == "mlship.feeds"]
    assert 1 <= len(warned) <= 4, "each trouble is told once, not at every try"


async def test_a_stream_that_ends_is_opened_again(
    until: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scalers, "_AGAIN", workqueue.Backoff(first=0.01, last=0.05))
    async with keda_scaler.scaler() as scaler, feeding() as made:
        made.follow(IRIS, by(scaler, pushes=True, interval=3600.0), observed.Observed())
        for number in (1, 2, 3):
            await until(lambda: scaler.listeners and scaler.calls("StreamIsActive") >= number)  # type: ignore[misc] # noqa: B023
            scaler.hang_up()
        await until(lambda: scaler.calls("StreamIsActive") >= 4 and reading(made).whole)  # type: ignore[misc]
        assert reading(made).failures == 0
        monkeypatch.setattr(external_scaler, "_STREAM_SECONDS", 0.01)
        scaler.hang_up()
        await until(lambda: scaler.calls("StreamIsActive") >= 8)  # type: ignore[misc]
        assert reading(made).failures == 0, "one that was open for long is no failure"


async def test_a_scaler_without_a_stream_is_asked(
    until: Callable[..., object], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "mlship.feeds")
    async with keda_scaler.scaler(streams=False) as scaler, feeding() as made:
        made.follow(IRIS, by(scaler, pushes=True), observed.Observed())
        await until(lambda: "does not push" in caplog.text and reading(made).whole)  # type: ignore[misc]
        scaler.active = True
        assert await woken(made) == IRIS


async def test_one_that_is_no_longer_followed_is_let_go(until: Callable[..., object]) -> None:
    async with keda_scaler.scaler() as scaler, feeding() as made:
        made.follow(IRIS, by(scaler, pushes=True), observed.Observed())
        await until(lambda: scaler.listeners)  # type: ignore[misc]
        made.follow(IRIS, None, observed.Observed())
        assert made._asking == {}
        await until(lambda: not scaler.listeners)  # type: ignore[misc]


async def test_without_the_library_the_metric_is_unknown_and_says_what_to_install(
    until: Callable[..., object], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def missing() -> object:
        raise ImportError("No module named 'grpc'")

    monkeypatch.setattr(external_scaler, "_library", missing)
    async with feeding() as made:
        made.follow(IRIS, by(keda_scaler.Scaler(), pushes=True), observed.Observed())
        await until(lambda: reading(made).failures >= 2)  # type: ignore[misc]
        assert not reading(made).whole
    assert "pip install 'mlship[keda]'" in caplog.text


async def test_what_fails_unexpectedly_is_unknown_and_tried_again(
    until: Callable[..., object], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    share, faults = external_scaler.Scaler.share, [ZeroDivisionError("odd")]

    async def odd(self: external_scaler.Scaler) -> float:
        if scaler.active and faults:
            raise faults.pop()
        return await share(self)

    monkeypatch.setattr(external_scaler.Scaler, "share", odd)
    async with keda_scaler.scaler() as scaler, feeding() as made:
        made.follow(IRIS, by(scaler, pushes=True), observed.Observed())
        await until(lambda: reading(made).whole)  # type: ignore[misc]
        scaler.active = True
        await until(lambda: "odd" in caplog.text and reading(made).whole)  # type: ignore[misc]
    assert not faults


class Slow:
    """A scaler that fails when it is asked, and whose stream takes a moment to end."""

    def __init__(self) -> None:
        self.listening, self.ending, self.over = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def active(self) -> bool:
        await self.listening.wait()
        raise ZeroDivisionError("odd")

    async def words(self) -> AsyncGenerator[bool, None]:
        try:
            self.listening.set()
            await asyncio.Event().wait()
            yield True
        finally:
            self.ending.set()
            await self.over.wait()

    async def close(self) -> None: ...


async def test_an_end_that_comes_while_it_fails_is_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = Slow()
    monkeypatch.setattr(external_scaler, "opened", lambda *given, **more: slow)
    source = scaling.Source("external", scaling.Origin.SCALER, pushes=True, interval=0.01)
    follower = scalers.Follower(IRIS, source, followed.Followed(), at_once=asyncio.Semaphore(1), wake=lambda: None)
    running = asyncio.ensure_future(follower.run())
    async with asyncio.timeout(10):
        await slow.ending.wait()
        running.cancel()
        slow.over.set()
        await asyncio.wait([running], timeout=1)
    assert running.cancelled()


class Broken(Slow):
    """One whose stream fails while it is asked."""

    async def active(self) -> bool:
        await asyncio.Event().wait()
        return True

    async def words(self) -> AsyncGenerator[bool, None]:
        raise ZeroDivisionError("odd")
        yield True


async def test_a_stream_that_fails_unexpectedly_ends_no_follower(
    monkeypatch: pytest.MonkeyPatch, until: Callable[..., object]
) -> None:
    opened: list[Broken] = []

    def broken(*given: object, **more: object) -> Broken:
        opened.append(Broken())
        return opened[-1]

    monkeypatch.setattr(external_scaler, "opened", broken)
    source = scaling.Source("external", scaling.Origin.SCALER, pushes=True, interval=0.01)
    follower = scalers.Follower(IRIS, source, followed.Followed(), at_once=asyncio.Semaphore(1), wake=lambda: None)
    running = asyncio.ensure_future(follower.run())
    await until(lambda: len(opened) >= 3)  # type: ignore[misc]
    running.cancel()
    async with asyncio.timeout(10):
        await asyncio.wait([running])
    assert running.cancelled()


async def test_a_plain_scaler_is_no_answer_to_a_secured_question() -> None:
    async with keda_scaler.scaler() as scaler:
        asked = external_scaler.opened(scaler.address, asker="s", namespace="d", options={"enableTLS": "true"})
        with pytest.raises(queries.Unanswered):
            await asked.active()
        await asked.close()


async def test_nobody_inherits_the_settings_of_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRPC_VERBOSITY", "INFO")
    monkeypatch.delenv("GRPC_ENABLE_FORK_SUPPORT", raising=False)
    asked = external_scaler.opened("127.0.0.1:1", asker="s", namespace="d", options={})
    assert os.environ["GRPC_VERBOSITY"] == "INFO"
    assert "GRPC_ENABLE_FORK_SUPPORT" not in os.environ
    with pytest.raises(queries.Unanswered, match="UNAVAILABLE"):
        await asked.active()
    await asked.close()


def test_the_messages_are_those_of_the_protocol() -> None:
    made = external_scaler.DESCRIPTION
    published = {one.name: one for one in keda_scaler.described().message_type}
    assert {one.name for one in made.message_type} == set(published)
    for one in made.message_type:
        shapes = [
            [(field.name, field.number, field.label, field.type, field.type_name) for field in message.field]
            for message in (one, published[one.name])
        ]
        assert shapes[0] == shapes[1], one.name
