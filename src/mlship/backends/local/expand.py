"""From a ``ProcessSpec`` to the command line and the environment of one start of it. Pure.

References follow Kubernetes' rules for ``command`` and ``args``: ``$(NAME)`` is the value of NAME, ``$$`` is a dollar
sign, and a reference to a name that nobody gave stays as it is. A variable may refer to those listed before it and to
what the backend provides. A child gets our environment without ``MLSHIP_*``: those configure the control plane, and
some of them are secrets.
"""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Mapping

from mlship.plan import actions

_REFERENCE = re.compile(r"\$(?:\$|\(([A-Za-z_.-][A-Za-z0-9_.-]*)\))")
_OURS = "MLSHIP_"


@dataclasses.dataclass(frozen=True, slots=True)
class Command:
    """What to execute. ``env`` may hold secrets, so it does not print itself."""

    argv: tuple[str, ...]
    env: Mapping[str, str] = dataclasses.field(repr=False)
    cwd: str = ""


def expand(text: str, values: Mapping[str, str]) -> str:
    """``text`` with its references replaced by ``values``."""

    def replaced(match: re.Match[str]) -> str:
        name = match.group(1)
        return "$" if name is None else values.get(name, match.group(0))

    return _REFERENCE.sub(replaced, text)


def command(spec: actions.ProcessSpec, *, provided: Mapping[str, str], inherited: Mapping[str, str]) -> Command:
    """The command of ``spec``; ``provided`` and the spec's own variables are also in the environment."""
    values = dict(provided)
    for name, value in spec.env:
        values[name] = expand(value.value if isinstance(value, actions.Secret) else value, values)
    argv = tuple(expand(argument, values) for argument in spec.argv)
    if argv and argv[0] == "python":
        argv = (sys.executable, *argv[1:])
    clean = {name: value for name, value in inherited.items() if not name.startswith(_OURS)}
    return Command(argv=argv, env=clean | {"PYTHONUNBUFFERED": "1"} | values, cwd=expand(spec.cwd, values))


def refers_to(spec: actions.ProcessSpec, name: str) -> bool:
    """Whether the spec holds ``$(name)`` anywhere."""
    reference = f"$({name})"
    values = (value.value if isinstance(value, actions.Secret) else value for _, value in spec.env)
    return any(reference in text for text in (*spec.argv, *values, spec.cwd))


def secrets(spec: actions.ProcessSpec) -> tuple[str, ...]:
    """The secret values of the spec, for redaction."""
    return tuple(value.value for _, value in spec.env if isinstance(value, actions.Secret) and value.value)
