"""Traffic: how many requests come in which second. Made from shapes and a seed, always the same for the same.

The mix of a fleet follows what was published of Azure Functions (Shahrad et al., "Serverless in the Wild", USENIX ATC
2020): about 45 % of applications are called once an hour or less, about 81 % once a minute or less, and the rest makes
nearly all requests.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable

Rate = Callable[[int], float]
Arrivals = dict[int, int]


def steady(rate: float) -> Rate:
    """The same all the time."""
    return lambda second: rate


def diurnal(mean: float, *, day: int) -> Rate:
    """A day of ``day`` seconds: nearly nothing at night, nearly twice the mean at noon."""
    return lambda second: mean * (1.0 - 0.95 * math.cos(2 * math.pi * second / day))


def flash_crowd(base: float, *, peak: float, at: int, ramp: int = 10, lasts: int = 300) -> Rate:
    """From ``base`` to ``peak`` within ``ramp`` seconds, for a while, and back over as long as it lasted."""

    def rate(second: int) -> float:
        since = second - at
        if since < 0:
            return base
        if since < ramp + lasts:
            return base + (peak - base) * min(1.0, since / ramp)
        return base + (peak - base) * max(0.0, 1.0 - (since - ramp - lasts) / lasts)

    return rate


def on_off(rate: float, *, on: int, off: int) -> Rate:
    """A batch job that somebody starts again and again."""
    return lambda second: rate if second % (on + off) < on else 0.0


def arrivals(rate: Rate, *, seconds: int, seed: int) -> Arrivals:
    """A Poisson process of that rate."""
    rng = random.Random(seed)
    counts = ((second, _poisson(rng, rate(second))) for second in range(seconds))
    return {second: count for second, count in counts if count}


def sparse(rate: float, *, seconds: int, seed: int) -> Arrivals:
    """The same for a constant rate, without looking at every second."""
    rng, found, at = random.Random(seed), {}, 0.0
    while (at := at + rng.expovariate(rate)) < seconds:
        found[int(at)] = found.get(int(at), 0) + 1
    return found


def fleet(number: int, *, seconds: int, seed: int, fastest: float = 20.0) -> list[Arrivals]:
    """As many services as popular as those of the publication; the most popular have ``fastest`` requests/s."""
    rng = random.Random(seed)
    bands = ((0.45, 1 / 86_400, 1 / 3600), (0.81, 1 / 3600, 1 / 60), (1.0, 1 / 60, fastest))
    made = []
    for index in range(number):
        share = rng.random()
        low, high = next((low, high) for limit, low, high in bands if share < limit)
        rate = math.exp(rng.uniform(math.log(low), math.log(high)))
        made.append(sparse(rate, seconds=seconds, seed=seed + index))
    return made


def _poisson(rng: random.Random, mean: float) -> int:
    if mean > 50:
        return max(0, round(rng.gauss(mean, math.sqrt(mean))))
    count, left = 0, math.exp(-mean)
    chance = rng.random()
    while chance > left:
        chance *= rng.random()
        count += 1
    return count
