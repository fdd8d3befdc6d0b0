"""The reference pages are made from the types, and the committed ones are those."""

from __future__ import annotations

import pathlib
from collections.abc import Callable

import pytest

from mlship.api import kinds, schema

REFERENCE = pathlib.Path(__file__).parents[3] / "docs" / "reference"


@pytest.mark.parametrize("kind", schema.PAGES)
def test_page(kind: str, golden: Callable[[pathlib.Path, str], None]) -> None:
    golden(REFERENCE / f"{kind.lower()}.md", schema.page(kinds.KINDS[kind]))
