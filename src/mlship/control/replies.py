"""Answers in the Kubernetes API's form: errors as ``Status`` objects with every cause, notices as warning headers.

Source of shapes and reasons: Kubernetes' ``metav1.Status`` and its API conventions.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

import orjson
from starlette import requests, responses

from mlship import errors
from mlship.api import problems
from mlship.control import seams, store

log = logging.getLogger("mlship.api")

_MOST_WARNINGS = 20
_LONGEST_WARNING = 500

# Reason -> (Kubernetes' reason, HTTP code). Unsupported is a media type: a field that is not honoured is Invalid.
_REASONS = {
    errors.Reason.INVALID: ("BadRequest", 400),
    errors.Reason.UNAUTHORIZED: ("Unauthorized", 401),
    errors.Reason.NOT_FOUND: ("NotFound", 404),
    errors.Reason.METHOD_NOT_ALLOWED: ("MethodNotAllowed", 405),
    errors.Reason.ALREADY_EXISTS: ("AlreadyExists", 409),
    errors.Reason.CONFLICT: ("Conflict", 409),
    errors.Reason.EXPIRED: ("Expired", 410),
    errors.Reason.TOO_LARGE: ("RequestEntityTooLarge", 413),
    errors.Reason.MEDIA_TYPE: ("UnsupportedMediaType", 415),
    errors.Reason.UNSUPPORTED: ("UnsupportedMediaType", 415),
    errors.Reason.NOT_READY: ("ServiceUnavailable", 503),
    errors.Reason.OVERLOADED: ("TooManyRequests", 429),
    errors.Reason.DEADLINE: ("Timeout", 504),
    errors.Reason.CANCELLED: ("Timeout", 504),
    errors.Reason.MODEL_FAILED: ("InternalError", 500),
    errors.Reason.BACKEND_FAILED: ("InternalError", 500),
}

Handler = Callable[[requests.Request], Awaitable[responses.Response]]


def status(error: Exception) -> dict[str, Any]:
    """The ``Status`` object of an error."""
    reason, code = _judge(error)
    body: dict[str, Any] = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": str(error),
        "reason": reason,
        "code": code,
    }
    details: dict[str, Any] = {}
    if isinstance(error, problems.InvalidObject):
        refused = [problem for problem in error.problems if problem.severity is problems.Severity.REFUSE]
        details["causes"] = [_cause(problem) for problem in refused]
    if isinstance(error, errors.MlshipError) and error.retry_after is not None:
        details["retryAfterSeconds"] = max(1, round(error.retry_after))
    if details:
        body["details"] = details
    return body


def _judge(error: Exception) -> tuple[str, int]:
    if isinstance(error, problems.InvalidObject | store.Unprocessable):
        return "Invalid", 422
    if isinstance(error, errors.MlshipError):
        return _REASONS[error.reason]
    return "InternalError", 500


def _cause(problem: problems.Problem) -> dict[str, str]:
    sentence = "; ".join(part for part in (problem.reason, problem.hint) if part)
    return {"reason": "FieldValueInvalid", "message": sentence, "field": problem.field}


def json(body: Any, *, code: int = 200, notices: Iterable[seams.Notice] = ()) -> responses.Response:
    """A JSON answer with the notices as ``Warning`` headers (RFC 9111's 299, as Kubernetes uses it)."""
    answer = responses.Response(orjson.dumps(body), status_code=code, media_type="application/json")
    for number, notice in enumerate(notices):
        if number < _MOST_WARNINGS:
            answer.headers.append("Warning", f'299 - "{_quotable(f"{notice.field}: {notice.text}")}"')
    return answer


def failure(error: Exception) -> responses.Response:
    """The answer to a failed request."""
    body = status(error)
    answer = json(body, code=body["code"])
    if retry := body.get("details", {}).get("retryAfterSeconds"):
        answer.headers["Retry-After"] = str(retry)
    if body["code"] == 401:
        answer.headers["WWW-Authenticate"] = "Bearer"
    return answer


def success(name: str, *, group: str, plural: str, uid: str) -> Mapping[str, Any]:
    """The ``Status`` of a deletion that is complete."""
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Success",
        "details": {"name": name, "group": group, "kind": plural, "uid": uid},
    }


def guarded(handler: Handler) -> Handler:
    """``handler`` whose errors are answers; one that nobody foresaw is logged and told in general."""

    async def whole(request: requests.Request) -> responses.Response:
        try:
            return await handler(request)
        except errors.MlshipError as error:
            if status(error)["code"] >= 500:
                log.error("%s %s: %s", request.method, request.url.path, error)
            return failure(error)
        except requests.ClientDisconnect:
            return responses.Response(status_code=499)
        except Exception:
            log.exception("%s %s failed", request.method, request.url.path)
            return failure(
                errors.BackendError("the control plane failed on this request.", hint="Its log has the details.")
            )

    return whole


def _quotable(text: str) -> str:
    flat = " ".join(text.split())[:_LONGEST_WARNING].encode("ascii", "replace").decode()
    return flat.replace("\\", "\\\\").replace('"', '\\"')
