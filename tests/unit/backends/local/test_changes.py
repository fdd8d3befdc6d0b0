import asyncio
import contextlib

from mlship.backends.local import changes
from mlship.plan import observed

A, B, C = (observed.ServiceKey("default", name) for name in "abc")


async def test_first_what_is_known_then_what_changes_each_once():
    made = changes.Changes()
    async with contextlib.aclosing(made.watch([A])) as watching:
        assert await anext(watching) == A
        for service in (B, C, B, B):
            made.add(service)
        assert [await anext(watching), await anext(watching)] == [B, C]
        later = asyncio.ensure_future(anext(watching))
        await asyncio.sleep(0)
        made.add(A)
        assert await later == A


async def test_watchers_do_not_take_from_each_other():
    made = changes.Changes()
    async with contextlib.aclosing(made.watch([A])) as one, contextlib.aclosing(made.watch([A])) as two:
        assert [await anext(one), await anext(two)] == [A, A]
        made.add(B)
        assert [await anext(one), await anext(two)] == [B, B]


async def test_closing_ends_every_watch():
    made = changes.Changes()
    waiting = asyncio.ensure_future(anext(made.watch([]), None))
    await asyncio.sleep(0)
    made.close()
    assert await waiting is None
    assert [service async for service in made.watch([A])] == []
