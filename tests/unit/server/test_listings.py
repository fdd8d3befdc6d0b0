from __future__ import annotations

import pathlib

import pytest

from mlship import errors
from mlship.server import catalog, listings


def made(root: pathlib.Path, *names: str) -> listings.Listings:
    for name in names:
        (root / name).mkdir(parents=True)
    return listings.Listings(catalog.Catalog(root))


def test_names_are_known_before_anything_is_read(tmp_path: pathlib.Path) -> None:
    known = made(tmp_path, "b", "a/1", "a/10", "a/9")
    assert (known.names, known.unread, len(known)) == (["a", "b"], known.unread, 2)
    assert known.known("a") is None
    assert known.entry("a", "").source.version == "10"
    assert known.entry("a", "9").source.path == tmp_path / "a" / "9"
    assert known.unread == ["b"]
    with pytest.raises(errors.SpecError, match='no version "2", it has "1", "9", "10"'):
        known.entry("a", "2")


def test_what_is_new_and_what_is_gone_is_found_by_looking(tmp_path: pathlib.Path) -> None:
    known = made(tmp_path, "a")
    known.get("a")
    assert not known.has_changed("a")
    (tmp_path / "b").mkdir()
    assert known.get("b").entries
    (tmp_path / "a").rmdir()
    assert known.has_changed("a")
    (tmp_path / "c").mkdir()
    assert known.relisted(["b", "c"]) == ["a"]
    assert "c" in known
    assert known.read("a") is None
    with pytest.raises(errors.SpecError, match='no model "a" on this server, which lists 2') as caught:
        known.get("a")
    assert caught.value.reason is errors.Reason.NOT_FOUND
    with pytest.raises(errors.SpecError, match="there is no model"):
        known.get("../a")


def test_an_entry_that_is_wrong_says_so_once_it_is_listed(tmp_path: pathlib.Path) -> None:
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(errors.SpecError, match="is not JSON"):
        listings.Listings(catalog.Catalog(tmp_path)).get("a")
