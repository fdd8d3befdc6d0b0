from __future__ import annotations

import contextvars

from mlship.server import calls, line

KEYS: dict[int, str | None] = {}


def item(key: str | None, rows: int = 1, since: float = 0.0) -> line.Item:
    made = calls.Call(inputs={})
    KEYS[id(made)] = key
    return line.Item(
        call=made, done=TOLD.append, rows=rows, since=since, deadline=9.0, queued_ns=0, context=contextvars.Context()
    )


TOLD: list[object] = []


def make() -> line.Line:
    return line.Line(lambda call: KEYS[id(call)])


def test_a_take_is_the_oldest_of_a_group_up_to_its_rows() -> None:
    queue = make()
    one, other, two, three = item("a", 2), item("b"), item("a", 3), item("a", 4)
    for each in (one, other, two, three):
        queue.add(each)
    key, group = queue.head()
    assert (key, group.rows) == ("a", 9)
    assert queue.take("a", 8) == [one, two]
    assert list(queue) == [other, three]
    assert queue.head()[0] == "b"


def test_a_take_may_be_bounded_in_requests() -> None:
    queue = make()
    one, two, three = (item("a") for _ in range(3))
    for each in (one, two, three):
        queue.add(each)
    key, group = queue.head()
    assert group.requests == 3
    assert queue.take(key, 8, most=2) == [one, two]
    assert queue.take(key, 8, most=1) == [three]


def test_a_request_larger_than_a_batch_goes_by_itself() -> None:
    queue = make()
    large, small = item("a", 100), item("a")
    queue.add(large)
    queue.add(small)
    key, _ = queue.head()
    assert queue.take(key, 8) == [large]


def test_who_leaves_is_gone_from_line_and_group() -> None:
    queue = make()
    one, two = item("a", 2), item("a", 3)
    queue.add(one)
    queue.add(two)
    queue.remove(one)
    queue.remove(one)
    assert (one in queue, two in queue, len(queue)) == (False, True, 1)
    assert queue.head()[1].rows == 3
    queue.remove(two)
    assert queue.groups() == []


def test_those_put_back_go_first_and_each_alone() -> None:
    queue = make()
    waiting, one, two = item("a"), item("a"), item("a")
    queue.add(waiting)
    queue.put_back([one, two])
    assert list(queue) == [one, two, waiting]
    key, group = queue.head()
    assert group.alone
    assert queue.take(key, 8) == [one]


def test_groups_come_by_their_oldest() -> None:
    queue = make()
    for key, since in (("a", 2.0), ("b", 1.0), ("a", 0.5)):
        queue.add(item(key, since=since))
    assert [key for key, _ in queue.groups()] == ["b", "a"]


def test_the_sole_one_is_taken_without_being_looked_at() -> None:
    looked: list[calls.Call] = []
    queue = line.Line(looked.append)  # type: ignore[func-returns-value]
    one, two = item("a"), item("a")
    assert queue.sole() is None
    queue.add(one)
    queue.add(two)
    assert queue.sole() is None
    queue.remove(two)
    assert (queue.sole(), len(queue), looked) == (one, 0, [])


def test_those_who_leave_before_they_were_looked_at_are_forgotten() -> None:
    queue = make()
    for _ in range(3):
        one = item("a")
        queue.add(one)
        queue.remove(one)
    last = item("b")
    queue.add(last)
    assert [key for key, _ in queue.groups()] == ["b"]
