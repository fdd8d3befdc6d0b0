"""The few families of errors, named by who must act, and how each appears on the wire and in a status.

Every error says what happened and where (``message``) and what to do next (``hint``). A ``Reason`` is the
machine-readable part: it fixes the HTTP code, the gRPC code and the CamelCase reason of a condition, so that no
edge invents its own mapping. Library errors are translated into these where they surface, with the cause kept.
"""

from __future__ import annotations

import enum


class Reason(enum.StrEnum):
    """Why something failed, in the vocabulary of Kubernetes conditions and the Open Inference Protocol's codes."""

    INVALID = "Invalid"
    UNAUTHORIZED = "Unauthorized"
    NOT_FOUND = "NotFound"
    METHOD_NOT_ALLOWED = "MethodNotAllowed"
    ALREADY_EXISTS = "AlreadyExists"
    CONFLICT = "Conflict"
    EXPIRED = "Expired"
    TOO_LARGE = "TooLarge"
    MEDIA_TYPE = "UnsupportedMediaType"
    UNSUPPORTED = "Unsupported"
    NOT_READY = "NotReady"
    OVERLOADED = "Overloaded"
    DEADLINE = "DeadlineExceeded"
    CANCELLED = "Cancelled"
    MODEL_FAILED = "ModelFailed"
    BACKEND_FAILED = "BackendFailed"

    @property
    def http_status(self) -> int:
        """The HTTP status code of this reason."""
        return _HTTP[self]

    @property
    def grpc_code(self) -> str:
        """The name of the ``grpc.StatusCode`` of this reason."""
        return _GRPC[self]


_HTTP = {
    Reason.INVALID: 400,
    Reason.UNAUTHORIZED: 401,
    Reason.NOT_FOUND: 404,
    Reason.METHOD_NOT_ALLOWED: 405,
    Reason.ALREADY_EXISTS: 409,
    Reason.CONFLICT: 409,
    Reason.EXPIRED: 410,
    Reason.TOO_LARGE: 413,
    Reason.MEDIA_TYPE: 415,
    Reason.UNSUPPORTED: 501,
    Reason.NOT_READY: 503,
    Reason.OVERLOADED: 503,
    Reason.DEADLINE: 504,
    Reason.CANCELLED: 499,
    Reason.MODEL_FAILED: 500,
    Reason.BACKEND_FAILED: 500,
}

_GRPC = {
    Reason.INVALID: "INVALID_ARGUMENT",
    Reason.UNAUTHORIZED: "UNAUTHENTICATED",
    Reason.NOT_FOUND: "NOT_FOUND",
    Reason.METHOD_NOT_ALLOWED: "UNIMPLEMENTED",
    Reason.ALREADY_EXISTS: "ALREADY_EXISTS",
    Reason.CONFLICT: "ABORTED",
    Reason.EXPIRED: "OUT_OF_RANGE",
    Reason.TOO_LARGE: "RESOURCE_EXHAUSTED",
    Reason.MEDIA_TYPE: "INVALID_ARGUMENT",
    Reason.UNSUPPORTED: "UNIMPLEMENTED",
    Reason.NOT_READY: "UNAVAILABLE",
    Reason.OVERLOADED: "RESOURCE_EXHAUSTED",
    Reason.DEADLINE: "DEADLINE_EXCEEDED",
    Reason.CANCELLED: "CANCELLED",
    Reason.MODEL_FAILED: "INTERNAL",
    Reason.BACKEND_FAILED: "INTERNAL",
}


class MlshipError(Exception):
    """Base of the families. ``str()`` is the message and, behind it, the hint.

    Args:
        message: what happened and where, one sentence, capped by whoever quotes foreign text.
        hint: what to do next; empty when the message already says it.
        reason: the machine-readable reason; each family has its default.
        retry_after: seconds after which a repeat makes sense, where that is known.
    """

    default_reason = Reason.BACKEND_FAILED

    def __init__(
        self, message: str, *, hint: str = "", reason: Reason | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.reason = reason or self.default_reason
        self.retry_after = retry_after

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".rstrip() if self.hint else self.message


class SpecError(MlshipError):
    """The caller must change what they wrote: an object, a flag, a file, a request."""

    default_reason = Reason.INVALID


class NotReady(MlshipError):
    """Nobody must act: it is on its way; ask again."""

    default_reason = Reason.NOT_READY


class Overloaded(MlshipError):
    """The caller must slow down, or the owner must add replicas."""

    default_reason = Reason.OVERLOADED


class ModelError(MlshipError):
    """The model's owner must act: the artifact does not load, or its code raised."""

    default_reason = Reason.MODEL_FAILED


class BackendError(MlshipError):
    """Whoever runs the machine must act: a process, a disk, a port, a network."""

    default_reason = Reason.BACKEND_FAILED
