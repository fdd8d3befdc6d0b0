"""A storage URI as the user wrote it -> a typed, checked ``Uri``. Pure: it looks at text, never at a disk or network.

First step of BYTES IN: ``parse`` here, then ``fetch.fetch`` takes the bytes into the cache. Everything that can be
wrong with the text alone is said here, before anything is touched: an unknown or misspelt scheme, a relative path, a
malformed checksum, a ``pvc://`` path that climbs out of its volume.

``#sha256=<64 hex digits>`` behind any URI (or bare path) pins the bytes. ``str()`` and ``repr()`` never show a
password or the values of a query (signed URLs carry secrets there); only ``url`` does, for the request itself.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
import urllib.parse

from mlship import errors

WORKING = ("file", "http", "https", "pvc")
# What KServe and its neighbours write; understood, so that the refusal can say what works instead.
RECOGNISED = (
    *WORKING,
    *("s3", "gs", "hf", "oci", "oci+fetch", "hdfs", "webhdfs", "git", "modelscope", "model-registry"),
    *("abfs", "abfss", "wasbs", "azure", "models", "runs", "mlflow-artifacts"),
)

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*):(//|/)?")
_CHECKSUM = re.compile(r"sha256=([0-9a-fA-F]{64})\Z")
_VOLUME = re.compile(r"[a-z0-9]([a-z0-9.\-]{0,251}[a-z0-9])?\Z")
_BARE_CHECKSUM = re.compile(r"#(sha\d+[=:].*)\Z", re.IGNORECASE | re.DOTALL)
_HEX = re.compile(r"[0-9a-fA-F]*\Z")
_SECRET = re.compile(r"[^/]+(?=@)|(?<=\?).+", re.DOTALL)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclasses.dataclass(frozen=True, slots=True, repr=False)
class Uri:
    """Where bytes come from.

    ``scheme`` lower case; ``netloc`` host[:port] or the volume's name, never credentials; ``path`` decoded for file and
    pvc (pvc: relative to the volume, "" for all of it), as written for the others; ``checksum`` ``sha256:<hex>`` or
    None; ``query`` and ``userinfo`` are secrets.
    """

    scheme: str
    netloc: str
    path: str
    query: str = ""
    userinfo: str = ""
    checksum: str | None = None

    @property
    def url(self) -> str:
        """The address for the request, secrets included, without the checksum. Not for messages: use ``str()``."""
        login = f"{self.userinfo}@" if self.userinfo else ""
        query = f"?{self.query}" if self.query else ""
        return f"{self.scheme}://{login}{self.netloc}{self.path}{query}"

    @property
    def name(self) -> str:
        """The last segment of the path, decoded; "" when there is none."""
        last = self.path.rstrip("/").rpartition("/")[2]
        return urllib.parse.unquote(last) if self.scheme in ("http", "https") else last

    def __str__(self) -> str:
        slash = "/" if self.scheme == "pvc" and self.path else ""
        query = f"?{_redact(self.query)}" if self.query else ""
        pin = f"#{self.checksum.replace(':', '=')}" if self.checksum else ""
        return f"{self.scheme}://{self.netloc}{slash}{self.path}{query}{pin}"

    def __repr__(self) -> str:
        return f"Uri({str(self)!r})"


def parse(text: str) -> Uri:
    """Read a storage URI or absolute path. Raises ``errors.SpecError`` with what is wrong and what would be right."""
    text = text.strip()
    if not text:
        raise errors.SpecError("The storage URI is empty.", hint=_hint())
    if _CONTROL.search(text):
        raise errors.SpecError(f"The storage URI {_quote(text)} contains a control character.", hint="Remove it.")
    found = _SCHEME.match(text)
    if found is None or (found[2] is None and found[1].lower() not in RECOGNISED):
        return _bare(text)
    scheme = found[1].lower()
    if scheme not in RECOGNISED:
        near = difflib.get_close_matches(scheme, RECOGNISED, n=1)
        meant = f"Did you mean {near[0]}://? " if near else ""
        raise errors.SpecError(f"The storage URI has the unknown scheme {scheme!r}.", hint=meant + _hint())
    return _split(scheme, text)


def redact(url: str) -> str:
    """A URL, for a message: no credentials, no values in the query, no fragment, at most 300 characters."""
    try:
        parts = urllib.parse.urlsplit(url)
    except ValueError:
        return "(malformed URL)"
    query = f"?{_redact(parts.query)}" if parts.query else ""
    scheme = f"{parts.scheme}:" if parts.scheme else ""
    return f"{scheme}//{parts.netloc.rpartition('@')[2]}{parts.path}{query}"[:300]


def _bare(text: str) -> Uri:
    path, checksum = text, None
    if pinned := _BARE_CHECKSUM.search(text):
        path, checksum = text[: pinned.start()], _checksum(pinned[1])
    if not path.startswith("/"):
        raise errors.SpecError(
            f"The storage URI {_quote(text)} is neither a URI nor an absolute path.",
            hint="Write the absolute path (/home/me/model.pkl), or a URI. " + _hint(),
        )
    return Uri(scheme="file", netloc="", path=path, checksum=checksum)


def _split(scheme: str, text: str) -> Uri:
    address, _, fragment = text.partition("#")
    try:
        parts = urllib.parse.urlsplit(address)
        _ = parts.port
    except ValueError as error:
        raise errors.SpecError(f"The storage URI {redact(address)} is malformed: {error}.", hint=_hint()) from error
    checksum = _checksum(fragment) if fragment else None
    if scheme == "file":
        return _file(parts, checksum)
    if scheme == "pvc":
        return _volume(parts, checksum)
    userinfo, _, netloc = parts.netloc.rpartition("@")
    if scheme in ("http", "https"):
        if not parts.hostname:
            raise errors.SpecError(
                f"The storage URI {redact(address)} names no host.", hint=f"Write {scheme}://HOST/PATH."
            )
        netloc = netloc.lower()
    return Uri(scheme, netloc, parts.path, query=parts.query, userinfo=userinfo, checksum=checksum)


def _file(parts: urllib.parse.SplitResult, checksum: str | None) -> Uri:
    if parts.netloc not in ("", "localhost"):
        raise errors.SpecError(
            f"The file URI names the host {parts.netloc.rpartition('@')[2]!r}; only files of this machine can be read.",
            hint=f"Write file:///{parts.netloc.rpartition('@')[2]}{parts.path} with three slashes if that is the path.",
        )
    path = urllib.parse.unquote(parts.path + (f"?{parts.query}" if parts.query else ""))
    if not path.startswith("/") or _CONTROL.search(path):
        raise errors.SpecError(
            "The file URI holds no absolute path of printable characters.", hint="Write file:///home/me/model.pkl."
        )
    return Uri("file", "", path, checksum=checksum)


def _volume(parts: urllib.parse.SplitResult, checksum: str | None) -> Uri:
    if not _VOLUME.match(parts.netloc):
        raise errors.SpecError(
            f"The pvc URI names the volume {_quote(parts.netloc)}, which is no valid name.",
            hint="Write pvc://NAME/PATH with a NAME of lower-case letters, digits, '-' and '.'.",
        )
    path = urllib.parse.unquote(parts.path + (f"?{parts.query}" if parts.query else ""))
    segments = [segment for segment in path.split("/") if segment not in ("", ".")]
    if ".." in segments or _CONTROL.search(path):
        raise errors.SpecError(
            f"The path {_quote(path)} of the pvc URI leaves its volume {parts.netloc!r}.",
            hint="Write the path from the top of the volume, without '..'.",
        )
    return Uri("pvc", parts.netloc, "/".join(segments), checksum=checksum)


def _checksum(fragment: str) -> str:
    if found := _CHECKSUM.match(fragment):
        return f"sha256:{found[1].lower()}"
    hint = "Write #sha256=<64 hexadecimal digits>, as printed by `sha256sum FILE`."
    algorithm, _, value = fragment.partition("=")
    if algorithm != "sha256":
        raise errors.SpecError(
            f"The storage URI ends in #{_quote(fragment)[1:-1]}, which is no sha256 checksum.", hint=hint
        )
    wrong = "other characters than hexadecimal digits" if not _HEX.match(value) else f"{len(value)} digits"
    raise errors.SpecError(f"The checksum of the storage URI has {wrong}, expected 64 hexadecimal digits.", hint=hint)


def _redact(query: str) -> str:
    pairs = [pair.partition("=") for pair in query.split("&")]
    return "&".join(f"{key}=***" if equals else "***" for key, equals, _ in pairs)


def _quote(text: str) -> str:
    """Foreign text for a message: without what could be a password or a signature, escaped, capped."""
    return repr(_SECRET.sub("***", text)[:200])


def _hint() -> str:
    return "What works: an absolute path, file:///PATH, http(s)://HOST/PATH, pvc://NAME/PATH."
