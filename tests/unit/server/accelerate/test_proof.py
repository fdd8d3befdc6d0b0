"""The proof rows lie where implementations part company."""

from __future__ import annotations

import numpy as np

from mlship.server.accelerate import proof

CENTER = np.array([5.0, 0.0, -3.0])
BORDERS = {0: np.array([0.1, 0.7]), 2: np.array([-3.3])}


def test_every_threshold_and_its_neighbours_are_there() -> None:
    made = proof.rows(CENTER, BORDERS, missing=False)
    for feature, values in BORDERS.items():
        assert np.isin(proof.neighbours(values), made[:, feature]).all()


def test_neighbours_hold_both_sides_in_both_precisions() -> None:
    near = proof.neighbours(np.array([0.1]))[:, 0]
    single = np.float64(np.float32(0.1))
    assert {0.1, single, np.nextafter(0.1, 0), np.nextafter(0.1, 1)} <= set(near.tolist())
    assert np.float64(np.nextafter(np.float32(0.1), np.float32(1))) in near


def test_missing_values_only_where_they_are_taken() -> None:
    assert np.isfinite(proof.rows(CENTER, BORDERS, missing=False)).all()
    made = proof.rows(CENTER, BORDERS, missing=True)
    assert np.isnan(made).any()
    assert np.isinf(made).any()


def test_the_same_rows_every_time() -> None:
    first, second = (proof.rows(CENTER, BORDERS, missing=True) for _ in range(2))
    assert np.array_equal(first, second, equal_nan=True)


def test_special_values_are_there() -> None:
    made = proof.rows(CENTER, {}, missing=False)
    assert {0.0, 1.0, 1e30, -1e30, 16777217.0, 1e-310} <= set(made.ravel().tolist())
    assert (np.signbit(made) & (made == 0)).any()


def test_samples_are_tried_as_they_are_and_at_borders() -> None:
    samples = np.array([[10.0, 20.0], [30.0, 40.0]])
    made = proof.rows(np.zeros(2), {1: np.array([5.0])}, missing=False, samples=samples)
    assert all((made == sample).all(axis=1).any() for sample in samples)
    at = made[np.isin(made[:, 0], (10.0, 30.0)) & (np.abs(made[:, 1] - 5.0) < 1e-3)]
    assert set(proof.neighbours(np.array([5.0])).ravel()) <= set(at[:, 1])


def test_samples_without_borders() -> None:
    made = proof.rows(np.zeros(1), {}, missing=True, samples=np.array([[77.0]]))
    assert (made == 77.0).any()
