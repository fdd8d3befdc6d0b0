"""``mlship predict``: rows in, predictions out, over the same URL as every other client.

JSON rows (a list, or {"instances": ...}) go to V1's ``:predict``; {"inputs": [...]} with named tensors goes to V2's
``infer``; a CSV goes to ``/invocations``. ``--want`` asks for outputs by name, which V2 and rows can and a CSV cannot.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
import sys
from typing import Any

from mlship import client, errors, home
from mlship.cli import endpoint, session, waking

_MLFLOW = "/invocations"


@dataclasses.dataclass(frozen=True, slots=True)
class Question:
    """The command line of ``predict``."""

    name: str
    namespace: str
    data: str
    file: pathlib.Path | None
    wanted: tuple[str, ...]
    output: str
    timeout: float


@dataclasses.dataclass(frozen=True, slots=True)
class Call:
    """A request: the path behind the service's own, and what is sent."""

    path: str
    body: bytes
    content_type: str = "application/json"


def run(where: home.Home, question: Question) -> None:
    """Ask and print the answer."""
    with session.control(where) as control:
        call = compose(question)
        service = session.model(control, question.name, namespace=question.namespace)
        # A server of TrainedModels has to be told which of them is meant.
        named = f"/v2/models/{question.name}" if service["kind"] == "TrainedModel" and call.path == _MLFLOW else ""
        url = session.gateway_url(control.status()) + endpoint.path_of(service) + named + call.path
        with waking.told(question.name, lambda: _waking(where, question), stream=sys.stderr):
            answer = endpoint.ask(url, body=call.body, content_type=call.content_type, timeout=question.timeout)
        session.out(show(answer.json(), form=question.output))


def _waking(where: home.Home, question: Question) -> dict[str, Any] | None:
    """What the service is at; on a connection of its own, since another thread waits on the first."""
    with client.Client(where) as control:
        found = control.why(question.name, namespace=question.namespace, limit=1).get("waking")
    return found if isinstance(found, dict) else None


def compose(question: Question) -> Call:
    """The request a command line means. Raises SpecError when its data cannot be read."""
    text, suffix = _read(question)
    if suffix == ".csv":
        if question.wanted:
            raise errors.SpecError(
                "--want does not go with a CSV file: /invocations gives the model's default outputs.",
                hint="Send the rows as JSON.",
            )
        return Call(_MLFLOW, text.encode(), "text/csv")
    try:
        body = json.loads(text)
    except ValueError as error:
        raise errors.SpecError(
            f"The data is not JSON: {error}.", hint="""Rows look like this: --data '[[5.1, 3.5, 1.4, 0.2]]'."""
        ) from error
    outputs = [{"name": name} for name in question.wanted]
    if isinstance(body, dict) and _is_v2(body):
        if outputs:
            body["outputs"] = outputs
        return Call(f"/v2/models/{question.name}/infer", json.dumps(body).encode())
    rows = body if isinstance(body, dict) else {"instances": body if isinstance(body, list) else [body]}
    if outputs:
        rows["outputs"] = list(question.wanted)
    return Call(f"/v1/models/{question.name}:predict", json.dumps(rows).encode())


def _is_v2(body: dict[str, Any]) -> bool:
    inputs = body.get("inputs")
    return isinstance(inputs, list) and bool(inputs) and all(isinstance(one, dict) and "name" in one for one in inputs)


def _read(question: Question) -> tuple[str, str]:
    """The data's text and the suffix of the file it came from."""
    if bool(question.data) == (question.file is not None):
        raise errors.SpecError("predict needs rows: either --data JSON or --file FILE.")
    if question.data and not question.data.startswith("@"):
        return (sys.stdin.read() if question.data == "-" else question.data), ".json"
    path = question.file or pathlib.Path(question.data[1:])
    try:
        return path.read_text(encoding="utf-8"), path.suffix.lower()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise errors.SpecError(f"{path} cannot be read: {reason}.") from error


def show(body: Any, *, form: str) -> str:
    """An answer for people: one prediction a line; or as JSON or YAML."""
    if form != "text":
        return session.document(body, form=form)
    if isinstance(body, dict) and isinstance(body.get("predictions"), list):
        return "\n".join(json.dumps(one) for one in body["predictions"])
    if isinstance(body, dict) and isinstance(body.get("outputs"), list):
        return "\n".join(
            f"{one['name']} {one['datatype']} {one['shape']}: {one.get('data')}" for one in body["outputs"]
        )
    return json.dumps(body)
