import pathlib

from mlship import home


def test_where_the_home_is():
    assert home.locate({"MLSHIP_HOME": "/x/y"}).root == pathlib.Path("/x/y")
    assert home.locate({"XDG_STATE_HOME": "/s", "HOME": "/h"}).root == pathlib.Path("/s/mlship")
    assert home.locate({"HOME": "/h"}).root == pathlib.Path("/h/.local/state/mlship")


def test_sockets_move_to_a_short_folder_when_paths_would_be_too_long():
    short = home.Home(pathlib.Path("/home/me/.local/state/mlship"))
    assert short.sockets == short.root / "run"
    long = home.Home(pathlib.Path("/" + "long/" * 30))
    assert len(str(long.sockets)) + 41 <= home.MAX_SOCKET_PATH
    other = home.Home(pathlib.Path("/" + "long/" * 31))
    assert long.sockets != other.sockets


def test_where_proofs_are_kept_without_an_installation():
    assert home.user_proofs({"XDG_CACHE_HOME": "/c", "HOME": "/h"}) == pathlib.Path("/c/mlship/proofs")
    assert home.user_proofs({"HOME": "/h"}) == pathlib.Path("/h/.cache/mlship/proofs")
