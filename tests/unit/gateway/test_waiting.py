"""Who waits at the gate and what each is answered: decisions, and what holds whatever happens."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from mlship.gateway import waiting
from mlship.plan import observed, routes

IRIS = observed.ServiceKey("default", "iris")
TERMS = routes.Gate(patience=10, places=2)
A, B = frozenset({"a"}), frozenset({"b"})


def route(gate: routes.Gate | None = TERMS, *, message: str = "it starts.", splits: bool = True):
    return routes.ServiceRoute(IRIS, "2026", 30, (routes.Split("a", 100, ()),) if splits else (), message, gate)


def gated(gate: routes.Gate = TERMS) -> waiting.Waiting:
    made = waiting.Waiting()
    assert made.tell(route(gate)) == []
    return made


def test_the_answer_is_yes_at_once_when_all_revisions_of_the_route_are_there():
    made = gated()
    made.serve(IRIS, A, now=0)
    assert made.ask(1, IRIS, revisions=A, now=0) is waiting.YES
    assert made.ask(2, IRIS, revisions=A | B, now=0) is None
    assert made.serve(IRIS, A | B, now=1) == [(2, waiting.YES)]


def test_a_question_without_a_revision_is_never_answered_yes():
    made = gated()
    made.serve(IRIS, A, now=0)
    assert made.ask(1, IRIS, revisions=frozenset(), now=0) is None


def test_who_is_too_late_is_told_what_was_waited_for():
    made = gated()
    assert made.ask(1, IRIS, revisions=A, now=0) is None
    assert made.wake_at() == 0
    assert made.news(0) == [IRIS]
    assert made.expire(9.9) == []
    ((number, answer),) = made.expire(10)
    assert number == 1
    assert answer.reason == "default/iris had no ready replica within 10 s; it starts."
    assert made.news(10) == [IRIS]
    assert made.wake_at() is None


def test_a_route_that_ends_in_a_sentence_gives_it_to_those_who_wait():
    made = gated()
    made.ask(1, IRIS, revisions=A, now=0)
    ((_, answer),) = made.tell(route(None, message="the model is gone", splits=False))
    assert answer.reason == "the model is gone"
    assert made.tell(route(None)) == []
    assert made.ask(2, IRIS, revisions=A, now=0) is None


def test_a_deleted_service_leaves_nobody_waiting():
    made = gated()
    made.ask(1, IRIS, revisions=A, now=0)
    assert [number for number, _ in made.forget(IRIS)] == [1]
    assert made.waiting(IRIS) == 0


def test_a_service_that_is_gone_is_forgotten_also_by_the_word_that_nothing_serves_it():
    made = gated()
    made.serve(IRIS, A, now=0)
    made.forget(IRIS)
    assert made.serve(IRIS, frozenset(), now=0) == []
    assert made._services == {}


def test_news_is_said_once_and_again_each_second_while_somebody_waits():
    made = gated()
    made.ask(1, IRIS, revisions=A, now=5)
    made.ask(2, IRIS, revisions=A, now=5)
    assert made.news(5) == [IRIS]
    assert made.news(5.5) == []
    assert made.wake_at() == 6
    assert made.news(6) == [IRIS]
    made.cancel(1)
    made.cancel(2)
    assert made.news(6.05) == []
    # The first who comes again is news at once.
    made.ask(3, IRIS, revisions=A, now=6.1)
    assert made.news(6.1) == [IRIS]
    made.cancel(3)
    assert made.news(7.1) == [IRIS], "that nobody waits any more is said once"
    assert made.news(8.1) == []
    assert made.wake_at() is None


def test_revisions_are_needed_by_who_waits_and_for_a_moment_by_who_was_let_in():
    made = gated()
    made.ask(1, IRIS, revisions=A, now=0)
    assert made.needed(IRIS, now=0, seconds=1) == {"a": None}
    made.serve(IRIS, A, now=2)
    assert made.needed(IRIS, now=2.5, seconds=1) == {"a": 3}
    assert made.needed(IRIS, now=3, seconds=1) == {}


class Door(RuleBasedStateMachine):
    """Questions come and go, the service wakes and rests, time passes."""

    questions = Bundle("questions")

    @initialize()
    def begin(self) -> None:
        self.waiting = waiting.Waiting()
        self.waiting.tell(route())
        self.now = 0.0
        self.number = 0
        self.terms = TERMS
        self.serving: frozenset[str] = frozenset()
        self.open: dict[int, float] = {}
        self.answered: set[int] = set()

    def _take(self, answers) -> None:
        for number, answer in answers:
            assert number in self.open, "answered twice, or after it was taken back"
            assert not answer.yes or self.serving, "a yes while nothing is served"
            assert self.now <= self.open.pop(number) + 1e-9 or not answer.yes
            self.answered.add(number)

    @rule(target=questions, revisions=st.sampled_from([A, B, A | B]))
    def ask(self, revisions):
        self.number += 1
        answer = self.waiting.ask(self.number, IRIS, revisions=revisions, now=self.now)
        if answer is None:
            self.open[self.number] = self.now + self.terms.patience
            assert not revisions <= self.serving
        else:
            self.answered.add(self.number)
            assert answer.yes == (revisions <= self.serving)
            assert answer.yes or answer.reason
        return self.number

    @rule(number=consumes(questions))
    def leave(self, number):
        self.waiting.cancel(number)
        self.open.pop(number, None)

    @rule(revisions=st.sampled_from([frozenset(), A, B, A | B]))
    def serve(self, revisions):
        self.serving = revisions
        self._take(self.waiting.serve(IRIS, revisions, now=self.now))

    @rule(patience=st.floats(0, 20), places=st.integers(0, 3), hopeless=st.sampled_from(["", "", "gone"]))
    def tell(self, patience, places, hopeless):
        self.terms = routes.Gate(patience, places, hopeless)
        self._take(self.waiting.tell(route(self.terms)))
        assert not (hopeless and self.open)

    @rule(seconds=st.floats(0, 15))
    def pass_time(self, seconds):
        """As the shell does: it wakes when it was told to, never later."""
        end = self.now + seconds
        while (at := self.waiting.wake_at()) is not None and at <= end:
            self.now = max(self.now, at)
            self._take(self.waiting.expire(self.now))
            self.waiting.news(self.now)
        self.now = end

    @invariant()
    def as_many_wait_as_were_not_answered(self):
        if hasattr(self, "open"):
            assert self.waiting.waiting(IRIS) == len(self.open)
            assert all(deadline >= self.now for deadline in self.open.values())
            assert not self.answered & self.open.keys()

    @rule()
    def places_bound_who_is_held(self):
        if len(self.open) >= self.terms.places and not self.serving:
            assert self.waiting.ask(0, IRIS, revisions=A, now=self.now) is not None

    def teardown(self):
        if hasattr(self, "open"):
            self._take(self.waiting.close("the end"))
            assert not self.open


TestDoor = Door.TestCase
TestDoor.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
