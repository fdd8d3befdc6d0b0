import orjson
import pytest

from mlship.gateway import files


def test_a_write_that_fails_leaves_the_old_content(tmp_path):
    target = tmp_path / "rds.json"
    files.write(target, b"old")
    (tmp_path / "rds.json.tmp").mkdir()
    with pytest.raises(OSError):
        files.write(target, b"new")
    assert target.read_bytes() == b"old"


def test_the_version_is_the_contents_and_the_same_content_is_not_written_again(tmp_path):
    folder = files.Folder(tmp_path)
    folder.prepare()
    first = folder.write_routes({"name": "main"})
    assert orjson.loads((tmp_path / "xds" / "rds.json").read_bytes())["version_info"] == first
    assert folder.write_routes({"name": "main"}) is None
    assert folder.write_routes({"name": "other"}) not in (None, first)


def test_a_broken_file_of_an_earlier_run_is_written_anew(tmp_path):
    folder = files.Folder(tmp_path)
    folder.endpoints.mkdir(parents=True)
    (tmp_path / "xds" / "rds.json").write_bytes(b"{")
    (folder.endpoints / "x.json").write_bytes(b"[]")
    folder.prepare()
    assert folder.read_applied() == {}
    assert folder.write_routes({"name": "main"}) is not None
