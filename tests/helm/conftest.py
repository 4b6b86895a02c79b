"""Rendered charts, each rendered once."""

from collections.abc import Callable
from functools import cache

import pytest

from tests.helm.chart import Document, render
from tests.helm.values import MATRIX

Rendered = Callable[[str], list[Document]]


@pytest.fixture(scope="session")
def rendered() -> Rendered:
    """`rendered("defaults")`: the documents that values of MATRIX make. Not to be changed."""
    return cache(lambda name: render(MATRIX[name]))
