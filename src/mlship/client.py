"""The client of the control API: for the commands, the console and users' scripts.

    with client.Client(home.locate(os.environ)) as control:
        control.apply(document)
        service = control.wait_ready("iris", deadline=60)

Objects are dictionaries as in YAML; errors are the families of ``errors`` again, with every cause the server gave. It
knows no kind by itself but asks the server, and imports httpx with the first request, so that importing it is cheap.
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from mlship import answers, errors, home

if TYPE_CHECKING:
    import httpx

Object = answers.Object
Cause = answers.Cause
Kind = answers.Kind
Refused = answers.Refused
Unreachable = answers.Unreachable
condition = answers.condition
is_current = answers.is_current
is_ready = answers.is_ready
failure = answers.failure

_JSON = "application/json"
_SERVICE, _SERVICES = "inferenceservice", "inferenceservices"
_TRIES = 5


class Outcome(enum.StrEnum):
    """What ``apply`` did."""

    CREATED = "created"
    CONFIGURED = "configured"
    UNCHANGED = "unchanged"


@dataclasses.dataclass(frozen=True, slots=True)
class Applied:
    """The object as stored now, and the fields that are accepted without effect, one sentence each."""

    outcome: Outcome
    object: Object
    notices: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Event:
    """One change of a watch: ADDED, MODIFIED or DELETED."""

    type: str
    object: Object


class Client:
    """A connection to one control plane.

    Args:
        where: a home, whose Unix socket is used, or the URL of the loopback port.
        token: the token of the loopback port.
        timeout: seconds for one request; streams have deadlines of their own.
    """

    def __init__(self, where: home.Home | str, *, token: str = "", timeout: float = 30.0) -> None:
        self._where = where
        self._token = token
        self._timeout = timeout
        self._http: httpx.Client | None = None
        self._kinds: tuple[Kind, ...] = ()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the connection."""
        if self._http is not None:
            self._http.close()
            self._http = None

    # Objects.

    def apply(self, body: Mapping[str, Any], *, dry_run: bool = False) -> Applied:
        """Make the stored object what ``body`` says: created, or its spec, labels and annotations replaced."""
        metadata = dict(body.get("metadata") or {})
        name, namespace = str(metadata.get("name") or ""), str(metadata.get("namespace") or "default")
        kind = self._kind(str(body.get("kind") or ""), api_version=str(body.get("apiVersion") or ""))
        query = {"dryRun": "All"} if dry_run else {}
        for _ in range(_TRIES):
            try:
                old = self._json("GET", kind.path(namespace, name)) if name else None
            except errors.SpecError as error:
                if error.reason is not errors.Reason.NOT_FOUND:
                    raise
                old = None
            try:
                return self._apply_over(old, body, kind=kind, namespace=namespace, query=query)
            except errors.SpecError as error:
                # Somebody was faster; read again. What is being deleted stays in the way, and that is an answer.
                if error.reason not in (errors.Reason.CONFLICT, errors.Reason.ALREADY_EXISTS):
                    raise
                last = error
        raise last

    def _apply_over(
        self, old: Object | None, body: Mapping[str, Any], *, kind: Kind, namespace: str, query: Mapping[str, str]
    ) -> Applied:
        if old is None:
            answer = self._send("POST", kind.path(namespace), json=body, query=query)
            return Applied(Outcome.CREATED, answer.json(), answers.notices(answer))
        seen = old["metadata"]
        if "deletionTimestamp" in seen:
            raise Refused(
                f"{seen['name']} is being deleted; apply it again when it is gone", reason=errors.Reason.ALREADY_EXISTS
            )
        metadata = {**(body.get("metadata") or {}), "resourceVersion": seen["resourceVersion"]}
        answer = self._send("PUT", kind.path(namespace, seen["name"]), json={**body, "metadata": metadata}, query=query)
        new = answer.json()
        same = new["metadata"]["resourceVersion"] == seen["resourceVersion"] and (
            not query or _asked(new) == _asked(old)
        )
        return Applied(Outcome.UNCHANGED if same else Outcome.CONFIGURED, new, answers.notices(answer))

    def get(self, kind: str, name: str, *, namespace: str = "default") -> Object:
        """One object; ``kind`` as people write it: isvc, inferenceservice, InferenceService."""
        return self._json("GET", self._kind(kind).path(namespace, name))

    def kind(self, word: str) -> Kind | None:
        """The kind that a person means, as ``get`` takes it; None when it is none of the server's."""
        return next((one for one in self._all_kinds() if word.lower() in one.names), None)

    def served(self) -> tuple[Kind, ...]:
        """The kinds whose objects the server keeps."""
        return tuple(one for one in self._all_kinds() if one.served)

    def list(self, kind: str, *, namespace: str | None = None, selector: str = "") -> list[Object]:
        """All objects of a kind, of one namespace or of all."""
        body = self._json(
            "GET", self._kind(kind).path(namespace), query={"labelSelector": selector} if selector else {}
        )
        items: list[Object] = body["items"]
        return items

    def table(self, kind: str, *, namespace: str | None = None, name: str = "") -> Object:
        """All objects of a kind, or one of them, as the server's Table: ``columnDefinitions`` and ``rows``."""
        path = self._kind(kind).path(namespace, name)
        return self._json("GET", path, accept=f"{_JSON};as=Table;v=v1;g=meta.k8s.io")

    def delete(
        self, kind: str, name: str, *, namespace: str = "default", on_notice: Callable[[str], None] = lambda text: None
    ) -> Object:
        """Delete an object; a service is gone when ``wait_gone`` says so. ``on_notice``: what follows from it."""
        answer = self._send("DELETE", self._kind(kind).path(namespace, name), query={})
        for notice in answers.notices(answer):
            on_notice(notice)
        found: Object = answer.json()
        return found

    def watch(
        self,
        kind: str,
        *,
        deadline: float,
        namespace: str | None = None,
        name: str = "",
        since: str = "",
    ) -> Iterator[Event]:
        """What is there and what changes, for ``deadline`` seconds; with ``since`` only changes behind that version."""
        query = {"watch": "1", "timeoutSeconds": str(max(1, round(deadline)))}
        query |= {"fieldSelector": f"metadata.name={name}"} if name else {}
        query |= {"resourceVersion": since} if since else {}
        end = time.monotonic() + deadline
        with self._stream(self._kind(kind).path(namespace), query=query, read=deadline + 5.0) as answer:
            for line in answer.iter_lines():
                event = _parsed(line)
                if event["type"] == "ERROR":
                    answers.raise_for(event["object"], int(event["object"].get("code", 500)))
                if event["type"] != "BOOKMARK":
                    yield Event(event["type"], event["object"])
                if time.monotonic() >= end:
                    return

    # Services.

    def wait_ready(
        self,
        name: str,
        *,
        deadline: float,
        namespace: str = "default",
        kind: str = _SERVICE,
        digest: str = "",
        on_change: Callable[[Object], None] = lambda service: None,
    ) -> Object:
        """Wait until a service, or what else ``kind`` is, is ready as it is declared now.

        ``on_change`` is told every change on the way.

        With ``digest`` only what it says of an artifact with these bytes counts: the same URI may have new ones.

        Raises ModelError when its model does not load, NotReady after ``deadline`` seconds, SpecError when it is
        deleted meanwhile.
        """
        self.get(kind, name, namespace=namespace)
        last: Object = {}
        for event in self.watch(kind, deadline=deadline, namespace=namespace, name=name):
            last = event.object
            if event.type == "DELETED":
                raise Refused(f"{namespace}/{name} was deleted meanwhile", reason=errors.Reason.NOT_FOUND)
            on_change(last)
            if digest and answers.digest(last) != digest:
                continue
            if is_ready(last):
                return last
            if text := failure(last):
                raise errors.ModelError(text, hint=f"mlship why {name} tells more.")
        text = condition(last, "Ready").get("message") or "nothing was heard of it"
        raise errors.NotReady(
            f"{namespace}/{name} is not ready after {deadline:.0f} s: {text}.",
            hint=f"mlship why {name} tells more.",
            reason=errors.Reason.DEADLINE,
        )

    def wait_gone(self, name: str, *, deadline: float, namespace: str = "default", kind: str = _SERVICE) -> None:
        """Wait until what was deleted is gone. Raises NotReady after ``deadline`` seconds."""
        query = {"fieldSelector": f"metadata.name={name}"}
        page = self._json("GET", self._kind(kind).path(namespace), query=query)
        if not page["items"]:
            return
        since = page["metadata"]["resourceVersion"]
        for event in self.watch(kind, deadline=deadline, namespace=namespace, name=name, since=since):
            if event.type == "DELETED":
                return
        raise errors.NotReady(
            f"{namespace}/{name} is not gone after {deadline:.0f} s.",
            hint=f"mlship why {name} tells what it waits for.",
            reason=errors.Reason.DEADLINE,
        )

    def why(self, name: str, *, namespace: str = "default", limit: int = 20, kind: str = _SERVICE) -> Object:
        """``chain`` (text and hint of each link, from the condition down), ``conditions``, ``journal``.

        Of the InferenceService of that name, else of the TrainedModel; with ``kind`` of a TrainedModel or ScaledObject.
        """
        path = _own(namespace, name, "why", plural=self._kind(kind).plural if kind != _SERVICE else _SERVICES)
        return self._json("GET", path, query={"limit": str(limit)})

    def introduction(self, name: str, *, namespace: str = "default", kind: str = _SERVICE) -> Object:
        """``model`` (V2's metadata) and ``example`` (a V2 request) of a service's model; None: not known by now."""
        return self._json("GET", _own(namespace, name, "introduction", plural=self._kind(kind).plural))

    def top(self, *, namespace: str = "") -> Object:
        """How every service is doing now, of one namespace or of all: ``services``, with null for what is not known."""
        return self._json("GET", "/mlship/v1/top", query={"namespace": namespace} if namespace else {})

    def logs(self, name: str, *, namespace: str = "default", tail: int = 100, follow: bool = False) -> Iterator[str]:
        """Lines of the replicas' output, ``REPLICA | text``; with ``follow`` until the server goes."""
        query = {"tail": str(tail), "follow": "true" if follow else "false"}
        read = None if follow else self._timeout
        with self._stream(_own(namespace, name, "logs"), query=query, read=read) as answer:
            yield from answer.iter_lines()

    def plan(self, body: Mapping[str, Any]) -> Object:
        """What applying ``body`` would do."""
        return self._json("POST", "/mlship/v1/plan", json=body)

    def status(self) -> Object:
        """The control plane about itself."""
        return self._json("GET", "/mlship/v1/status")

    def shutdown(self, *, replicas: bool) -> None:
        """End the control plane and, if asked, every replica and Envoy; returns before that is done."""
        self._json("POST", "/mlship/v1/shutdown", json={"replicas": replicas})

    # The wire.

    def _kind(self, word: str, *, api_version: str = "") -> Kind:
        """The kind that a person means. Raises ``Refused`` naming those whose objects there may be."""
        lowered = word.lower()
        for one in self._all_kinds():
            if lowered in one.names and api_version in ("", one.api_version):
                return one
        known = ", ".join(str(one) for one in self.served())
        asked = f"{word} of {api_version}" if api_version else word
        raise Refused(f"the server knows no kind {asked!r}; it knows {known}", reason=errors.Reason.NOT_FOUND)

    def _all_kinds(self) -> tuple[Kind, ...]:
        if not self._kinds:
            versions = [one for group in self._json("GET", "/apis")["groups"] for one in group["versions"]]
            lists = (self._json("GET", f"/apis/{one['groupVersion']}") for one in versions)
            self._kinds = tuple(kind for one in lists for kind in answers.kinds(one))
        return self._kinds

    def _json(
        self, method: str, path: str, *, json: Any = None, query: Mapping[str, str] | None = None, accept: str = _JSON
    ) -> Object:
        body: Object = self._send(method, path, json=json, query=query or {}, accept=accept).json()
        return body

    def _send(
        self, method: str, path: str, *, json: Any = None, query: Mapping[str, str], accept: str = _JSON
    ) -> httpx.Response:
        connection = self._connection()
        with self._translated():
            answer = connection.request(method, path, json=json, params=dict(query), headers={"Accept": accept})
        if answer.is_error:
            answers.raise_for(answers.status_of(answer), answer.status_code)
        return answer

    @contextlib.contextmanager
    def _stream(self, path: str, *, query: Mapping[str, str], read: float | None) -> Iterator[httpx.Response]:
        connection = self._connection()
        import httpx

        timeout = httpx.Timeout(self._timeout, read=read)
        with self._translated(), connection.stream("GET", path, params=dict(query), timeout=timeout) as answer:
            if answer.is_error:
                answer.read()
                answers.raise_for(answers.status_of(answer), answer.status_code)
            yield answer

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        import httpx

        try:
            yield
        except httpx.ConnectError as error:
            raise Unreachable(
                f"no control plane answers at {self._place()}.", hint="Start it with mlship up."
            ) from error
        except httpx.TimeoutException as error:
            raise errors.NotReady(
                f"the control plane at {self._place()} did not answer in time", reason=errors.Reason.DEADLINE
            ) from error
        except httpx.HTTPError as error:
            raise Unreachable(
                f"the control plane at {self._place()} went away: {str(error)[:200]}.", hint="mlship status tells more."
            ) from error

    def _connection(self) -> httpx.Client:
        if self._http is None:
            self._check_there()
            import httpx

            path = str(self._where.control_socket) if isinstance(self._where, home.Home) else None
            self._http = httpx.Client(
                transport=httpx.HTTPTransport(uds=path),
                base_url="http://localhost" if path else str(self._where),
                headers={"Authorization": f"Bearer {self._token}"} if self._token else {},
                timeout=self._timeout,
                trust_env=False,
            )
        return self._http

    def _check_there(self) -> None:
        """Raises ``Unreachable`` when nobody accepts on the Unix socket: known before httpx is even imported."""
        if not isinstance(self._where, home.Home):
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(self._timeout)
            try:
                probe.connect(str(self._where.control_socket))
            except OSError as error:
                raise self._nobody() from error

    def _nobody(self) -> Unreachable:
        return Unreachable(f"No control plane answers at {self._place()}.", hint="Start it with mlship up.")

    def _place(self) -> str:
        return str(self._where.control_socket) if isinstance(self._where, home.Home) else self._where


def _own(namespace: str, name: str, what: str, *, plural: str = _SERVICES) -> str:
    return f"/mlship/v1/namespaces/{answers.quoted(namespace)}/{plural}/{answers.quoted(name)}/{what}"


def _asked(body: Mapping[str, Any]) -> Object:
    metadata = body["metadata"]
    return {"spec": body.get("spec"), "labels": metadata.get("labels"), "annotations": metadata.get("annotations")}


def _parsed(line: str) -> Object:
    import json

    event: Object = json.loads(line)
    return event
