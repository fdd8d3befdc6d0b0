from __future__ import annotations

import pytest

from mlship.server.artifact import marks


@pytest.mark.parametrize(
    ("tail", "version"),
    [
        (b'{"x":1},"version":[3,2,0]}', "3.2.0"),
        (b'"version" : [ 1, 7, 6 ] }', "1.7.6"),
        (b"version[#L" + bytes(7) + b"\x03i\x03i\x02i\x00}", "3.2.0"),
        (b"version[$i#L" + bytes(7) + b"\x03\x02\x01\x00}", "2.1.0"),
        (b"nothing", ""),
    ],
)
def test_xgboost(tail: bytes, version: str) -> None:
    assert marks.xgboost(tail) == version


def test_lightgbm_only_at_the_start() -> None:
    assert marks.lightgbm(b"tree\nversion=v4\nnum_class=1") == "4"
    assert marks.lightgbm(b"a tree\nversion=v4") == ""


def test_catboost_in_its_build_information() -> None:
    assert marks.catboost(b"....Branch: tags/v1.2.10\n...") == "1.2.10"
    assert marks.catboost(b"Summary: CatBoost release 1.1") == "1.1"
    assert marks.catboost(b"CBM1") == ""


def test_all_at_once() -> None:
    assert marks.of(b"CBM1 Branch: tags/v1.0.6", b"") == {"catboost": "1.0.6"}
    assert marks.of(b"nothing", b"nothing") == {}
