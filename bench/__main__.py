"""``python -m bench``: build the environments, run the rounds, write the results. See ``--help`` and ``make bench``."""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import os
import pathlib
import platform
import signal
import sys
from collections.abc import Sequence

import psutil

from bench import envs, estimate, facts, loads, models, parts, publish, rounds, subjects, tables

_QUICK = {"rounds": 1, "seconds": 2.0}
_THOROUGH = {"rounds": 5, "seconds": 10.0, "warm_seconds": 2.0}
BUSY = 0.5  # load average for each processor above which figures say little


def main(arguments: Sequence[str]) -> int:
    chosen = _parser().parse_args(arguments)
    if chosen.report:
        return _report(publish.RESULTS / chosen.report, to_docs=chosen.publish)
    missing = loads.missing_programs()
    if missing:
        sys.exit(f"missing programs: {', '.join(missing)}. On Debian: apt-get install wrk nghttp2-client")
    wanted = _subjects(chosen.only, thorough=chosen.thorough)
    problems = _build({subject.home.name for subject in wanted})
    if chosen.build_only:
        return 1 if problems else 0
    failures = [
        facts.Failure(one.name, tables.ENVIRONMENT, 0, facts.public(problems[one.home.name]))
        for one in wanted
        if one.home.name in problems
    ]
    choices = _choices(chosen, tuple(one for one in wanted if one.home.name not in problems))
    now = datetime.datetime.now(datetime.UTC)
    stamp = chosen.into or now.strftime("%Y%m%d-%H%M%S")
    before = os.getloadavg()[0]
    _announce(choices, now, stamp, before)
    whole = _measured(choices, failures, publish.RESULTS / stamp, before)
    print(publish.report(whole))
    print(f"kept in bench/results/{stamp}, took {datetime.datetime.now(datetime.UTC) - now}")
    if chosen.publish:
        publish.publish(whole)
    return 0


def _report(folder: pathlib.Path, *, to_docs: bool) -> int:
    """What is in a run's folder, without measuring anything."""
    found = publish.known_parts(folder)
    if not found:
        sys.exit(f"no run in bench/results/{folder.name}")
    whole = parts.merged(found)
    print(publish.report(whole))
    if to_docs:
        publish.publish(whole)
    return 0


def _choices(chosen: argparse.Namespace, wanted: tuple[subjects.Subject, ...]) -> rounds.Choices:
    amount = _QUICK if chosen.quick else _THOROUGH if chosen.thorough else {}
    asked = {key: value for key in ("rounds", "seconds") if (value := getattr(chosen, key)) is not None}
    known = {one.name for one in loads.CLOSED} | {one.name.partition("-")[0] for one in loads.CLOSED}
    known |= set(rounds.GROUPS)
    if unknown := [name for name in chosen.loads or () if name not in known]:
        sys.exit(f"unknown: {', '.join(unknown)}. Known: {', '.join(sorted(known))}")
    return rounds.Choices(wanted, loads=tuple(chosen.loads or ()), **{**amount, **asked})


def _announce(choices: rounds.Choices, now: datetime.datetime, stamp: str, load: float) -> None:
    seconds = estimate.seconds(choices)
    end = now + datetime.timedelta(seconds=seconds)
    names = ", ".join(one.name for one in choices.subjects)
    print(
        f"{choices.rounds} rounds, {choices.seconds:g} s a load: about {seconds / 60:.0f} minutes, to {end:%H:%M} UTC"
    )
    print(f"servers: {names}\nresults: bench/results/{stamp}", flush=True)
    if warning := _warning(load):
        print(f"WARNING: {warning}", file=sys.stderr, flush=True)


def _warning(load: float) -> str:
    """Why this machine is too busy to be measured on; empty when it is not."""
    each = load / (os.cpu_count() or 1)
    return f"load average {load:.2f} before the start, {each:.2f} a processor, more than {BUSY}" if each > BUSY else ""


def _measured(
    choices: rounds.Choices, failures: Sequence[facts.Failure], folder: pathlib.Path, load_before: float
) -> facts.Run:
    """The run with all parts of its folder, also when it is broken off: what was measured until then is kept."""
    earlier = publish.known_parts(folder)
    run = facts.Run(
        machine=_machine(load_before, {subject.home.name for subject in choices.subjects}),
        choices={"rounds": choices.rounds, "seconds of each load": choices.seconds},
        failures=tuple(failures),
    )
    try:
        known = parts.merged([*earlier, run]).samples
    except parts.Apart as error:
        sys.exit(f"bench/results/{folder.name} has a run that this one is no part of: {error}")
    measuring = rounds.Rounds(choices, {name: make() for name, make in models.MODELS.items()}, known=known, say=_said)
    # Asked to end, it ends the server that it measures as well.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        measuring.run()
    except KeyboardInterrupt:
        print("broken off; what was measured until now is kept", file=sys.stderr)
    finally:
        signal.signal(signal.SIGTERM, before)
        taken = (*failures, *measuring.failures)
        run = dataclasses.replace(run, samples=tuple(measuring.samples), failures=taken)
        whole = publish.keep(run, folder, number=len(earlier) + 1)
    return whole


def _said(text: str) -> None:
    print(f"{datetime.datetime.now(datetime.UTC):%H:%M:%S}  {text}", flush=True)


def _build(peers: set[str]) -> dict[str, str]:
    """Have every environment; why not, for those that are not to be had."""
    failures = {peer: problem for peer in sorted(peers) if (problem := envs.build(peer))}
    for peer, problem in failures.items():
        print(f"{peer}: no environment, left out: {problem}", file=sys.stderr)
    return failures


def _subjects(only: Sequence[str] | None, *, thorough: bool) -> tuple[subjects.Subject, ...]:
    known = {one.name for one in subjects.SUBJECTS} | {one.peer for one in subjects.SUBJECTS}
    unknown = [name for name in only or () if name not in known]
    if unknown:
        sys.exit(f"unknown: {', '.join(unknown)}. Known: {', '.join(sorted(known))}")
    if not only:
        return tuple(one for one in subjects.SUBJECTS if thorough or not one.second)
    # A name that is also a peer's means all of the peer but what comes second.
    return tuple(
        one for one in subjects.SUBJECTS if one.name in only or (one.peer in only and (thorough or not one.second))
    )


def _machine(load_before: float, peers: set[str]) -> dict[str, object]:
    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    processor = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
    found: dict[str, object] = {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "processor": f"{psutil.cpu_count()} x {processor}",
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "kernel": f"Linux {platform.release().partition('-')[0]}",
        "load average before": round(load_before, 2),
    }
    if warning := _warning(load_before):
        found["warning"] = warning
    main_package = {"kserve": "kserve", "pytriton": "nvidia-pytriton", "rayserve": "ray"}
    for peer in sorted(peers):
        versions = envs.versions(peer)
        wanted = (main_package.get(peer, peer), "scikit-learn", "numpy")
        found[peer] = ", ".join(f"{name} {versions.get(name, '?')}" for name in wanted)
    return found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure mlship beside its peers.")
    parser.add_argument("--quick", action="store_true", help="one short round: does everything run? Figures are rough")
    parser.add_argument("--thorough", action="store_true", help="every configuration, 5 rounds of 10 s: hours")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these peers or subjects")
    parser.add_argument(
        "--loads", nargs="+", metavar="LOAD", help="these loads: iris-1, iris-64, ..., open, mixed, overload, replicas"
    )
    parser.add_argument("--rounds", type=int, help="how often everything is measured (2)")
    parser.add_argument("--seconds", type=float, help="length of each load (5)")
    parser.add_argument("--into", metavar="STAMP", help="a further part of the run in bench/results/STAMP")
    parser.add_argument(
        "--report", metavar="STAMP", help="measure nothing: the report of the run in bench/results/STAMP"
    )
    parser.add_argument("--build-only", action="store_true", help="build the environments and stop")
    parser.add_argument("--publish", action="store_true", help="write docs/benchmarks; on a quiet machine only")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
