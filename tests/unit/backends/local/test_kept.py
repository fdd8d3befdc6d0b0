import pytest

from mlship.backends.local import kept
from mlship.plan import observed

IRIS = observed.ServiceKey("default", "iris")


@pytest.mark.parametrize("damage", ["", "[]", '{"namespace": 1}'])
async def test_a_damaged_record_is_discarded(tmp_path, damage):
    shelf = kept.Shelf(tmp_path)
    shelf.write(kept.Kept("default", "iris", uri="/m", digest="sha256:0", path="/p", size=1, stamp="s"))
    assert [one.service for one in shelf.read()] == [IRIS]
    shelf.path(IRIS).write_text(damage)
    assert list(shelf.read()) == []
    assert list(tmp_path.iterdir()) == []
