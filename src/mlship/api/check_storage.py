"""The rules of where models come from: the form of a URI, several artifacts, and their mount paths.

KServe's rules (inference_service_validation.go, validateMultipleStorageURIs). Which schemes this version can fetch is
``honour``'s question.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Sequence

from mlship.api import component, problems, redact
from mlship.api.problems import Path, Problem

DEFAULT_MOUNT = "/mnt/models"
SCHEMES = (
    *("file", "http", "https", "pvc", "s3", "gs", "hf", "oci", "hdfs", "webhdfs", "git", "modelscope"),
    *("abfs", "abfss", "wasbs", "azure", "models", "runs", "mlflow-artifacts", "model-registry"),
)

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(/*)")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def scheme_of(uri: str) -> str:
    """The scheme in lower case; empty for a path."""
    match = _SCHEME.match(uri)
    return match[1].lower() if match and (match[2] or match[1].lower() in SCHEMES) else ""


def check_uri(uri: str, path: Path) -> Iterator[Problem]:
    """The form of a storage URI. An unknown scheme is only refused when it looks like a misspelt known one."""
    if not uri.strip():
        yield problems.refuse(path, "is empty", "write the path or URI of the model")
        return
    if _CONTROL.search(uri) or uri != uri.strip():
        yield problems.refuse(path, "has spaces around it or control characters in it", "remove them")
        return
    scheme = scheme_of(uri)
    match = _SCHEME.match(uri)
    if not scheme or match is None:
        return
    shown = redact.uri(uri)
    if scheme not in SCHEMES:
        if close := problems.nearest(scheme, SCHEMES):
            yield problems.refuse(path, f"unknown scheme {scheme}://", f"did you mean {close}://?")
    elif len(match[2]) < 2 and scheme not in ("models", "runs"):
        hint = f"write {scheme}://{uri[match.end() :]}" if "@" not in uri else f"write {scheme}://"
        yield problems.refuse(path, f"{problems.cap(shown)} is not a URI: // is missing", redact.uri(hint))
    elif not uri[match.end() :].strip("/"):
        yield problems.refuse(
            path, f"{problems.cap(shown)} names nothing behind its scheme", "add the path of the model"
        )


def check_uris(uris: Sequence[component.StorageUri], path: Path) -> Iterator[Problem]:
    """Several artifacts: absolute mount paths with a common parent, volumes each at their own."""
    mounts: list[str] = []
    volumes: dict[str, int] = {}
    for index, one in enumerate(uris):
        mount = one.mount_path or DEFAULT_MOUNT
        yield from check_uri(one.uri, (*path, index, "uri"))
        yield from _check_mount(mount, (*path, index, "mountPath"))
        if not one.uri.startswith("pvc://"):
            mounts.append(mount)
        elif mount in volumes:
            yield problems.refuse((*path, index, "mountPath"), f"{mount} is already used by entry {volumes[mount]}")
        else:
            volumes[mount] = index
    if len(mounts) > 1 and all(mount.startswith("/") for mount in mounts) and posixpath.commonpath(mounts) == "/":
        shown = problems.cap(", ".join(mounts))
        yield problems.refuse(path, f"the mount paths {shown} have no common parent", f"put all below {DEFAULT_MOUNT}")


def _check_mount(mount: str, path: Path) -> Iterator[Problem]:
    if mount == "/":
        yield problems.refuse(path, "may not be /", f"write for example {DEFAULT_MOUNT}")
    elif ".." in mount:
        yield problems.refuse(path, f"{problems.cap(mount)} may not contain ..", f"write for example {DEFAULT_MOUNT}")
