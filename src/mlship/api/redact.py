"""Which parts of an object are secrets, so that no message, page or log ever quotes them.

Used by everything that writes a value into a sentence: the validator, the checks, the refusals. The rule is on the
side of silence: the value of any environment variable and of any storage parameter counts as secret.
"""

from __future__ import annotations

import re
import urllib.parse

from mlship.api import problems

HIDDEN = "(hidden)"

# Everything below these; a scalar written in their place by mistake counts, too.
_SECRET_KEYS = frozenset({"data", "stringData", "parameters", "binaryData"})
_SECRET_LISTS = frozenset({"args", "command"})
_SECRET_NAME = re.compile(r"(?i)(token|passw|secret|credential|api[-_]?key|access[-_]?key|private|auth)")
_FLAG = re.compile(r"(--?[\w.-]+)(=|\s+)(.*)", re.DOTALL)


def secret_name(name: str) -> bool:
    """Whether a variable, flag or annotation of this name is likely to hold a secret."""
    return bool(_SECRET_NAME.search(name)) or name.upper().endswith(("_KEY", "_PWD"))


def is_secret(path: problems.Path) -> bool:
    """Whether the value at this path must not be shown."""
    keys = [part for part in path if isinstance(part, str)]
    if not keys:
        return False
    if "env" in keys and keys[-1] in ("env", "value"):
        return True
    if _SECRET_KEYS.intersection(keys) or keys[-1] in _SECRET_LISTS:
        return True
    return len(keys) > 1 and keys[-2] in ("annotations", "labels") and secret_name(keys[-1])


def value(path: problems.Path, shown: object) -> str:
    """A value for a sentence: short, or hidden when its field holds secrets."""
    if is_secret(path):
        return HIDDEN
    text = uri(shown) if isinstance(shown, str) else repr(shown)
    return problems.cap(text)


def uri(text: str) -> str:
    """A URI without password, query and fragment, which is where signed URLs keep their secrets."""
    try:
        parts = urllib.parse.urlsplit(text)
    except ValueError:
        return text.split("://", 1)[0] + "://" + HIDDEN if "://" in text else text
    if not parts.scheme or not parts.netloc:
        return text
    host = parts.netloc.rpartition("@")[2]
    netloc = f"{HIDDEN}@{host}" if "@" in parts.netloc else host
    query = HIDDEN if parts.query else ""
    return urllib.parse.urlunsplit((parts.scheme, netloc, parts.path, query, ""))


def argument(text: str) -> str:
    """A command line argument with the value of a secret-sounding flag hidden."""
    match = _FLAG.fullmatch(text)
    if match and secret_name(match.group(1)):
        return f"{match.group(1)}{match.group(2)}{HIDDEN}"
    return uri(text)
