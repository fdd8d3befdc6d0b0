"""The run: one server at a time, all in turn, several rounds, so that a slow minute of the machine hits everybody.

First the closed loops, which also give each server's capacity; then, with mlship and the best configuration of each
peer, what needs a capacity: an open loop at 70 % of the peer's, small requests beside big ones, twice the capacity.
What fails is kept as a ``Failure`` and the run goes on.
"""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence

import httpx

from bench import bodies, facts, loads, models, server, subjects, summary

MIXED_RATE = 200.0  # small requests a second beside the big one: every server can do them alone
BIG_ROWS = 140_000  # rows of iris that make about 10 MB of JSON
OVERLOAD_CONNECTIONS = 512


@dataclasses.dataclass(frozen=True, slots=True)
class Choices:
    """How much is measured."""

    subjects: tuple[subjects.Subject, ...]
    rounds: int = 3
    seconds: float = 8.0
    warm_seconds: float = 2.0
    loads: tuple[str, ...] = ()  # all when empty
    steady: bool = True


class Rounds:
    """Takes the samples of one run. ``samples`` and ``failures`` grow while it runs."""

    def __init__(
        self, choices: Choices, made: Mapping[str, models.Model], *, say: Callable[[str], None] = print
    ) -> None:
        self._choices = choices
        self._models = made
        self._say = say
        self._scratch = pathlib.Path()
        self.samples: list[facts.Sample] = []
        self.failures: list[facts.Failure] = []

    def run(self) -> None:
        with tempfile.TemporaryDirectory(prefix="mlship-bench-") as scratch:
            self._scratch = pathlib.Path(scratch)
            for number in range(self._choices.rounds):
                for subject in _turned(self._choices.subjects, number):
                    self._closed(subject, number)
            if self._choices.steady:
                for number in range(self._choices.rounds):
                    self._steady(number)

    def _wanted(self, load: str) -> bool:
        return not self._choices.loads or load in self._choices.loads

    def _closed(self, subject: subjects.Subject, number: int) -> None:
        for model in self._models.values():
            wanted = [
                one
                for one in loads.CLOSED
                if one.model == model.name and loads.applies(one, subject) and self._wanted(one.name)
            ]
            if not wanted:
                continue
            with self._started(subject, model, number) as target:
                if target is None:
                    continue
                cold = {"seconds": target.cold_seconds, "pss_mib": target.pss_mib()}
                self._keep(subject, f"cold-{model.name}", number, cold)
                for load in wanted:
                    self._closed_one(load, target, model, number)

    def _closed_one(self, load: loads.Closed, target: server.Server, model: models.Model, number: int) -> None:
        def drive(seconds: float) -> dict[str, float]:
            return loads.closed(load, target, model, seconds=seconds, scratch=self._scratch)

        with self._kept_failure(target.subject.name, load.name, number):
            drive(self._choices.warm_seconds)
            self._watched(target, load.name, number, lambda: drive(self._choices.seconds))

    def _steady(self, number: int) -> None:
        """Everything at a rate that does not depend on the answers."""
        rows = summary.medians(self.samples)
        peers = peers_of(self._choices.subjects)
        leaders = {
            peer: found.subject
            for peer, names in peers.items()
            if (found := summary.best(rows, names, load="iris-64", name="rate", high=True))
        }
        rates = {
            peer: 0.7 * (summary.figure(rows, subject=name, load="iris-64", name="rate") or 0.0)
            for peer, name in leaders.items()
        }
        ours = [subject for subject in self._choices.subjects if subject.name == "mlship"]
        for subject in ours:
            self._steady_iris(subject, number, rates)
            self._overload(subject, number, rows)
        for peer, name in leaders.items():
            self._steady_iris(subjects_by_name(self._choices.subjects)[name], number, {peer: rates[peer]})
            self._overload(subjects_by_name(self._choices.subjects)[name], number, rows)

    def _steady_iris(self, subject: subjects.Subject, number: int, rates: Mapping[str, float]) -> None:
        model = self._models["iris"]
        small = bodies.body(subject.dialect, model.taken(1))
        with self._started(subject, model, number) as target:
            if target is None:
                return
            for peer, rate in rates.items():
                self._open(target, f"open-{peer}", number, small, rate=rate)
            self._open(target, "alone", number, small, rate=MIXED_RATE)
            big = bodies.body(subject.dialect, model.taken(BIG_ROWS))
            if not self._wanted("mixed"):
                return
            with self._kept_failure(subject.name, "mixed", number):
                self._watched(target, "mixed", number, lambda: self._mixed(target, small, big))

    def _mixed(self, target: server.Server, small: bodies.Body, big: bodies.Body) -> dict[str, float]:
        """The small requests' figures while a big one comes every second, the big ones' failures beside them."""
        choices = {"seconds": self._choices.seconds, "scratch": self._scratch}
        heavy = loads.start_open_loop(target.url, big, rate=1.0, connections=16, tag="-big", **choices)
        try:
            found = loads.open_loop(target.url, small, rate=MIXED_RATE, **choices)
        finally:
            beside = loads.finish_open_loop(heavy, seconds=self._choices.seconds)
        return {**found, "big_failed": beside["failed"], "big_p50_ms": beside["p50_ms"]}

    def _overload(self, subject: subjects.Subject, number: int, rows: summary.Medians) -> None:
        capacity = summary.figure(rows, subject=subject.name, load="forest-rows", name="rate")
        if not capacity:
            return
        model = self._models["forest"]
        body = bodies.body(subject.dialect, model.taken(1000))
        with self._started(subject, model, number) as target:
            if target is not None:
                more = {"rate": 2 * capacity, "connections": OVERLOAD_CONNECTIONS}
                self._open(target, "overload", number, body, **more)

    def _open(self, target: server.Server, load: str, number: int, body: bodies.Body, **more: float) -> None:
        if not self._wanted(load):
            return
        choices = {"seconds": self._choices.seconds, "scratch": self._scratch, **more}
        with self._kept_failure(target.subject.name, load, number):
            self._watched(target, load, number, lambda: loads.open_loop(target.url, body, **choices))

    def _watched(self, target: server.Server, load: str, number: int, drive: Callable[[], dict[str, float]]) -> None:
        with server.Watch(target) as watch:
            found = drive()
        answers = found["rate"] * self._choices.seconds
        more = {"peak_mib": watch.peak_mib, "cpu_us": 1e6 * watch.cpu_seconds / answers if answers else 0.0}
        self._keep(target.subject, load, number, {**found, **more})

    def _keep(self, subject: subjects.Subject, load: str, number: int, figures: Mapping[str, float]) -> None:
        self.samples.append(facts.Sample(subject.name, load, number, dict(figures)))
        shown = ", ".join(f"{name} {value:,.2f}" for name, value in figures.items())
        self._say(f"round {number + 1}  {subject.name:<16} {load:<18} {shown}")

    @contextlib.contextmanager
    def _started(self, subject: subjects.Subject, model: models.Model, number: int) -> Iterator[server.Server | None]:
        """The running server, or None when it did not start, which is kept."""
        with contextlib.ExitStack() as stack:
            target = None
            with self._kept_failure(subject.name, f"start-{model.name}", number):
                target = stack.enter_context(server.running(subject, model))
            yield target

    @contextlib.contextmanager
    def _kept_failure(self, subject: str, load: str, number: int) -> Iterator[None]:
        try:
            yield
        except (loads.Failed, server.DidNotStart, httpx.HTTPError, OSError) as error:
            self.failures.append(facts.Failure(subject, load, number, str(error)[-600:]))
            self._say(f"round {number + 1}  {subject:<16} {load:<18} FAILED: {' '.join(str(error).split())[-200:]}")


def peers_of(chosen: Sequence[subjects.Subject]) -> dict[str, list[str]]:
    """The names of each peer's subjects, in order; mlship's are not among them."""
    found: dict[str, list[str]] = {}
    for subject in chosen:
        if not subject.is_mlship:
            found.setdefault(subject.peer, []).append(subject.name)
    return found


def subjects_by_name(chosen: Sequence[subjects.Subject]) -> dict[str, subjects.Subject]:
    return {subject.name: subject for subject in chosen}


def _turned(chosen: Sequence[subjects.Subject], number: int) -> list[subjects.Subject]:
    """Another one first in each round: nobody always has the machine that the same neighbour warmed."""
    start = (number * 5) % len(chosen) if chosen else 0
    return [*chosen[start:], *chosen[:start]]
