"""``python -m bench``: build the environments, run the rounds, write the results. See ``--help`` and ``make bench``."""

from __future__ import annotations

import argparse
import datetime
import os
import pathlib
import platform
import signal
import sys
from collections.abc import Sequence

import psutil

from bench import envs, facts, loads, models, publish, rounds, subjects

_QUICK = {"rounds": 1, "seconds": 2.0, "warm_seconds": 1.0}


def main(arguments: Sequence[str]) -> int:
    chosen = _parser().parse_args(arguments)
    missing = loads.missing_programs()
    if missing:
        sys.exit(f"missing programs: {', '.join(missing)}. On Debian: apt-get install wrk nghttp2-client")
    wanted = _subjects(chosen.only)
    failures = _build({subject.peer for subject in wanted})
    if chosen.build_only:
        return 1 if failures else 0
    wanted = tuple(subject for subject in wanted if subject.peer not in failures)
    asked = {key: value for key in ("rounds", "seconds") if (value := getattr(chosen, key)) is not None}
    loaded = tuple(chosen.loads or ())
    amount = {**(_QUICK if chosen.quick else {}), **asked}
    choices = rounds.Choices(wanted, loads=loaded, steady=not chosen.no_steady, **amount)
    run = _measured(choices, failures)
    print(publish.report(run, wanted))
    stamp = datetime.datetime.now(datetime.UTC).strftime("%Y%m%d-%H%M%S")
    print(f"kept in {publish.keep(run, wanted, stamp=stamp)}")
    if chosen.publish:
        publish.publish(run, wanted)
    return 0


def _measured(choices: rounds.Choices, failures: dict[str, str]) -> facts.Run:
    """The run, also when it is broken off: what was measured until then is worth keeping."""
    before = os.getloadavg()[0]
    measuring = rounds.Rounds(choices, {name: make() for name, make in models.MODELS.items()})
    # Asked to end, it ends the server that it measures as well.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        measuring.run()
    except KeyboardInterrupt:
        print("broken off; what was measured until now is kept", file=sys.stderr)
    not_built = [facts.Failure(peer, "environment", 0, reason) for peer, reason in failures.items()]
    return facts.Run(
        machine=_machine(before, {subject.peer for subject in choices.subjects}),
        choices={"rounds": choices.rounds, "seconds of each load": choices.seconds},
        samples=tuple(measuring.samples),
        failures=(*not_built, *measuring.failures),
    )


def _build(peers: set[str]) -> dict[str, str]:
    """Have every environment; why not, for those that are not to be had."""
    failures = {peer: problem for peer in sorted(peers) if (problem := envs.build(peer))}
    for peer, problem in failures.items():
        print(f"{peer}: no environment, left out: {problem}", file=sys.stderr)
    return failures


def _subjects(only: Sequence[str] | None) -> tuple[subjects.Subject, ...]:
    known = {one.name for one in subjects.SUBJECTS} | {one.peer for one in subjects.SUBJECTS}
    unknown = [name for name in only or () if name not in known]
    if unknown:
        sys.exit(f"unknown: {', '.join(unknown)}. Known: {', '.join(sorted(known))}")
    return tuple(one for one in subjects.SUBJECTS if not only or one.name in only or one.peer in only)


def _machine(load_before: float, peers: set[str]) -> dict[str, object]:
    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    processor = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
    found: dict[str, object] = {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        "processor": f"{psutil.cpu_count()} x {processor}",
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "kernel": platform.release(),
        "load average before": round(load_before, 2),
    }
    main_package = {"kserve": "kserve", "pytriton": "nvidia-pytriton", "rayserve": "ray"}
    for peer in sorted(peers):
        versions = envs.versions(peer)
        wanted = (main_package.get(peer, peer), "scikit-learn", "numpy")
        found[peer] = ", ".join(f"{name} {versions.get(name, '?')}" for name in wanted)
    return found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure mlship beside its peers.")
    parser.add_argument("--quick", action="store_true", help="one short round: does everything run? Figures are rough")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these peers or subjects")
    parser.add_argument("--loads", nargs="+", metavar="LOAD", help="these loads (iris-1, iris-64, ..., overload)")
    parser.add_argument("--rounds", type=int, help="how often everything is measured (3)")
    parser.add_argument("--seconds", type=float, help="length of each load (8)")
    parser.add_argument("--no-steady", action="store_true", help="closed loops only")
    parser.add_argument("--build-only", action="store_true", help="build the environments and stop")
    parser.add_argument("--publish", action="store_true", help="write docs/benchmarks; on a quiet machine only")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
