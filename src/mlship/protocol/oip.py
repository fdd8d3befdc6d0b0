"""The gRPC messages and methods of the ``inference`` package, made from ``oip_table`` when this module is imported.

They live in a descriptor pool of their own: a user's model may import a client library (tritonclient, kserve) that
registers the same names, with other fields, in the default pool of the same process. Classes made this way are
ordinary protobuf messages, compatible on the wire with every client of the protocol. The gRPC server asks for
``METHODS`` and ``message``; server reflection, where offered, for ``FILE_DESCRIPTOR_SET``.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf import message as protobuf

from mlship.protocol import oip_table

PACKAGE = "inference"
SERVICE = "inference.GRPCInferenceService"

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


@dataclasses.dataclass(frozen=True, slots=True)
class Method:
    """A call of the service."""

    name: str
    request_class: type[protobuf.Message]
    response_class: type[protobuf.Message]
    stream_in: bool = False
    stream_out: bool = False


def _file() -> descriptor_pb2.FileDescriptorProto:
    """The table as the descriptor that protoc would give."""
    # Not the name that client libraries register, for readers of a reflection answer.
    made = descriptor_pb2.FileDescriptorProto(name="mlship/open_inference.proto", package=PACKAGE, syntax="proto3")
    found: dict[str, descriptor_pb2.DescriptorProto] = {}
    for name, lines in oip_table.MESSAGES.items():
        outer, _, own = name.rpartition(".")
        message_type = found[outer].nested_type.add(name=own) if outer else made.message_type.add(name=own)
        found[name] = message_type
        for line in lines:
            _add_field(message_type, line, owner=f".{PACKAGE}.{name}")
    service = made.service.add(name=SERVICE.removeprefix(f"{PACKAGE}."))
    for call in oip_table.CALLS:
        streams = call in oip_table.STREAMS
        service.method.add(
            name=call,
            input_type=f".{PACKAGE}.{oip_table.REQUESTS.get(call, f'{call}Request')}",
            output_type=f".{PACKAGE}.{call}Response",
            client_streaming=streams,
            server_streaming=streams,
        )
    return made


def _add_field(message_type: descriptor_pb2.DescriptorProto, line: str, *, owner: str) -> None:
    match = _LINE.fullmatch(line)
    if match is None:
        raise ValueError(f"oip_table, {owner}: {line!r} is not a field")
    oneof, repeated, kind, mapped, name, number = match.groups()
    label = _FIELD.LABEL_REPEATED if repeated or mapped else _FIELD.LABEL_OPTIONAL
    field = message_type.field.add(name=name, number=int(number), label=label)
    if mapped:
        _set_type(field, f"{owner.removeprefix(f'.{PACKAGE}.')}.{_add_entry(message_type, name, mapped)}")
    else:
        _set_type(field, kind)
    if oneof:
        if not message_type.oneof_decl:
            message_type.oneof_decl.add(name=oneof)
        field.oneof_index = 0


def _add_entry(message_type: descriptor_pb2.DescriptorProto, name: str, kind: str) -> str:
    """The entry type of a map field, which is how protobuf has maps."""
    entry = message_type.nested_type.add(name=f"{name.title().replace('_', '')}Entry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, label=_FIELD.LABEL_OPTIONAL, type=_FIELD.TYPE_STRING)
    _set_type(entry.field.add(name="value", number=2, label=_FIELD.LABEL_OPTIONAL), kind)
    return entry.name


def _set_type(field: descriptor_pb2.FieldDescriptorProto, kind: str) -> None:
    if kind in _SCALARS:
        field.type = _SCALARS[kind]
    else:
        field.type = _FIELD.TYPE_MESSAGE
        field.type_name = f".{PACKAGE}.{kind}"


_DESCRIPTION = _file()
_POOL = descriptor_pool.DescriptorPool()
_POOL.AddSerializedFile(_DESCRIPTION.SerializeToString())
_CLASSES: dict[str, Any] = {
    name: message_factory.GetMessageClass(_POOL.FindMessageTypeByName(f"{PACKAGE}.{name}"))
    for name in oip_table.MESSAGES
}

FILE_DESCRIPTOR_SET: bytes = descriptor_pb2.FileDescriptorSet(file=[_DESCRIPTION]).SerializeToString()
METHODS: tuple[Method, ...] = tuple(
    Method(
        name=call,
        request_class=_CLASSES[oip_table.REQUESTS.get(call, f"{call}Request")],
        response_class=_CLASSES[f"{call}Response"],
        stream_in=call in oip_table.STREAMS,
        stream_out=call in oip_table.STREAMS,
    )
    for call in oip_table.CALLS
)


def message(name: str) -> Any:
    """The class of the message ``inference.NAME`` (dotted for one inside another). Raises KeyError for no such one.

    Typed Any: the fields of a class made at run time are unknown to a type checker.
    """
    return _CLASSES[name]
