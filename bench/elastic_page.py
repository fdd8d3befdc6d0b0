"""The page about elasticity, from the files that the measurements wrote: goals first, then what each has found."""

from __future__ import annotations

import json
import math
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

from bench import conditions, control_loop, density, facts, idle, rolling, step, wakeups

Found = Mapping[str, Mapping[str, Any]]
_TABLES: dict[str, tuple[str, Callable[[Any], str]]] = {
    "control_loop": ("A change beside N services", lambda found: control_loop.table(found["rows"])),
    "idle": ("Services at zero", idle.table),
    "wakeups": ("First request to a service at zero", lambda found: wakeups.table(_measured(found))),
    "storm": ("Many callers wake many services", lambda found: wakeups.table(_measured(found))),
    "step": ("From one replica to several", step.table),
    "rolling": ("Rolling updates and scaling under load", lambda found: rolling.table(_measured(found))),
    "density": ("Many models in one process", density.table),
}


def module(name: str) -> str:
    """The module that a measurement is made with."""
    return {"storm": "wakeups"}.get(name, name)


def read(folder: pathlib.Path) -> dict[str, dict[str, Any]]:
    """The measurements in a folder by name; those of another origin are kept as they are."""
    found = {}
    for name in _TABLES:
        path = folder / f"{name}.json"
        if path.exists():
            found[name] = json.loads(path.read_text())
    return found


def _measured(found: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in found.items() if key not in ("name", "conditions")}


def goals(found: Found) -> list[tuple[str, str, str]]:
    """Each goal, what was measured, and whether that meets it."""
    rows: list[tuple[str, str, str]] = []

    def row(text: str, value: float | None, bound: float, form: str) -> None:
        if value is None or math.isnan(value):
            rows.append((text, "not measured", "no"))
        else:
            rows.append((text, form.format(value), "yes" if value <= bound else "**no**"))

    for kind in wakeups.KINDS:
        one = found.get("wakeups", {}).get(kind, {})
        row(f"wake {kind}, p50, at most {wakeups.GOAL_P50_MS} ms", one.get("p50_ms"), wakeups.GOAL_P50_MS, "{:.0f} ms")
        row(f"wake {kind}, p99, at most {wakeups.GOAL_P99_MS} ms", one.get("p99_ms"), wakeups.GOAL_P99_MS, "{:.0f} ms")
    storm = found.get("storm", {}).get("storm", {})
    row(f"wake-ups by many callers at once{_of(storm, 'requests')}: failed", storm.get("failed"), 0, "{:.0f}")
    first = found.get("step", {}).get("first_s")
    row(f"step load to the first new replica, at most {step.GOAL_SECONDS:g} s", first, step.GOAL_SECONDS, "{:.2f} s")
    for part in ("rolling", "scaling"):
        one = found.get("rolling", {}).get(part, {})
        row(f"{part} under load{_of(one, 'steps')}: failed requests", one.get("failed"), rolling.GOAL_FAILED, "{:.0f}")
    rest = found.get("idle", {})
    row(f"control plane for each service at zero, at most {idle.GOAL_KB} kB",
        rest.get("control_kb_each"), idle.GOAL_KB, "{:.1f} kB")  # fmt: skip
    row("processes for services at zero", rest.get("processes_more"), 0, "{:.0f}")
    many = found.get("density", {})
    row(f"models in one process{_of(many, 'models')}: private memory, at most 2 GiB",
        many.get("measured"), density.GOAL_BYTES, "{:,.0f} bytes")  # fmt: skip
    p99 = many["hot_beside_loads"]["p99_ms"] / many["hot_alone"]["p99_ms"] if many else None
    row("p99 of a hot model beside others that are paged, over alone, at most 1.3", p99, density.GOAL_RATIO, "{:.2f}")
    sizes = found.get("control_loop", {}).get("rows", [])
    if len(sizes) > 1:
        ratio = sizes[-1]["cpu_ms"] / sizes[0]["cpu_ms"]
        text = f"processor time of a change, {sizes[-1]['services']} services over {sizes[0]['services']}, at most 2"
        row(text, ratio, 2.0, "{:.2f}")
    return rows


def _of(one: Mapping[str, Any], figure: str) -> str:
    return f" ({one[figure]} {figure})" if figure in one else ""


def page(found: Found) -> str:
    """The whole page in Markdown."""
    lines = [
        "# Elasticity, measured",
        "",
        "Written by `python -m bench.elastic --publish`; what each measurement does is said in its module. "
        "Client, Envoy, control plane and replicas share the machine.",
        "",
        "| goal | measured | met |",
        "|---|---|---|",
        *(f"| {text} | {value} | {met} |" for text, value, met in goals(found)),
    ]
    for name, (title, table) in _TABLES.items():
        if name not in found:
            continue
        one = found[name]
        lines += ["", f"## {title}", "", f"`python -m bench.{module(name)}`"]
        if "conditions" in one:
            lines[-1] += f", {conditions.line(dict(one['conditions']))}"
        lines += ["", "```", facts.public(table(one)), "```"]
    return "\n".join(lines) + "\n"
