"""What the control API's answers say: errors as the families of ``errors`` again, kinds, whether a service is ready.

The reading half of ``client``, whose users need these functions, too; no request is made here.
"""

from __future__ import annotations

import dataclasses
import re
import urllib.parse
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from mlship import errors

if TYPE_CHECKING:
    import httpx

Object = dict[str, Any]

_WARNING = re.compile(r'299 \S+ "((?:[^"\\]|\\.)*)"')
# Kubernetes' reasons that are not ours by name are all refusals of what was written.
_REASONS = {
    "NotFound": errors.Reason.NOT_FOUND,
    "AlreadyExists": errors.Reason.ALREADY_EXISTS,
    "Conflict": errors.Reason.CONFLICT,
    "Expired": errors.Reason.EXPIRED,
    "Unauthorized": errors.Reason.UNAUTHORIZED,
    "MethodNotAllowed": errors.Reason.METHOD_NOT_ALLOWED,
    "RequestEntityTooLarge": errors.Reason.TOO_LARGE,
    "UnsupportedMediaType": errors.Reason.UNSUPPORTED,
}
_FAILED = ("BlockedByFailedLoad", "InvalidSpec")


@dataclasses.dataclass(frozen=True, slots=True)
class Cause:
    """One field that is wrong."""

    field: str
    message: str


class Refused(errors.SpecError):
    """The server refused; ``causes`` has every field that is wrong, if fields are what is wrong."""

    def __init__(self, message: str, *, reason: errors.Reason, causes: tuple[Cause, ...] = ()) -> None:
        super().__init__(message, reason=reason)
        self.causes = causes


class Unreachable(errors.BackendError):
    """No control plane answers."""


@dataclasses.dataclass(frozen=True, slots=True)
class Kind:
    """A kind of the server. ``names``: all that people may call it, in small letters; ``served``: not only refused."""

    kind: str
    api_version: str
    plural: str
    namespaced: bool
    names: frozenset[str]
    short_names: tuple[str, ...] = ()
    served: bool = True

    def __str__(self) -> str:
        return f"{self.kind} ({', '.join((self.plural, *self.short_names))})"

    def path(self, namespace: str | None, name: str = "") -> str:
        """Where its objects are, of one namespace or of all, or one of them."""
        scope = f"/namespaces/{quoted(namespace)}" if self.namespaced and namespace else ""
        return f"/apis/{self.api_version}{scope}/{self.plural}" + (f"/{quoted(name)}" if name else "")


def kinds(found: Mapping[str, Any]) -> Iterator[Kind]:
    """The kinds of an APIResourceList."""
    version = found["groupVersion"]
    for one in found["resources"]:
        if "/" in one["name"]:
            continue
        short, plural = tuple(one.get("shortNames", ())), one["name"]
        names = {plural, one["singularName"], one["kind"].lower(), f"{plural}.{version.partition('/')[0]}", *short}
        served = "all" in one.get("categories", ())
        yield Kind(one["kind"], version, plural, one["namespaced"], frozenset(names), short, served=served)


def quoted(text: str) -> str:
    """A name as one part of a path."""
    return urllib.parse.quote(text, safe="")


def digest(service: Mapping[str, Any]) -> str:
    """The digest of the artifact that a service's newest revision runs; empty while there is none."""
    newest = ((service.get("status") or {}).get("mlship") or {}).get("newest") or {}
    return str(newest.get("digest") or "")


def condition(service: Mapping[str, Any], kind: str) -> Object:
    """A service's condition of a type; empty when it has none."""
    for one in (service.get("status") or {}).get("conditions") or ():
        if one.get("type") == kind:
            found: Object = one
            return found
    return {}


def is_current(service: Mapping[str, Any]) -> bool:
    """Whether a service's status speaks of the spec as it is now."""
    observed = (service.get("status") or {}).get("observedGeneration")
    return observed is None or observed >= service["metadata"].get("generation", 0)


def is_ready(service: Mapping[str, Any]) -> bool:
    """Whether a service is ready as it is declared now."""
    return is_current(service) and condition(service, "Ready").get("status") == "True"


def failure(service: Mapping[str, Any]) -> str:
    """Why a service will not get ready by waiting; empty when it may."""
    model = (service.get("status") or {}).get("modelStatus") or {}
    if not is_current(service) or model.get("transitionStatus") not in _FAILED:
        return ""
    told = (model.get("lastFailureInfo") or {}).get("message") or condition(service, "Ready").get("message")
    return str(told or "the model does not load")


def notices(answer: httpx.Response) -> tuple[str, ...]:
    found = (_WARNING.fullmatch(text) for text in answer.headers.get_list("warning"))
    return tuple(re.sub(r"\\(.)", r"\1", match[1]) for match in found if match)


def status_of(answer: httpx.Response) -> Object:
    try:
        body = answer.json()
    except ValueError:
        body = None
    if isinstance(body, dict) and body.get("kind") == "Status":
        return body
    return {"message": f"the answer was {answer.status_code}: {answer.text[:200]}"}


def raise_for(status: Mapping[str, Any], code: int) -> NoReturn:
    """Raise the error that a ``Status`` stands for."""
    message = str(status.get("message") or f"the request failed with {code}")
    details = status.get("details") or {}
    if code == 429:
        raise errors.Overloaded(message, retry_after=details.get("retryAfterSeconds"))
    if code in (503, 504):
        reason = errors.Reason.DEADLINE if code == 504 else errors.Reason.NOT_READY
        raise errors.NotReady(message, reason=reason, retry_after=details.get("retryAfterSeconds"))
    if code >= 500:
        raise errors.BackendError(message)
    causes = tuple(Cause(str(one.get("field", "")), str(one.get("message", ""))) for one in details.get("causes") or ())
    raise Refused(message, reason=_REASONS.get(str(status.get("reason")), errors.Reason.INVALID), causes=causes)
