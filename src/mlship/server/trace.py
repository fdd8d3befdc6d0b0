"""W3C Trace Context, as far as the model server needs it: whose trace a log line and an exemplar belong to.

Source: https://www.w3.org/TR/trace-context/ section 3.2. A header that is not valid is as good as none, as the
specification demands; Envoy starts traces, this server only names them.
"""

from __future__ import annotations

import re

_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-.*)?")


def trace_id(traceparent: str) -> str:
    """The trace id of a ``traceparent`` header; empty when there is none or it is not valid."""
    found = _TRACEPARENT.fullmatch(traceparent)
    if found is None or (traceparent.startswith("00-") and found[2]):
        return ""
    return found[1]
