"""What the tests of documents need to read of them: fenced blocks, links, headings, and what stands in backticks."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Self

ROOT = Path(__file__).resolve().parents[2]

_FENCE = re.compile(r"^(?P<indent> *)```(?P<language>[^\n`]*)\n(?P<text>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)\s]+)\)")
_HEADING = re.compile(r"^#+ +(?P<text>.+)$", re.MULTILINE)
_CODE = re.compile(r"`(?P<text>[^`\n]+)`")


@dataclass(frozen=True, slots=True)
class Page:
    """One document."""

    path: Path
    text: str

    @classmethod
    def named(cls, name: str) -> Self:
        """By its path from the project's folder."""
        return cls(ROOT / name, (ROOT / name).read_text(encoding="utf-8"))

    @property
    def prose(self) -> str:
        """Without its fenced blocks."""
        return _FENCE.sub("", self.text)

    def blocks(self, language: str) -> list[str]:
        """The fenced blocks of one language, in their order."""
        return [match["text"] for match in _FENCE.finditer(self.text) if match["language"] == language]

    @property
    def links(self) -> list[str]:
        """Where its links lead."""
        return [match["target"] for match in _LINK.finditer(self.prose)]

    @property
    def anchors(self) -> set[str]:
        """Its headings as fragments: lower case, blanks as dashes, without punctuation, as code hosts make them."""
        return {
            re.sub(r"[^\w\- ]", "", match["text"].lower()).replace(" ", "-") for match in _HEADING.finditer(self.prose)
        }

    @property
    def code(self) -> list[str]:
        """What stands in backticks in a line."""
        return [match["text"] for match in _CODE.finditer(self.prose)]


def pages() -> list[Page]:
    """All documents of the project that people are meant to read."""
    paths = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]
    return [Page.named(str(path.relative_to(ROOT))) for path in sorted(paths)]
