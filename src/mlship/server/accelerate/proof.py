"""The rows on which a compiled model must agree with the original. Pure; the same rows for the same model every time.

Where two implementations of one model part company is known beforehand: at the thresholds of trees, where one rounds a
value or a threshold that the other does not, at very large and very small numbers, at zero with either sign, at whole
numbers, at missing values. So the rows are made there: every threshold of the model, and its neighbours in single and
in double precision, then noise around a plausible row at many scales, then the special values, then real data where
the model came with some.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mlship.protocol import messages

ROWS = 4096
_SCALES = (1e-3, 0.1, 1.0, 10.0, 1e3)
_SPECIAL = (0.0, -0.0, 1.0, -1.0, 2.0, 0.5, 1e-30, -1e-30, 1e-310, 1e6, -1e6, 1e30, -1e30, 16777217.0, 0.1, 1 / 3)


def rows(
    center: messages.Array,
    thresholds: Mapping[int, messages.Array],
    *,
    missing: bool,
    samples: messages.Array | None = None,
    count: int = ROWS,
) -> messages.Array:
    """About ``count`` proof rows in random order, float64, one column a feature.

    Args:
        center: a plausible row, of shape (features,).
        thresholds: the values at which the model branches, by feature.
        missing: rows with NaN and with infinities among them, too.
        samples: rows of real data, float64: they are among the rows, and at borders with all their features but one.
    """
    random = np.random.default_rng(20)
    features = center.shape[0]
    spread = np.maximum(np.abs(center), 1.0)
    for feature, values in thresholds.items():
        spread[feature] = max(float(np.ptp(values)), np.abs(values).max() * 1e-3, 1e-12)
    around = [center + random.normal(size=(count // 16, features)) * spread * scale for scale in _SCALES]
    whole = np.round(center + random.normal(size=(count // 16, features)) * spread * 3)
    special = random.choice(np.array(_SPECIAL), size=(count // 16, features))
    # One special value among plausible ones: a row of nothing else would drown it.
    lone = np.repeat(center[None], count // 16, axis=0)
    lone[np.arange(len(lone)), random.integers(0, features, len(lone))] = random.choice(np.array(_SPECIAL), len(lone))
    made = [center[None], np.zeros((1, features)), *around, whole, special, lone]
    if thresholds:
        made.append(_borders(center, thresholds, random, count // 2))
    if samples is not None and len(samples):
        made.append(samples)
        made.append(_one_at_a_border(samples, thresholds, random, count // 8))
    if missing:
        made.append(_with_gaps(np.concatenate(made), random, count // 8))
    return random.permutation(np.concatenate(made))


def neighbours(values: messages.Array) -> messages.Array:
    """Each value, what single precision makes of it, and the numbers next to both in both precisions; shape (9, n)."""
    with np.errstate(over="ignore", under="ignore"):
        single = values.astype(np.float32)
        near = [
            values,
            np.nextafter(values, -np.inf),
            np.nextafter(values, np.inf),
            single.astype(np.float64),
            np.nextafter(single, np.float32(-np.inf)).astype(np.float64),
            np.nextafter(single, np.float32(np.inf)).astype(np.float64),
        ]
        # Half-way between two numbers of single precision: where the rounding itself turns.
        near += [(near[3] + near[4]) / 2, (near[3] + near[5]) / 2, np.nextafter((near[3] + near[5]) / 2, np.inf)]
    return np.stack(near)


def _borders(
    center: messages.Array, thresholds: Mapping[int, messages.Array], random: np.random.Generator, count: int
) -> messages.Array:
    """Rows whose every feature lies on, or next to, one of its thresholds, so that many trees are at a border."""
    made = np.repeat(center[None], count, axis=0)
    for feature, values in thresholds.items():
        values = values[np.isfinite(values)]
        if not values.size:
            continue
        pool = neighbours(random.permutation(values)[:count]).ravel()
        made[:, feature] = random.permutation(np.resize(pool, max(count, pool.size)))[:count]
    return made


def _one_at_a_border(
    samples: messages.Array, thresholds: Mapping[int, messages.Array], random: np.random.Generator, count: int
) -> messages.Array:
    """Samples with one feature at, or next to, a threshold: elsewhere in the tree they are where data is."""
    made = np.resize(samples, (count, samples.shape[1]))
    known = [feature for feature, values in thresholds.items() if np.isfinite(values).any()]
    for row, feature in zip(made, random.choice(known, count) if known else (), strict=False):
        values = thresholds[feature]
        row[feature] = random.choice(neighbours(random.choice(values[np.isfinite(values)], 1)).ravel())
    return made


def _with_gaps(made: messages.Array, random: np.random.Generator, count: int) -> messages.Array:
    chosen = random.permutation(made)[:count].copy()
    gaps = random.random(chosen.shape) < random.choice([0.05, 0.3, 1.0], size=(len(chosen), 1))
    chosen[gaps] = random.choice(np.array([np.nan, np.nan, np.nan, np.inf, -np.inf]), size=int(gaps.sum()))
    return chosen
