"""What the publisher keeps while Envoy does not answer; what it does when it answers is in test_xds and test_gate."""

import asyncio
import pathlib

from mlship.gateway import files, gate, publisher
from mlship.plan import observed, routes

IRIS = observed.ServiceKey("default", "iris")


async def test_routes_that_envoy_does_not_take_over_are_kept_once_however_often_they_are_tried(
    tmp_path: pathlib.Path, monkeypatch
):
    monkeypatch.setattr(publisher, "_CONFIRM_SECONDS", 0.01)
    monkeypatch.setattr(publisher, "_FIRST_PAUSE", 0.001)
    monkeypatch.setattr(publisher, "_LONGEST_PAUSE", 0.001)
    failures = []

    async def silent(what: str) -> str | None:
        return None

    folder = files.Folder(tmp_path)
    folder.prepare()
    made = publisher.Publisher(
        folder, gate.Gate(), domain="localhost", version=silent, changed=lambda among: None,
        published=failures.append,
    )  # fmt: skip
    made.want(IRIS, routes.ServiceRoute(IRIS, "2026", 5, (), message="iris starts."))
    made.begin()
    running = asyncio.ensure_future(made.run())
    async with asyncio.timeout(20):
        while len(failures) < 5:
            await asyncio.sleep(0.005)
    assert "did not take over the routes" in str(failures[-1])
    assert len(made._given) == 1
    made.close()
    await running
