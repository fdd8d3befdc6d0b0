import typing

from mlship.backends.local import events, process
from mlship.plan import observed


def test_every_event_can_happen_somewhere_and_every_state_can_be_left():
    assert {event for _, event in process._TABLE} == set(typing.get_args(events.Event))
    assert {phase for phase, _ in process._TABLE} == set(observed.Phase)
