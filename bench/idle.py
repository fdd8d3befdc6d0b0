"""What services at zero cost: memory of the control plane and of Envoy for each, processor time and processes.

    python -m bench.idle [--services 1000] [--json FILE]

A real control plane with Envoy. Services with ``minReplicas: 0``, all of one small model, are created over the control
API, with ``initial-scale: "0"`` so that none is started for a trial; when each has a status and Envoy has their routes,
memory is read again, and then, over a while in which nothing is asked, processor time. Goals: 20 kB of the control
plane for each, and no process.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import pathlib
import sys
import time
from collections.abc import Sequence
from typing import Any

import psutil

from bench import conditions, installation, models
from mlship import client

GOAL_KB = 20
_NEVER_STARTED = {"autoscaling.knative.dev/initial-scale": "0"}
_SETTLE_SECONDS = 600.0
_QUIET_SECONDS = 5.0
_IDLE_SECONDS = 20.0


def measure(services: int) -> dict[str, Any]:
    """So many services in an installation of their own."""
    with installation.installed() as made:
        uri = f"file://{models.iris().path}"
        # One first: what is loaded once for all is not what each costs.
        _create(made, "first", uri)
        _settle(made, 1)
        empty = {word: made.memory(word) for word in (installation.CONTROL, installation.ENVOY)}
        before = len(_running(made))
        began = time.perf_counter()
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda number: _create(made, f"idle-{number:05d}", uri), range(services)))
        created = time.perf_counter() - began
        _settle(made, services + 1)
        settled = time.perf_counter() - began
        full = {word: made.memory(word) for word in empty}
        busy = {word: _cpu(made, word) for word in empty}
        time.sleep(_IDLE_SECONDS)
        busy = {word: (_cpu(made, word) - spent) / _IDLE_SECONDS * 100 for word, spent in busy.items()}
        return {
            "services": services,
            "created_s": created,
            "settled_s": settled,
            "control_mib": full[installation.CONTROL] / 2**20,
            "envoy_mib": full[installation.ENVOY] / 2**20,
            "control_kb_each": (full[installation.CONTROL] - empty[installation.CONTROL]) / 1e3 / services,
            "envoy_kb_each": (full[installation.ENVOY] - empty[installation.ENVOY]) / 1e3 / services,
            "control_idle_percent": busy[installation.CONTROL],
            "envoy_idle_percent": busy[installation.ENVOY],
            "processes_more": len(_running(made)) - before,
        }


def _create(made: installation.Installation, name: str, uri: str) -> None:
    # A client of its own: one connection is for one thread.
    with client.Client(made.where) as control:
        control.apply(installation.service(name, uri, minReplicas=0, maxReplicas=1, annotations=_NEVER_STARTED))


def _settle(made: installation.Installation, services: int) -> None:
    """Wait until every service has a status, and the control plane has had nothing to do for a while."""
    until = time.monotonic() + _SETTLE_SECONDS
    quiet_since, spent = time.monotonic(), -1.0
    while time.monotonic() - quiet_since < _QUIET_SECONDS:
        if time.monotonic() > until:
            raise TimeoutError(f"the control plane is not quiet after {_SETTLE_SECONDS:.0f} s")
        time.sleep(0.5)
        now = sum(_cpu(made, word) for word in (installation.CONTROL, installation.ENVOY))
        # Less than a twentieth of a processor is quiet: timers of its own and of Envoy's.
        if now - spent > 0.025:
            quiet_since = time.monotonic()
        spent = now
    there = made.control.list("isvc")
    without = [one["metadata"]["name"] for one in there if not one.get("status")]
    if len(there) != services or without:
        raise RuntimeError(f"{len(there)} services instead of {services}, without a status: {without[:5]}")


def _cpu(made: installation.Installation, word: str) -> float:
    (process,) = made.processes(word)
    times = process.cpu_times()
    spent: float = times.user + times.system
    return spent


def _running(made: installation.Installation) -> list[psutil.Process]:
    return made.processes(str(made.where.root))


def table(found: dict[str, Any]) -> str:
    """For people."""
    return "\n".join(
        (
            f"{found['services']} services at zero: created in {found['created_s']:.1f} s, at rest after "
            f"{found['settled_s']:.1f} s, {found['processes_more']} processes more",
            f"control plane {found['control_mib']:.0f} MiB, {found['control_kb_each']:.1f} kB each, "
            f"{found['control_idle_percent']:.2f} % of a processor at rest",
            f"Envoy         {found['envoy_mib']:.0f} MiB, {found['envoy_kb_each']:.1f} kB each, "
            f"{found['envoy_idle_percent']:.2f} % of a processor at rest",
        )
    )


def main(arguments: Sequence[str]) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.idle", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--services", type=int, default=1000)
    parser.add_argument("--json", type=pathlib.Path)
    asked = parser.parse_args(arguments)
    before = conditions.now()
    found = measure(asked.services)
    print(f"{conditions.line(before)}\n{table(found)}")
    if asked.json is not None:
        conditions.keep(asked.json, "idle", before, **found)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
