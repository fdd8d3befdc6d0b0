"""``mlship deploy``: look at the file, say what was found, declare a service, wait, print how to use it.

The command decides nothing that the control plane would not accept as YAML: ``--dry-run`` prints that YAML.
"""

from __future__ import annotations

import dataclasses
import pathlib
import re
import sys
import time
from collections.abc import Mapping
from typing import Any

from mlship import client, errors, home, launch
from mlship.api import load, service
from mlship.cli import endpoint, progress, session
from mlship.server import model
from mlship.server.artifact import find, versions
from mlship.storage import cache, fetch, uri

_BOUNDS = re.compile(r"(?P<fewest>\d{1,4})(?:-(?P<most>\d{1,4}))?", re.ASCII)


@dataclasses.dataclass(frozen=True, slots=True)
class Asked:
    """The command line of ``deploy``."""

    model: str
    name: str
    namespace: str
    format: str
    options: tuple[str, ...]
    replicas: str
    env: tuple[str, ...]
    port: str
    wait: float
    dry_run: bool
    accelerate: str = ""


def run(where: home.Home, asked: Asked) -> None:
    """Deploy, or exit with a sentence that says what to do."""
    with session.failures():
        began = time.monotonic()
        options = session.pairs(asked.options, flag="--option")
        location, here = _locate(asked.model)
        fetched = None
        if here is None:
            fetched = _fetch(where, location)
            here = fetched.path
        artifact = find.inspect(here, format=asked.format, options=options)
        body = declare(asked, location, artifact.format, options)
        if asked.dry_run:
            session.out(session.document(body, form="yaml"))
            return
        load.parse(body)
        session.tell(f"found    {found(artifact)}")
        _warn_of_versions(artifact)
        digest = (fetched or _fetch(where, location)).digest
        launch.ensure_running(where, port=asked.port)
        with client.Client(where) as control:
            _deploy(control, body, asked, digest=digest, began=began)


def _deploy(control: client.Client, body: Mapping[str, Any], asked: Asked, *, digest: str, began: float) -> None:
    name = body["metadata"]["name"]
    applied = control.apply(body)
    session.tell(f"service  {asked.namespace}/{name} {applied.outcome}")
    for notice in applied.notices:
        session.tell(f"note     {notice}")
    if not asked.wait:
        session.tell(f"It is on its way; follow it with: mlship why {name}")
        return
    with progress.Line(sys.stderr) as line:
        deployed = control.wait_ready(
            name, namespace=asked.namespace, deadline=asked.wait, digest=digest,
            on_change=lambda seen: line.show(progress.phase(seen)),
        )  # fmt: skip
    session.tell(f"ready    after {time.monotonic() - began:.1f} s")
    endpoint.introduce(control, deployed)


def declare(asked: Asked, location: str, model_format: str, options: Mapping[str, str]) -> dict[str, Any]:
    """The InferenceService that the command line means."""
    name = asked.name or name_of(asked.model)
    served: dict[str, Any] = {"modelFormat": {"name": model_format}, "storageUri": location}
    if options:
        served["args"] = [part for key, value in options.items() for part in ("--model-option", f"{key}={value}")]
    if asked.env:
        pairs = session.pairs(asked.env, flag="--env")
        served["env"] = [{"name": key, "value": value} for key, value in pairs.items()]
    predictor: dict[str, Any] = {"model": served}
    fewest, most = bounds(asked.replicas)
    if (fewest, most) != (1, 1):
        predictor = {"minReplicas": fewest, "maxReplicas": most, **predictor}
    metadata: dict[str, Any] = {"name": name, "namespace": asked.namespace}
    if asked.accelerate:
        metadata["annotations"] = {service.ACCELERATE: asked.accelerate}
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": metadata,
        "spec": {"predictor": predictor},
    }


def bounds(text: str) -> tuple[int, int]:
    """The fewest and the most replicas that ``--replicas`` means: ``2`` or ``0-5``. Raises SpecError."""
    if (found := _BOUNDS.fullmatch(text)) is None:
        raise errors.SpecError(
            f"--replicas {text!r} is neither a number nor bounds.", hint="Give a number (2), or the fewest-most (0-5)."
        )
    fewest = int(found["fewest"])
    most = int(found["most"] or fewest)
    if most < fewest:
        hint = f"The fewest come first: --replicas {most}-{fewest}."
        raise errors.SpecError(f"--replicas {text!r} ends before it begins.", hint=hint)
    if not most:
        hint = "One that may rest while nobody asks has the bounds 0-1."
        raise errors.SpecError(f"--replicas {text!r} allows no replica.", hint=hint)
    return fewest, most


def name_of(text: str) -> str:
    """A service name from a path or URI: ``./Churn_Model-v2.pkl`` is ``churn-model-v2``.

    A file that says nothing (``model.pkl``) in a folder is called after itself all the same. Raises SpecError when
    nothing is left.
    """
    last = text.split("#")[0].split("?")[0].rstrip("/").rsplit("/", 1)[-1]
    if last in ("", ".", ".."):
        last = pathlib.Path(text).absolute().name
    stem = last.split(".")[0] or last.strip(".").split(".")[0]
    name = re.sub(r"[^a-z0-9]+", "-", stem.lower()).strip("-")
    if name[:1].isdigit():
        name = f"model-{name}"
    name = name[:40].strip("-")
    if not name:
        raise errors.SpecError(f"No service name can be made of {text!r}.", hint="Give one: --name NAME.")
    return name


def _locate(text: str) -> tuple[str, pathlib.Path | None]:
    """The storage URI to declare, and the path to look at when it is one of this machine."""
    if "://" in text:
        return text, None
    path = pathlib.Path(text).expanduser().absolute()
    return uri.parse(str(path)).url, path


def _fetch(where: home.Home, location: str) -> fetch.Fetched:
    """Bring the bytes into the cache, where the control plane finds them: their digest tells when they serve."""
    with progress.Line(sys.stderr) as line:
        return fetch.fetch(
            uri.parse(location),
            cache=cache.Cache(where.cache),
            volumes=where.volumes,
            progress=lambda seen: line.transfer(seen),
        )


def found(artifact: model.Artifact) -> str:
    """What was found, in one line."""
    recorded = ", ".join(f"{name} {version}" for name, version in artifact.versions.items())
    return f"{artifact.format} model, stored as {artifact.variant}" + (f" ({recorded})" if recorded else "")


def _warn_of_versions(artifact: model.Artifact) -> None:
    here = versions.installed(artifact.versions)
    for difference in versions.compare(artifact.versions, here):
        if difference.severity >= versions.Severity.MINOR:
            session.tell(f"warning  {difference.message}")
