"""Classes of protobuf messages, made from a table at run time; no generated code (docs/decisions/0007).

For both planes: the model server's protocol, and the scalers that the control plane asks. A table has a line for each
field, ``type name = number``, with ``repeated`` or ``map<string, TYPE>`` as in proto3 and ``oneof NAME:`` in front of
the members of one. The classes live in a descriptor pool of their own, away from what a user's libraries register.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

Table = Mapping[str, tuple[str, ...]]

_FIELD = descriptor_pb2.FieldDescriptorProto
_SCALARS: dict[str, _FIELD.Type.ValueType] = {
    "bool": _FIELD.TYPE_BOOL,
    "bytes": _FIELD.TYPE_BYTES,
    "double": _FIELD.TYPE_DOUBLE,
    "float": _FIELD.TYPE_FLOAT,
    "int32": _FIELD.TYPE_INT32,
    "int64": _FIELD.TYPE_INT64,
    "string": _FIELD.TYPE_STRING,
    "uint32": _FIELD.TYPE_UINT32,
    "uint64": _FIELD.TYPE_UINT64,
}
_LINE = re.compile(r"(?:oneof (\w+): )?(repeated )?(map<string, ([\w.]+)>|[\w.]+) (\w+) = (\d+)")


def described(table: Table, *, package: str, name: str) -> descriptor_pb2.FileDescriptorProto:
    """The table as the descriptor that protoc would give of a file ``name``. Raises ValueError for a wrong line.

    A dotted key is a message inside the one in front of the dot, which comes before it.
    """
    made = descriptor_pb2.FileDescriptorProto(name=name, package=package, syntax="proto3")
    found: dict[str, descriptor_pb2.DescriptorProto] = {}
    for key, lines in table.items():
        outer, _, own = key.rpartition(".")
        message_type = found[outer].nested_type.add(name=own) if outer else made.message_type.add(name=own)
        found[key] = message_type
        for line in lines:
            _add_field(message_type, line, package=package, key=key)
    return made


def classes(file: descriptor_pb2.FileDescriptorProto, table: Table) -> dict[str, Any]:
    """The class of each message of the table, by its key."""
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return {key: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{file.package}.{key}")) for key in table}


def _add_field(message_type: descriptor_pb2.DescriptorProto, line: str, *, package: str, key: str) -> None:
    match = _LINE.fullmatch(line)
    if match is None:
        raise ValueError(f"{package}.{key}: {line!r} is not a field")
    oneof, repeated, kind, mapped, name, number = match.groups()
    label = _FIELD.LABEL_REPEATED if repeated or mapped else _FIELD.LABEL_OPTIONAL
    field = message_type.field.add(name=name, number=int(number), label=label)
    if mapped:
        kind = f"{key}.{_add_entry(message_type, name, mapped, package=package)}"
    _set_type(field, kind, package=package)
    if oneof:
        if not message_type.oneof_decl:
            message_type.oneof_decl.add(name=oneof)
        field.oneof_index = 0


def _add_entry(message_type: descriptor_pb2.DescriptorProto, name: str, kind: str, *, package: str) -> str:
    """The entry type of a map field, which is how protobuf has maps; its name is protoc's."""
    entry = message_type.nested_type.add(
        name="".join(part[:1].upper() + part[1:] for part in f"{name}_entry".split("_"))
    )
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, label=_FIELD.LABEL_OPTIONAL, type=_FIELD.TYPE_STRING)
    _set_type(entry.field.add(name="value", number=2, label=_FIELD.LABEL_OPTIONAL), kind, package=package)
    return entry.name


def _set_type(field: descriptor_pb2.FieldDescriptorProto, kind: str, *, package: str) -> None:
    if kind in _SCALARS:
        field.type = _SCALARS[kind]
    else:
        field.type = _FIELD.TYPE_MESSAGE
        field.type_name = f".{package}.{kind}"
