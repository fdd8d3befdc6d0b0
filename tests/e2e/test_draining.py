"""Requests that take their time while replicas are replaced, fewer, gone, or all of it ends: through the real Envoy."""

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Iterator

import psutil
import pytest

import callers
from mlship import client

pytestmark = [pytest.mark.slow, pytest.mark.e2e, pytest.mark.timeout(120)]

Act = Callable[[], Awaitable[None]]
MEGABYTE = 1_000_000


class Patient:
    """A service of the model in ``callers``."""

    def __init__(self, installation, name: str, path) -> None:
        self.installation = installation
        self.name = name
        self._path = path
        self.round = 0

    @property
    def url(self) -> str:
        return self.installation.url

    def apply(self, *, annotations: dict | None = None, wait: bool = True, **predictor: object) -> None:
        """Have it be so; each ``round`` is another revision."""
        env = [{"name": "ROUND", "value": str(self.round)}]
        model = {"modelFormat": {"name": "python"}, "storageUri": f"file://{self._path}", "env": env}
        metadata = {"name": self.name, "annotations": annotations or {}}
        body = {"minReplicas": 1, "maxReplicas": 1, **predictor, "model": model}
        with self.installation.control as control:
            control.apply(
                {
                    "apiVersion": "serving.kserve.io/v1beta1",
                    "kind": "InferenceService",
                    "metadata": metadata,
                    "spec": {"predictor": body},
                }
            )
            if wait:
                assert control.wait_ready(self.name, deadline=60), control.why(self.name)

    async def update(self, **predictor: object) -> None:
        self.round += 1
        await asyncio.to_thread(self.apply, **predictor)

    def status(self) -> dict:
        with self.installation.control as control:
            return control.get("isvc", self.name)["status"]

    def replicas(self) -> int:
        """How many of its replicas are there, those that end included."""
        found = 0
        for record in self.installation.where.records.glob("process-*.json"):
            with contextlib.suppress(FileNotFoundError):
                found += json.loads(record.read_text())["key"].startswith(f"default/{self.name}-")
        return found

    async def until_running(self, count: int, *, deadline: float = 40.0) -> None:
        """Wait until so many of its replicas are there, those that end included."""
        async with asyncio.timeout(deadline):
            while self.replicas() != count:
                await asyncio.sleep(0.05)

    def destroy(self) -> None:
        with contextlib.suppress(client.errors.MlshipError), self.installation.control as control:
            control.delete("isvc", self.name)


@pytest.fixture(scope="module")
def place(shared_installation):
    shared_installation.ok("up", "--port", "auto")
    return shared_installation


@pytest.fixture
def service(place, tmp_path, request) -> Iterator[Patient]:
    path = tmp_path / "model.py"
    path.write_text(callers.MODEL)
    made = Patient(place, request.node.name.replace("_", "-")[5:45].strip("-"), path)
    yield made
    made.destroy()


class Callers:
    """Many kinds of callers at once; ``under_way`` when every one of them is."""

    def __init__(self, url: str, name: str) -> None:
        self._url, self._name = url, name
        self._tasks: dict[str, asyncio.Task[object]] = {}

    async def __aenter__(self) -> "Callers":
        return self

    async def __aexit__(self, *exc: object) -> None:
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    def start(self, what: str, work: Awaitable[callers.Outcome]) -> None:
        self._tasks[what] = asyncio.ensure_future(work)

    async def outcomes(self) -> dict[str, callers.Outcome]:
        return {what: await task for what, task in self._tasks.items()}

    async def rest(self, content: bytes, **how: float) -> callers.Outcome:
        line = callers.Line(self._url, self._name)
        await line.open()
        try:
            return await line.ask(content, **how)
        finally:
            line.close()

    async def call(self, **asked: float) -> callers.Outcome:
        async with callers.channel(self._url) as made:
            return await callers.call(made, callers.infer(self._name, **asked))

    async def stream(self, messages: int, *, seconds: float, pause: float = 0.0) -> callers.Outcome:
        stream = callers.Stream(self._url, self._name)
        for _ in range(messages):
            if not await stream.ask(seconds=seconds):
                return await stream.rest()
            await asyncio.sleep(pause)
        return await stream.end()

    def patient(self, seconds: float, *, times: int = 1) -> None:
        """Callers of every kind that take so long."""
        for number in range(times):
            self.start(f"slow model {number}", self.rest(callers.body(seconds=seconds)))
            self.start(f"slow upload {number}", self.rest(callers.body(size=6 * MEGABYTE), over=seconds, pieces=30))
            self.start(
                f"slow reader {number}", self.rest(callers.body(numbers=3 * MEGABYTE), slowly=12 * MEGABYTE / seconds)
            )
            self.start(f"call {number}", self.call(seconds=seconds))
            large = {"seconds": seconds / 2, "numbers": 5 * MEGABYTE, "size": 8 * MEGABYTE}
            self.start(f"large call {number}", self.call(**large))
            self.start(f"stream {number}", self.stream(6, seconds=seconds / 12, pause=seconds / 12))
            self.start(f"stream of one {number}", self.stream(1, seconds=seconds))


def good(outcomes: dict[str, callers.Outcome]) -> dict[str, callers.Outcome]:
    """Those that are not, which shall be none."""
    return {what: one for what, one in outcomes.items() if one.status not in (200, "OK")}


async def patient_while(service: Patient, act: Act, *, times: int = 1) -> dict[str, callers.Outcome]:
    """What failed of callers of all kinds, three seconds long, under way while ``act`` is done."""
    async with Callers(service.url, service.name) as many:
        many.patient(3.0, times=times)
        await asyncio.sleep(1.0)
        await act()
        return good(await many.outcomes())


def test_an_update_lets_everybody_finish(service):
    service.apply()

    async def main() -> None:
        assert await patient_while(service, service.update) == {}
        await service.until_running(1)

    asyncio.run(main())


def test_a_scale_down_lets_everybody_finish(service):
    service.apply(minReplicas=3, maxReplicas=3)

    async def fewer() -> None:
        await asyncio.to_thread(service.apply)

    async def main() -> None:
        assert await patient_while(service, fewer, times=3) == {}
        await service.until_running(1)

    asyncio.run(main())


def test_destroy_lets_everybody_finish(service):
    service.apply()

    async def destroy() -> None:
        await asyncio.to_thread(service.destroy)

    async def main() -> None:
        assert await patient_while(service, destroy) == {}
        await service.until_running(0)
        async with Callers(service.url, service.name) as late:
            assert (await late.rest(callers.body())).status == 404
            assert (await late.call()).status in ("UNIMPLEMENTED", "UNAVAILABLE")

    asyncio.run(main())


# Never comes up in the time of a test.
SLEEPER = """
import time


class Sleeper:
    def load(self):
        time.sleep(300)

    def predict(self, inputs):
        return inputs
"""


async def refused_once_it_ends(kept: list[callers.Line]) -> callers.Outcome:
    """What a kept connection is answered when replicas take no more; each is closed by its first answer."""
    for line in kept:
        found = await line.ask(callers.body())
        if found.status != 200:
            return found
        await asyncio.sleep(0.1)
    raise AssertionError("everybody was answered")


def test_everything_ends_after_everybody_has_finished(installation, tmp_path):
    for name, text in (("patient", callers.MODEL), ("sleeper", SLEEPER)):
        (tmp_path / f"{name}.py").write_text(text)
    installation.ok("up", "--port", "auto")
    service = Patient(installation, "patient", tmp_path / "patient.py")
    service.apply()
    Patient(installation, "sleeper", tmp_path / "sleeper.py").apply(minReplicas=0, wait=False)
    url = service.url

    async def main() -> None:
        kept = [callers.Line(url, "patient") for _ in range(20)]
        for line in kept:
            await line.open()
            assert (await line.ask(callers.body())).status == 200
        async with Callers(url, "patient") as many, Callers(url, "sleeper") as held:
            held.start("rest", held.rest(callers.body()))
            held.start("call", held.call())
            many.patient(3.0)
            await asyncio.sleep(1.0)
            down = asyncio.create_task(asyncio.to_thread(installation.ok, "down"))
            waited = await held.outcomes()
            assert {what: one.status for what, one in waited.items()} == {"rest": 503, "call": "UNAVAILABLE"}
            assert {one.said for one in waited.values() if "The control plane is ending" not in one.said} == set()
            assert (await refused_once_it_ends(kept)).status == 503
            assert good(await many.outcomes()) == {}
            assert "everything has ended" in await down
            with pytest.raises(OSError):
                await many.rest(callers.body())
        for line in kept:
            line.close()

    asyncio.run(main())
    _, left = psutil.wait_procs(installation.processes(), timeout=5)
    assert left == []


def test_a_second_down_waits_for_nobody(installation, tmp_path):
    path = tmp_path / "model.py"
    path.write_text(callers.MODEL)
    installation.ok("up", "--port", "auto")
    service = Patient(installation, "patient", path)
    service.apply()
    url = service.url

    async def main() -> None:
        async with Callers(url, "patient") as many:
            many.start("rest", many.rest(callers.body(seconds=50)))
            many.start("stream", many.stream(1, seconds=50))
            await asyncio.sleep(0.5)
            down = asyncio.create_task(asyncio.to_thread(installation.ok, "down"))
            with installation.control as control:
                async with asyncio.timeout(20):
                    while not (await asyncio.to_thread(control.status))["stopping"]:
                        await asyncio.sleep(0.05)
                # What is told to hurry is what has been told to end.
                await asyncio.sleep(0.5)
                await asyncio.to_thread(control.shutdown, replicas=True)
            outcomes = await many.outcomes()
            await down
            assert {what: one.status for what, one in outcomes.items()} == {"rest": 503, "stream": "UNAVAILABLE"}
            assert "its drain time is over" in outcomes["rest"].said
            assert outcomes["rest"].seconds < 40

    asyncio.run(main())
    _, left = psutil.wait_procs(installation.processes(), timeout=5)
    assert left == []


def test_who_takes_longer_than_the_drain_is_told_so_and_the_replica_ends(service):
    service.apply(terminationGracePeriodSeconds=4)

    async def main() -> None:
        async with Callers(service.url, service.name) as many:
            many.start("slow model", many.rest(callers.body(seconds=60)))
            many.start("slow upload", many.rest(callers.body(size=3 * MEGABYTE), over=60, pieces=300))
            many.start("call", many.call(seconds=60))
            many.start("stream of one", many.stream(1, seconds=60))
            many.start("busy stream", many.stream(1000, seconds=0.05))
            idle, silent = (callers.Stream(service.url, service.name) for _ in range(2))
            assert await idle.ask()
            many.start("idle stream", idle.rest())
            many.start("silent stream", silent.rest())
            slow = many.rest(callers.body(numbers=10 * MEGABYTE), slowly=3 * MEGABYTE)
            many.start("slow reader", slow)
            await asyncio.sleep(1.0)
            await service.update(terminationGracePeriodSeconds=4)
            assert service.replicas() == 2
            await service.until_running(1, deadline=20)
            outcomes = await many.outcomes()
            # An answer of which a part was sent can only be cut off: its length tells the caller.
            assert outcomes.pop("slow reader").status == 0
            assert {one.said for one in outcomes.values() if "drain time is over" not in one.said} == set()
            assert {what: one.status for what, one in outcomes.items()} == {
                "slow model": 503,
                "slow upload": 503,
                "call": "UNAVAILABLE",
                "stream of one": "UNAVAILABLE",
                "busy stream": "UNAVAILABLE",
                "idle stream": "UNAVAILABLE",
                "silent stream": "UNAVAILABLE",
            }
            assert outcomes["busy stream"].got > 10
            assert (await many.rest(callers.body())).status == 200

    asyncio.run(main())


def test_nobody_waits_for_a_replica_that_takes_its_time_to_end(service):
    """Back to the revision before, and up to two again, while a stream holds the replica that was there."""
    service.apply(minReplicas=2, maxReplicas=2)

    async def main() -> None:
        streams = [callers.Stream(service.url, service.name) for _ in range(8)]
        for stream in streams:
            assert await stream.ask()
        await asyncio.to_thread(service.apply)
        await asyncio.to_thread(service.apply, minReplicas=2, maxReplicas=2)
        await service.update()
        service.round = 0
        # Waits a minute at most, and the grace is longer.
        await asyncio.to_thread(service.apply)
        assert service.replicas() > 1
        for stream in streams:
            assert await stream.ask()
            assert (await stream.end()).status == "OK"
        await service.until_running(1)

    asyncio.run(main())


def test_connections_are_kept_over_many_replacements(service):
    """One HTTP connection and one channel, idle or used all the time, and requests one behind the other in a pipe."""
    service.apply()

    async def used(line: callers.Line, made, done: asyncio.Event) -> list[callers.Outcome]:
        found = []
        while not done.is_set():
            found.append(await line.ask(callers.body()))
            found.append(await callers.call(made, callers.infer(service.name)))
        return found

    async def piped(done: asyncio.Event) -> list[callers.Outcome]:
        line, found = callers.Line(service.url, service.name), []
        await line.open()
        while not done.is_set():
            found += await line.pipe([callers.body(seconds=0.01), callers.body(), callers.body(seconds=0.02)])
        line.close()
        return found

    async def main() -> None:
        done = asyncio.Event()
        lines = [callers.Line(service.url, service.name) for _ in range(4)]
        for line in lines:
            await line.open()
            assert (await line.ask(callers.body())).status == 200
        async with callers.channel(service.url) as kept, callers.channel(service.url) as idle:
            assert (await callers.call(idle, callers.infer(service.name))).status == "OK"
            using = [asyncio.create_task(used(line, kept, done)) for line in lines[:2]]
            using.append(asyncio.create_task(piped(done)))
            found = []
            for _ in range(5):
                await service.update()
                # Idle until now, and used just as the old replica goes.
                for _ in range(20):
                    found += [await line.ask(callers.body()) for line in lines[2:]]
                    found.append(await callers.call(idle, callers.infer(service.name)))
            done.set()
            found += [one for task in using for one in await task]
        for line in lines:
            line.close()
        assert len(found) > 500
        assert [one for one in found if one.status not in (200, "OK")] == []

    asyncio.run(main())


def test_who_waits_at_zero_with_much_or_on_a_stream_is_answered_and_keeps_it_awake(service):
    quick = {"autoscaling.knative.dev/window": "6s"}
    service.apply(annotations=quick, minReplicas=0)

    async def main() -> None:
        await service.until_running(0)
        async with Callers(service.url, service.name) as many:
            many.start("upload", many.rest(callers.body(size=20 * MEGABYTE)))
            many.start("slow upload", many.rest(callers.body(size=6 * MEGABYTE), over=2.0, pieces=20))
            many.start("large call", many.call(size=20 * MEGABYTE, numbers=3 * MEGABYTE))
            stream = callers.Stream(service.url, service.name)
            assert await stream.ask()
            assert good(await many.outcomes()) == {}
        # A stream that is open is a request under way, whether it is asked anything or not.
        await asyncio.sleep(10)
        assert service.replicas() == 1
        assert await stream.ask()
        assert (await stream.end()).status == "OK"
        await service.until_running(0)
        # And on, from zero, just as it goes.
        async with Callers(service.url, service.name) as many:
            many.patient(1.0)
            assert good(await many.outcomes()) == {}

    asyncio.run(main())
