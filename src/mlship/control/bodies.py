"""Reads request bodies: bounded, JSON or YAML, one object. Every way a body can be wrong is a sentence.

YAML is read by ``api.yamltext``, which bounds what aliases stand for and refuses keys written twice.
"""

from __future__ import annotations

from typing import Any

import orjson
from starlette import requests

from mlship import errors
from mlship.api import problems, yamltext

LIMIT = 3 * 1024 * 1024
_YAML = ("application/yaml", "application/x-yaml", "text/yaml", "application/apply-patch+yaml")


def media_type(request: requests.Request) -> str:
    """The Content-Type without parameters; JSON when there is none."""
    return (request.headers.get("content-type") or "application/json").partition(";")[0].strip().lower()


async def read(request: requests.Request) -> bytes:
    """The body. Raises SpecError (TooLarge) beyond ``LIMIT`` bytes, before it is read whole."""
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > LIMIT:
            raise errors.SpecError(
                f"the request body is larger than {LIMIT} bytes.",
                hint="Objects are declarations; put large data into files and refer to them.",
                reason=errors.Reason.TOO_LARGE,
            )
        parts.append(part)
    return b"".join(parts)


async def document(request: requests.Request) -> Any:
    """The body as a JSON value; None when it is empty. Raises SpecError."""
    body = await read(request)
    if not body.strip():
        return None
    kind = media_type(request)
    if kind in _YAML:
        return _yaml(body)
    # "text/plain" and the form type are what curl -d sends when it is told nothing.
    if kind.endswith("json") or kind in ("text/plain", "application/x-www-form-urlencoded", "*/*"):
        return _json(body)
    raise errors.SpecError(
        f"Content-Type {kind!r} is not understood.",
        hint=f"Send application/json or {_YAML[0]}.",
        reason=errors.Reason.UNSUPPORTED,
    )


async def mapping(request: requests.Request) -> dict[str, Any]:
    """The body as an object. Raises SpecError when it is anything else."""
    value = await document(request)
    if not isinstance(value, dict):
        found = "empty" if value is None else f"a {type(value).__name__}"
        raise errors.SpecError(f"the request body is {found}, an object was expected")
    return value


def _json(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise errors.SpecError(f"the request body is not JSON: {str(error)[:300]}") from error


def _yaml(body: bytes) -> Any:
    try:
        found = yamltext.read(body.decode())
    except UnicodeDecodeError as error:
        raise errors.SpecError("the request body is not UTF-8.", hint="YAML is read as UTF-8.") from error
    if len(found) > 1:
        raise errors.SpecError(f"the request body holds {len(found)} YAML documents, one was expected")
    if found and found[0].problems:
        raise problems.InvalidObject(found[0].problems)
    return found[0].value if found else None
