import logging

import pytest

from app.upstream.redact import redact, silence_libraries


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("no URL at all", "no URL at all"),
        ("https://a.example/x/y", "https://a.example/x/y"),
        ("GET https://a.example/x?sv=1&sig=SECRET failed", "GET https://a.example/x?… failed"),
        ("https:/a.example/x?sig=SECRET", "https:/a.example/x?…"),
        ("'http://a.example?d=SECRET'", "'http://a.example?…'"),
        ("https://user:SECRET@a.example/x", "https://…@a.example/x"),
        ("Authorization: Basic U0VDUkVU", "Authorization: Basic …"),
        ("authorization: bearer SECRET.abc-_~+/==", "authorization: bearer …"),
        ("/x?X-Amz-Signature=SECRET&partNumber=2", "/x?X-Amz-Signature=…&partNumber=2"),
        ("X-Goog-Credential=SECRET", "X-Goog-Credential=…"),
        ("refresh_token=SECRET&service=x", "refresh_token=…&service=x"),
        ("two: http://a/?SECRET and http://b/?SECRET", "two: http://a/?… and http://b/?…"),
    ],
)
def test_what_may_be_written_down(text: str, want: str) -> None:
    assert redact(text) == want
    assert "SECRET" not in redact(text)


def test_libraries_are_silent_even_where_all_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    silence_libraries()
    with caplog.at_level(logging.DEBUG):
        for name in ("httpx", "httpcore.connection", "urllib3.connection"):
            logging.getLogger(name).warning("https://a.example/?sig=SECRET")
    assert caplog.text == ""
