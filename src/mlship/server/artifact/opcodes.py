"""Applies the opcodes of a pickle to descriptions of objects: a call is written down, never made.

``artifact.pickles`` uses this to look into pickles. It follows the stack machine of ``pickle`` (``pickletools`` knows
every opcode's arguments) closely enough to name the class of each object, to collect imports and recorded versions,
and to know how long joblib's arrays are, whose raw bytes lie between the opcodes of its files.
"""

from __future__ import annotations

import _compat_pickle
import dataclasses
import math
import pickletools
import re
from collections.abc import Callable
from typing import IO, Any, cast

from mlship.server.artifact import inflate, marks

MAX_OPS = 5_000_000
_WHOLE = 1 << 16
_OPCODES = {opcode.code.encode("latin-1"): opcode for opcode in pickletools.opcodes}
_DEPTH = 8


class Malformed(Exception):
    """The opcodes make no sense."""


@dataclasses.dataclass(frozen=True, slots=True)
class Global:
    """An import: ``module.name``."""

    module: str
    name: str

    @property
    def dotted(self) -> str:
        return f"{self.module}.{self.name}"


@dataclasses.dataclass(eq=False, slots=True)
class Call:
    """A call that unpickling would make, and the state it would set on the result."""

    callee: object
    args: object
    state: object = None


@dataclasses.dataclass(frozen=True, slots=True)
class Blob:
    """A long string or bytes object, of which the ends were kept."""

    text: bool
    length: int
    head: bytes
    tail: bytes


class Machine:
    """Runs the opcodes on descriptions."""

    def __init__(self, reader: inflate.Reader) -> None:
        self.reader = reader
        self.globals: dict[str, None] = {}
        self.versions: dict[str, str] = {}
        self.ops = 0
        self._bottom: tuple[list[Any], list[list[Any]]] = ([], [])

    def run(self, depth: int = 0) -> object:
        """Read one pickle to its STOP and return the description of its object."""
        stack: list[Any] = []
        marked: list[list[Any]] = []
        memo: dict[int, Any] = {}
        if depth == 0:
            self._bottom = (stack, marked)
        frame = _Frame(self, stack, marked, memo, depth)
        while True:
            self.ops += 1
            if self.ops > MAX_OPS:
                raise inflate.Bounded
            code = self.reader.read(1)
            if code == b".":
                return frame.pop()
            try:
                frame.step(code)
            except (IndexError, KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
                raise Malformed(f"opcode {code!r} at byte {self.reader.position}") from error

    def unfinished(self) -> object:
        """The object that a pickle read only in part would have become: the first one begun."""
        stack, marked = self._bottom
        begun = [item for items in (*marked, stack) for item in items]
        return begun[0] if begun else None

    def note(self, blob: Blob) -> None:
        self.versions.update(marks.of(blob.head, blob.tail))

    def note_global(self, found: Global) -> Global:
        self.globals[found.dotted] = None
        if found.module.startswith(("numpy._core.", "numpy.core.")):
            self.versions.setdefault("numpy", "2" if found.module.startswith("numpy._core.") else "1")
        return found

    def note_state(self, state: object) -> None:
        if isinstance(state, dict) and isinstance(version := state.get("_sklearn_version"), str):
            self.versions["scikit-learn"] = version


class _Frame:
    """The stack, marks and memo of one pickle; joblib nests pickles for arrays of objects."""

    def __init__(
        self, machine: Machine, stack: list[Any], marked: list[list[Any]], memo: dict[int, Any], depth: int
    ) -> None:
        self.machine = machine
        self.stack = stack
        self.marked = marked
        self.memo = memo
        self.depth = depth

    def step(self, code: bytes) -> None:
        if (width := _SIZED.get(code)) is not None:
            self.push(self.sized(code, width))
            return
        opcode = _OPCODES.get(code)
        if opcode is None:
            raise Malformed(f"{code!r} at byte {self.machine.reader.position} is no opcode")
        argument = None
        if opcode.arg is not None:
            argument = opcode.arg.reader(cast(IO[bytes], self.machine.reader))
        action = _ACTIONS.get(opcode.name)
        if action is None:
            self.push(argument)
        else:
            action(self, argument)

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop(self) -> Any:
        if not self.stack:
            raise Malformed("the stack is empty where a value is needed")
        return self.stack.pop()

    def pop_mark(self) -> list[Any]:
        items = list(self.stack)
        self.stack[:] = self.marked.pop()
        return items

    def sized(self, code: bytes, width: int) -> Any:
        reader = self.machine.reader
        length = int.from_bytes(reader.read(width), "little")
        text = code in _TEXT
        if length <= _WHOLE:
            data = reader.read(length)
            if length > 64:
                self.machine.note(Blob(text, length, data, data))
            if code in _LONGS:
                return int.from_bytes(data, "little", signed=True)
            return data.decode("utf-8", "replace") if text else data
        head = reader.read(_WHOLE // 2)
        reader.skip(length - _WHOLE)
        blob = Blob(text, length, head, reader.read(_WHOLE - _WHOLE // 2))
        self.machine.note(blob)
        return blob

    def mark(self) -> None:
        self.marked.append(list(self.stack))
        self.stack.clear()

    def new_global(self, module: object, name: object) -> None:
        if not isinstance(module, str) or not isinstance(name, str):
            raise Malformed("an import whose name is no string")
        # Up to protocol 2 the names are those of Python 2.
        module, name = _compat_pickle.NAME_MAPPING.get((module, name), (module, name))
        module = _compat_pickle.IMPORT_MAPPING.get(module, module)
        self.push(self.machine.note_global(Global(module, name)))

    def build(self) -> None:
        state = self.pop()
        target = self.stack[-1]
        self.machine.note_state(state)
        if isinstance(target, Call):
            target.state = state
            if class_of(target) == "joblib.numpy_pickle.NumpyArrayWrapper" and isinstance(state, dict):
                self.array(state)

    def array(self, state: dict[Any, Any]) -> None:
        """Pass over the raw bytes that joblib writes behind an array's description (joblib/numpy_pickle.py)."""
        kind = _dtype(state["dtype"])
        if kind.startswith("O"):
            if self.depth >= _DEPTH:
                raise Malformed("arrays of objects nested too deep")
            self.machine.run(self.depth + 1)
            return
        reader = self.machine.reader
        if state.get("numpy_array_alignment_bytes") is not None:
            reader.skip(reader.read(1)[0])
        reader.skip(_item_size(kind) * math.prod(_int(size) for size in state["shape"]))


def _int(value: object) -> int:
    """A dimension: an integer, or the call that makes a NumPy scalar of its bytes."""
    if isinstance(value, Call) and isinstance(value.args, tuple) and isinstance(value.args[-1], bytes):
        return int.from_bytes(value.args[-1], "little", signed=True)
    if isinstance(value, int):
        return value
    raise Malformed("an array whose shape is not made of integers")


def _dtype(value: object) -> str:
    if isinstance(value, Call) and isinstance(value.args, tuple) and isinstance(value.args[0], str):
        return value.args[0].lstrip("<>|=")
    raise Malformed("an array whose dtype is not written down")


def _item_size(kind: str) -> int:
    found = re.match(r"([a-zA-Z])(\d+)", kind)
    if found is None:
        raise Malformed(f"an array of unknown dtype {kind[:20]!r}")
    return int(found[2]) * (4 if found[1] == "U" else 1)


# The opcodes that carry their length: code -> bytes of the length.
_SIZED = {b"U": 1, b"T": 4, b"C": 1, b"B": 4, b"\x8e": 8, b"\x96": 8, b"\x8c": 1, b"X": 4, b"\x8d": 8}
_SIZED |= {b"\x8a": 1, b"\x8b": 4}
_TEXT = frozenset({b"U", b"T", b"\x8c", b"X", b"\x8d"})
_LONGS = frozenset({b"\x8a", b"\x8b"})


def _none(_frame: _Frame, _argument: Any) -> None:
    """Opcodes without an effect on the stack."""


def _set_items(frame: _Frame, items: list[Any]) -> None:
    target = frame.stack[-1]
    if isinstance(target, dict):
        for key, value in zip(items[::2], items[1::2], strict=True):
            if isinstance(key, str | int):
                target[key] = value


def _dict(frame: _Frame, _argument: Any) -> None:
    items = frame.pop_mark()
    frame.push({})
    _set_items(frame, items)


def _persistent(frame: _Frame, _argument: Any) -> None:
    frame.pop()
    frame.push(Global("pickle", "persistent_id"))


def _set_item(frame: _Frame, _argument: Any) -> None:
    value, key = frame.pop(), frame.pop()
    _set_items(frame, [key, value])


def _append(frame: _Frame, items: list[Any]) -> None:
    if isinstance(target := frame.stack[-1], list):
        target.extend(items)


def _tuple(count: int) -> Callable[[_Frame, Any], None]:
    def action(frame: _Frame, _argument: Any) -> None:
        items = [frame.pop() for _ in range(count)]
        frame.push(tuple(reversed(items)))

    return action


def _reduce(frame: _Frame, _argument: Any) -> None:
    args, callee = frame.pop(), frame.pop()
    frame.push(Call(callee, args))


def _new_with_keywords(frame: _Frame, _argument: Any) -> None:
    keywords, args, callee = frame.pop(), frame.pop(), frame.pop()
    frame.push(Call(callee, args, keywords))


def _object(frame: _Frame, _argument: Any) -> None:
    items = frame.pop_mark()
    frame.push(Call(items[0], tuple(items[1:])))


def _instance(frame: _Frame, argument: Any) -> None:
    items = tuple(frame.pop_mark())
    _global(frame, argument)
    frame.push(Call(frame.pop(), items))


def _global(frame: _Frame, argument: Any) -> None:
    module, _, name = argument.partition(" ")
    frame.new_global(module, name)


def _stack_global(frame: _Frame, _argument: Any) -> None:
    name, module = frame.pop(), frame.pop()
    frame.new_global(module, name)


def _pop(frame: _Frame, _argument: Any) -> None:
    if frame.stack:
        frame.pop()
    else:
        frame.pop_mark()


def _pop_mark(frame: _Frame, _argument: Any) -> None:
    frame.pop_mark()


def _memoize(frame: _Frame, argument: Any) -> None:
    frame.memo[len(frame.memo) if argument is None else argument] = frame.stack[-1]


_ACTIONS: dict[str, Callable[[_Frame, Any], None]] = {
    "PROTO": _none,
    "FRAME": _none,
    "READONLY_BUFFER": _none,
    "NEXT_BUFFER": lambda frame, _: frame.push(Global("pickle", "PickleBuffer")),
    "NONE": lambda frame, _: frame.push(None),
    "NEWTRUE": lambda frame, _: frame.push(True),
    "NEWFALSE": lambda frame, _: frame.push(False),
    "EMPTY_LIST": lambda frame, _: frame.push([]),
    "EMPTY_DICT": lambda frame, _: frame.push({}),
    "EMPTY_TUPLE": lambda frame, _: frame.push(()),
    "EMPTY_SET": lambda frame, _: frame.push([]),
    "LIST": lambda frame, _: frame.push(frame.pop_mark()),
    "TUPLE": lambda frame, _: frame.push(tuple(frame.pop_mark())),
    "FROZENSET": lambda frame, _: frame.push(frame.pop_mark()),
    "TUPLE1": _tuple(1),
    "TUPLE2": _tuple(2),
    "TUPLE3": _tuple(3),
    "DICT": _dict,
    "APPEND": lambda frame, _: _append(frame, [frame.pop()]),
    "APPENDS": lambda frame, _: _append(frame, frame.pop_mark()),
    "ADDITEMS": lambda frame, _: _append(frame, frame.pop_mark()),
    "SETITEM": _set_item,
    "SETITEMS": lambda frame, _: _set_items(frame, frame.pop_mark()),
    "MARK": lambda frame, _: frame.mark(),
    "POP": _pop,
    "POP_MARK": _pop_mark,
    "DUP": lambda frame, _: frame.push(frame.stack[-1]),
    "GLOBAL": _global,
    "STACK_GLOBAL": _stack_global,
    "INST": _instance,
    "OBJ": _object,
    "REDUCE": _reduce,
    "NEWOBJ": _reduce,
    "NEWOBJ_EX": _new_with_keywords,
    "BUILD": lambda frame, _: frame.build(),
    "PUT": _memoize,
    "BINPUT": _memoize,
    "LONG_BINPUT": _memoize,
    "MEMOIZE": _memoize,
    "GET": lambda frame, argument: frame.push(frame.memo[argument]),
    "BINGET": lambda frame, argument: frame.push(frame.memo[argument]),
    "LONG_BINGET": lambda frame, argument: frame.push(frame.memo[argument]),
    "EXT1": lambda frame, argument: frame.push(Global("copyreg", f"extension_{argument}")),
    "EXT2": lambda frame, argument: frame.push(Global("copyreg", f"extension_{argument}")),
    "EXT4": lambda frame, argument: frame.push(Global("copyreg", f"extension_{argument}")),
    "PERSID": lambda frame, _: frame.push(Global("pickle", "persistent_id")),
    "BINPERSID": _persistent,
}

_MAKERS = frozenset({"copyreg._reconstructor", "copyreg.__newobj__", "copyreg.__newobj_ex__"})
_SKELETONS = frozenset({"cloudpickle.cloudpickle._make_skeleton_class", "cloudpickle._make_skeleton_class"})


def class_of(value: object) -> str:
    """The dotted class of a described object."""
    if isinstance(value, Blob):
        return "builtins.str" if value.text else "builtins.bytes"
    if isinstance(value, Global):
        return value.dotted
    if not isinstance(value, Call):
        return f"builtins.{type(value).__name__}"
    callee, args = value.callee, value.args
    if isinstance(callee, Global) and callee.dotted in _MAKERS and isinstance(args, tuple) and args:
        callee = args[0]
    return _callee_name(callee)


def _callee_name(callee: object) -> str:
    if isinstance(callee, Global):
        return callee.dotted
    if isinstance(callee, Call) and is_skeleton(callee) and isinstance(callee.args, tuple) and len(callee.args) > 3:
        name, keywords = callee.args[1], callee.args[3]
        module = keywords.get("__module__", "__main__") if isinstance(keywords, dict) else "__main__"
        return f"{module}.{name}"
    return "builtins.object"


def is_skeleton(value: object) -> bool:
    return isinstance(value, Call) and isinstance(value.callee, Global) and value.callee.dotted in _SKELETONS
