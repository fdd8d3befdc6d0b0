"""Selectors as the Kubernetes documentation defines them."""

from __future__ import annotations

import pytest

from mlship import errors
from mlship.control import selectors

LABELS = {"app": "iris", "tier": "1", "example.com/team": "a"}


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("", True),
        ("app=iris", True),
        ("app==iris", True),
        ("app = iris , tier != 2", True),
        ("app!=iris", False),
        ("none!=x", True),
        ("app in (iris, wine)", True),
        ("app in (wine)", False),
        ("app notin (wine),tier", True),
        ("none notin (wine)", True),
        ("tier", True),
        ("!tier", False),
        ("! none", True),
        ("example.com/team=a", True),
        ("empty=", False),
    ],
)
def test_labels(text, holds):
    assert selectors.labels(text)(LABELS) is holds


@pytest.mark.parametrize("text", ["a b", "=x", "app in iris", "app in (a", "a=b=c", "a>1"])
def test_what_is_no_selector(text):
    with pytest.raises(errors.SpecError, match="no requirement"):
        selectors.labels(text)


def test_fields():
    body = {"metadata": {"name": "iris", "namespace": "default"}}
    assert selectors.fields("metadata.name=iris,metadata.namespace!=other")(body)
    assert not selectors.fields("metadata.name==wine")(body)
    assert selectors.fields("")(body)
    with pytest.raises(errors.SpecError, match=r"metadata\.name"):
        selectors.fields("status.phase=Ready")
