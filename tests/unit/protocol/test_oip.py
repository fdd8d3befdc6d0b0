from __future__ import annotations

import pathlib
import subprocess
import sys
from typing import Any

import pytest
from google.protobuf import descriptor_pb2

from mlship.protocol import oip

PROTO = pathlib.Path(__file__).parents[4] / "shared" / "kserve" / "open_inference_grpc.proto"


def ours() -> descriptor_pb2.FileDescriptorProto:
    return descriptor_pb2.FileDescriptorSet.FromString(oip.FILE_DESCRIPTOR_SET).file[0]


def shape(message_type: descriptor_pb2.DescriptorProto) -> dict[str, tuple[Any, ...]]:
    """What decides a message's wire form: each field's number, label, type and oneof; nested ones by their path."""
    found: dict[str, tuple[Any, ...]] = {}
    for field in message_type.field:
        oneof = message_type.oneof_decl[field.oneof_index].name if field.HasField("oneof_index") else ""
        found[field.name] = (field.number, field.label, field.type, field.type_name, oneof)
    for nested in message_type.nested_type:
        found |= {f"{nested.name}.{name}": value for name, value in shape(nested).items()}
        found[f"{nested.name} is an entry"] = (nested.options.map_entry,)
    return found


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> descriptor_pb2.FileDescriptorProto:
    """The protocol's own .proto file, compiled."""
    if not PROTO.is_file():
        pytest.skip("the protocol's .proto file is not beside this checkout")
    grpc_tools = pytest.importorskip("grpc_tools.protoc")
    out = tmp_path_factory.mktemp("proto") / "out.bin"
    # No include of the well-known types is needed: the file imports nothing.
    code = grpc_tools.main(["protoc", f"-I{PROTO.parent}", f"--descriptor_set_out={out}", str(PROTO)])
    assert code == 0
    return descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes()).file[0]


def test_every_published_message_is_there_field_by_field(published: descriptor_pb2.FileDescriptorProto) -> None:
    made = {message_type.name: message_type for message_type in ours().message_type}
    for message_type in published.message_type:
        assert shape(made[message_type.name]) == shape(message_type), message_type.name


def test_every_published_call_is_there(published: descriptor_pb2.FileDescriptorProto) -> None:
    made = {method.name: method for method in ours().service[0].method}
    assert f"{published.package}.{published.service[0].name}" == oip.SERVICE
    for method in published.service[0].method:
        assert made[method.name].input_type == method.input_type
        assert made[method.name].output_type == method.output_type


def test_methods_carry_their_classes() -> None:
    methods = {method.name: method for method in oip.METHODS}
    assert methods["ModelInfer"].request_class is oip.message("ModelInferRequest")
    assert methods["ModelInfer"].response_class is oip.message("ModelInferResponse")
    stream = methods["ModelStreamInfer"]
    assert (stream.request_class, stream.stream_in, stream.stream_out) == (
        methods["ModelInfer"].request_class,
        True,
        True,
    )
    assert not any(method.stream_in or method.stream_out for method in oip.METHODS if method is not stream)


def test_messages_go_over_the_wire_and_back() -> None:
    kind = oip.message("ModelInferRequest")
    made = kind(model_name="m", inputs=[{"name": "x", "datatype": "INT64", "shape": [1]}])
    made.parameters["k"].uint64_param = 2**64 - 1
    made.inputs[0].contents.int64_contents.append(-1)
    back = kind.FromString(made.SerializeToString())
    assert back == made
    assert back.parameters["k"].WhichOneof("parameter_choice") == "uint64_param"


CLASH = """
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from mlship.protocol import oip
other = descriptor_pb2.FileDescriptorProto(name="clash.proto", package=oip.PACKAGE, syntax="proto3")
other.message_type.add(name="ServerLiveRequest")
pool = descriptor_pool.Default()
pool.AddSerializedFile(other.SerializeToString())
theirs = message_factory.GetMessageClass(pool.FindMessageTypeByName("inference.ServerLiveRequest"))
assert theirs is not oip.message("ServerLiveRequest")
"""


def test_a_client_library_may_register_the_same_names_in_this_process() -> None:
    # In a process of its own: names stay in the default pool for as long as a process lives.
    subprocess.run([sys.executable, "-c", CLASH], check=True, timeout=60)


def test_no_such_message() -> None:
    with pytest.raises(KeyError):
        oip.message("Nothing")
