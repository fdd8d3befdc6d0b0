"""Kubernetes quantities as numbers: ``500m`` of a core is 0.5, ``2Gi`` is 2147483648 bytes.

The form is checked when an object is parsed (``fields.Quantity``); here it is only computed. Source of the suffixes:
k8s.io/apimachinery, pkg/api/resource.
"""

from __future__ import annotations

import decimal

from mlship import errors
from mlship.api import fields

_FACTOR = {
    "n": decimal.Decimal("1e-9"),
    "u": decimal.Decimal("1e-6"),
    "m": decimal.Decimal("1e-3"),
    "": decimal.Decimal(1),
    "k": decimal.Decimal(10) ** 3,
    "M": decimal.Decimal(10) ** 6,
    "G": decimal.Decimal(10) ** 9,
    "T": decimal.Decimal(10) ** 12,
    "P": decimal.Decimal(10) ** 15,
    "E": decimal.Decimal(10) ** 18,
    "Ki": decimal.Decimal(2) ** 10,
    "Mi": decimal.Decimal(2) ** 20,
    "Gi": decimal.Decimal(2) ** 30,
    "Ti": decimal.Decimal(2) ** 40,
    "Pi": decimal.Decimal(2) ** 50,
    "Ei": decimal.Decimal(2) ** 60,
}


def number(quantity: int | str) -> decimal.Decimal:
    """The exact value of a quantity. Raises ``errors.SpecError`` when it is not one, or is absurdly large."""
    match = fields.QUANTITY.fullmatch(str(quantity))
    if match is None:
        raise errors.SpecError(
            f"{str(quantity)[:40]!r} is not a Kubernetes quantity.", hint='Write "500m", 2 or "4Gi".'
        )
    suffix = match["suffix"] or ""
    if suffix in _FACTOR:
        return decimal.Decimal(match["number"]) * _FACTOR[suffix]
    exponent = decimal.Decimal(suffix[1:])
    if abs(exponent) > fields.MAX_EXPONENT:
        raise errors.SpecError(f"The quantity {str(quantity)[:40]!r} is out of range.")
    return decimal.Decimal(match["number"]) * decimal.Decimal(10) ** exponent


def cores(quantity: int | str) -> float:
    """CPU cores."""
    return float(number(quantity))


def size(quantity: int | str) -> int:
    """Bytes, rounded up as Kubernetes does."""
    return int(number(quantity).to_integral_value(rounding=decimal.ROUND_CEILING))
