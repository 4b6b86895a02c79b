"""The command lines of `console` blocks, and which test runs each of them as it stands.

A test takes the lines that it runs from here, so what is run is what a reader sees. A line that no test claims, and one that
two claim, fail tests/docs/test_consoles.py.
"""

import re
from dataclasses import dataclass

from tests.docs.markdown import ROOT, Page, pages

# What a line looks like, page and text, and which test runs it.
_RUN_BY = {
    r"(CONTRIBUTING|docs/build)\.md (\S+=\S+ )*(make (venv|lint|test|soak)|\.venv/bin/pytest)\b.*": "tests/docs/test_consoles.py",
    r"CONTRIBUTING\.md \.venv/bin/python -m peerd_gossip\.simulation .*": "tests/docs/test_consoles.py",
    r"README\.md (make|peerd) .*": "tests/docs/test_consoles.py",
    r"docs/operations\.md (peerd|promtool) .*": "tests/docs/test_consoles.py",
    r"docs/kubernetes\.md peerd hosts restore .*": "tests/docs/test_consoles.py",
    r"README\.md (docker-compose|skopeo) .*": "tests/compose/test_compose.py",
    r"docs/(build|kubernetes)\.md docker(-compose)? .*": "tests/compose/test_compose.py",
    r"(README|docs/(kubernetes|operations))\.md (helm|kubectl) .*": "tests/helm/test_commands.py",
    r"docs/kubernetes\.md peerd certs init --out ca": "tests/helm/test_commands.py",
}


@dataclass(frozen=True, slots=True)
class Line:
    """A command, without its prompt, in a block of a page (its path from the project's folder)."""

    page: str
    text: str

    @property
    def run_by(self) -> list[str]:
        """The files of tests that claim it."""
        return sorted({test for shape, test in _RUN_BY.items() if re.fullmatch(shape, f"{self.page} {self.text}")})


def lines() -> list[Line]:
    """All of them, in their order."""
    return [Line(str(page.path.relative_to(ROOT)), text) for page in pages() for text in _commands(page)]


def lines_for(test: str) -> list[Line]:
    """Those that a test runs, as `tests/compose/test_compose.py`."""
    found = [line for line in lines() if line.run_by == [test]]
    assert found, f"{test} runs no line of any page"
    return found


def _commands(page: Page) -> list[str]:
    blocks = "".join(page.blocks("console")).replace("\\\n", " ")
    return [line.removeprefix("$ ") for line in blocks.splitlines() if line]
