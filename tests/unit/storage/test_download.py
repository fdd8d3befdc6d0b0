from __future__ import annotations

import dataclasses
import hashlib
import os
import pathlib
from collections.abc import Callable
from typing import Any

import pytest

from mlship import errors
from mlship.storage import backoff, cache, download, files, limits, partial, progress, remember, uri

DATA = os.urandom(300_000)
DIGEST = f"sha256:{hashlib.sha256(DATA).hexdigest()}"


@pytest.fixture
def load(store: cache.Cache, bounds: limits.Limits, pace: backoff.Pace, tmp_path: pathlib.Path) -> Callable[..., Any]:
    """Download a URL and return what came and the bytes (None when unchanged)."""

    def run(url: str, *, report: Callable[[progress.Progress], None] = lambda _: None, **over: Any) -> Any:
        target = tmp_path / "target"
        target.unlink(missing_ok=True)
        limit = dataclasses.replace(bounds, **over)
        meter = progress.Meter(report, lambda: False, clock=pace.clock)
        address = uri.parse(url)
        with download.download(address, target, store=store, bounds=limit, meter=meter, pace=pace) as got:
            return got, target.read_bytes() if target.exists() else None

    return run


def ranges(site: Any) -> list[str | None]:
    return [headers.get("Range") for _, _, headers in site.requests]


def test_a_whole_file(load: Any, site: Any, file: Any, leftovers: Any) -> None:
    site.pages["/m.pkl"] = file(DATA)
    told: list[progress.Progress] = []
    got, data = load(f"{site.url}/m.pkl", report=told.append)
    assert data == DATA
    assert (got.digest, got.size, got.name) == (DIGEST, len(DATA), "m.pkl")
    assert told[-1].done_bytes == told[-1].total_bytes == len(DATA)
    assert leftovers() == []


def test_a_broken_download_is_resumed_where_it_broke(load: Any, site: Any, file: Any, leftovers: Any) -> None:
    site.pages["/m.pkl"] = file(DATA, breaks=[100_000, 50_000, 1])
    got, data = load(f"{site.url}/m.pkl", attempts=2)
    assert data == DATA
    assert got.digest == DIGEST
    assert ranges(site) == [None, "bytes=100000-", "bytes=150000-", "bytes=150001-"]
    assert leftovers() == []


def test_the_next_process_resumes_what_the_last_one_left(load: Any, site: Any, file: Any, store: cache.Cache) -> None:
    url = f"{site.url}/m.pkl"
    site.pages["/m.pkl"] = file(DATA, breaks=[100_000])
    with pytest.raises(errors.BackendError, match=r"1 attempts.*hung up"):
        load(url, attempts=1)
    assert (store.partial / f"{partial.key_of(url)}.data").stat().st_size == 100_000
    assert load(url)[1] == DATA
    assert ranges(site) == [None, "bytes=100000-"]


def test_a_file_that_changed_meanwhile_is_not_glued_together(load: Any, site: Any, file: Any) -> None:
    other = os.urandom(200_000)
    site.pages["/m.pkl"] = file(DATA, breaks=[100_000])
    with pytest.raises(errors.BackendError):
        load(f"{site.url}/m.pkl", attempts=1)
    site.pages["/m.pkl"] = file(other, etag='"two"')
    assert load(f"{site.url}/m.pkl")[1] == other


def test_without_a_validator_it_starts_again(load: Any, site: Any, file: Any) -> None:
    site.pages["/m.pkl"] = file(DATA, etag="", breaks=[100_000])
    assert load(f"{site.url}/m.pkl")[1] == DATA
    assert ranges(site) == [None, None]


def test_a_server_that_forgets_ranges_is_read_from_the_start(load: Any, site: Any, file: Any) -> None:
    page = file(DATA, breaks=[100_000])

    def deaf(handler: Any) -> None:
        del handler.headers["Range"]
        page(handler)

    site.pages["/m.pkl"] = deaf
    assert load(f"{site.url}/m.pkl")[1] == DATA


def test_a_range_from_elsewhere_is_not_believed(load: Any, site: Any, file: Any) -> None:
    page = file(DATA, breaks=[100_000])
    wrong = [1]

    def shifted(handler: Any) -> None:
        if handler.headers.get("Range") and wrong.pop():
            handler.answer(206, DATA[5:], ETag='"one"', Content_Range=f"bytes 5-{len(DATA) - 1}/{len(DATA)}")
        else:
            page(handler)

    site.pages["/m.pkl"] = shifted
    assert load(f"{site.url}/m.pkl")[1] == DATA


def test_a_file_that_shrank_starts_again(load: Any, site: Any, file: Any) -> None:
    page = file(DATA, breaks=[100_000])
    refused = [True]

    def shrunk(handler: Any) -> None:
        if handler.headers.get("Range") and refused:
            refused.clear()
            handler.answer(416)
        else:
            page(handler)

    site.pages["/m.pkl"] = shrunk
    assert load(f"{site.url}/m.pkl")[1] == DATA


def test_too_few_bytes_are_never_taken_for_the_file(load: Any, site: Any, leftovers: Any) -> None:
    def short(handler: Any) -> None:
        handler.answer(200, DATA[:1000], length=2000)
        handler.hang_up()

    site.pages["/m.pkl"] = short
    with pytest.raises(errors.BackendError, match="3 attempts"):
        load(f"{site.url}/m.pkl")
    assert len(site.requests) == 3
    assert leftovers() == []


def test_a_range_that_ends_early_is_noticed(load: Any, site: Any, file: Any) -> None:
    page = file(DATA, breaks=[100_000])
    lies = [1, 1]

    def early(handler: Any) -> None:
        if handler.headers.get("Range") and lies:
            lies.pop()
            total = len(DATA)
            body = DATA[100_000:100_010]
            handler.answer(206, body, ETag='"one"', Content_Range=f"bytes 100000-100009/{total}")
        else:
            page(handler)

    site.pages["/m.pkl"] = early
    assert load(f"{site.url}/m.pkl")[1] == DATA


def test_server_errors_pass_or_are_told(load: Any, site: Any, file: Any, pace: backoff.Pace) -> None:
    page, refusals = file(DATA), [503, 500]

    def busy(handler: Any) -> None:
        if refusals:
            handler.answer(refusals.pop(), Retry_After="3")
        else:
            page(handler)

    site.pages["/m.pkl"] = busy
    assert load(f"{site.url}/m.pkl")[1] == DATA
    assert pace.clock() == pytest.approx(6.0)
    site.pages["/busy"] = lambda handler: handler.answer(502)
    with pytest.raises(errors.BackendError, match="3 attempts: the server answered 502"):
        load(f"{site.url}/busy")


def test_limits_are_named_before_and_while_reading(load: Any, site: Any, file: Any, leftovers: Any) -> None:
    site.pages["/m.pkl"] = file(DATA)
    with pytest.raises(errors.SpecError, match="max_bytes") as caught:
        load(f"{site.url}/m.pkl", max_bytes=1000)
    assert caught.value.reason is errors.Reason.TOO_LARGE

    def endless(handler: Any) -> None:
        handler.send_response(200)
        handler.send_header("Connection", "close")
        handler.send_header("ETag", '"one"')
        handler.end_headers()
        handler.wfile.write(DATA)
        handler.hang_up()

    site.pages["/endless"] = endless
    with pytest.raises(errors.SpecError, match="max_bytes"):
        load(f"{site.url}/endless", max_bytes=1000)
    assert load(f"{site.url}/endless")[1] == DATA
    assert leftovers() == []


def test_a_slow_server_meets_the_deadline(load: Any, site: Any, file: Any, pace: backoff.Pace) -> None:
    site.pages["/m.pkl"] = file(DATA)
    with pytest.raises(errors.BackendError, match="total_seconds") as caught:
        load(f"{site.url}/m.pkl", report=lambda _: pace.sleep(40), total_seconds=30)
    assert caught.value.reason is errors.Reason.DEADLINE


def test_a_full_disk_is_told_before_the_first_byte(
    load: Any, site: Any, file: Any, leftovers: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.pages["/m.pkl"] = file(DATA)
    monkeypatch.setattr(files, "free_bytes", lambda _: 7)
    with pytest.raises(errors.BackendError, match=f"needs {len(DATA)} bytes .* 7 bytes"):
        load(f"{site.url}/m.pkl")
    assert leftovers() == []


def test_coded_bodies_are_refused_unless_the_file_is_coded_itself(load: Any, site: Any, file: Any) -> None:
    site.pages["/m.json"] = file(b"coded", headers={"Content_Encoding": "gzip"})
    with pytest.raises(errors.SpecError, match="gzip-coded"):
        load(f"{site.url}/m.json")
    site.pages["/m.tar.gz"] = file(b"coded", headers={"Content_Encoding": "gzip"})
    assert load(f"{site.url}/m.tar.gz")[1] == b"coded"


def test_what_is_known_is_not_sent_again(load: Any, site: Any, file: Any, store: cache.Cache) -> None:
    url = f"{site.url}/m.pkl"
    with store.staging() as place:
        (place / "a").write_bytes(DATA)
        store.publish(place / "a", DIGEST)
    record = remember.Record(DIGEST, "m.pkl", etag='"one"', stamp="s")
    remember.remember(store, remember.of_address(url), record)
    site.pages["/m.pkl"] = file(DATA)
    assert load(url) == (download.Unchanged(record), None)
    site.pages["/m.pkl"] = file(b"newer", etag='"two"')
    assert load(url)[1] == b"newer"


def test_an_unasked_not_modified_is_not_believed(load: Any, site: Any) -> None:
    site.pages["/m.pkl"] = lambda handler: handler.answer(304)
    with pytest.raises(errors.BackendError, match="304"):
        load(f"{site.url}/m.pkl")


@pytest.mark.parametrize(
    ("path", "disposition", "name"),
    [
        ("/m.pkl", 'attachment; filename="other.onnx"', "m.pkl"),
        ("/download", 'attachment; filename="m.onnx"', "m.onnx"),
        ("/download", "attachment; filename*=UTF-8''mod%C3%A8le.onnx", "modèle.onnx"),
        ("/download", 'attachment; filename="../../etc/passwd.sh"', "passwd.sh"),
        ("/v1.0", "inline", "v1.0"),
        ("/a%20b.pkl", "", "a b.pkl"),
        ("/", "", "model"),
    ],
)
def test_names_come_from_the_address_then_the_server(
    load: Any, site: Any, file: Any, path: str, disposition: str, name: str
) -> None:
    site.pages[path] = file(DATA, headers={"Content_Disposition": disposition})
    assert load(f"{site.url}{path}?raw=true")[0].name == name


def test_a_redirect_may_give_the_suffix(load: Any, site: Any, file: Any) -> None:
    site.pages["/latest"] = lambda handler: handler.answer(302, Location="/files/m-3.onnx?sig=1")
    site.pages["/files/m-3.onnx"] = file(DATA)
    assert load(f"{site.url}/latest")[0].name == "m-3.onnx"


def test_who_waits_sees_that_the_holder_works(load: Any, site: Any, file: Any, store: cache.Cache) -> None:
    url = f"{site.url}/m.pkl"
    site.pages["/m.pkl"] = file(DATA)
    lock = partial.lock_of(store, partial.key_of(url))
    pulses = set()

    def report(_: progress.Progress) -> None:
        pulses.add(partial.pulse_of(store, partial.key_of(url)))
        os.utime(lock, ns=(len(pulses), len(pulses)))

    load(url, report=report)
    assert not pulses & {1, 2, 3}
    assert not lock.exists()


@pytest.mark.parametrize(
    "wrong",
    [
        {"ETag": '"two"', "Content_Range": f"bytes 100000-{len(DATA) - 1}/{len(DATA)}"},
        {"ETag": '"one"', "Content_Range": f"bytes 100000-{len(DATA) - 1}/{len(DATA) + 1}"},
        {"ETag": '"one"', "Content_Range": "nonsense"},
    ],
)
def test_the_rest_of_another_file_is_not_taken(load: Any, site: Any, file: Any, wrong: dict[str, str]) -> None:
    page, lies = file(DATA, breaks=[100_000]), [1]

    def careless(handler: Any) -> None:
        if handler.headers.get("Range") and lies and lies.pop():
            handler.answer(206, bytes(len(DATA) - 100_000), **wrong)
        else:
            page(handler)

    site.pages["/m.pkl"] = careless
    assert load(f"{site.url}/m.pkl")[1] == DATA


def test_an_unasked_part_is_not_taken_for_the_whole(load: Any, site: Any) -> None:
    site.pages["/m.pkl"] = lambda handler: handler.answer(206, b"x", Content_Range="bytes 0-0/9")
    with pytest.raises(errors.BackendError, match="resumed another file"):
        load(f"{site.url}/m.pkl")
