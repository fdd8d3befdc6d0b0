"""The queue's promises, as properties of the schedule and as behaviour of the workers."""

from __future__ import annotations

import asyncio
import math

import pytest
from hypothesis import stateful
from hypothesis import strategies as st

from mlship.control import workqueue

KEYS = st.sampled_from(["a", "b", "c"])


class ScheduleMachine(stateful.RuleBasedStateMachine):
    """Any order of news, takes, ends and passing time: no key is with two workers, what is due is handed out."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.schedule: workqueue.Schedule[str] = workqueue.Schedule(workqueue.Backoff(first=1.0, last=8.0))
        self.running: set[str] = set()
        self.owed: dict[str, float] = {}  # key -> the time from which it must be handed out
        self.meanwhile: dict[
            str, tuple[float, bool]
        ] = {}  # key being worked on -> first news, and whether any is urgent
        self.failures: dict[str, int] = {}

    @stateful.rule(key=KEYS, urgent=st.booleans())
    def news(self, key: str, urgent: bool) -> None:
        self.schedule.add(key, self.now, urgent=urgent)
        if key in self.running:
            first, any_urgent = self.meanwhile.get(key, (self.now, False))
            self.meanwhile[key] = (first, any_urgent or urgent)
        elif urgent or not self.failures.get(key):
            self.owed[key] = min(self.owed.get(key, math.inf), self.now)

    @stateful.rule()
    def take(self) -> None:
        due = {key for key, at in self.owed.items() if at <= self.now and key not in self.running}
        taken = self.schedule.take(self.now)
        assert (taken is None) is (not due), f"due {due}, got {taken}"
        if taken is not None:
            assert taken in due
            assert taken not in self.running, "two workers on one key"
            self.running.add(taken)
            del self.owed[taken]

    @stateful.precondition(lambda self: self.running)
    @stateful.rule(data=st.data(), wait=st.none() | st.floats(0, 20))
    def succeed(self, data: st.DataObject, wait: float | None) -> None:
        key = data.draw(st.sampled_from(sorted(self.running)))
        self.running.discard(key)
        wake_at = None if wait is None else self.now + wait
        self.schedule.done(key, self.now, wake_at=wake_at)
        self.failures.pop(key, None)
        times = [] if wake_at is None else [wake_at]
        if key in self.meanwhile:
            times.append(self.meanwhile.pop(key)[0])
        if times:
            self.owed[key] = min(times)

    @stateful.precondition(lambda self: self.running)
    @stateful.rule(data=st.data())
    def fail(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.running)))
        self.running.discard(key)
        self.failures[key] = self.failures.get(key, 0) + 1
        delay = self.schedule.failed(key, self.now)
        _, urgent = self.meanwhile.pop(key, (0.0, False))
        assert (delay == 0.0) if urgent else (1.0 <= delay <= 8.0)
        self.owed[key] = self.now + delay

    @stateful.rule(seconds=st.floats(0, 10))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @stateful.invariant()
    def the_next_wake_up_is_known(self) -> None:
        waiting = [at for key, at in self.owed.items() if key not in self.running]
        assert self.schedule.next_due() == min(waiting, default=math.inf)


TestSchedule = ScheduleMachine.TestCase


def test_back_off_doubles_up_to_its_bound():
    backoff = workqueue.Backoff(first=0.5, last=60.0)
    assert [backoff.after(n) for n in (1, 2, 3, 7, 8, 1000)] == [0.5, 1.0, 2.0, 32.0, 60.0, 60.0]


def test_success_forgets_the_failures():
    schedule: workqueue.Schedule[str] = workqueue.Schedule(workqueue.Backoff(first=1.0, last=9.0))
    schedule.add("a", 0.0)
    for expected, now in ((1.0, 0.0), (2.0, 1.0)):
        assert schedule.take(now) == "a"
        assert schedule.failed("a", now) == expected
    assert schedule.take(3.0) == "a"
    schedule.done("a", 3.0)
    schedule.add("a", 3.0, urgent=False)
    assert schedule.take(3.0) == "a"
    assert schedule.failed("a", 3.0) == 1.0


def test_the_longest_due_goes_first():
    schedule: workqueue.Schedule[str] = workqueue.Schedule()
    schedule.add("late", 2.0)
    schedule.add("early", 1.0)
    assert [schedule.take(3.0), schedule.take(3.0), schedule.take(3.0)] == ["early", "late", None]


def test_news_during_the_work_keep_their_place_in_line():
    schedule: workqueue.Schedule[str] = workqueue.Schedule(workqueue.Backoff(first=1.0, last=8.0))
    schedule.add("failing", 0.0)
    assert schedule.take(0.0) == "failing"
    schedule.failed("failing", 0.0)
    schedule.add("busy", 0.0)
    assert schedule.take(0.0) == "busy"
    schedule.add("busy", 0.5)
    schedule.add("other", 1.0)  # by now what failed is in line again
    schedule.done("busy", 1.0)
    schedule.add("other", 1.0)  # and now what was told of earlier is too
    assert schedule.next_due() == 0.5
    assert [schedule.take(1.0) for _ in range(3)] == ["busy", "failing", "other"]


def test_finishing_what_was_not_taken_is_a_bug_that_shows():
    schedule: workqueue.Schedule[str] = workqueue.Schedule()
    schedule.add("a", 0.0)
    with pytest.raises(RuntimeError, match="not taken"):
        schedule.done("a", 0.0)


async def test_a_failing_key_backs_off_and_the_others_go_on(until):
    seen: list[str] = []
    failures: list[tuple[str, float]] = []

    async def handler(key: str) -> float | None:
        seen.append(key)
        if key == "bad":
            raise ValueError("no")
        return None

    queue = workqueue.Queue(
        handler, on_error=lambda key, error, delay: failures.append((key, delay)),
        backoff=workqueue.Backoff(first=30.0, last=30.0),
    )  # fmt: skip
    running = asyncio.ensure_future(queue.run(workers=2))
    await queue.add("bad")
    for number in range(5):
        await queue.add(f"good{number}")
    await until(lambda: len(seen) >= 6)
    assert failures == [("bad", 30.0)]
    await queue.add("bad", urgent=False)
    await queue.add("last")
    await until(lambda: "last" in seen)
    assert seen.count("bad") == 1, "an observation does not cut a back-off short"
    await queue.add("bad")
    await until(lambda: seen.count("bad") == 2)
    await queue.close()
    await running


async def test_news_interrupts_a_sleep(until):
    looks: list[float] = []

    async def handler(key: str) -> float | None:
        looks.append(asyncio.get_running_loop().time())
        return looks[-1] + 3600

    queue = workqueue.Queue(handler, on_error=lambda *_: None)
    running = asyncio.ensure_future(queue.run(workers=1))
    await queue.add("a")
    await until(lambda: len(looks) == 1)
    await queue.add("a", urgent=False)
    await until(lambda: len(looks) == 2)
    await queue.close()
    await running


async def test_a_key_wakes_by_itself(until):
    looks = 0

    async def handler(key: str) -> float | None:
        nonlocal looks
        looks += 1
        return asyncio.get_running_loop().time() + 0.01 if looks < 4 else None

    queue = workqueue.Queue(handler, on_error=lambda *_: None)
    running = asyncio.ensure_future(queue.run(workers=3))
    await queue.add("a")
    await until(lambda: looks == 4)
    await queue.close()
    await running


async def test_news_during_the_work_is_worked_on_after_it_and_never_beside_it(until):
    inside = peak = rounds = 0
    entered, leave = asyncio.Event(), asyncio.Event()

    async def handler(key: str) -> float | None:
        nonlocal inside, peak, rounds
        inside += 1
        peak = max(peak, inside)
        entered.set()
        await leave.wait()
        inside -= 1
        rounds += 1
        return None

    queue = workqueue.Queue(handler, on_error=lambda *_: None)
    running = asyncio.ensure_future(queue.run(workers=4))
    await queue.add("a")
    await entered.wait()
    for _ in range(10):
        await queue.add("a")
    leave.set()
    await until(lambda: rounds == 2)
    assert peak == 1
    assert queue.depth() == 0
    await queue.close()
    await running
