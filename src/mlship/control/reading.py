"""The reading half of the API's verbs: get, list in pages, and where a watch begins."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from typing import Any

import orjson
from starlette import requests, responses

from mlship import errors
from mlship.control import parts, replies, resources, selectors, store, tables, watching


class Reading:
    """GET on collections and objects."""

    def __init__(self, behind: parts.Parts) -> None:
        self._parts = behind

    async def collection(self, request: requests.Request) -> responses.Response:
        """List or, with ``watch``, follow a kind."""
        resource = resource_of(self._parts.catalog, request)
        namespace = request.path_params.get("namespace")
        where = matcher(request)
        accept = request.headers.get("accept", "")
        if request.query_params.get("watch") in ("true", "1"):
            asked = watching.wish(request.query_params, where=where, namespace=namespace, accept=accept)
            begun = await watching.begin(self._parts.kept, resource, asked)
            stream = watching.lines(resource, asked, begun, closing=self._parts.closing, clock=self._parts.clock)
            return responses.StreamingResponse(stream, media_type="application/json")
        return await self._list(request, resource, where=where, namespace=namespace)

    async def one(self, request: requests.Request) -> responses.Response:
        """One object, as itself or as a table of one row."""
        resource = resource_of(self._parts.catalog, request)
        body = await self._parts.kept.get(key_of(resource, request))
        if tables.wanted(request.headers.get("accept", "")):
            version = body["metadata"]["resourceVersion"]
            return replies.json(tables.table(resource, [body], version=version, now=self._parts.clock()))
        return replies.json(body)

    async def _list(
        self,
        request: requests.Request,
        resource: resources.Resource,
        *,
        where: Callable[[store.Object], bool],
        namespace: str | None,
    ) -> responses.Response:
        query = request.query_params
        limit = watching.number(query["limit"], "limit") if query.get("limit") else None
        after, version = _open_token(query["continue"]) if query.get("continue") else (None, None)
        page = await self._parts.kept.page(resource.id, namespace=namespace, where=where, after=after, limit=limit)
        # Later pages keep the first one's version: who watches from it misses no change made between the pages.
        shown = str(version if version is not None else page.version)
        more = "" if page.last is None else _token(page.last, shown)
        if tables.wanted(request.headers.get("accept", "")):
            table = tables.table(resource, page.items, version=shown, now=self._parts.clock(), more=more)
            return replies.json(table)
        metadata: dict[str, Any] = {"resourceVersion": shown}
        if more:
            metadata |= {"continue": more, "remainingItemCount": page.remaining}
        return replies.json(
            {
                "apiVersion": resource.api_version,
                "kind": f"{resource.kind}List",
                "metadata": metadata,
                "items": list(page.items),
            }
        )


def resource_of(catalog: resources.Catalog, request: requests.Request) -> resources.Resource:
    """The kind of a request's URL. Raises SpecError when URL and scope do not go together."""
    given = request.path_params
    resource = catalog.at(given["group"], given["version"], given["plural"])
    if "namespace" in given and not resource.namespaced:
        raise errors.SpecError(
            f"{resource.plural} belong to no namespace.",
            hint=f"Use /apis/{resource.api_version}/{resource.plural}.",
            reason=errors.Reason.NOT_FOUND,
        )
    if "namespace" not in given and "name" in given and resource.namespaced:
        raise errors.SpecError(
            f"{resource.plural} belong to a namespace.",
            hint=f"Use /apis/{resource.api_version}/namespaces/NAMESPACE/{resource.plural}/{given['name']}.",
            reason=errors.Reason.NOT_FOUND,
        )
    return resource


def key_of(resource: resources.Resource, request: requests.Request) -> store.Key:
    """The object that a request's URL names."""
    return store.Key(resource.id, request.path_params.get("namespace", ""), request.path_params["name"])


def matcher(request: requests.Request) -> Callable[[store.Object], bool]:
    """The predicate of a request's selectors. Raises SpecError."""
    labelled = selectors.labels(request.query_params.get("labelSelector", ""))
    fielded = selectors.fields(request.query_params.get("fieldSelector", ""))
    return lambda body: labelled(body["metadata"].get("labels") or {}) and fielded(body)


def _token(last: tuple[str, str], version: str) -> str:
    return base64.urlsafe_b64encode(orjson.dumps([*last, version])).decode()


def _open_token(text: str) -> tuple[tuple[str, str], str]:
    try:
        namespace, name, version = orjson.loads(base64.urlsafe_b64decode(text))
        return (str(namespace), str(name)), str(int(version))
    except (binascii.Error, orjson.JSONDecodeError, ValueError, TypeError) as error:
        raise errors.SpecError(
            "the continue token is not one of this server.", hint="Begin the list again without it."
        ) from error
