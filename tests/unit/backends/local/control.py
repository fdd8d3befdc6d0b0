"""A control plane to be killed: keeps one job, given as JSON, running under the home that is given."""

import asyncio
import json
import os
import pathlib
import sys

from mlship import home
from mlship.backends.local import jobs, supervisor


async def main() -> None:
    root, key, text = sys.argv[1:]
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
