"""REST: from bytes of HTTP to requests of the inference protocol and back, over raw ASGI."""
