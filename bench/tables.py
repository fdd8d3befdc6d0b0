"""The results as Markdown. Pure: the same run gives the same text."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from bench import facts, goals, summary

ENVIRONMENT = "environment"


def number(value: float | None) -> str:
    """Three digits that mean something; a dash for what was not measured."""
    if value is None:
        return "-"
    if value >= 100 or value == int(value):
        return f"{value:,.0f}"
    if value >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if value >= 0.1 else f"{value:.3f}"


def markdown(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows) + "\n"


@dataclasses.dataclass(frozen=True, slots=True)
class Shown:
    """What tables are made from: medians, titles by name, failures, and whether the run has several parts."""

    rows: summary.Medians
    titles: Mapping[str, str]
    failed: frozenset[tuple[str, str]] = frozenset()  # (subject, load), also (subject, "start-MODEL")
    parts: bool = False

    def part(self, row: summary.Row) -> str:
        return f" [{row.part}]" if self.parts else ""


def shown(run: facts.Run, titles: Mapping[str, str]) -> Shown:
    """A run for tables."""
    failed = frozenset((one.subject, one.load) for one in run.failures)
    parts = {one.part for one in (*run.samples, *run.failures)}
    return Shown(summary.medians(run.samples), titles, failed, parts=len(parts) > 1)


def throughput(what: Shown, loads: Mapping[str, str]) -> str:
    """Requests/s (p50 / p99 in ms) of every subject under every load; ``failed`` where it should have been, and why
    stands below the tables."""

    def cell(subject: str, load: str) -> str:
        row = what.rows.get((subject, load))
        if row is None:
            start = f"start-{load.partition('-')[0]}"
            return "failed" if what.failed & {(subject, load), (subject, start), (subject, ENVIRONMENT)} else "-"
        rate, p50, p99 = (number(row.figures.get(name)) for name in ("rate", "p50_ms", "p99_ms"))
        failed = row.figures.get("failed", 0)
        return f"{rate} ({p50} / {p99}){what.part(row)}" + (f", {failed:,.0f} failed" if failed else "")

    lines = [[title, *(cell(name, load) for load in loads)] for name, title in what.titles.items()]
    return markdown(["server", *loads.values()], lines)


def ratios(what: Shown, peers: Mapping[str, Sequence[str]], loads: Mapping[str, str], *, name: str) -> str:
    """mlship's figure over that of the best configuration of each peer. Rates: more is better; else less is."""

    def cell(subjects: Sequence[str], load: str) -> str:
        best = summary.best(what.rows, subjects, load=load, name=name, high=name == "rate")
        ours = summary.figure(what.rows, subject="mlship", load=load, name=name)
        value = summary.ratio(ours, best.value if best else None)
        return "-" if value is None or best is None else f"{number(value)}x ({best.subject})"

    lines = [[peer, *(cell(subjects, load) for load in loads)] for peer, subjects in peers.items()]
    return markdown(["mlship against the best of", *loads.values()], lines)


def resources(what: Shown) -> str:
    """Cold start, memory and processor time."""
    wanted = (
        ("cold-iris", "seconds"),
        ("cold-iris", "pss_mib"),
        ("iris-64", "pss_mib"),
        ("forest-rows", "peak_mib"),
        ("iris-64", "cpu_us"),
    )

    def cells(subject: str) -> list[str]:
        return [number(summary.figure(what.rows, subject=subject, load=load, name=name)) for load, name in wanted]

    head = ["server", "start to first answer, s", "memory with iris, MiB", "after iris, 64 clients, MiB"]
    head += ["peak, forest 1000 x 30, MiB", "processor time per request, iris, 64 clients, us"]
    lines = [[title, *cells(name)] for name, title in what.titles.items()]
    return markdown(head, [line for line in lines if set(line[1:]) != {"-"}])


def outcomes(found: Iterable[goals.Outcome]) -> str:
    def line(one: goals.Outcome) -> list[str]:
        sign = ">=" if one.goal.at_least else "<="
        unit = "x" if one.goal.against else ""
        value = "-" if one.value is None else f"{number(one.value)}{unit}"
        both = f"{number(one.ours)} / {number(one.theirs)}" if one.goal.against else "-"
        verdict = one.verdict.value + (f", {one.note}" if one.note else "")
        return [one.goal.text, f"{sign} {one.goal.bound:g}{unit}", value, both, one.other or "-", verdict]

    return markdown(["work", "goal", "measured", "figures", "against", ""], [line(one) for one in found])


def steady(what: Shown, loads: Sequence[str]) -> str:
    """Open loops: what was offered, what was answered, the latencies, the generator's own lateness."""
    names = ("offered", "rate", "failed", "p50_ms", "p99_ms", "max_ms", "late_ms")
    head = ["server", "load", "offered/s", "answered/s", "failed", "p50 ms", "p99 ms", "max ms", "generator late, ms"]
    return markdown(head, _lines(what, loads, names))


def mixed(what: Shown) -> str:
    """Small requests alone and beside the big ones, and what became of those."""
    names = ("p50_ms", "p99_ms", "max_ms", "failed", "big_p50_ms", "big_max_ms", "big_failed", "late_ms")
    head = ["server", "load", "p50 ms", "p99 ms", "max ms", "failed", "big: p50 ms", "big: max ms", "big: failed"]
    return markdown([*head, "generator late, ms"], _lines(what, ["alone", "mixed"], names))


def overload(what: Shown) -> str:
    """Twice the capacity: goodput, the accepted requests' latencies, memory, and the queue that bounds both."""
    names = (
        "capacity",
        "offered",
        "rate",
        "refused",
        "lost",
        "p50_ms",
        "p99_ms",
        "queue",
        "before_mib",
        "peak_mib",
        "after_mib",
    )
    head = ["server", "load", "capacity/s", "offered/s", "answered/s", "refused", "lost", "p50 ms", "p99 ms", "queue"]
    head += ["memory before, MiB", "peak, MiB", "after, MiB"]
    return markdown(head, _lines(what, ["overload"], names))


def further(what: Shown) -> str:
    """Further replicas of a deployment."""
    names = ("fork_ms", "private_mib", "first_mib")
    head = ["", "model", "start to first answer, ms", "private memory, MiB", "memory of the first, MiB"]
    wanted = sorted({load for _, load in what.rows if load.startswith("replicas-")})
    return markdown(head, _lines(what, wanted, names))


def _lines(what: Shown, loads: Sequence[str], names: Sequence[str]) -> list[list[str]]:
    found = [
        [what.titles.get(subject, subject), load + what.part(row), *(number(row.figures.get(name)) for name in names)]
        for (subject, load), row in what.rows.items()
        if load in loads
    ]
    return sorted(found, key=lambda line: (line[1], line[0]))


def failures(found: Iterable[facts.Failure]) -> str:
    """What could not be measured, each reason on one line; empty when there is none."""
    lines = [f"- {one.subject}, {one.load}: {_line(facts.public(one.reason))}" for one in found]
    return "".join(f"{line}\n" for line in dict.fromkeys(lines))


def _line(text: str) -> str:
    """On one line, its end, and nothing that Markdown would read."""
    joined = " ".join(text.split())[-200:]
    return "`" + joined.replace("`", "'").replace("|", "/") + "`"
