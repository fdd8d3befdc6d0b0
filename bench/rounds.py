"""The run: one server at a time, all in turn, several rounds, so that a slow minute of the machine hits everybody.

First the closed loops, which also give each server's capacity; then, with mlship and the best configuration of each
peer, what needs a capacity: an open loop at 70 % of the peer's, small requests beside big ones, twice the capacity; at
last mlship's further replicas. What fails is kept as a ``Failure``, costs its own row, and the run goes on.
"""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence

import psutil

from bench import bodies, checks, facts, loads, models, replicas, server, subjects, summary

SHARE = 0.7  # of a peer's own capacity, in the open loop
MIXED_RATE = 200.0  # small requests a second beside the big one: every server can do them alone
BIG_ROWS = 140_000  # rows of iris that make about 10 MB of JSON
OVERLOAD_CONNECTIONS = 512
_ENDING_SECONDS = 1.0
GROUPS = ("open", "mixed", "overload", "replicas")
# What a server, a load program or an odd answer can cause costs a row; anything else is the harness's own fault.
_OURS = (loads.Failed, server.DidNotStart, checks.Wrong, checks.NoAnswer)
_EXPECTED = (*_OURS, OSError, ValueError, LookupError, TypeError, psutil.Error, subprocess.SubprocessError)


@dataclasses.dataclass(frozen=True, slots=True)
class Choices:
    """How much is measured."""

    subjects: tuple[subjects.Subject, ...]
    rounds: int = 2
    seconds: float = 5.0
    warm_seconds: float = 1.0
    loads: tuple[str, ...] = ()  # closed loads by name, and of GROUPS; all when empty

    def wanted(self, load: str) -> bool:
        return not self.loads or load in self.loads or load.partition("-")[0] in self.loads

    def closed(self, subject: subjects.Subject, model: str) -> list[loads.Closed]:
        """The closed loads of this subject with this model."""
        return [
            one for one in loads.CLOSED if one.model == model and loads.applies(one, subject) and self.wanted(one.name)
        ]


class Rounds:
    """Takes the samples of one run. ``samples`` and ``failures`` grow while it runs.

    Args:
        known: samples of earlier parts of the same run, for the capacities that they give.
    """

    def __init__(
        self,
        choices: Choices,
        made: Mapping[str, models.Model],
        *,
        known: Sequence[facts.Sample] = (),
        say: Callable[[str], None] = print,
    ) -> None:
        self._choices = choices
        self._models = made
        self._say = say
        self._known = tuple(known)
        self._scratch = pathlib.Path()
        self.samples: list[facts.Sample] = []
        self.failures: list[facts.Failure] = []

    def run(self) -> None:
        with tempfile.TemporaryDirectory(prefix="mlship-bench-") as scratch:
            self._scratch = pathlib.Path(scratch)
            for number in range(self._choices.rounds):
                for subject in _turned(self._choices.subjects, number):
                    for model in self._models.values():
                        self._closed(subject, model, number)
            for number in range(self._choices.rounds):
                self._steady(number)
                self._replicas(number)

    def _closed(self, subject: subjects.Subject, model: models.Model, number: int) -> None:
        wanted = self._choices.closed(subject, model.name)
        if not wanted:
            return
        with self._started(subject, model, number) as target:
            if target is None:
                return
            cold = {"seconds": target.cold_seconds, "pss_mib": target.pss_mib()}
            self._keep(subject, f"cold-{model.name}", number, cold)
            for load in wanted:
                with self._kept_failure(subject.name, load.name, number, target):
                    self._closed_one(load, target, model, number)

    def _closed_one(self, load: loads.Closed, target: server.Server, model: models.Model, number: int) -> None:
        def drive(seconds: float) -> dict[str, float]:
            return loads.closed(load, target, model, seconds=seconds, scratch=self._scratch)

        loads.check(load, target, model)
        drive(self._choices.warm_seconds)
        found = self._watched(target, lambda: drive(self._choices.seconds))
        loads.check(load, target, model)
        self._keep(target.subject, load.name, number, {**found, "pss_mib": target.pss_mib()})

    def _steady(self, number: int) -> None:
        """Everything at a rate that does not depend on the answers."""
        rows = summary.medians((*self._known, *self.samples))
        chosen = {subject.name: subject for subject in self._choices.subjects}
        peers = peers_of(self._choices.subjects)
        small = {
            peer: summary.best(rows, names, load="iris-64", name="rate", high=True) for peer, names in peers.items()
        }
        rates = {peer: SHARE * found.value for peer, found in small.items() if found}
        large = [summary.best(rows, names, load="forest-rows", name="rate", high=True) for names in peers.values()]
        if subjects.OURS in chosen:
            self._steady_iris(chosen[subjects.OURS], number, rates)
            self._overload(chosen[subjects.OURS], number, rows)
        for peer, found in small.items():
            if found:
                self._steady_iris(chosen[found.subject], number, {peer: rates[peer]})
        for found in large:
            if found:
                self._overload(chosen[found.subject], number, rows)

    def _steady_iris(self, subject: subjects.Subject, number: int, rates: Mapping[str, float]) -> None:
        """Open loops at these rates, by whose they are, and the mixed load: on one server where it takes both."""
        opened = {f"open-{peer}": rate for peer, rate in rates.items() if self._choices.wanted("open")}
        mixed = self._choices.wanted("mixed")
        if subject.rows_limit:
            self._steady_one(subject, number, opened, mixed=False)
            opened = {}
        self._steady_one(subject, number, opened, mixed=mixed)

    def _steady_one(self, subject: subjects.Subject, number: int, opened: Mapping[str, float], *, mixed: bool) -> None:
        if not opened and not mixed:
            return
        model = self._models["iris"]
        special = server.Special(environment={"BENCH_ROWS": str(BIG_ROWS)} if mixed and subject.rows_limit else {})
        with self._started(subject, model, number, special) as target:
            if target is None:
                return
            with self._kept_failure(subject.name, "warming up", number, target):
                self._warm(target, model, rows=1, clients=64)
            for load, rate in opened.items():
                with self._kept_failure(subject.name, load, number, target):
                    self._open(target, load, number, self._load(subject, model, rows=1, rate=rate))
            if mixed:
                with self._kept_failure(subject.name, "mixed", number, target):
                    self._mixed(target, model, number)

    def _mixed(self, target: server.Server, model: models.Model, number: int) -> None:
        """The small requests' figures alone, and beside a big one every second."""
        small = self._load(target.subject, model, rows=1, rate=MIXED_RATE)
        self._open(target, "alone", number, small)
        big = self._load(target.subject, model, rows=BIG_ROWS, rate=1.0)
        found = self._watched(target, lambda: loads.mixed(target.url, small, big, self._scratch))
        self._keep(target.subject, "mixed", number, found)

    def _overload(self, subject: subjects.Subject, number: int, rows: summary.Medians) -> None:
        capacity = summary.figure(rows, subject=subject.name, load="forest-rows", name="rate")
        if not capacity or not self._choices.wanted("overload"):
            return
        model = self._models["forest"]
        limit = {"BENCH_QUEUE": str(subjects.QUEUE)} if subject.queue is not None else {}
        special = server.Special(subject.queue or (), limit)
        with (
            self._started(subject, model, number, special) as target,
            self._kept_failure(subject.name, "overload", number, target),
        ):
            if target is None:
                return
            self._warm(target, model, rows=1000, clients=8)
            before = target.pss_mib()
            load = self._load(subject, model, rows=1000, rate=2 * capacity)
            load = dataclasses.replace(load, connections=OVERLOAD_CONNECTIONS)
            found = self._watched(target, lambda: loads.open_loop(target.url, load, self._scratch))
            more = {"capacity": capacity, "before_mib": before, "after_mib": target.pss_mib()}
            if subject.queue is not None:
                more["queue"] = subjects.QUEUE
                more["bound_ms"] = 1000 * subjects.QUEUE / found["rate"]
            self._keep(subject, "overload", number, {**found, **more})

    def _replicas(self, number: int) -> None:
        if subjects.OURS not in {one.name for one in self._choices.subjects} or not self._choices.wanted("replicas"):
            return
        for kind, make in models.KINDS.items():
            with self._kept_failure(replicas.NAME, f"replicas-{kind}", number):
                found = replicas.measure(make())
                self.samples.append(facts.Sample(replicas.NAME, f"replicas-{kind}", number, found))
                self._tell(number, replicas.NAME, f"replicas-{kind}", facts.shown(found))

    def _load(self, subject: subjects.Subject, model: models.Model, *, rows: int, rate: float) -> loads.Open:
        taken = model.taken(rows)
        body = bodies.body(subject.dialect, taken)
        return loads.Open(body, model.expected(taken), rate=rate, seconds=self._choices.seconds)

    def _warm(self, target: server.Server, model: models.Model, *, rows: int, clients: int) -> None:
        body = bodies.body(target.subject.dialect, model.taken(rows))
        choices = {"clients": clients, "seconds": self._choices.warm_seconds, "scratch": self._scratch}
        loads.wrk(target.url, body, **choices)

    def _open(self, target: server.Server, name: str, number: int, load: loads.Open) -> None:
        found = self._watched(target, lambda: loads.open_loop(target.url, load, self._scratch))
        self._keep(target.subject, name, number, found)

    def _watched(self, target: server.Server, drive: Callable[[], dict[str, float]]) -> dict[str, float]:
        with server.Watch(target) as watch:
            found = drive()
        answers = found["rate"] * self._choices.seconds
        more = {"peak_mib": watch.peak_mib, "cpu_us": 1e6 * watch.cpu_seconds / answers if answers else 0.0}
        return {**found, **more}

    def _keep(self, subject: subjects.Subject, load: str, number: int, figures: Mapping[str, float]) -> None:
        self.samples.append(facts.Sample(subject.name, load, number, dict(figures)))
        self._tell(number, subject.name, load, facts.shown(figures))

    def _tell(self, number: int, subject: str, load: str, text: str) -> None:
        self._say(f"round {number + 1}  {subject:<16} {load:<18} {text}")

    @contextlib.contextmanager
    def _started(
        self, subject: subjects.Subject, model: models.Model, number: int, special: server.Special | None = None
    ) -> Iterator[server.Server | None]:
        """The running server, or None when it did not start, which is kept."""
        with contextlib.ExitStack() as stack:
            target = None
            with self._kept_failure(subject.name, f"start-{model.name}", number):
                target = stack.enter_context(server.running(subject, model, special))
            yield target

    @contextlib.contextmanager
    def _kept_failure(
        self, subject: str, load: str, number: int, target: server.Server | None = None
    ) -> Iterator[None]:
        try:
            yield
        except _EXPECTED as error:
            # Whatever the load program says of a server that is gone: why it is gone says more.
            last = target.last_words if target is not None and target.ended_within(_ENDING_SECONDS) else ""
            reason = facts.public(last or str(error) or repr(error))
            self.failures.append(facts.Failure(subject, load, number, reason[-600:]))
            self._tell(number, subject, load, f"FAILED: {' '.join(reason.split())[-200:]}")


def peers_of(chosen: Sequence[subjects.Subject]) -> dict[str, list[str]]:
    """The names of each peer's subjects, in order; mlship's and the floor are not among them."""
    found: dict[str, list[str]] = {}
    for subject in chosen:
        if subject.is_peer:
            found.setdefault(subject.peer, []).append(subject.name)
    return found


def _turned(chosen: Sequence[subjects.Subject], number: int) -> list[subjects.Subject]:
    """Another one first in each round: nobody always has the machine that the same neighbour warmed."""
    start = (number * 5) % len(chosen) if chosen else 0
    return [*chosen[start:], *chosen[:start]]
