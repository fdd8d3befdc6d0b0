"""Conversations with the machine: what is said to it, what it then is, what it asks for."""

import signal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlship.backends.local import events, process
from mlship.plan import observed

Phase = observed.Phase
TERM, KILL = signal.SIGTERM, signal.SIGKILL


class Talk:
    """Says events to a process at given times and collects what it asks for, notes aside."""

    def __init__(self, **policy):
        self.process = process.Process(policy=process.Policy(**policy))
        self.now = 0.0

    def say(self, event, *, after=0.0):
        self.now += after
        self.process, effects = process.step(self.process, event, self.now)
        return [effect for effect in effects if not isinstance(effect, events.Note)]

    def at_deadline(self):
        self.now = self.process.deadline
        return self.say(events.DeadlinePassed())

    def run(self, pid=7):
        self.say(events.Start())
        self.say(events.Spawned(pid))
        return self.say(events.Ready())

    def crash(self, *, code=1, after=0.0):
        self.now += after
        return self.say(events.Exited(ended(self.now, code=code)))

    @property
    def phase(self):
        return self.process.phase

    @property
    def waits(self):
        return self.process.deadline - self.now


def ended(at=0.0, **how):
    return observed.Exit(at=at, **how)


def test_the_life_of_a_good_process():
    talk = Talk()
    assert talk.say(events.Start()) == [events.Spawn()]
    assert (talk.phase, talk.process.deadline) == (Phase.STARTING, 120.0)
    assert talk.say(events.Spawned(7)) == []
    assert talk.say(events.NotReady("loading")) == []
    assert (talk.process.message, talk.process.ready) == ("loading", False)
    assert talk.say(events.Ready(), after=3) == []
    assert (talk.phase, talk.process.ready, talk.process.message, talk.process.since) == (Phase.RUNNING, True, "", 3)
    assert talk.process.deadline is None
    assert talk.say(events.Stop()) == [events.Signal(7, TERM)]
    assert (talk.phase, talk.process.ready) == (Phase.TERMINATING, False)
    assert talk.say(events.Exited(ended(4, code=0))) == [events.Forget()]
    assert (talk.phase, talk.process.pid) == (Phase.STOPPED, None)


def test_one_that_does_not_end_is_killed_and_killed_again():
    talk = Talk(stop_grace=30)
    talk.run()
    talk.say(events.Stop())
    assert talk.waits == 30
    assert talk.at_deadline() == [events.Signal(7, KILL)]
    assert talk.phase is Phase.KILLING
    assert talk.at_deadline() == [events.Signal(7, KILL)]
    assert talk.say(events.Exited(ended(signal=9))) == [events.Forget()]


def test_one_that_served_starts_at_once_then_backs_off_and_forgets_its_past_after_a_healthy_minute():
    talk = Talk()
    talk.run()
    assert talk.crash(after=5) == [events.Spawn()]
    waits = []
    for _ in range(8):
        talk.say(events.Spawned(8))
        talk.say(events.Ready())
        assert talk.crash(after=1) == []
        assert talk.phase is Phase.BACKOFF
        waits.append(talk.waits)
        assert talk.at_deadline() == [events.Spawn()]
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60]
    talk.say(events.Spawned(9))
    talk.say(events.Ready())
    assert talk.crash(after=60) == [events.Spawn()]
    assert talk.process.restarts == 10


def test_one_that_was_never_ready_waits_from_the_first_crash_on():
    talk = Talk()
    talk.say(events.Start())
    talk.say(events.Spawned(7))
    assert talk.crash() == []
    assert talk.waits == 1
    talk.at_deadline()
    assert talk.say(events.SpawnFailed("no such program")) == []
    assert (talk.waits, talk.process.message) == (2, "no such program")


def test_a_model_that_does_not_load_is_not_tried_every_second():
    talk = Talk()
    talk.say(events.Start())
    talk.say(events.Spawned(7))
    talk.crash(code=65)
    assert talk.waits == 32
    talk.at_deadline()
    talk.say(events.Spawned(7))
    talk.crash(code=65)
    assert talk.waits == 60


def test_a_minute_of_unreadiness_is_no_healthy_minute():
    talk = Talk()
    talk.run()
    talk.crash()
    talk.say(events.Spawned(8))
    talk.say(events.Ready())
    for _ in range(3):
        talk.say(events.NotReady("busy"), after=1)
    talk.crash(after=100)
    assert talk.waits == 1


def test_three_bad_answers_in_a_row_make_it_unready_and_one_good_one_ready():
    talk = Talk()
    talk.run()
    talk.say(events.NotReady("busy"))
    talk.say(events.NotReady("busy"))
    talk.say(events.Ready())
    talk.say(events.NotReady("busy"))
    talk.say(events.NotReady("busy"))
    assert talk.process.ready
    talk.say(events.NotReady("very busy"))
    assert (talk.phase, talk.process.ready, talk.process.message) == (Phase.RUNNING, False, "very busy")
    talk.say(events.NotReady("still"))
    assert talk.process.message == "still"
    talk.say(events.Ready(), after=9)
    assert (talk.process.ready, talk.process.ready_since, talk.process.message) == (True, 9, "")


def test_a_start_that_takes_too_long_is_ended_and_counts_as_a_crash():
    talk = Talk(start_deadline=120)
    talk.say(events.Start())
    talk.say(events.Spawned(7))
    talk.say(events.NotReady("loading"))
    assert talk.at_deadline() == [events.Signal(7, TERM)]
    assert talk.say(events.Exited(ended(signal=15))) == []
    assert (talk.phase, talk.waits) == (Phase.BACKOFF, 1)
    assert talk.process.message == "not ready 120 s after its start; it last said: loading"


def test_a_restart_by_wish_needs_no_back_off_and_keeps_its_reason_out_of_the_count():
    talk = Talk()
    talk.run()
    assert talk.say(events.Restart()) == [events.Signal(7, TERM)]
    assert talk.say(events.Exited(ended(signal=15))) == [events.Spawn()]
    assert (talk.process.restarts, talk.process.level) == (1, 0)


def test_the_last_wish_counts_while_it_ends():
    talk = Talk()
    talk.run()
    talk.say(events.Stop())
    talk.say(events.Start())
    talk.say(events.Stop())
    talk.say(events.Restart())
    assert talk.say(events.Exited(ended(code=0))) == [events.Spawn()]
    talk.say(events.Spawned(8))
    talk.say(events.Restart())
    talk.say(events.Stop())
    assert talk.say(events.Exited(ended(code=0))) == [events.Forget()]


def test_stopped_before_it_was_spawned_it_is_ended_when_it_is():
    talk = Talk(stop_grace=30)
    talk.say(events.Start())
    assert talk.say(events.Stop()) == []
    assert (talk.phase, talk.process.deadline) == (Phase.TERMINATING, None)
    assert talk.say(events.Spawned(7)) == [events.Signal(7, TERM)]
    assert talk.waits == 30


def test_stopped_before_a_spawn_that_fails_it_is_stopped():
    talk = Talk()
    talk.say(events.Start())
    talk.say(events.Stop())
    assert talk.say(events.SpawnFailed("no")) == [events.Forget()]


def test_stopped_in_its_back_off_it_is_stopped_and_stays_so():
    talk = Talk()
    talk.say(events.Start())
    talk.say(events.SpawnFailed("no"))
    assert talk.say(events.Stop()) == [events.Forget()]
    assert talk.say(events.Stop()) == []
    assert talk.process.deadline is None


def test_a_restart_ends_the_back_off():
    talk = Talk()
    talk.say(events.Start())
    talk.say(events.SpawnFailed("no"))
    assert talk.say(events.Restart()) == [events.Spawn()]


def test_an_adopted_process_that_had_served_counts_as_ready_and_another_has_to_show_it():
    talk = Talk()
    talk.say(events.Adopted(7, ready=True))
    assert (talk.phase, talk.process.ready, talk.process.pid) == (Phase.RUNNING, True, 7)
    other = Talk(start_deadline=50)
    other.say(events.Adopted(7, ready=False))
    assert (other.phase, other.process.ready, other.waits) == (Phase.STARTING, False, 50)


@pytest.mark.parametrize(("served", "phase"), [(True, Phase.STARTING), (False, Phase.BACKOFF)])
def test_one_that_died_unwatched_is_treated_like_any_crash(served, phase):
    talk = Talk()
    talk.say(events.Lost(ended(last_line="bye"), served=served))
    assert talk.phase is phase
    assert talk.process.last_exit.last_line == "bye"


def test_one_that_is_not_to_be_kept_is_left_ended_until_it_is_started():
    talk = Talk(keep=False)
    talk.run()
    assert talk.crash(code=0) == []
    assert (talk.phase, talk.process.deadline) == (Phase.EXITED, None)
    assert talk.say(events.Start()) == [events.Spawn()]


def test_an_event_that_cannot_be_names_the_state():
    talk = Talk()
    with pytest.raises(process.IllegalEvent, match=r"Ready\(\) cannot happen to Process\(.*INITIAL"):
        talk.say(events.Ready())
    talk.say(events.Start())
    for impossible in (events.Exited(ended()), events.Ready(), events.DeadlinePassed(), events.Start()):
        with pytest.raises(process.IllegalEvent, match="STARTING"):
            talk.say(impossible)
    talk.say(events.Spawned(7))
    with pytest.raises(process.IllegalEvent):
        talk.say(events.Spawned(8))


@pytest.mark.parametrize(
    ("how", "text"),
    [
        ({"signal": 9}, "ended by SIGKILL"),
        ({"signal": 99}, "ended by signal 99"),
        ({"code": 1, "last_line": "no"}, "ended with exit code 1: no"),
        ({"last_line": "no"}, "it ended, how is not known: no"),
    ],
)
def test_an_end_in_words(how, text):
    assert process.describe(ended(**how)) == text


EVENTS = st.sampled_from(
    [
        events.Start(),
        events.Adopted(7, ready=True),
        events.Adopted(7, ready=False),
        events.Lost(ended(), served=False),
        events.Spawned(7),
        events.SpawnFailed("no"),
        events.Ready(),
        events.NotReady("no"),
        events.Exited(ended(code=1)),
        events.Exited(ended(code=65)),
        events.Stop(),
        events.Restart(),
        events.DeadlinePassed(),
    ]
)


def check(now):
    """What holds in every state that can be reached."""
    alive = {Phase.STARTING, Phase.RUNNING, Phase.TERMINATING, Phase.KILLING}
    assert isinstance(now.phase, Phase)
    assert now.pid is None or now.phase in alive
    assert now.pid is not None or now.phase not in {Phase.RUNNING, Phase.KILLING}
    assert not now.ready or (now.phase is Phase.RUNNING and now.ready_since is not None and now.served)
    waiting = now.phase in {Phase.STARTING, Phase.KILLING, Phase.BACKOFF}
    assert (now.deadline is not None) == (waiting or (now.phase is Phase.TERMINATING and now.pid is not None))


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(EVENTS, st.floats(0, 200)), max_size=40), st.booleans())
def test_no_sequence_of_events_leads_astray(story, keep):
    talk = Talk(keep=keep)
    for event, after in story:
        before = talk.process
        try:
            effects = talk.say(event, after=after)
        except process.IllegalEvent:
            assert talk.process is before
            continue
        check(talk.process)
        spawning = talk.phase is Phase.STARTING and talk.process.pid is None and before != talk.process
        assert (events.Spawn() in effects) == spawning
        assert all(effect.pid == talk.process.pid for effect in effects if isinstance(effect, events.Signal))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(EVENTS, st.floats(0, 200)), max_size=20))
def test_from_everywhere_a_stop_leads_to_the_end(story):
    talk = Talk()
    for event, after in story:
        try:
            talk.say(event, after=after)
        except process.IllegalEvent:
            continue
    talk.say(events.Stop())
    if talk.phase is Phase.TERMINATING and talk.process.pid is None:
        talk.say(events.Spawned(7))
    for _ in range(2):
        if talk.phase in (Phase.TERMINATING, Phase.KILLING):
            talk.at_deadline()
    if talk.phase is Phase.KILLING:
        talk.say(events.Exited(ended(signal=9)))
    assert talk.phase is Phase.STOPPED


def test_what_is_ending_can_be_told_to_end_now():
    talk = Talk(stop_grace=3600)
    talk.run()
    talk.say(events.Stop())
    assert talk.say(events.Hurry()) == [events.Signal(7, TERM)]
    assert talk.waits == process.HURRIED_GRACE
    assert talk.say(events.Hurry(), after=1) == [events.Signal(7, TERM)]
    assert talk.waits == process.HURRIED_GRACE - 1
    assert talk.at_deadline() == [events.Signal(7, KILL)]
    assert talk.say(events.Hurry()) == []


def test_a_hurry_before_it_was_spawned_changes_nothing():
    talk = Talk(stop_grace=30)
    talk.say(events.Start())
    talk.say(events.Stop())
    assert talk.say(events.Hurry()) == []
    assert talk.say(events.Spawned(7)) == [events.Signal(7, TERM)]
    with pytest.raises(process.IllegalEvent):
        Talk().say(events.Hurry())
