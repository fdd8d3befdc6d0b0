from __future__ import annotations

import asyncio

from mlship.server import calls, line


async def item(key: str | None, rows: int = 1, since: float = 0.0) -> line.Item:
    return line.Item(
        call=calls.Call(inputs={}),
        future=asyncio.get_running_loop().create_future(),
        key=key,
        rows=rows,
        since=since,
        deadline=9.0,
        queued_ns=0,
    )


async def test_a_take_is_the_oldest_of_a_group_up_to_its_rows() -> None:
    queue = line.Line()
    one, other, two, three = await item("a", 2), await item("b"), await item("a", 3), await item("a", 4)
    for each in (one, other, two, three):
        queue.add(each)
    key, group = queue.head()
    assert (key, group.rows) == ("a", 9)
    assert queue.take("a", 8) == [one, two]
    assert list(queue) == [other, three]
    assert queue.head()[0] == "b"


async def test_a_request_larger_than_a_batch_goes_by_itself() -> None:
    queue = line.Line()
    large, small = await item("a", 100), await item("a")
    queue.add(large)
    queue.add(small)
    assert queue.take("a", 8) == [large]


async def test_who_leaves_is_gone_from_line_and_group() -> None:
    queue = line.Line()
    one, two = await item("a", 2), await item("a", 3)
    queue.add(one)
    queue.add(two)
    queue.remove(one)
    queue.remove(one)
    assert (one in queue, two in queue, len(queue)) == (False, True, 1)
    assert queue.head()[1].rows == 3
    queue.remove(two)
    assert queue.groups() == []


async def test_those_put_back_go_first_and_each_alone() -> None:
    queue = line.Line()
    waiting, one, two = await item("a"), await item("a"), await item("a")
    queue.add(waiting)
    queue.put_back([one, two])
    assert list(queue) == [one, two, waiting]
    key, group = queue.head()
    assert group.alone
    assert queue.take(key, 8) == [one]


async def test_groups_come_by_their_oldest() -> None:
    queue = line.Line()
    for key, since in (("a", 2.0), ("b", 1.0), ("a", 0.5)):
        queue.add(await item(key, since=since))
    assert [key for key, _ in queue.groups()] == ["b", "a"]
