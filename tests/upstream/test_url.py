import pytest

from app.errors import BadRequest, UpstreamForbidden
from app.upstream.url import URL_LENGTH_MAX, Origin, UpstreamUrl


@pytest.mark.parametrize(
    ("text", "origin", "netloc", "target"),
    [
        pytest.param("https://a.example/x", Origin("https", "a.example", 443), "a.example", "/x", id="a default port"),
        pytest.param("http://a.example:8080", Origin("http", "a.example", 8080), "a.example:8080", "/", id="no path"),
        pytest.param("https://a.example?d=1", Origin("https", "a.example", 443), "a.example", "/?d=1", id="query only"),
        pytest.param(
            "HTTPS://A.Example./x", Origin("https", "a.example", 443), "A.Example.", "/x", id="case, root dot"
        ),
        pytest.param("http://a/x?", Origin("http", "a", 80), "a", "/x?", id="an empty query is kept"),
        pytest.param("http://a/x#top", Origin("http", "a", 80), "a", "/x", id="a fragment is not sent"),
        pytest.param("http://a:/x", Origin("http", "a", 80), "a:", "/x", id="an empty port (RFC 3986, 3.2.3)"),
        pytest.param("http://[::1]:5/x", Origin("http", "::1", 5), "[::1]:5", "/x", id="IPv6"),
        pytest.param("http://[0:0::0:1]/", Origin("http", "::1", 80), "[0:0::0:1]", "/", id="IPv6 in another spelling"),
        pytest.param("http://10.0.0.1/", Origin("http", "10.0.0.1", 80), "10.0.0.1", "/", id="IPv4"),
        pytest.param(
            "http://a//b/../c/./%2b%2B?z=%2f&a=+&&b",
            Origin("http", "a", 80),
            "a",
            "//b/../c/./%2b%2B?z=%2f&a=+&&b",
            id="every byte of path and query is kept",
        ),
    ],
)
def test_a_url_taken_apart(text: str, origin: Origin, netloc: str, target: str) -> None:
    assert UpstreamUrl.parse(text) == UpstreamUrl(origin, netloc, target)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="nothing"),
        pytest.param("/v2/", id="no scheme"),
        pytest.param("a.example/x", id="no scheme, but a host"),
        pytest.param("http://", id="no host"),
        pytest.param("http://:80/", id="a port without a host"),
        pytest.param("http:///x", id="a path without a host"),
        pytest.param("http://a:0/", id="port 0"),
        pytest.param("http://a:65536/", id="a port too high"),
        pytest.param("http://a:8x/", id="a port that is no number"),
        pytest.param("http://a:80:80/", id="two ports"),
        pytest.param("http://[::1/", id="a bracket that stays open"),
        pytest.param("http://[::1]5/", id="something between bracket and port"),
        pytest.param("http://[a.example]/", id="a name in brackets"),
        pytest.param("http://a/x y", id="a blank"),
        pytest.param("http://a/x\r\nHost: b", id="a line end"),
        pytest.param("http://a/x\ty", id="a tab, which urllib would drop"),
        pytest.param("http://a/\x00", id="a zero byte"),
        pytest.param("http://a/ü", id="beyond ASCII"),
        pytest.param("http://a\n.example/", id="a line end in the host"),
        pytest.param("http://a/" + "x" * URL_LENGTH_MAX, id="too long"),
    ],
)
def test_no_url(text: str) -> None:
    with pytest.raises(BadRequest):
        UpstreamUrl.parse(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("ftp://a.example/", "scheme"),
        ("file:///etc/passwd", "scheme"),
        ("gopher://127.0.0.1:6379/_INFO", "scheme"),
        ("javascript:alert(1)", "scheme"),
        ("http:a.example/", "scheme"),
        ("http://user@a.example/", "userinfo"),
        ("http://user:password@a.example/", "userinfo"),
        ("http://a.example@127.0.0.1/", "userinfo"),
        ("http://127.0.0.1:80@a.example/", "userinfo"),
        ("http://@a.example/", "userinfo"),
        ("http://2130706433/", "address"),
        ("http://017700000001/", "address"),
        ("http://0x7f000001/", "address"),
        ("http://0x7f.0.0.1/", "address"),
        ("http://0177.0.0.1/", "address"),
        ("http://127.1/", "address"),
        ("http://127.0.1/", "address"),
        ("http://127.0.0.01/", "address"),
        ("http://127.0.0.256/", "address"),
        ("http://127.0.0.1.5/", "address"),
        ("http://0x/", "address"),
        ("http://0/", "address"),
        ("http://a.example.1/", "address"),
        ("http://[fe80::1%25eth0]/", "address"),
        ("http://%31%32%37.0.0.1/", "address"),
        ("http://%61.example/", "host"),
        ("http://a.example%2f@127.0.0.1/", "userinfo"),
        ("http://a.example\\.127.0.0.1.example/", "host"),
        ("http://a..example/", "host"),
        ("http://-a.example/", "host"),
        ("http://" + "a" * 64 + ".example/", "host"),
        ("http://" + "a." * 127 + "example/", "host"),
        ("http://a!b.example/", "host"),
    ],
)
def test_a_url_that_is_never_asked(text: str, reason: str) -> None:
    with pytest.raises(UpstreamForbidden) as refusal:
        UpstreamUrl.parse(text)
    assert refusal.value.reason == reason


@pytest.mark.parametrize(
    ("location", "want"),
    [
        pytest.param("https://b.example//x?sig=%2f", "https://b.example//x?sig=%2f", id="absolute, byte for byte"),
        pytest.param(
            "https://b.example/a/../b?", "https://b.example/a/../b?", id="absolute, with dots and an empty query"
        ),
        pytest.param("//b.example/x", "https://b.example/x", id="without scheme"),
        pytest.param("/y//z?q=%2b", "https://a.example:8443/y//z?q=%2b", id="a path"),
        pytest.param("y?q", "https://a.example:8443/dir/y?q", id="a relative path"),
        pytest.param("?q", "https://a.example:8443/dir/file?q", id="a query"),
    ],
)
def test_where_a_redirect_leads(location: str, want: str) -> None:
    assert str(UpstreamUrl.parse("https://a.example:8443/dir/file?old").redirected(location)) == want


def test_a_signature_is_in_no_representation() -> None:
    url = UpstreamUrl.parse("https://a.example/x?sv=1&sig=SECRET")
    assert "SECRET" not in repr(url)
    assert url.shown() == "https://a.example/x?…"
    assert UpstreamUrl.parse("https://a.example/x").shown() == "https://a.example/x"
