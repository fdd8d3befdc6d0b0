"""Triton embeds a Python of its own patch version; its lock lacks what a newer standard library asks of it at start.

The lock of the resource tracker is replaced by the standard library's own in Python. Nothing on the path of a request
uses it.
"""

import threading
from multiprocessing import resource_tracker

if not hasattr(threading.RLock(), "_recursion_count"):
    resource_tracker._resource_tracker._lock = threading._PyRLock()
