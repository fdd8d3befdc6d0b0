"""What all commands share: printing, error to exit code, the control plane at hand.

Exit codes: 0 done, 1 something failed, 2 the command line was wrong (click's own), 130 interrupted.
Results go to stdout, everything else to stderr, so that ``mlship get -o json NAME | jq`` works.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import typer

from mlship import client, errors, home


def out(text: str = "") -> None:
    """A line of the result."""
    typer.echo(text)


def tell(text: str) -> None:
    """A line beside the result: progress, notices."""
    typer.echo(text, err=True)


@contextlib.contextmanager
def failures() -> Iterator[None]:
    """Turns the families of errors into sentences and exit code 1; anything else is a bug and keeps its traceback."""
    try:
        yield
    except errors.MlshipError as error:
        tell(f"error: {error}")
        raise typer.Exit(1) from error
    except KeyboardInterrupt:
        tell("interrupted")
        raise typer.Exit(130) from None
    except BrokenPipeError:
        # The reader (head, less) has seen enough; nothing more can be told to it.
        sys.stderr.close()
        raise typer.Exit(0) from None


@contextlib.contextmanager
def control(where: home.Home) -> Iterator[client.Client]:
    """A connection to the control plane that runs; errors become exit codes."""
    with failures(), client.Client(where) as connection:
        yield connection


def model(connection: client.Client, name: str, *, namespace: str) -> client.Object:
    """The service called ``name``, else the TrainedModel. Raises SpecError (NotFound)."""
    try:
        return connection.get("isvc", name, namespace=namespace)
    except errors.SpecError as error:
        if error.reason is not errors.Reason.NOT_FOUND:
            raise
        try:
            return connection.get("tm", name, namespace=namespace)
        except errors.SpecError:
            raise error from None


def document(body: Any, *, form: str) -> str:
    """A value as JSON or YAML. Raises SpecError for another form."""
    if form == "json":
        return json.dumps(body, indent=2)
    if form == "yaml":
        import yaml

        return str(yaml.safe_dump(body, sort_keys=False, allow_unicode=True)).rstrip()
    raise errors.SpecError(f"--output {form} is not known.", hint="Use text, json or yaml.")


def table(headings: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    """Columns, as wide as they must be: never folded, so that the lines can be cut and searched."""
    widths = [max(len(row[column]) for row in [headings, *rows]) for column in range(len(headings))]
    for row in [headings, *rows]:
        out("   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def pairs(texts: tuple[str, ...], *, flag: str) -> dict[str, str]:
    """KEY=VALUE options as a dictionary. Raises SpecError that names the flag."""
    found: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise errors.SpecError(f"{flag} {text!r} is not KEY=VALUE.")
        found[key] = value
    return found


def gateway_url(status: Mapping[str, Any]) -> str:
    """The gateway's address in the control plane's status. Raises NotReady when Envoy does not run."""
    gateway = status["gateway"]
    if not gateway["running"]:
        raise errors.NotReady("The gateway is not answering.", hint="Its supervisor restarts it; see 'mlship status'.")
    return str(gateway["url"])
