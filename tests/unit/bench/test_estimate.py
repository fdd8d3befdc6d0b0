import dataclasses

from bench import __main__ as command
from bench import estimate, rounds, subjects

DEFAULT = rounds.Choices(command._subjects(None, thorough=False))


def test_the_run_for_publication_covers_every_peer_and_fits_into_fifty_minutes():
    assert {one.peer for one in DEFAULT.subjects} == {one.peer for one in subjects.SUBJECTS}
    assert 10 * 60 < estimate.seconds(DEFAULT) < 50 * 60


def test_rounds_multiply_and_less_takes_less():
    whole = estimate.seconds(DEFAULT)
    assert estimate.seconds(dataclasses.replace(DEFAULT, rounds=4)) == 2 * whole
    few = [estimate.seconds(dataclasses.replace(DEFAULT, loads=(name,))) for name in ("iris", "forest-64", "overload")]
    assert all(0 < one < whole for one in few)
    assert estimate.seconds(dataclasses.replace(DEFAULT, subjects=())) == 0


def test_a_name_that_is_a_subject_and_a_peer_means_the_peer():
    assert [one.name for one in command._subjects(["mlship"], thorough=False)] == [
        "mlship",
        "mlship-original",
        "mlship-envoy",
    ]
    assert [one.name for one in command._subjects(["kserve-quiet"], thorough=False)] == ["kserve-quiet"]
