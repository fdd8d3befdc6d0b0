from __future__ import annotations

import dataclasses
import logging
import pathlib
import socket
from typing import Any

import pytest

from mlship import errors
from mlship.storage import backoff, http, identity, limits, uri


@pytest.fixture
def client(bounds: limits.Limits):
    found = http.Client(bounds)
    yield found
    found.close()


def get(client: http.Client, url: str, **headers: str) -> tuple[int, bytes]:
    with client.open("GET", uri.parse(url), headers) as response:
        return response.status_code, b"".join(response.iter_raw())


def redirect(there: str, status: int = 302) -> Any:
    return lambda handler: handler.answer(status, Location=there)


def test_the_body_is_asked_for_as_it_is_stored(client: http.Client, site: Any, file: Any) -> None:
    site.pages["/m"] = file(b"model")
    assert get(client, f"{site.url}/m") == (200, b"model")
    assert site.requests[0][2]["Accept-Encoding"] == "identity"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_followed(client: http.Client, site: Any, file: Any, status: int) -> None:
    site.pages["/a"] = redirect("/b", status)
    site.pages["/b"] = redirect(f"{site.url}/c", status)
    site.pages["/c"] = file(b"model")
    assert get(client, f"{site.url}/a") == (200, b"model")


def test_a_redirect_loop_ends(client: http.Client, site: Any, bounds: limits.Limits) -> None:
    site.pages["/a"] = redirect("/a")
    with pytest.raises(errors.SpecError, match="max_redirects"):
        get(client, f"{site.url}/a")
    assert len(site.requests) == bounds.max_redirects + 1


@pytest.mark.parametrize("there", ["file:///etc/passwd", "ftp://h/m", "gopher:x", "data:,x"])
def test_redirects_stay_on_http(client: http.Client, site: Any, there: str) -> None:
    site.pages["/a"] = redirect(there)
    with pytest.raises(errors.SpecError, match="no http"):
        get(client, f"{site.url}/a")


@pytest.fixture
def trusting(certificate: pathlib.Path, monkeypatch: pytest.MonkeyPatch, bounds: limits.Limits):
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    found = http.Client(bounds)
    yield found
    found.close()


def test_redirects_never_leave_https(trusting: http.Client, secure_site: Any, site: Any, file: Any) -> None:
    site.pages["/m"] = file(b"model")
    secure_site.pages["/m"] = file(b"model")
    secure_site.pages["/out"] = redirect(f"{site.url}/m?sig=SECRET")
    site.pages["/in"] = redirect(f"{secure_site.url}/m")
    assert get(trusting, f"{site.url}/in") == (200, b"model")
    site.requests.clear()
    with pytest.raises(errors.SpecError, match="from https to the unprotected") as caught:
        get(trusting, f"{secure_site.url}/out")
    assert "SECRET" not in str(caught.value)
    assert site.requests == []


def test_credentials_stay_with_their_origin(client: http.Client, site: Any, file: Any) -> None:
    other = site.url.replace("127.0.0.1", "localhost")
    site.pages["/a"] = redirect("/b")
    site.pages["/b"] = redirect(f"{other}/c")
    site.pages["/c"] = file(b"model")
    get(client, site.url.replace("//", "//ann:hunter%202@") + "/a")
    assert [headers.get("Authorization") for _, _, headers in site.requests] == [
        "Basic YW5uOmh1bnRlciAy",
        "Basic YW5uOmh1bnRlciAy",
        None,
    ]


@pytest.mark.parametrize(
    ("status", "told"),
    [
        (401, "refused access"),
        (403, "refused access"),
        (404, "nothing at this address"),
        (410, "nothing"),
        (418, "418"),
    ],
)
def test_refusals_are_the_users_to_mend(client: http.Client, site: Any, status: int, told: str) -> None:
    site.pages["/m"] = lambda handler: handler.answer(status)
    with pytest.raises(errors.SpecError, match=told) as caught:
        get(client, site.url.replace("//", "//ann:hunter2@") + "/m?sig=SECRET")
    assert caught.value.hint
    assert "hunter2" not in str(caught.value)
    assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_what_may_pass_is_transient(client: http.Client, site: Any, status: int) -> None:
    site.pages["/m"] = lambda handler: handler.answer(status, Retry_After="7")
    with pytest.raises(http.Transient, match=str(status)) as caught:
        get(client, f"{site.url}/m")
    assert caught.value.retry_after == 7


def test_other_statuses_are_the_servers_to_mend(client: http.Client, site: Any) -> None:
    site.pages["/m"] = lambda handler: handler.answer(204)
    with pytest.raises(errors.BackendError, match="204"):
        get(client, f"{site.url}/m")


def test_no_server_and_no_answer_are_transient(site: Any) -> None:
    impatient = http.Client(limits.Limits(read_seconds=0.05, connect_seconds=5))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        with pytest.raises(http.Transient, match="no connection"):
            get(impatient, f"http://127.0.0.1:{free.getsockname()[1]}/m")
        free.listen()
        with pytest.raises(http.Transient, match="no answer within"):
            get(impatient, f"http://127.0.0.1:{free.getsockname()[1]}/m")
    impatient.close()


def test_a_body_that_breaks_off_is_transient(client: http.Client, site: Any, file: Any) -> None:
    site.pages["/m"] = file(b"model" * 100, breaks=[50])
    with pytest.raises(http.Transient, match="hung up"):
        get(client, f"{site.url}/m")


def test_an_untrusted_certificate_is_not_tried_again(client: http.Client, secure_site: Any, file: Any) -> None:
    secure_site.pages["/m"] = file(b"model")
    with pytest.raises(errors.BackendError, match="not trusted"):
        get(client, f"{secure_site.url}/m")


def test_addresses_are_not_logged(client: http.Client, site: Any, file: Any, caplog: pytest.LogCaptureFixture) -> None:
    site.pages["/m"] = file(b"model")
    with caplog.at_level(logging.DEBUG):
        get(client, f"{site.url}/m?sig=SECRET")
    assert "SECRET" not in caplog.text


def test_probe_tells_the_version_without_the_body(
    site: Any, file: Any, bounds: limits.Limits, pace: backoff.Pace
) -> None:
    site.pages["/m"] = page = file(b"model")
    found = http.probe(uri.parse(f"{site.url}/m"), bounds=bounds, pace=pace)
    assert found == identity.Identity('"one"', "", 5)
    site.pages["/m"] = dataclasses.replace(page, etag='"two"')
    assert http.probe(uri.parse(f"{site.url}/m"), bounds=bounds, pace=pace).stamp != found.stamp
    assert site.count("GET") == 0


def test_probe_asks_for_one_byte_where_head_is_refused(site: Any, bounds: limits.Limits, pace: backoff.Pace) -> None:
    def signed(handler: Any) -> None:
        if handler.command == "HEAD":
            handler.answer(403)
        else:
            handler.answer(206, b"m", ETag='"one"', Content_Range="bytes 0-0/5")

    site.pages["/m"] = signed
    assert http.probe(uri.parse(f"{site.url}/m"), bounds=bounds, pace=pace) == identity.Identity('"one"', "", 5)


def test_probe_gives_up(site: Any, bounds: limits.Limits, pace: backoff.Pace) -> None:
    site.pages["/m"] = lambda handler: handler.answer(503)
    with pytest.raises(errors.BackendError, match="3 attempts"):
        http.probe(uri.parse(f"{site.url}/m"), bounds=bounds, pace=pace)
    assert site.count("HEAD") == 3
    with pytest.raises(errors.SpecError, match="nothing at this address"):
        http.probe(uri.parse(f"{site.url}/missing"), bounds=bounds, pace=pace)


@pytest.mark.parametrize("url", ["http://exa mple.org/m", "http://h\u2028ost/m"])
def test_an_impossible_address_is_refused(client: http.Client, url: str) -> None:
    with pytest.raises((errors.SpecError, http.Transient)) as caught:
        get(client, url)
    assert str(caught.value)
