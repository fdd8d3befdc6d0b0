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
    assert folder.prepare() == []
    assert folder.version(files.ROUTES) is None
    assert folder.put(files.ROUTES, b'[{"name":"main"}]') > 0
    first = folder.version(files.ROUTES)
    assert orjson.loads((tmp_path / "xds" / "rds.json").read_bytes())["version_info"] == first
    assert folder.put(files.ROUTES, b'[{"name":"main"}]') == 0
    assert folder.put(files.ROUTES, b'[{"name":"other"}]') > 0
    assert folder.version(files.ROUTES) not in (None, first)


def test_what_an_earlier_run_wrote_is_read_back(tmp_path):
    folder = files.Folder(tmp_path)
    folder.prepare()
    folder.put(files.CLUSTERS, b'[{"name":"x"}]')
    again = files.Folder(tmp_path)
    assert again.prepare() == [{"name": "x"}]
    assert again.version(files.CLUSTERS) == folder.version(files.CLUSTERS)


def test_a_broken_file_of_an_earlier_run_is_written_anew(tmp_path):
    folder = files.Folder(tmp_path)
    folder.xds.mkdir(parents=True)
    (folder.xds / "rds.json").write_bytes(b"{")
    (folder.xds / "cds.json").write_bytes(b"[]")
    assert folder.prepare() == []
    assert folder.put(files.ROUTES, b"[]") > 0
