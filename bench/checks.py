"""Whether a server answers right: one request by a real client, its labels compared with the original model's.

Asked before a load and after it, with the load's own body. A load program counts statuses; it does not read answers.
"""

from __future__ import annotations

import grpc
import httpx

from bench import bodies

_SECONDS = 30.0
INFER = "/inference.GRPCInferenceService/ModelInfer"
_LARGEST = 64 * 1024 * 1024


class Wrong(Exception):
    """The server answered, and not what it should; the message has both."""


class NoAnswer(Exception):
    """No answer of status 200 (gRPC: 0); the message has what came instead."""


def http(url: str, body: bodies.Body, expected: list[int], *, seconds: float = _SECONDS) -> int:
    """Check one answer; its length in bytes. Raises Wrong and NoAnswer."""
    try:
        answer = httpx.post(url, content=body.data, headers=body.headers, timeout=seconds)
    except httpx.HTTPError as error:
        raise NoAnswer(repr(error)) from error
    if answer.status_code != 200:
        raise NoAnswer(f"status {answer.status_code}: {answer.text[:200]}")
    compare(answer.content, expected, head=int(answer.headers.get("inference-header-content-length", 0)))
    return len(answer.content)


def compare(answer: bytes, expected: list[int], *, head: int = 0) -> None:
    """Raises Wrong for other labels than expected, and for what is no answer at all."""
    try:
        found = bodies.labels(answer, head=head)
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise Wrong(f"not an answer ({error!r}): {answer[:200]!r}") from error
    _same(found, expected)


def rpc(port: int, message: bytes, expected: list[int], *, seconds: float = _SECONDS) -> int:
    """Check one gRPC call; the length of its answer in its frame. Raises Wrong and NoAnswer."""
    options = [("grpc.max_receive_message_length", _LARGEST)]
    with grpc.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
        try:
            answer = channel.unary_unary(INFER)(message, timeout=seconds, wait_for_ready=True)
        except grpc.RpcError as error:
            raise NoAnswer(f"gRPC {error.code().name}: {str(error.details())[:200]}") from error
    try:
        found = bodies.grpc_labels(answer)
    except (ValueError, KeyError) as error:
        raise Wrong(f"not an answer ({error!r})") from error
    _same(found, expected)
    return len(bodies.grpc_frame(answer))


def _same(found: list[int], expected: list[int]) -> None:
    if found != expected:
        differ = sum(a != b for a, b in zip(found, expected, strict=False))
        said = f"{len(found)} labels for {len(expected)} rows, {differ} of them wrong"
        raise Wrong(f"wrong labels: {said}: {found[:5]}, expected {expected[:5]}")


def compiled(url: str, *, seconds: float = _SECONDS) -> bool:
    """Whether mlship says at ``url`` that a compiled form is in use. Raises NoAnswer when it is and stays refused."""
    try:
        answer = httpx.get(url, timeout=seconds)
    except httpx.HTTPError as error:
        raise NoAnswer(repr(error)) from error
    if answer.status_code != 200:
        raise NoAnswer(f"status {answer.status_code}: {answer.text[:200]}")
    report = answer.json()
    if not report["used"] and report["reason"]:
        raise NoAnswer(f"not compiled: {report['reason']}")
    return bool(report["used"])
