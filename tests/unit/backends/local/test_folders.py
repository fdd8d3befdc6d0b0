import os
import stat

import pytest

from mlship import errors
from mlship.backends.local import folders


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_a_folder_is_made_or_made_private(tmp_path):
    folders.private(tmp_path / "a" / "b")
    assert mode(tmp_path / "a" / "b") == 0o700
    (tmp_path / "a" / "b").chmod(0o755)
    folders.private(tmp_path / "a" / "b")
    assert mode(tmp_path / "a" / "b") == 0o700


def test_our_own_link_to_a_folder_is_fine(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    folders.private(tmp_path / "link")
    assert mode(tmp_path / "real") == 0o700


@pytest.mark.skipif(os.getuid() != 0, reason="only root can make a folder of somebody else")
@pytest.mark.parametrize("link", [False, True])
def test_a_folder_of_somebody_else_is_refused(tmp_path, link):
    theirs = tmp_path / "theirs"
    if link:
        theirs.symlink_to(tmp_path)
    else:
        theirs.mkdir()
    os.lchown(theirs, 12345, 12345)
    with pytest.raises(errors.BackendError, match="belongs to somebody else"):
        folders.private(theirs)


def test_where_no_folder_can_be_the_error_says_where(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(errors.BackendError, match="cannot make the folder"):
        folders.private(tmp_path / "file")
