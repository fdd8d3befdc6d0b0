from __future__ import annotations

import re

from mlship.api import podspec, shapes

SCALARS = {"str", "int", "bool", "quantity", "intstr", "any"}


def test_every_type_in_the_table_is_known() -> None:
    for name in podspec.SHAPES:
        for field, (kind, _) in shapes.members(name).items():
            inner = re.sub(r"[\[\]{}]", "", kind)
            assert inner in SCALARS or inner in podspec.SHAPES, f"{name}.{field}: {kind}"
