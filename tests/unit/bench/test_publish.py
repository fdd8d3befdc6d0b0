import socket

from bench import facts, publish


def run(reason="no", **figures):
    figures = figures or {"rate": 100.0, "p50_ms": 1.0, "p99_ms": 2.5}
    samples = tuple(facts.Sample(name, "iris-64", 0, figures) for name in ("mlship", "pytriton-batch", "floor"))
    return facts.Run({"processor": "fast"}, {"rounds": 1}, samples, (facts.Failure("kserve-quiet", "x", 0, reason),))


def test_what_is_published_names_nothing_of_this_machine(tmp_path):
    reason = f"{socket.gethostname()}: File /home/me/bench/x.py at https://packages.example.net/simple | http://127.0.0.1:80/v2"
    publish.publish(run(reason), docs=tmp_path)
    for name in ("results.md", "results.json"):
        text = (tmp_path / name).read_text()
        assert "x.py" in text
        assert "http://127.0.0.1:80/v2" in text
        for own in (socket.gethostname(), "/home", "packages.example.net"):
            assert own not in text


def test_the_page_has_goals_ratios_pictures_and_what_failed(tmp_path):
    publish.publish(run(), docs=tmp_path)
    text = (tmp_path / "results.md").read_text()
    assert (
        "| iris, 64 clients, requests/s, against pytriton | >= 4x | 1x | 100 / 100 | pytriton-batch | missed |" in text
    )
    assert "| floor | - | 1x (floor) |" in text
    assert "- kserve-quiet, x: `no`" in text
    assert (tmp_path / "iris-64.svg").read_text().count("<circle") == 3


def test_parts_in_one_folder_are_one_run(tmp_path):
    publish.keep(run(), tmp_path, number=1)
    whole = publish.keep(run(rate=200.0), tmp_path, number=2)
    assert {one.part for one in whole.samples} == {"2"}
    assert len(publish.known_parts(tmp_path)) == 2
    assert publish.known_parts(tmp_path / "none") == []
