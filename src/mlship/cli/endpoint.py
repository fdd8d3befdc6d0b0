"""Talks to a service as its users do, through the gateway: its metadata, an example row, a prediction."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import Any

import httpx

from mlship import client, errors
from mlship.cli import session


def path_of(service: Mapping[str, Any]) -> str:
    """The path that reaches a service whatever other services exist; of a TrainedModel, the service it names."""
    metadata = service["metadata"]
    trained = service["kind"] == "TrainedModel"
    return f"/serving/{metadata['namespace']}/{service['spec']['inferenceService'] if trained else metadata['name']}"


def ask(
    url: str,
    *,
    body: bytes | None = None,
    content_type: str = "application/json",
    timeout: float = 10.0,
) -> httpx.Response:
    """GET, or POST of ``body``. Raises the family that fits the answer's code, with the server's own sentence."""
    try:
        answer = httpx.request(
            "GET" if body is None else "POST",
            url,
            content=body,
            headers={} if body is None else {"content-type": content_type},
            timeout=timeout,
        )
    except httpx.TimeoutException as error:
        raise errors.NotReady(
            f"{url} gave no answer within {timeout:.0f} s.", hint="Wait longer: --timeout SECONDS."
        ) from error
    except httpx.HTTPError as error:
        raise errors.BackendError(f"{url} cannot be reached: {error}.", hint="See 'mlship status'.") from error
    if answer.is_error:
        raise _refused(answer)
    return answer


def _refused(answer: httpx.Response) -> errors.MlshipError:
    try:
        text = str(answer.json()["error"])
    except (ValueError, KeyError, TypeError):
        text = answer.text[:300] or answer.reason_phrase
    said = f"{text} (HTTP {answer.status_code})"
    if answer.status_code < 500:
        return errors.SpecError(said)
    return errors.NotReady(said) if answer.status_code == 503 else errors.ModelError(said)


def introduce(control: client.Client, service: Mapping[str, Any]) -> None:
    """Print a service's address, what it takes and gives, and commands to paste. Asks nothing through the gateway."""
    name, namespace = service["metadata"]["name"], service["metadata"]["namespace"]
    base = session.gateway_url(control.status())
    model = f"/v2/models/{name}"
    session.out(f"url      {_shown(base, service)}{model}/infer")
    found = control.introduction(name, namespace=namespace, kind=service["kind"])
    described, example = found["model"], found["example"]
    if described is None:
        if client.condition(service, "Ready").get("reason") == "ScaledToZero":
            session.out("inputs   known once it has been awake")
        return
    for kind in ("inputs", "outputs"):
        session.out(f"{kind:<8} {_tensors(described.get(kind) or [])}")
    if example is None:
        return
    session.out("\nTry it:")
    data = json.dumps(example, separators=(",", ":"))
    url = f"{_shown(base, service)}{model}/infer"
    session.out(f"  curl -s {url} -H 'Content-Type: application/json' -d {shlex.quote(data)}")
    where = "" if namespace == "default" else f" -n {namespace}"
    session.out(f"  mlship predict {name}{where} --data {shlex.quote(_rows(example) or data)}")


def _rows(example: Mapping[str, Any]) -> str:
    """The example as rows, the shortest form, where the model takes one matrix or one column; else nothing."""
    inputs = example["inputs"]
    if len(inputs) != 1 or inputs[0]["shape"][:1] != [1] or len(inputs[0]["shape"]) > 2:
        return ""
    row = inputs[0]["data"]
    return json.dumps([row] if len(inputs[0]["shape"]) == 2 else row, separators=(",", ":"))


def _shown(base: str, service: Mapping[str, Any]) -> str:
    """The short address where the namespace is the default one, else the one with the service's own path."""
    return base if service["metadata"]["namespace"] == "default" else base + path_of(service)


def _tensors(specs: list[Mapping[str, Any]]) -> str:
    shown = [f"{one['name']} {one['datatype']} {json.dumps(one['shape'], separators=(',', ':'))}" for one in specs]
    if len(shown) > 8:
        return ", ".join(shown[:7]) + f" and {len(shown) - 7} more"
    return ", ".join(shown) or "not known; anything is let through"
