"""Everything about elasticity, one measurement after the other, and the page that shows it.

    python -m bench.elastic [--quick] [--only NAME ...] [--into STAMP] [--publish]
    python -m bench.elastic --report STAMP [--publish]

Each measurement is a program of its own (``python -m bench.MODULE --json FILE``) and can be run alone; their files lie
together in ``bench/results/elastic/STAMP``. ``--publish`` writes docs/benchmarks/elastic.md from what lies there.
"""

from __future__ import annotations

import argparse
import datetime
import pathlib
import subprocess
import sys
from collections.abc import Sequence

from bench import conditions, elastic_page

RESULTS = pathlib.Path(__file__).parent / "results" / "elastic"
PAGE = pathlib.Path(__file__).parents[1] / "docs" / "benchmarks" / "elastic.md"
_LONGEST_SECONDS = 2 * 3600.0
# Name of a measurement -> arguments of its module, and those for a short look at whether everything runs.
RUNS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "control_loop": ((), ("--sizes", "10", "1000", "--changes", "20")),
    "idle": ((), ("--services", "50")),
    "wakeups": (("--times", "30"), ("--times", "3")),
    "storm": (("--times", "0", "--storm"), ("--times", "0", "--storm", "10", "--callers", "5")),
    "step": (("--times", "10"), ("--times", "1")),
    "rolling": ((), ("--updates", "3", "--cycles", "1", "--rate", "100")),
    "density": (
        ("--registered", "10000"),
        ("--models", "50", "--registered", "100", "--seconds", "1", "--rounds", "1"),
    ),
}


def main(arguments: Sequence[str]) -> int:
    """The command line; how many measurements failed or missed a goal of no failures."""
    asked = _parser().parse_args(arguments)
    stamp = asked.report or asked.into or datetime.datetime.now(datetime.UTC).strftime("%Y%m%d-%H%M%S")
    folder = RESULTS / stamp
    failed = [] if asked.report else _run(asked.only or list(RUNS), folder, quick=asked.quick)
    found = elastic_page.read(folder)
    if not found:
        sys.exit(f"nothing in bench/results/elastic/{stamp}")
    page = elastic_page.page(found)
    print(page)
    if asked.publish:
        PAGE.write_text(page)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return len(failed)


def _run(names: Sequence[str], folder: pathlib.Path, *, quick: bool) -> list[str]:
    """Run them; those that ended with an error. A missed goal is one, too."""
    folder.mkdir(parents=True, exist_ok=True)
    before = conditions.now()
    print(f"{conditions.line(before)}\nresults: {folder.relative_to(PAGE.parents[2])}", flush=True)
    failed = []
    for name in names:
        flags = RUNS[name][1 if quick else 0]
        print(f"\n{datetime.datetime.now(datetime.UTC):%H:%M:%S}  {name} {' '.join(flags)}", flush=True)
        command = [
            sys.executable,
            "-m",
            f"bench.{elastic_page.module(name)}",
            *flags,
            "--json",
            str(folder / f"{name}.json"),
        ]
        try:
            code = subprocess.run(command, timeout=_LONGEST_SECONDS).returncode
        except subprocess.TimeoutExpired:
            code = -1
        if code:
            failed.append(name)
    return failed


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.elastic", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few repetitions: does everything run? Figures are rough")
    parser.add_argument("--only", nargs="+", choices=sorted(RUNS), metavar="NAME", help=f"of {', '.join(RUNS)}")
    parser.add_argument("--into", metavar="STAMP", help="add to these results")
    parser.add_argument("--report", metavar="STAMP", help="measure nothing, show what lies there")
    parser.add_argument("--publish", action="store_true", help="write docs/benchmarks/elastic.md")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
