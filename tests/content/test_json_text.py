"""JSON that others wrote is read, or is a ValueError."""

import pytest

from app.content.json_text import parsed


def test_what_is_json_is_read() -> None:
    assert parsed(b'{"a": [1, null]}') == {"a": [1, None]}


@pytest.mark.parametrize("text", ["", "{", b"\xff", "[" * 100_000, '{"a":' * 100_000])
def test_what_is_not_and_what_is_nested_too_deeply_is_a_value_error(text: str | bytes) -> None:
    with pytest.raises(ValueError, match=r"JSON|Expecting|decode"):
        parsed(text)
