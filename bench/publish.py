"""Where the results go: ``bench/results/STAMP/`` after every run, ``docs/benchmarks/`` when asked.

A folder holds one run, in one part or several (``part-1.json``, ...); ``results.json``, ``report.md`` and the picture
beside them are what the parts are together. The page about method is ``docs/benchmarks/README.md``, written by hand;
``results.md`` there is written here, as a whole.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Sequence

from bench import facts, goals, loads, parts, plot, replicas, rounds, subjects, summary, tables

RESULTS = pathlib.Path(__file__).parent / "results"
DOCS = pathlib.Path(__file__).parents[1] / "docs" / "benchmarks"
PICTURES = ("iris-64", "forest-64")
_FOOT = """
Requests/s count answers of status 200 (gRPC: with a message). Labels were compared with scikit-learn's before and after
each load. How it is measured: [README.md](README.md). Raw figures of every round: [results.json](results.json).
"""


def report(run: facts.Run, known: Sequence[subjects.Subject] = subjects.SUBJECTS) -> str:
    """The whole of the results as Markdown. Pure."""
    seen = {one.subject for one in (*run.samples, *run.failures)}
    chosen = [subject for subject in known if subject.name in seen]
    what = tables.shown(run, {subject.name: subject.title for subject in chosen})
    more = dataclasses.replace(what, titles={**what.titles, replicas.NAME: "mlship, a further replica"})
    closed = {load.name: load.title for load in loads.CLOSED}
    peers = rounds.peers_of(chosen)
    beside = {**peers, subjects.FLOOR: [subjects.FLOOR]}
    opened = sorted({load for _, load in what.rows if load.startswith("open-")})
    found = goals.check(what.rows, peers, [*goals.GOALS, *goals.open_loop(peers)])
    sections = [
        ("Goals", tables.outcomes(found)),
        ("Requests a second (p50 / p99 in ms)", tables.throughput(what, closed)),
        ("Ratios: requests a second", tables.ratios(what, beside, closed, name="rate")),
        ("Ratios: p50", tables.ratios(what, beside, closed, name="p50_ms")),
        ("Cold start, memory, processor time", tables.resources(what)),
        ("Open loop at 70 % of a peer's capacity", tables.steady(what, opened)),
        ("200 small requests a second, alone and beside one of 10 MB a second", tables.mixed(what)),
        ("Twice the capacity, forest 1000 x 30", tables.overload(what)),
        ("Further replicas", tables.further(more)),
        ("Machine and versions", _facts({**run.machine, **run.choices})),
    ]
    if run.failures:
        sections.append(("What could not be measured", tables.failures(run.failures)))
    if what.parts:
        sections.insert(
            0, ("Parts", "The run was taken in parts; [1], [2], ... beside a figure is the part it is from.\n")
        )
    return "\n".join(f"## {title}\n\n{text}" for title, text in sections)


def _facts(found: dict[str, object]) -> str:
    return tables.markdown(["", ""], [[key, facts.public(str(value))] for key, value in found.items()])


def picture(run: facts.Run, *, load: str, known: Sequence[subjects.Subject] = subjects.SUBJECTS) -> str:
    """Requests/s against p99 under one load, as SVG."""
    rows = summary.medians(run.samples)
    points = []
    for subject in known:
        rate = summary.figure(rows, subject=subject.name, load=load, name="rate")
        p99 = summary.figure(rows, subject=subject.name, load=load, name="p99_ms")
        if rate is not None and p99 is not None:
            points.append(plot.Point(subject.title, rate, p99, _side(subject)))
    title = next((one.title for one in loads.CLOSED if one.name == load), load)
    return plot.svg(points, title=f"{title}: requests/s against p99")


def _side(subject: subjects.Subject) -> plot.Side:
    if subject.is_mlship:
        return plot.Side.OURS
    return plot.Side.THEIRS if subject.is_peer else plot.Side.FLOOR


def known_parts(folder: pathlib.Path) -> list[facts.Run]:
    """The parts in a run's folder, in order; none when it does not exist."""
    files = sorted(folder.glob("part-*.json"), key=lambda file: int(file.stem.partition("-")[2]))
    return [facts.from_json(file.read_text()) for file in files]


def keep(run: facts.Run, folder: pathlib.Path, *, number: int) -> facts.Run:
    """Write this part, and what the folder's parts are together: that is returned. Raises parts.Apart."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"part-{number}.json").write_text(facts.to_json(run))
    whole = parts.merged(known_parts(folder))
    _write(whole, folder)
    (folder / "report.md").write_text(report(whole))
    return whole


def publish(run: facts.Run, *, docs: pathlib.Path = DOCS) -> None:
    """Write the page of results, the pictures and the raw figures; nothing in them is this machine's own."""
    cleaned = tuple(dataclasses.replace(one, reason=facts.public(one.reason)) for one in run.failures)
    run = dataclasses.replace(run, failures=cleaned)
    _write(run, docs)
    drawn = "\n".join(f"![requests/s against p99, {name}]({name}.svg)\n" for name in PICTURES)
    (docs / "results.md").write_text(f"# Results\n{_FOOT}\n{drawn}\n{report(run)}")


def _write(run: facts.Run, folder: pathlib.Path) -> None:
    (folder / "results.json").write_text(facts.to_json(run))
    for name in PICTURES:
        (folder / f"{name}.svg").write_text(picture(run, load=name))
