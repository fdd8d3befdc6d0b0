"""One supervised process at work: performs the effects its machine asks for and reports what happened.

All events of one process pass ``deliver``, on the event loop's thread, so they have one serial order and no event meets
a half-made change. What takes time (starting a program, asking whether it is ready) runs beside it and comes back as
an event. The machine itself is ``process.py``; ``supervisor.py`` owns the units.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import dataclasses
import functools
import logging
import pathlib
from collections.abc import Callable

from mlship import aio, errors, forks
from mlship.backends.local import events, exits, expand, jobs, lastline, launch, pids, probes, process, records, reports
from mlship.plan import observed

log = logging.getLogger(__name__)

_PROBED = frozenset({observed.Phase.STARTING, observed.Phase.RUNNING})
_ENDING = frozenset({observed.Phase.TERMINATING, observed.Phase.KILLING})


@dataclasses.dataclass(frozen=True, slots=True)
class World:
    """What all units share. ``cpus`` is the share of one replica now; ``changed`` hears of every change."""

    means: launch.Means
    clock: Callable[[], float]
    tasks: aio.Tasks
    threads: concurrent.futures.Executor
    changed: Callable[[str], None]
    forget: Callable[[str], None]
    cpus: Callable[[], int] = lambda: 0


class Unit:
    """One process, from its first start to its end for good."""

    def __init__(self, record: records.Record, world: World) -> None:
        self.record = record
        self.process = process.Process(
            policy=_policy(record.job), level=record.level, restarts=record.restarts, last_exit=record.last_exit
        )
        self._world = world
        self._timer: asyncio.TimerHandle | None = None
        self._exit_watch: exits.ExitWatch | None = None
        self._prober: asyncio.Task[None] | None = None
        self.acceleration: observed.Acceleration | None = None
        self._ask_now = asyncio.Event()

    @property
    def job(self) -> jobs.Job:
        return self.record.job

    @property
    def address(self) -> str:
        """Where it answers: ``unix:/path`` or ``host:port``; empty before a port is known."""
        if self.job.spec.needs_port:
            return f"127.0.0.1:{self.record.port}" if self.record.port is not None else ""
        return self.job.address

    def deliver(self, event: events.Event) -> None:
        """Report what happened. Raises ``process.IllegalEvent``."""
        before = self.process
        self.process, effects = process.step(before, event, self._world.clock())
        for effect in effects:
            self._perform(effect)
        self._arm_timer()
        self._arm_prober()
        self._remember_first_service(before)
        if self.process != before:
            self._world.changed(self.record.key)

    def begin(self, job: jobs.Job) -> None:
        """It shall run, and run ``job``: nothing to do when it does, else it is started or restarted."""
        if job != self.job:
            log.warning("%s: what it runs has changed, restarting it", self.record.key)
            self.record = dataclasses.replace(self.record, job=job)
            self.process = dataclasses.replace(self.process, policy=_policy(job))
            self.deliver(events.Restart())
        elif self.process.phase in _ENDING and not (self.process.then_start or self.process.failed_start):
            self.deliver(events.Start())

    def adopt(self, record: records.Record) -> None:
        """Take over the process of ``record``, which was found running."""
        if record.pid is None:
            raise ValueError(f"{record.key}: nothing to adopt")
        self.record = record
        self._exit_watch = exits.ExitWatch(record.pid, record.born, self._exited)
        self.deliver(events.Adopted(record.pid, ready=record.served))

    def lost(self) -> None:
        """The process of the record has ended while nobody watched."""
        ended = observed.Exit(at=self._world.clock(), last_line=self._last_line())
        self.deliver(events.Lost(ended, served=self.record.served))

    def close(self) -> None:
        """Let go of the process and leave it as it is."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._exit_watch is not None:
            self._exit_watch.close()
            self._exit_watch = None
        if self._prober is not None:
            self._prober.cancel()
            self._prober = None

    def _perform(self, effect: events.Effect) -> None:
        match effect:
            case events.Spawn():
                self._world.tasks.start(self._spawn(), name=f"start {self.record.key}")
            case events.Signal(pid, number):
                pids.signal_group(pid, number)
            case events.Note(text, problem):
                log.log(logging.WARNING if problem else logging.INFO, "%s: %s", self.record.key, text)
            case events.Forget():
                self._forget()

    def _forget(self) -> None:
        self.close()
        try:
            self._world.means.store.remove(self.record.key)
            for path in self.job.sockets:
                records.remove(pathlib.Path(path))
        except errors.BackendError as error:
            log.warning("%s: %s", self.record.key, error)
        self._world.forget(self.record.key)

    async def _spawn(self) -> None:
        self.acceleration = None
        self.record = dataclasses.replace(
            self.record,
            restarts=self.process.restarts,
            level=self.process.level,
            last_exit=self.process.last_exit,
            started_at=self._world.clock(),
            served=False,
            startup=None,
        )
        start = functools.partial(launch.launch, self.record, self._world.means, cpus=self._world.cpus())
        try:
            launched = await asyncio.get_running_loop().run_in_executor(self._world.threads, start)
        except errors.BackendError as error:
            self.deliver(events.SpawnFailed(str(error)))
            return
        if launched.problem:
            log.warning("%s: %s", self.record.key, launched.problem)
        if launched.cold:
            log.warning("%s: started cold: %s", self.record.key, launched.cold)
        noted = launched.record
        self.record = dataclasses.replace(
            self.record, pid=noted.pid, born=noted.born, port=noted.port, log_start=noted.log_start,
            startup=noted.startup,
        )  # fmt: skip
        self._exit_watch = exits.ExitWatch(
            launched.pid, noted.born, self._exited, line=launched.line, told=launched.forked, on_word=self._heard
        )
        self.deliver(events.Spawned(launched.pid))

    def _heard(self, word: forks.Underway | forks.Ready) -> None:
        """It speaks of its start. What it is at is for whoever looks; that it is over is news."""
        if self.record.startup is None:
            return
        startup = dataclasses.replace(self.record.startup, phases=reports.phases(word))
        self.record = dataclasses.replace(self.record, startup=startup)
        if isinstance(word, forks.Ready):
            self._ask_now.set()
            if self.record.served:  # a probe was quicker, and the record has been written without this
                self._note()
                self._world.changed(self.record.key)

    def _exited(self, code: int | None, number: int | None) -> None:
        self._exit_watch = None
        if code is None and number is None:
            self._world.tasks.start(self._clear_up(), name=f"clear up after {self.record.key}")
        else:
            self._report_exit(code, number)

    async def _clear_up(self) -> None:
        """One that was not our child may have left children that nothing but their mark leads to."""
        sweep = functools.partial(pids.kill_marked, self._world.means.home, self.record.key)
        await asyncio.get_running_loop().run_in_executor(self._world.threads, sweep)
        self._report_exit(None, None)

    def _report_exit(self, code: int | None, number: int | None) -> None:
        ended = observed.Exit(at=self._world.clock(), code=code, signal=number, last_line=self._last_line())
        self.deliver(events.Exited(ended))

    def _last_line(self) -> str:
        try:
            return lastline.of(self.job.log, since=self.record.log_start, secrets=expand.secrets(self.job.spec))
        except OSError as error:
            return f"(its log {self.job.log} cannot be read: {error.strerror})"

    def _remember_first_service(self, before: process.Process) -> None:
        """A control plane after us takes a process that has served for ready at once, and so routes to it."""
        if self.process.served and not before.served and not self.record.served:
            startup = self.record.startup
            if startup is not None:
                startup = dataclasses.replace(startup, ready_at=self.process.ready_since)
            self.record = dataclasses.replace(self.record, served=True, startup=startup)
            self._note()

    def _note(self) -> None:
        try:
            self._world.means.store.write(self.record)
        except errors.BackendError as error:
            log.warning("%s: %s", self.record.key, error)

    def _arm_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.process.deadline is not None:
            wait = max(0.0, self.process.deadline - self._world.clock())
            self._timer = asyncio.get_running_loop().call_later(wait, self._time_is_up)

    def _time_is_up(self) -> None:
        self._timer = None
        if self.process.deadline is not None and self._world.clock() >= self.process.deadline:
            self.deliver(events.DeadlinePassed())
        else:  # the loop's clock and ours differ by a hair
            self._arm_timer()

    def _arm_prober(self) -> None:
        wanted = self.process.pid is not None and self.process.phase in _PROBED
        if wanted and self._prober is None:
            self._prober = self._world.tasks.start(self._probe(), name=f"probe {self.record.key}")
        elif not wanted and self._prober is not None:
            self._prober.cancel()
            self._prober = None

    async def _probe(self) -> None:
        wait = probes.FIRST_WAIT
        while True:
            answer = await probes.ask(self.address, self.job.spec.probe)
            self.deliver(events.Ready() if answer.ready else events.NotReady(answer.message))
            if self.process.ready:
                await self._read_report()
                wait = probes.FIRST_WAIT
                await asyncio.sleep(self.job.spec.probe.period if answer.ready else probes.LONGEST_WAIT_AT_START)
            else:
                await aio.wait_event(self._ask_now, wait)
                self._ask_now.clear()
                wait = min(wait * 1.3, probes.LONGEST_WAIT_AT_START)

    async def _read_report(self) -> None:
        """Ask how far the program is with compiling its model, until that is settled."""
        probe, known = self.job.spec.probe, self.acceleration
        if not probe.report or (known is not None and known.state is not observed.Answering.PROVING):
            return
        found = reports.read(await probes.fetch(self.address, probe))
        if found is not None and found != known:
            self.acceleration = found
            self._world.changed(self.record.key)


def _policy(job: jobs.Job) -> process.Policy:
    return process.Policy(start_deadline=job.spec.start_deadline, stop_grace=job.spec.stop_grace, keep=job.keep)
