"""The judge of what comes back tells answers to HEAD, interim ones and whole ones apart."""

import pytest

from tests.fuzz.answers import answers

INTERIM = b"HTTP/1.1 100 Continue\r\n\r\n"
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n"
WHOLE = HEAD + b"<!do"


@pytest.mark.parametrize(
    ("sent", "bodies"),
    [
        (WHOLE + WHOLE, [b"<!do", b"<!do"]),
        (HEAD + WHOLE, [b"", b"<!do"]),
        (INTERIM + WHOLE, [b"<!do"]),
        (INTERIM + WHOLE + HEAD, [b"<!do", b""]),
        (INTERIM + HEAD + WHOLE, [b"", b"<!do"]),
    ],
    ids=["two", "HEAD first", "an interim one", "an interim one, then HEAD", "an interim one to HEAD"],
)
def test_answers_are_told_apart(sent: bytes, bodies: list[bytes]) -> None:
    found = answers(sent)
    assert [one.body for one in found] == bodies
    assert all(one.whole for one in found)


def test_an_interim_answer_alone_is_no_whole_one() -> None:
    assert [one.whole for one in answers(INTERIM)] == [False]
