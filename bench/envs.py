"""An environment for each peer, from PyPI, with pinned versions: built once, again when its requirements change.

What a peer needs stands in ``peers/NAME/requirements.txt``; ``before.txt`` beside it is installed first (a CPU build of
torch, before what depends on torch asks for another); ``constraints.txt`` beside it replaces the common one.
"""

from __future__ import annotations

import hashlib
import pathlib
import subprocess
import sys

PEERS = pathlib.Path(__file__).parent / "peers"
ENVS = pathlib.Path(__file__).parent / ".envs"
_ROOT = pathlib.Path(__file__).parents[1]
_OURS = "mlship"  # what it needs stands in pyproject.toml


def names() -> list[str]:
    return sorted(path.parent.name for path in PEERS.glob("*/requirements.txt"))


def build(name: str) -> str:
    """Have the environment; empty, or why it is not to be had (the end of pip's words)."""
    files = [path for path in (_own(name, "before.txt"), _constraints(name), _own(name, "requirements.txt")) if path]
    if name == _OURS:
        files.append(_ROOT / "pyproject.toml")
    wanted = hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()
    mark = ENVS / name / ".installed"
    if mark.exists() and mark.read_text() == wanted:
        return ""
    print(f"{name}: building its environment", flush=True)
    problem = _install(name)
    if not problem:
        mark.write_text(wanted)
    return problem


def _own(name: str, file: str) -> pathlib.Path | None:
    path = PEERS / name / file
    return path if path.exists() else None


def _constraints(name: str) -> pathlib.Path:
    return _own(name, "constraints.txt") or PEERS / "constraints.txt"


def _install(name: str) -> str:
    home = ENVS / name
    pip = [str(home / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    steps = [] if (home / "bin" / "python").exists() else [[_interpreter(name), "-m", "venv", str(home)]]
    before = _own(name, "before.txt")
    if before:
        steps.append([*pip, "-r", str(before)])
    steps.append([*pip, "-c", str(_constraints(name)), "-r", str(PEERS / name / "requirements.txt")])
    for step in steps:
        done = subprocess.run(step, cwd=_ROOT, capture_output=True, text=True)
        if done.returncode:
            return done.stderr.strip()[-300:]
    return ""


def _interpreter(name: str) -> str:
    """The interpreter that ``python.txt`` names, where there is one: pytriton embeds an older patch version of 3.11."""
    file = _own(name, "python.txt")
    wanted = file.read_text().strip() if file else ""
    return wanted if wanted and pathlib.Path(wanted).exists() else sys.executable


def versions(name: str) -> dict[str, str]:
    """What is installed there, by name."""
    program = [str(ENVS / name / "bin" / "python"), "-m", "pip", "list", "--format", "freeze"]
    done = subprocess.run([*program, "--disable-pip-version-check"], capture_output=True, text=True)
    pairs = [line.partition("==") for line in done.stdout.splitlines() if "==" in line]
    return {key: value for key, _, value in pairs}
