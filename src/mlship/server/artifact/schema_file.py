"""``model.schema.yaml``: what the owner of a model says about it, where the file itself does not.

It lies beside the model file and names inputs, outputs, columns, class names and an example row (docs/model-schema.md
is its reference). ``find`` reads it while it looks at the artifact; it travels to the adapter as JSON among the
artifact's options, and the adapter refines its signature with ``frameworks.signatures``. The signature of an MLflow
folder takes the same road. Reading reports every problem at once, each with its line.
"""

from __future__ import annotations

import dataclasses
import difflib
import pathlib
from collections.abc import Iterator
from typing import Any

import orjson
import yaml

from mlship import errors
from mlship.protocol import messages
from mlship.server import model

NAME = "model.schema.yaml"
OPTION = "schema"
MAX_BYTES = 1 << 20

_FIELDS = ("inputs", "outputs", "columns", "classes", "example")
_TENSOR_FIELDS = ("name", "datatype", "shape", "optional")


@dataclasses.dataclass(frozen=True, slots=True)
class Schema:
    """What was said; empty where nothing was. ``example`` is a row (a list) or values by column or input."""

    source: str = NAME
    inputs: tuple[messages.TensorSpec, ...] = ()
    outputs: tuple[messages.TensorSpec, ...] = ()
    columns: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    example: Any = None


class _Reading:
    """Collects problems while nodes are turned into values."""

    def __init__(self) -> None:
        self.problems: list[str] = []

    def bad(self, node: yaml.Node, text: str) -> None:
        self.problems.append(f"line {node.start_mark.line + 1}: {text}")

    def pairs(self, node: yaml.Node, known: tuple[str, ...], what: str) -> Iterator[tuple[str, yaml.Node]]:
        if not isinstance(node, yaml.MappingNode):
            self.bad(node, f"{what} must be a mapping with {', '.join(known)}, got {_kind(node)}")
            return
        seen: set[str] = set()
        for key_node, value in node.value:
            key = str(key_node.value)
            if key not in known:
                self.bad(key_node, f"unknown field {key!r} in {what}{_nearest(key, known)}")
            elif key in seen:
                self.bad(key_node, f"{key!r} is given twice in {what}")
            else:
                seen.add(key)
                yield key, value

    def items(self, node: yaml.Node, what: str) -> list[yaml.Node]:
        if isinstance(node, yaml.SequenceNode):
            return list(node.value)
        self.bad(node, f"{what} must be a list, got {_kind(node)}")
        return []

    def text(self, node: yaml.Node, what: str) -> str:
        if isinstance(node, yaml.ScalarNode) and node.value:
            return str(node.value)
        self.bad(node, f"{what} must be a name, got {_kind(node)}")
        return ""

    def names(self, node: yaml.Node, what: str) -> tuple[str, ...]:
        found = [self.text(item, f"an entry of {what}") for item in self.items(node, what)]
        for name in sorted({name for name in found if name and found.count(name) > 1}):
            self.bad(node, f"{what} names {name!r} twice")
        return tuple(found)

    def shape(self, node: yaml.Node) -> tuple[int, ...]:
        sizes: list[int] = []
        for item in self.items(node, "shape"):
            try:
                size = int(item.value)
            except (TypeError, ValueError):
                size = -2
            if size < -1 or size == 0:
                self.bad(item, f"a dimension must be -1 (free) or a positive integer, got {str(item.value)[:40]!r}")
            sizes.append(size)
        return tuple(sizes)

    def datatype(self, node: yaml.Node) -> str:
        name = self.text(node, "datatype").upper()
        if name and name not in messages.NUMPY_OF:
            known = tuple(messages.NUMPY_OF)
            self.bad(node, f"unknown datatype {name!r}{_nearest(name, known)}; the datatypes are {', '.join(known)}")
        return name

    def tensor(self, node: yaml.Node, what: str) -> messages.TensorSpec:
        values: dict[str, Any] = {"name": "", "datatype": "", "shape": (-1,), "optional": False}
        read = {
            "name": lambda value: self.text(value, "name"),
            "datatype": self.datatype,
            "shape": self.shape,
            "optional": self.flag,
        }
        for key, value in self.pairs(node, _TENSOR_FIELDS, what):
            values[key] = read[key](value)
        if not values["name"] and isinstance(node, yaml.MappingNode):
            self.bad(node, f"{what} needs a name")
        return messages.TensorSpec(**values)

    def tensors(self, node: yaml.Node, what: str) -> tuple[messages.TensorSpec, ...]:
        found = tuple(self.tensor(item, f"an entry of {what}") for item in self.items(node, what))
        names = [spec.name for spec in found if spec.name]
        for name in sorted({name for name in names if names.count(name) > 1}):
            self.bad(node, f"{what} names {name!r} twice")
        return found

    def flag(self, node: yaml.Node) -> bool:
        if isinstance(node, yaml.ScalarNode) and node.value in ("true", "false"):
            return bool(node.value == "true")
        self.bad(node, f"optional must be true or false, got {_kind(node)}")
        return False

    def example(self, node: yaml.Node) -> Any:
        value = yaml.SafeLoader("").construct_document(node)
        if not isinstance(value, list | dict) or not value:
            self.bad(node, f"example must be a row (a list) or values by name (a mapping), got {_kind(node)}")
        return value


def _kind(node: yaml.Node) -> str:
    if isinstance(node, yaml.MappingNode):
        return "a mapping"
    if isinstance(node, yaml.SequenceNode):
        return "a list"
    return f"{str(node.value)[:40]!r}" if node.value else "nothing"


def _nearest(word: str, known: tuple[str, ...]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def parse(text: str, *, source: str = NAME) -> Schema:
    """Read the text of a schema file.

    Raises ``errors.SpecError`` with every problem, each with its line.
    """
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error)
        raise errors.SpecError(f"{source} is not YAML{where}: {str(problem)[:200]}.") from error
    if root is None:
        raise errors.SpecError(
            f"{source} is empty.", hint="Remove it, or see docs/model-schema.md for what it may say."
        )
    reading = _Reading()
    values: dict[str, Any] = {}
    for key, node in reading.pairs(root, _FIELDS, "the schema"):
        if key in ("inputs", "outputs"):
            values[key] = reading.tensors(node, key)
        elif key == "example":
            values[key] = reading.example(node)
        else:
            values[key] = reading.names(node, key)
    if reading.problems:
        raise errors.SpecError(
            f"{source}: " + "; ".join(reading.problems) + ".", hint="docs/model-schema.md lists the fields."
        )
    return Schema(source=source, **values)


def read(path: pathlib.Path) -> Schema:
    """Read the file at ``path``; see ``parse``."""
    if path.stat().st_size > MAX_BYTES:
        raise errors.SpecError(f"{path.name} has more than {MAX_BYTES} bytes; a schema is a page, not a book.")
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise errors.SpecError(f"{path.name} cannot be read: {str(error)[:200]}.") from error
    return parse(text, source=path.name)


def pack(schema: Schema) -> str:
    """The schema as the JSON that travels in ``Artifact.options``."""
    return orjson.dumps(dataclasses.asdict(schema), option=orjson.OPT_NON_STR_KEYS).decode()


def of(artifact: model.Artifact) -> Schema | None:
    """The schema that was found with the artifact, if any."""
    packed = artifact.options.get(OPTION)
    if not packed:
        return None
    try:
        values = orjson.loads(packed)
        return Schema(
            source=str(values["source"]),
            inputs=_unpack(values["inputs"]),
            outputs=_unpack(values["outputs"]),
            columns=tuple(values["columns"]),
            classes=tuple(values["classes"]),
            example=values["example"],
        )
    except (orjson.JSONDecodeError, TypeError, KeyError, AttributeError) as error:
        raise errors.SpecError(
            f"the option {OPTION!r} holds no packed schema: {str(error)[:200]}.",
            hint=f"Put the schema into a {NAME} beside the model file; the option is filled from it.",
        ) from error


def _unpack(specs: list[dict[str, Any]]) -> tuple[messages.TensorSpec, ...]:
    return tuple(messages.TensorSpec(**{**spec, "shape": tuple(spec["shape"])}) for spec in specs)
