"""The results as Markdown. Pure: the same run gives the same text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from bench import facts, goals, summary


def number(value: float | None) -> str:
    """Three digits that mean something; a dash for what was not measured."""
    if value is None:
        return "-"
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def markdown(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows) + "\n"


def throughput(rows: summary.Medians, titles: Mapping[str, str], loads: Mapping[str, str]) -> str:
    """Requests/s (p50 / p99 in ms) of every subject under every load; titles by name."""

    def cell(subject: str, load: str) -> str:
        row = rows.get((subject, load))
        if row is None:
            return "-"
        rate, p50, p99 = (number(row.figures.get(name)) for name in ("rate", "p50_ms", "p99_ms"))
        failed = row.figures.get("failed", 0)
        return f"{rate} ({p50} / {p99})" + (f", {failed:,.0f} failed" if failed else "")

    lines = [[title, *(cell(name, load) for load in loads)] for name, title in titles.items()]
    return markdown(["server", *loads.values()], lines)


def ratios(rows: summary.Medians, peers: Mapping[str, Sequence[str]], loads: Mapping[str, str]) -> str:
    """mlship's requests/s over those of the best configuration of each peer."""

    def cell(subjects: Sequence[str], load: str) -> str:
        best = summary.best(rows, subjects, load=load, name="rate", high=True)
        ours = summary.figure(rows, subject="mlship", load=load, name="rate")
        value = summary.ratio(ours, best.value if best else None)
        return "-" if value is None or best is None else f"{number(value)}x ({best.subject})"

    lines = [[peer, *(cell(subjects, load) for load in loads)] for peer, subjects in peers.items()]
    return markdown(["mlship against the best of", *loads.values()], lines)


def resources(rows: summary.Medians, titles: Mapping[str, str]) -> str:
    """Cold start, memory and processor time."""

    def cells(subject: str) -> list[str]:
        wanted = (
            ("cold-iris", "seconds"),
            ("cold-iris", "pss_mib"),
            ("forest-rows", "peak_mib"),
            ("iris-64", "cpu_us"),
        )
        return [number(summary.figure(rows, subject=subject, load=load, name=name)) for load, name in wanted]

    head = ["server", "start to first answer, s", "memory with iris, MiB", "peak, forest 1000 x 30, MiB"]
    head.append("processor time per request, iris, 64 clients, us")
    return markdown(head, [[title, *cells(name)] for name, title in titles.items()])


def outcomes(found: Iterable[goals.Outcome]) -> str:
    def line(one: goals.Outcome) -> list[str]:
        sign = ">=" if one.goal.at_least else "<="
        unit = "x" if one.goal.against else ""
        value = "-" if one.value is None else f"{number(one.value)}{unit}"
        return [one.goal.text, f"{sign} {one.goal.bound:g}{unit}", value, one.other or "-", one.verdict.value]

    return markdown(["work", "goal", "measured", "against", ""], [line(one) for one in found])


def steady(rows: summary.Medians, titles: Mapping[str, str], loads: Sequence[str]) -> str:
    """Open loops: what was offered, what was answered, the latencies, the generator's own lateness."""
    names = ("offered", "rate", "failed", "p50_ms", "p99_ms", "max_ms", "late_ms", "peak_mib")
    lines = [
        [titles.get(subject, subject), load, *(number(row.figures.get(name)) for name in names)]
        for (subject, load), row in sorted(rows.items(), key=lambda item: (item[0][1], item[0][0]))
        if load in loads
    ]
    head = ["server", "load", "offered/s", "answered/s", "failed", "p50 ms", "p99 ms", "max ms"]
    return markdown([*head, "generator late, p99 ms", "peak MiB"], lines)


def failures(found: Iterable[facts.Failure]) -> str:
    """What could not be measured, each reason on one line; empty when there is none."""
    return "".join(f"- {one.subject}, {one.load}: {' '.join(one.reason.split())[:200]}\n" for one in found)
