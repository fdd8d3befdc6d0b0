"""Looks into a pickle without executing it: what class its root object has, what it imports, which versions it records.

Unpickling runs code, so nothing here unpickles: the opcodes are read one after the other and described
(``opcodes``). Work is bounded: opcodes are counted, long strings are skipped but for their ends, compressed data
is inflated up to a limit (``inflate``). ``pickled`` decides what the result means.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Mapping

from mlship import errors
from mlship.server.artifact import inflate, opcodes

TORCH_MAGIC = 0x1950A86A20F9469CFC6C


@dataclasses.dataclass(frozen=True, slots=True)
class Scan:
    """What a pickle holds.

    ``root``: the dotted class of its object. ``globals``: every name it imports, dotted. ``versions``: by distribution.
    ``compression``: empty when none. ``by_value``: cloudpickle stored the root's class itself. ``complete`` False: a
    bound ended the look early. ``detail``: more about a root that is plain data. ``size``: the bytes read.
    """

    root: str
    globals: tuple[str, ...]
    versions: Mapping[str, str]
    compression: str
    by_value: bool
    complete: bool
    detail: str
    size: int


def _is_by_value(root: object) -> bool:
    if not isinstance(root, opcodes.Call):
        return False
    candidates = [root.callee, *(root.args[:1] if isinstance(root.args, tuple) else ())]
    return any(opcodes.is_skeleton(candidate) for candidate in candidates)


def _detail(root: object) -> str:
    """What else to say of a root object that is no estimator."""
    if isinstance(root, dict):
        return "with the keys " + ", ".join(repr(key)[:40] for key in list(root)[:8]) if root else "without entries"
    if root == TORCH_MAGIC:
        return "torch"
    if isinstance(root, list | tuple):
        return f"of {len(root)} entries" + (f", the first a {opcodes.class_of(root[0])}" if root else "")
    return ""


def scan(path: pathlib.Path, *, limit: int = inflate.MAX_INFLATED) -> Scan:
    """Look at the pickle (or joblib file) at ``path``; executes nothing.

    Raises ``errors.SpecError`` when it is truncated, corrupt or no pickle at all.
    """
    with inflate.Reader(path, limit=limit) as reader:
        machine = opcodes.Machine(reader)
        complete = True
        try:
            root = machine.run()
        except inflate.Bounded:
            complete = False
            root = machine.unfinished()
        except inflate.Truncated as error:
            raise errors.SpecError(
                f"{path.name} is a truncated pickle: it ends after {reader.position} bytes without the STOP opcode.",
                hint="The copy or the download was cut short; copy the file again and compare the sizes.",
            ) from error
        except inflate.Corrupt as error:
            raise errors.SpecError(
                f"{path.name} is corrupt: its {reader.compression} data cannot be inflated ({error}).",
                hint="Copy the file again, or save the model again.",
            ) from error
        except opcodes.Malformed as error:
            raise errors.SpecError(
                f"{path.name} starts like a pickle but is none: {error}.",
                hint="Copy the file again in binary mode, or save the model again.",
            ) from error
        return Scan(
            root=opcodes.class_of(root),
            globals=tuple(sorted(machine.globals)),
            versions=machine.versions,
            compression=reader.compression,
            by_value=_is_by_value(root),
            complete=complete,
            detail=_detail(root),
            size=reader.position,
        )
