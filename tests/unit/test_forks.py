import pytest

from mlship import forks

REQUEST = forks.Request(
    argv=("--port", "0"), title=("python", "-m", "x"), env={"A": "b", "M": "é"}, marks=("M",), cwd="/", asked=1.5
)


def test_a_request_comes_back_as_it_was():
    assert forks.decode_request(forks.encode_request(REQUEST)) == REQUEST
    assert "b" not in repr(REQUEST)  # the environment may hold secrets


@pytest.mark.parametrize(
    "word",
    [
        forks.Hello(1.5),
        forks.Born(7),
        forks.Refused("no"),
        forks.Underway("cold", {"import": 1.5}),
        forks.Ready("forked", {"wait": 0.1, "fork": 0.25}),
        forks.Ended(3, None),
        forks.Ended(None, 9),
    ],
)
def test_a_word_comes_back_as_it_was(word):
    assert forks.decode(forks.encode(word)) == word


@pytest.mark.parametrize("message", [b"", b"\xff", b"[]", b"{}", b'{"word":"Nope"}', b'{"word":"Born"}'])
def test_what_is_no_word_is_refused(message):
    with pytest.raises(ValueError, match=r".*"):
        forks.decode(message)


@pytest.mark.parametrize("message", [b"", b"[]", b"{}", b'{"argv": 3}'])
def test_what_is_no_request_is_refused(message):
    with pytest.raises(ValueError, match=r".*"):
        forks.decode_request(message)
