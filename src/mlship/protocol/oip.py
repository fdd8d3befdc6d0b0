"""The gRPC messages and methods of the ``inference`` package, made from ``oip_table`` when this module is imported.

They live in a descriptor pool of their own: a user's model may import a client library (tritonclient, kserve) that
registers the same names, with other fields, in the default pool of the same process. Classes made this way are
ordinary protobuf messages, compatible on the wire with every client of the protocol. The gRPC server asks for
``METHODS`` and ``message``; server reflection, where offered, for ``FILE_DESCRIPTOR_SET``.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from google.protobuf import descriptor_pb2
from google.protobuf import message as protobuf

from mlship import descriptors
from mlship.protocol import oip_table

PACKAGE = "inference"
SERVICE = "inference.GRPCInferenceService"


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
    made = descriptors.described(oip_table.MESSAGES, package=PACKAGE, name="mlship/open_inference.proto")
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


_DESCRIPTION = _file()
_CLASSES = descriptors.classes(_DESCRIPTION, oip_table.MESSAGES)

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
