import pytest

from app.upstream.proxies import Proxies, Proxy
from app.upstream.url import Origin, UpstreamUrl

PROXY = Proxy(Origin("http", "proxy.example", 3128))


@pytest.mark.parametrize(
    ("text", "origin", "authorization"),
    [
        ("http://proxy.example:3128", Origin("http", "proxy.example", 3128), None),
        ("http://proxy.example:3128/", Origin("http", "proxy.example", 3128), None),
        ("proxy.example:3128", Origin("http", "proxy.example", 3128), None),
        ("https://proxy.example", Origin("https", "proxy.example", 443), None),
        ("http://me:p%40ss@proxy.example:3128", Origin("http", "proxy.example", 3128), "Basic bWU6cEBzcw=="),
        ("http://10.0.0.1:3128", Origin("http", "10.0.0.1", 3128), None),
    ],
)
def test_a_proxy(text: str, origin: Origin, authorization: str | None) -> None:
    assert Proxy.parse(text) == Proxy(origin, authorization)


@pytest.mark.parametrize("text", ["socks5://proxy.example:1080", "http://", "http://a b"])
def test_a_proxy_that_can_not_be_used(text: str) -> None:
    with pytest.raises(ValueError, match="can not be used"):
        Proxy.parse(text)


def test_a_password_is_in_no_representation() -> None:
    proxy = Proxy.parse("http://me:SECRET@proxy.example:3128")
    assert "SECRET" not in repr(proxy)
    assert proxy.authorization not in repr(proxy)
    with pytest.raises(ValueError, match="can not be used") as error:
        Proxy.parse("socks5://me:SECRET@proxy.example:3128")
    assert "SECRET" not in str(error.value)


@pytest.mark.parametrize(
    ("environment", "http", "https"),
    [
        ({}, None, None),
        ({"HTTP_PROXY": "proxy.example:3128"}, PROXY, None),
        ({"https_proxy": "proxy.example:3128"}, None, PROXY),
        ({"HTTPS_PROXY": "proxy.example:3128", "https_proxy": "other"}, None, PROXY),
        ({"HTTP_PROXY": ""}, None, None),
    ],
)
def test_the_environment(environment: dict[str, str], http: Proxy | None, https: Proxy | None) -> None:
    found = Proxies.from_environment(environment)
    assert (found.http, found.https) == (http, https)


@pytest.mark.parametrize(
    ("no_proxy", "url", "proxied"),
    [
        pytest.param("", "http://a.example/", True, id="nothing is exempt"),
        pytest.param("*", "http://a.example/", False, id="everything is"),
        pytest.param("a.example", "http://a.example/", False, id="a name"),
        pytest.param("a.example", "http://b.a.example/", False, id="and all below it"),
        pytest.param("a.example", "http://ba.example/", True, id="not what merely ends alike"),
        pytest.param(".a.example", "http://b.a.example/", False, id="a dot: all below"),
        pytest.param(".a.example", "http://a.example/", True, id="a dot: not itself"),
        pytest.param("*.a.example", "http://b.a.example/", False, id="a star: all below"),
        pytest.param("a.example:81", "http://a.example/", True, id="another port"),
        pytest.param("a.example:80", "http://a.example/", False, id="the port"),
        pytest.param("A.Example", "http://a.example/", False, id="in any case"),
        pytest.param("x, a.example ,y", "http://a.example/", False, id="a list with blanks"),
        pytest.param("10.0.0.0/8", "http://10.1.2.3/", False, id="a block"),
        pytest.param("10.0.0.0/8", "http://11.1.2.3/", True, id="not in the block"),
        pytest.param("10.0.0.0/8", "http://a.example/", True, id="a block means no name"),
        pytest.param("10.0.0.0/99", "http://10.0.0.1/", True, id="a block that is none"),
        pytest.param("10.0.0.1", "http://10.0.0.1/", False, id="an address"),
        pytest.param("0.0.1", "http://10.0.0.1/", True, id="an address has no suffix"),
        pytest.param("2001:db8::1", "http://[2001:db8::1]/", False, id="an IPv6 address"),
        pytest.param("[2001:db8::1]:80", "http://[2001:db8::1]/", False, id="an IPv6 address with its port"),
        pytest.param("", "http://localhost/", False, id="this host, always"),
        pytest.param("", "http://127.0.0.1:80/", False, id="loopback, always"),
    ],
)
def test_who_is_exempt(no_proxy: str, url: str, proxied: bool) -> None:
    proxies = Proxies.from_environment({"HTTP_PROXY": "proxy.example:3128", "NO_PROXY": no_proxy})
    assert proxies.proxy_for(UpstreamUrl.parse(url).origin) == (PROXY if proxied else None)
