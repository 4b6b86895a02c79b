import pytest

from app.upstream.challenge import Challenge, challenges


@pytest.mark.parametrize(
    ("header", "want"),
    [
        pytest.param(None, [], id="none"),
        pytest.param("", [], id="empty"),
        pytest.param("Basic", [Challenge("basic")], id="a scheme alone"),
        pytest.param('Basic realm="Registry Realm"', [Challenge("basic", {"realm": "Registry Realm"})], id="basic"),
        pytest.param(
            'Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull"',
            [
                Challenge(
                    "bearer",
                    {
                        "realm": "https://auth.docker.io/token",
                        "service": "registry.docker.io",
                        "scope": "repository:a/b:pull",
                    },
                )
            ],
            id="Docker Hub",
        ),
        pytest.param(
            'bearer Realm = "x", scope="repository:a:pull,push"',
            [Challenge("bearer", {"realm": "x", "scope": "repository:a:pull,push"})],
            id="blanks, case, and a comma within quotes",
        ),
        pytest.param(
            'Bearer realm="x", Basic realm="y"',
            [Challenge("bearer", {"realm": "x"}), Challenge("basic", {"realm": "y"})],
            id="two in one header",
        ),
        pytest.param(
            "Bearer realm=x,error=invalid_token",
            [Challenge("bearer", {"realm": "x", "error": "invalid_token"})],
            id="tokens",
        ),
        pytest.param(r'Basic realm="a \"b\" \\ c"', [Challenge("basic", {"realm": 'a "b" \\ c'})], id="quoted pairs"),
        pytest.param('Basic realm="open', [Challenge("basic")], id="a quote that stays open"),
        pytest.param("Negotiate abc==, Basic", [Challenge("negotiate")], id="token68 ends the list"),
        pytest.param("@@@", [], id="nonsense"),
    ],
)
def test_challenges(header: str | None, want: list[Challenge]) -> None:
    assert challenges(header) == want
