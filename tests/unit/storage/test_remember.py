from __future__ import annotations

import hashlib

import pytest

from mlship.storage import cache, remember


def put(store: cache.Cache) -> str:
    digest = f"sha256:{hashlib.sha256(b'model').hexdigest()}"
    with store.staging() as place:
        (place / "a").write_bytes(b"model")
        store.publish(place / "a", digest)
    return digest


def test_a_record_lasts_as_long_as_its_bytes(store: cache.Cache) -> None:
    record = remember.Record(put(store), "m.pkl", etag='"1"', stamp="http:1")
    key = remember.of_address("https://h/m.pkl?sig=SECRET")
    assert remember.recall(store, key) is None
    remember.remember(store, key, record)
    assert remember.recall(store, key) == record
    assert "SECRET" not in "".join(path.name for path in store.remembered.iterdir())
    store.collect(set())
    assert remember.recall(store, key) is None
    assert list(store.remembered.iterdir()) == []


@pytest.mark.parametrize(
    "damage", ["", "{", "[]", '{"digest": "sha256:1"}', '{"digest":"x","name":"","etag":"","stamp":""}']
)
def test_a_damaged_record_is_none(store: cache.Cache, damage: str) -> None:
    key = remember.of_archive(put(store), "tar")
    (store.remembered / f"{key}.json").write_text(damage)
    assert remember.recall(store, key) is None
