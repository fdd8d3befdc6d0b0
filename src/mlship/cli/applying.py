"""``mlship apply``, ``diff`` and ``destroy``: YAML becomes objects, differences are shown, services end.

Every document of every file is read and judged before the first is applied, so that a typo in the last file does not
leave half of the others in force.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
import sys
import time
from collections.abc import Iterable, Sequence
from typing import Any

import typer

from mlship import client, errors, home, launch
from mlship.api import check, kinds, load
from mlship.cli import naming, session

_SUFFIXES = (".yaml", ".yml", ".json")
_RUNTIMES = ("ServingRuntime", "ClusterServingRuntime")


def apply(where: home.Home, *, files: list[str], namespace: str, wait: float, port: str) -> None:
    """Apply every document; with ``wait`` until every service is ready."""
    with session.failures():
        bodies = read(files, namespace=namespace)
        launch.ensure_running(where, port=port)
        with client.Client(where) as control:
            # Services are judged among the runtimes that are stored, so these come first.
            runtimes = [body for body in bodies if body["kind"] in _RUNTIMES]
            for batch in (runtimes, [body for body in bodies if body["kind"] not in _RUNTIMES]):
                _check_all(control, batch)
                _apply_all(control, batch)
            if wait:
                _wait(control, bodies, wait)


def diff(where: home.Home, *, files: list[str], namespace: str) -> None:
    """Print what would change; exit code 1 when something would."""
    with session.failures():
        bodies = read(files, namespace=namespace)
        launch.ensure_running(where)
        with client.Client(where) as control:
            changed = [_show_plan(control.plan(body)) for body in bodies]
    if any(changed):
        raise typer.Exit(1)


def destroy(where: home.Home, *, words: Sequence[str], files: Sequence[str], namespace: str, wait: float) -> None:
    """Delete what is named, or written in files, and wait until it is gone, processes and all."""
    with session.failures():
        if bool(words) == bool(files):
            raise errors.SpecError("destroy needs either names or --file.")
        written = identities(files, namespace=namespace) if files else []
        with client.Client(where) as control:
            doomed, missing = _there(control, written) if files else (_meant(control, words, namespace=namespace), [])
            for one in doomed:
                _delete(control, one, wait=wait)
            for one in doomed if wait else ():
                control.wait_gone(one.name, namespace=one.namespace, deadline=wait, kind=one.kind)
                session.out(f"{one.title} is gone")
            if missing:
                text = f"Not there, and nothing to destroy: {', '.join(missing)}."
                raise client.Refused(text, reason=errors.Reason.NOT_FOUND)


@dataclasses.dataclass(frozen=True, slots=True)
class _Doomed:
    """What is to be deleted. ``title`` is how it is spoken of."""

    kind: str
    name: str
    namespace: str
    title: str


def _meant(control: client.Client, words: Sequence[str], *, namespace: str) -> list[_Doomed]:
    """What the words name, all of it there. Raises SpecError before anything is deleted."""
    named = naming.parse(control, words, services=True)
    if named[0].kind is not None and "/" not in words[0]:
        _refuse_doubt(control, words, namespace=namespace)
    found = [(one, one.read(control, namespace=namespace)) for one in named]
    return [
        _Doomed(body["kind"], one.name, namespace, f"{namespace}/{one.name}" if one.kind is None else _title(body))
        for one, body in found
    ]


def _refuse_doubt(control: client.Client, words: Sequence[str], *, namespace: str) -> None:
    """Raises SpecError when the first word, a kind, is the name of a service as well."""
    try:
        session.model(control, words[0], namespace=namespace)
    except errors.SpecError as error:
        if error.reason is not errors.Reason.NOT_FOUND:
            raise
        return
    raise errors.SpecError(
        f"{words[0]} is a kind, and there is a service of that name.",
        hint=f"Write {words[0]}/{words[1]} for the object of that kind, or isvc/{words[0]} for the service.",
    )


def _there(control: client.Client, written: Iterable[_Doomed]) -> tuple[list[_Doomed], list[str]]:
    """What of it is there, the last one first, so that what was applied last goes first; the others' titles."""
    doomed: list[_Doomed] = []
    missing: list[str] = []
    for one in written:
        try:
            control.get(one.kind, one.name, namespace=one.namespace)
        except errors.SpecError as error:
            if error.reason is not errors.Reason.NOT_FOUND:
                raise
            missing.append(one.title)
        else:
            doomed.insert(0, one)
    return doomed, missing


def _delete(control: client.Client, one: _Doomed, *, wait: float) -> None:
    control.delete(one.kind, one.name, namespace=one.namespace, on_notice=lambda text: session.tell(f"  note: {text}"))
    if not wait:
        session.out(f"{one.title} is ending")


def read(files: Iterable[str], *, namespace: str) -> list[dict[str, Any]]:
    """The documents of files, folders and standard input, in order. Raises SpecError with every problem of all."""
    bodies: list[dict[str, Any]] = []
    problems: list[str] = []
    for source, text in _texts(files):
        loaded = load.load(text, source=source)
        problems += [str(problem) for problem in loaded.problems]
        for document in loaded.documents:
            foreign = [str(problem) for problem in document.place(check.foreign(document.raw))]
            for reason in foreign:
                session.tell(f"skipped  {document.title}: {reason}")
            bodies += [] if foreign else [dict(document.raw)]
    if problems:
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        raise errors.SpecError("\n  ".join([f"{count}; nothing was applied:", *problems]))
    if not bodies:
        raise errors.SpecError("There is no object in what was given.", hint="Is the file empty?")
    for body in bodies:
        if kinds.KINDS[body["kind"]].namespaced:
            body["metadata"].setdefault("namespace", namespace)
    return bodies


def identities(files: Iterable[str], *, namespace: str) -> list[_Doomed]:
    """Who the documents of files are. What else is in them is not judged: what is applied once can always be undone."""
    found: list[_Doomed] = []
    for source, text in _texts(files):
        for document in load.load(text, source=source).documents:
            metadata = document.raw.get("metadata")
            metadata = metadata if isinstance(metadata, dict) else {}
            name = metadata.get("name")
            kind = kinds.KINDS.get(str(document.raw.get("kind")))
            if kind is None or not isinstance(name, str):
                text = f"{source}:{document.line}: {document.title} is no object of a known kind with a name."
                raise errors.SpecError(text, hint="Nothing was destroyed.")
            if kind.stance is kinds.Stance.FOREIGN:
                session.tell(f"skipped  {document.title}: {kind.reason}")
                continue
            found.append(_Doomed(kind.kind, name, str(metadata.get("namespace") or namespace), _title(document.raw)))
    if not found:
        raise errors.SpecError("There is no object in what was given.", hint="Is the file empty?")
    return found


def _texts(files: Iterable[str]) -> Iterable[tuple[str, str]]:
    for name in files:
        if name == "-":
            yield "stdin", sys.stdin.read()
            continue
        path = pathlib.Path(name)
        found = (
            sorted(one for one in path.iterdir() if one.suffix in (".yaml", ".yml", ".json"))
            if path.is_dir()
            else [path]
        )
        if not found:
            raise errors.SpecError(f"The folder {name} holds no .yaml, .yml or .json file.")
        for one in found:
            try:
                yield str(one), one.read_text(encoding="utf-8")
            except OSError as error:
                raise errors.SpecError(f"{one} cannot be read: {error.strerror}.") from error
            except UnicodeDecodeError as error:
                raise errors.SpecError(f"{one} is not a text file in UTF-8: {error.reason}.") from error


def _apply_all(control: client.Client, bodies: list[dict[str, Any]]) -> None:
    for body in bodies:
        applied = control.apply(body)
        session.out(f"{_title(applied.object)} {applied.outcome}")
        for notice in applied.notices:
            session.tell(f"  note: {notice}")


def _check_all(control: client.Client, bodies: list[dict[str, Any]]) -> None:
    """Ask the server about every object before the first is applied. Raises SpecError with all it refuses."""
    refused: list[str] = []
    for body in bodies:
        try:
            control.apply(body, dry_run=True)
        except errors.SpecError as error:
            refused.append(f"{_title(body)}: {error}")
    if refused:
        raise errors.SpecError("\n".join(["Nothing was applied.", *refused]))


def _title(body: dict[str, Any]) -> str:
    metadata = body.get("metadata") or {}
    return f"{str(body.get('kind', '')).lower()}/{metadata.get('name', '')}"


def _wait(control: client.Client, bodies: list[dict[str, Any]], seconds: float) -> None:
    until = time.monotonic() + seconds
    for body in bodies:
        if body["kind"] in ("InferenceService", "TrainedModel"):
            metadata = body["metadata"]
            left = max(1.0, until - time.monotonic())
            control.wait_ready(metadata["name"], namespace=metadata["namespace"], deadline=left, kind=body["kind"])
            session.out(f"{_title(body)} is ready")


def _show_plan(plan: client.Object) -> bool:
    title = f"{plan['kind'].lower()}/{plan['name']}"
    for notice in plan["notices"]:
        session.tell(f"  note: {notice['field']}: {notice['text']}")
    if not plan["changed"] and not any(one["actions"] for one in plan["plans"]):
        session.out(f"{title} would not change")
        return False
    session.out(f"{title} would be {'changed' if plan['exists'] else 'created'}")
    for change in plan["changes"] if plan["exists"] else ():
        session.out(f"  {change['field']}: {_value(change['before'])} -> {_value(change['after'])}")
    for one in plan["plans"]:
        session.out(f"  plan for {one['service']}: {one['summary']}")
        for action in one["actions"]:
            session.out(f"    {action}")
    return True


def _value(value: Any) -> str:
    return "(none)" if value is None else json.dumps(value)
