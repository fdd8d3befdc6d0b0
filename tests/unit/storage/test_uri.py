from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlship import errors
from mlship.storage import uri

HEX = "ab" * 32


@pytest.mark.parametrize(
    ("text", "scheme", "netloc", "path", "name"),
    [
        ("/models/iris.pkl", "file", "", "/models/iris.pkl", "iris.pkl"),
        ("  /models/my model 100%.pkl ", "file", "", "/models/my model 100%.pkl", "my model 100%.pkl"),
        ("/models/a#b.pkl", "file", "", "/models/a#b.pkl", "a#b.pkl"),
        ("file:///models/my%20model.pkl", "file", "", "/models/my model.pkl", "my model.pkl"),
        ("file:/models/iris.pkl", "file", "", "/models/iris.pkl", "iris.pkl"),
        ("file://localhost/models/", "file", "", "/models/", "models"),
        ("https://Example.org:8443/a/b.onnx", "https", "example.org:8443", "/a/b.onnx", "b.onnx"),
        ("HTTP://example.org/a%20b.pkl", "http", "example.org", "/a%20b.pkl", "a b.pkl"),
        ("http://[::1]:80/m.pkl", "http", "[::1]:80", "/m.pkl", "m.pkl"),
        ("pvc://claim/sub//./model/", "pvc", "claim", "sub/model", "model"),
        ("pvc://claim", "pvc", "claim", "", ""),
        ("s3://bucket/key/model.pkl", "s3", "bucket", "/key/model.pkl", "model.pkl"),
        ("oci+fetch://ghcr.io/x/y:v1", "oci+fetch", "ghcr.io", "/x/y:v1", "y:v1"),
        ("models:/wine/3", "models", "", "/wine/3", "3"),
    ],
)
def test_parses(text: str, scheme: str, netloc: str, path: str, name: str) -> None:
    found = uri.parse(text)
    assert (found.scheme, found.netloc, found.path, found.name, found.checksum) == (scheme, netloc, path, name, None)


@pytest.mark.parametrize(
    "base", ["/models/iris.pkl", "file:///models/iris.pkl", "https://h/m.pkl", "pvc://claim/m.pkl"]
)
def test_checksum_is_read_from_every_form_and_shown(base: str) -> None:
    found = uri.parse(f"{base}#sha256={HEX.upper()}")
    assert found.checksum == f"sha256:{HEX}"
    assert str(found).endswith(f"#sha256={HEX}")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "empty"),
        ("model.pkl", "neither a URI nor an absolute path"),
        ("./model.pkl", "absolute path"),
        ("C:/model.pkl", "unknown scheme 'c'"),
        ("htps://example.org/m.pkl", "https://"),
        ("gcs2://bucket/m", "unknown scheme 'gcs2'"),
        ("file:model.pkl", "no absolute path"),
        ("file://server/share/m.pkl", "'server'"),
        ("file:///a%00b", "printable"),
        ("http:///m.pkl", "names no host"),
        ("http:/example.org/m.pkl", "names no host"),
        ("http://example.org:port/m.pkl", "malformed"),
        ("http://[::1/m.pkl", "malformed"),
        ("pvc://${PVC_NAME}/model", "no valid name"),
        ("pvc:///model", "no valid name"),
        ("pvc://claim/../other/model", "leaves its volume"),
        ("pvc://claim/a/%2e%2e/%2e%2e/b", "leaves its volume"),
        ("/models/a\nb", "control character"),
        ("/m.pkl#sha256=12", "2 digits"),
        ("/m.pkl#sha256=" + "xy" * 32, "hexadecimal"),
        ("/m.pkl#SHA1=1234", "no sha256 checksum"),
        ("https://h/m.pkl#section", "no sha256 checksum"),
        ("https://h/m.pkl#md5=" + HEX[:32], "no sha256 checksum"),
    ],
)
def test_refuses_with_what_is_wrong_and_what_would_be_right(text: str, told: str) -> None:
    with pytest.raises(errors.SpecError) as caught:
        uri.parse(text)
    assert told in str(caught.value)
    assert caught.value.hint


def test_secrets_are_in_the_request_only() -> None:
    found = uri.parse("https://ann:hunter2@example.org/m.pkl?sig=SECRET&raw&se=2030")
    assert found.url == "https://ann:hunter2@example.org/m.pkl?sig=SECRET&raw&se=2030"
    for shown in (str(found), repr(found), f"{found}"):
        assert "SECRET" not in shown
        assert "hunter2" not in shown
        assert "ann" not in shown
    assert str(found) == "https://example.org/m.pkl?sig=***&***&se=***"


@pytest.mark.parametrize(
    "text",
    ["htps://ann:hunter2@example.org/m", "https://ann:hunter2@example.org:port/m?sig=hunter2", "x ann:hunter2@h://"],
)
def test_errors_show_no_password(text: str) -> None:
    with pytest.raises(errors.SpecError) as caught:
        uri.parse(text)
    assert "hunter2" not in str(caught.value)


def test_redact_survives_nonsense() -> None:
    assert uri.redact("http://[broken") == "(malformed URL)"
    assert uri.redact("https://a:b@h/p?k=v#f") == "https://h/p?k=***"
    assert len(uri.redact("https://h/" + "x" * 1000)) == 300


@given(st.text(max_size=60) | st.from_regex(r"(file|https?|pvc|s3|models):/{0,3}[ -~]{0,40}", fullmatch=True))
def test_any_text_parses_or_is_refused_politely(text: str) -> None:
    try:
        found = uri.parse(text)
    except errors.SpecError:
        return
    assert found.scheme in uri.RECOGNISED
    assert found.scheme not in ("file", "pvc") or "\0" not in found.path
    assert found.scheme != "pvc" or ".." not in found.path.split("/")
