"""Where the results go: ``bench/results/`` after every run, ``docs/benchmarks/`` when asked.

The page's text about method stands in ``docs/benchmarks/README.md`` itself; a run replaces what is between its two
marks, and the files beside it.
"""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

from bench import facts, goals, loads, plot, rounds, subjects, summary, tables

RESULTS = pathlib.Path(__file__).parent / "results"
DOCS = pathlib.Path(__file__).parents[1] / "docs" / "benchmarks"
BEGIN, END = "<!-- figures begin -->", "<!-- figures end -->"


def report(run: facts.Run, chosen: Sequence[subjects.Subject]) -> str:
    """The whole of the results as Markdown. Pure."""
    rows = summary.medians(run.samples)
    titles = {subject.name: subject.title for subject in chosen}
    shown = {load.name: load.title for load in loads.CLOSED}
    peers = rounds.peers_of(chosen)
    open_loads = sorted({load for _, load in rows if load.startswith("open-")})
    found = goals.check(rows, peers, [*goals.GOALS, *goals.open_loop(peers)])
    parts = [
        "## Machine and versions\n",
        tables.markdown(["", ""], [[key, str(value)] for key, value in {**run.machine, **run.choices}.items()]),
        "## Goals\n",
        tables.outcomes(found),
        "## Requests a second (p50 / p99 in ms)\n",
        tables.throughput(rows, titles, shown),
        "## Ratios\n",
        tables.ratios(rows, peers, shown),
        "## Cold start, memory, processor time\n",
        tables.resources(rows, titles),
        "## Open loops\n",
        tables.steady(rows, titles, [*open_loads, "alone", "mixed", "overload"]),
    ]
    if run.failures:
        parts += ["## What could not be measured\n", tables.failures(run.failures)]
    return "\n".join(parts)


def picture(run: facts.Run, chosen: Sequence[subjects.Subject], *, load: str = "iris-64") -> str:
    rows = summary.medians(run.samples)
    points = []
    for subject in chosen:
        rate = summary.figure(rows, subject=subject.name, load=load, name="rate")
        p99 = summary.figure(rows, subject=subject.name, load=load, name="p99_ms")
        if rate is not None and p99 is not None:
            points.append(plot.Point(subject.title, rate, p99, ours=subject.is_mlship))
    title = next((one.title for one in loads.CLOSED if one.name == load), load)
    return plot.svg(points, title=f"{title}: requests/s against p99")


def keep(run: facts.Run, chosen: Sequence[subjects.Subject], *, stamp: str) -> pathlib.Path:
    """Write the raw samples, the report and the picture below ``bench/results``; the folder."""
    folder = RESULTS / stamp
    folder.mkdir(parents=True, exist_ok=True)
    _write(run, chosen, folder)
    (folder / "report.md").write_text(report(run, chosen))
    return folder


def publish(run: facts.Run, chosen: Sequence[subjects.Subject], *, docs: pathlib.Path = DOCS) -> None:
    """Put the results into the page. Raises ValueError when the page has lost its marks."""
    page = docs / "README.md"
    text = page.read_text()
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{page} needs the marks {BEGIN} and {END}, in this order")
    _write(run, chosen, docs)
    links = "![requests/s against p99](iris-64.svg)\n\nRaw figures of every round: [results.json](results.json).\n"
    page.write_text(f"{before}{BEGIN}\n\n{report(run, chosen)}\n{links}\n{END}{after}")


def _write(run: facts.Run, chosen: Sequence[subjects.Subject], folder: pathlib.Path) -> None:
    (folder / "results.json").write_text(facts.to_json(run))
    (folder / "iris-64.svg").write_text(picture(run, chosen))
