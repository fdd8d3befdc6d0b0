"""What a service is at while somebody waits for its answer: a line on stderr beside a request that is under way.

A thread asks the control plane while the caller's own waits for the answer, on a connection of its own. Answers that
come at once print nothing; neither does a service whose replicas answer already, however slow they are. That the
control plane cannot say is no reason to disturb the request.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any, TextIO

from mlship import errors
from mlship.cli import progress

QUIET_SECONDS = 0.3
ASK_EVERY = 0.2
_END_SECONDS = 2.0

Ask = Callable[[], dict[str, Any] | None]


@contextlib.contextmanager
def told(
    name: str, ask: Ask, *, stream: TextIO, quiet: float = QUIET_SECONDS, every: float = ASK_EVERY
) -> Iterator[None]:
    """While the block runs, say on ``stream`` what the service is at.

    Args:
        ask: what it is at (the field ``waking`` of the control plane's why), None when it answers. Called in a thread.
        quiet: seconds after which the first question is asked, and ``every`` the seconds between two.
    """
    over = threading.Event()
    teller = threading.Thread(target=_tell, args=(name, ask, over, stream, quiet, every), daemon=True, name="waking")
    teller.start()
    try:
        yield
    finally:
        over.set()
        # The line is gone before the answer is printed; a control plane that hangs does not hold it up.
        teller.join(_END_SECONDS)


def _tell(name: str, ask: Ask, over: threading.Event, stream: TextIO, quiet: float, every: float) -> None:
    if over.wait(quiet):
        return
    with progress.Line(stream) as line:
        while True:
            try:
                found = ask()
            except errors.MlshipError:
                found = None
            if over.is_set():
                return
            if found is not None:
                line.show(sentence(name, found), state=_kind(found))
            if over.wait(every):
                return


def sentence(name: str, waking: dict[str, Any]) -> str:
    """``iris is waking: loading the model (0.3 s)``."""
    seconds = float(waking.get("seconds") or 0.0)
    return f"{name} is waking: {waking['doing']}" + (f" ({seconds:.1f} s)" if seconds else "")


def _kind(waking: dict[str, Any]) -> str:
    """What a new line is worth where lines are not overwritten: another activity, not another number."""
    return str(waking["doing"]).partition(",")[0]
