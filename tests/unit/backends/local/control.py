"""A control plane to be killed: keeps one job, given as JSON, running under the home that is given.

Its last argument is the moment at which it kills itself: ``before write 2`` is before it writes a record for the second
time, ``never`` leaves that to others.
"""

import asyncio
import itertools
import json
import os
import pathlib
import signal
import sys

from mlship import home
from mlship.backends.local import jobs, records, supervisor


def die_at(moment: str) -> None:
    write, count = records.Records.write, itertools.count(1)

    def mortal(self: records.Records, record: records.Record) -> None:
        number = next(count)
        if moment == f"before write {number}":
            os.kill(os.getpid(), signal.SIGKILL)
        write(self, record)
        if moment == f"after write {number}":
            os.kill(os.getpid(), signal.SIGKILL)

    records.Records.write = mortal


async def main() -> None:
    root, key, text, moment = sys.argv[1:]
    die_at(moment)
    made = supervisor.Supervisor(
        home.Home(pathlib.Path(root)),
        environ=dict(os.environ),
        on_error=lambda name, error: sys.exit(f"{name}: {error}"),
    )
    await made.start()
    changed = asyncio.Event()
    made.subscribe(lambda _: changed.set())
    made.ensure(key, jobs.from_json(json.loads(text)))
    while not (sight := made.observe(key)).process.ready:
        changed.clear()
        await changed.wait()
    print(sight.process.pid, flush=True)
    await asyncio.Event().wait()


asyncio.run(main())
