"""The messages and calls of the Open Inference Protocol's gRPC service, as a table that reads like a .proto file.

``oip`` turns it into message classes when it is imported. There is no generated code, because generated code is
tied to a major version of protobuf and this package runs on several. A line is ``type name = number``, with
``repeated`` or ``map<string, TYPE>`` as in proto3 and ``oneof NAME:`` in front of the members of one. Sources: the
``inference`` package of the Open Inference Protocol; from Triton's ``grpc_service.proto`` the repository, the
statistics and the stream; from KServe's proto the two fields in the answers to load and unload, which Triton's
clients do not look at.
"""

from __future__ import annotations

_SCALAR_PARAMETER = (
    "oneof parameter_choice: bool bool_param = 1",
    "oneof parameter_choice: int64 int64_param = 2",
    "oneof parameter_choice: string string_param = 3",
)
_NAME_AND_VERSION = ("string name = 1", "string version = 2")
_RESPONSE_STEPS = ("compute_infer", "compute_output", "success", "fail", "empty_response", "cancel")
_REQUEST_STEPS = ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output", "cache_hit")

# A dotted name is a message inside the one in front of the dot.
MESSAGES: dict[str, tuple[str, ...]] = {
    "ServerLiveRequest": (),
    "ServerLiveResponse": ("bool live = 1",),
    "ServerReadyRequest": (),
    "ServerReadyResponse": ("bool ready = 1",),
    "ModelReadyRequest": _NAME_AND_VERSION,
    "ModelReadyResponse": ("bool ready = 1",),
    "ServerMetadataRequest": (),
    "ServerMetadataResponse": (*_NAME_AND_VERSION, "repeated string extensions = 3"),
    "ModelMetadataRequest": _NAME_AND_VERSION,
    "ModelMetadataResponse": (
        "string name = 1",
        "repeated string versions = 2",
        "string platform = 3",
        "repeated ModelMetadataResponse.TensorMetadata inputs = 4",
        "repeated ModelMetadataResponse.TensorMetadata outputs = 5",
        "map<string, string> properties = 6",
    ),
    "ModelMetadataResponse.TensorMetadata": ("string name = 1", "string datatype = 2", "repeated int64 shape = 3"),
    "InferParameter": (
        *_SCALAR_PARAMETER,
        "oneof parameter_choice: double double_param = 4",
        "oneof parameter_choice: uint64 uint64_param = 5",
    ),
    "InferTensorContents": (
        "repeated bool bool_contents = 1",
        "repeated int32 int_contents = 2",
        "repeated int64 int64_contents = 3",
        "repeated uint32 uint_contents = 4",
        "repeated uint64 uint64_contents = 5",
        "repeated float fp32_contents = 6",
        "repeated double fp64_contents = 7",
        "repeated bytes bytes_contents = 8",
    ),
    "ModelInferRequest": (
        "string model_name = 1",
        "string model_version = 2",
        "string id = 3",
        "map<string, InferParameter> parameters = 4",
        "repeated ModelInferRequest.InferInputTensor inputs = 5",
        "repeated ModelInferRequest.InferRequestedOutputTensor outputs = 6",
        "repeated bytes raw_input_contents = 7",
    ),
    "ModelInferRequest.InferInputTensor": (
        "string name = 1",
        "string datatype = 2",
        "repeated int64 shape = 3",
        "map<string, InferParameter> parameters = 4",
        "InferTensorContents contents = 5",
    ),
    "ModelInferRequest.InferRequestedOutputTensor": ("string name = 1", "map<string, InferParameter> parameters = 2"),
    "ModelInferResponse": (
        "string model_name = 1",
        "string model_version = 2",
        "string id = 3",
        "map<string, InferParameter> parameters = 4",
        "repeated ModelInferResponse.InferOutputTensor outputs = 5",
        "repeated bytes raw_output_contents = 6",
    ),
    "ModelInferResponse.InferOutputTensor": (
        "string name = 1",
        "string datatype = 2",
        "repeated int64 shape = 3",
        "map<string, InferParameter> parameters = 4",
        "InferTensorContents contents = 5",
    ),
    "ModelStreamInferResponse": ("string error_message = 1", "ModelInferResponse infer_response = 2"),
    "ModelRepositoryParameter": (*_SCALAR_PARAMETER, "oneof parameter_choice: bytes bytes_param = 4"),
    "RepositoryIndexRequest": ("string repository_name = 1", "bool ready = 2"),
    "RepositoryIndexResponse": ("repeated RepositoryIndexResponse.ModelIndex models = 1",),
    "RepositoryIndexResponse.ModelIndex": (*_NAME_AND_VERSION, "string state = 3", "string reason = 4"),
    "RepositoryModelLoadRequest": (
        "string repository_name = 1",
        "string model_name = 2",
        "map<string, ModelRepositoryParameter> parameters = 3",
    ),
    "RepositoryModelLoadResponse": ("string model_name = 1", "bool isLoaded = 2"),
    "RepositoryModelUnloadRequest": (
        "string repository_name = 1",
        "string model_name = 2",
        "map<string, ModelRepositoryParameter> parameters = 3",
    ),
    "RepositoryModelUnloadResponse": ("string model_name = 1", "bool isUnloaded = 2"),
    "ModelStatisticsRequest": _NAME_AND_VERSION,
    "StatisticDuration": ("uint64 count = 1", "uint64 ns = 2"),
    "InferStatistics": tuple(
        f"StatisticDuration {step} = {number}" for number, step in enumerate((*_REQUEST_STEPS, "cache_miss"), start=1)
    ),
    "InferResponseStatistics": tuple(
        f"StatisticDuration {step} = {number}" for number, step in enumerate(_RESPONSE_STEPS, start=1)
    ),
    "InferBatchStatistics": (
        "uint64 batch_size = 1",
        "StatisticDuration compute_input = 2",
        "StatisticDuration compute_infer = 3",
        "StatisticDuration compute_output = 4",
    ),
    "MemoryUsage": ("string type = 1", "int64 id = 2", "uint64 byte_size = 3"),
    "ModelStatistics": (
        *_NAME_AND_VERSION,
        "uint64 last_inference = 3",
        "uint64 inference_count = 4",
        "uint64 execution_count = 5",
        "InferStatistics inference_stats = 6",
        "repeated InferBatchStatistics batch_stats = 7",
        "repeated MemoryUsage memory_usage = 8",
        "map<string, InferResponseStatistics> response_stats = 9",
    ),
    "ModelStatisticsResponse": ("repeated ModelStatistics model_stats = 1",),
}

# The calls: each takes NAMERequest and gives NAMEResponse, unless the request is named here.
CALLS = (
    "ServerLive",
    "ServerReady",
    "ModelReady",
    "ServerMetadata",
    "ModelMetadata",
    "ModelInfer",
    "ModelStreamInfer",
    "ModelStatistics",
    "RepositoryIndex",
    "RepositoryModelLoad",
    "RepositoryModelUnload",
)
REQUESTS = {"ModelStreamInfer": "ModelInferRequest"}
STREAMS = frozenset(("ModelStreamInfer",))  # both ways
