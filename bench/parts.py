"""One run taken in several parts, in one folder: what they are together. Pure.

Parts belong together when machine and versions are the same; each (server, load) has the figures of the last part that
measured it, never a median over two. A failure stands until a later part has the figure.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from bench import facts

# What may differ from part to part.
_OWN = ("date", "load average before", "warning")


class Apart(Exception):
    """Parts of different machines or versions; the message has the difference."""


def labelled(run: facts.Run, part: str) -> facts.Run:
    """``run`` as this part."""
    samples = tuple(dataclasses.replace(one, part=part) for one in run.samples)
    failures = tuple(dataclasses.replace(one, part=part) for one in run.failures)
    return dataclasses.replace(run, samples=samples, failures=failures)


def merged(runs: Sequence[facts.Run]) -> facts.Run:
    """All parts as one run, labelled 1, 2, ... in order. Raises Apart; ValueError for none."""
    if not runs:
        raise ValueError("no part of a run")
    if len(runs) == 1:
        return labelled(runs[0], "1")
    machine = _machine(runs)
    numbered = [labelled(run, str(number)) for number, run in enumerate(runs, 1)]
    last = {(one.subject, one.load): one.part for run in numbered for one in run.samples}
    samples = tuple(one for run in numbered for one in run.samples if last[one.subject, one.load] == one.part)
    failures = tuple(
        one for run in numbered for one in run.failures if int(last.get((one.subject, one.load), "0")) <= int(one.part)
    )
    choices = {
        f"part {number}": ", ".join(f"{key} {value}" for key, value in {**_own(run), **run.choices}.items())
        for number, run in enumerate(runs, 1)
    }
    return facts.Run(machine, choices, samples, failures)


def _own(run: facts.Run) -> dict[str, object]:
    return {key: value for key, value in run.machine.items() if key in _OWN}


def _machine(runs: Sequence[facts.Run]) -> dict[str, object]:
    found: dict[str, object] = {}
    for run in runs:
        for key, value in run.machine.items():
            if key in _OWN:
                continue
            if found.setdefault(key, value) != value:
                raise Apart(f"{key}: {found[key]} in one part, {value} in another")
    return found
