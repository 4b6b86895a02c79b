"""What the page is made of: files of this node's own, all of them, and no others."""

import hashlib
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from app.api.routers import page as routes

FOLDER = Path(routes.__file__).parents[2] / "page"
NOT_SERVED = {"README.md", "SHA256SUMS", "page.html"}
IMPORT = re.compile(r'^import .* from "\./(\w+\.js)";$', re.MULTILINE)


@pytest.fixture
def node() -> httpx.AsyncClient:
    application = FastAPI()
    application.include_router(routes.router)
    return httpx.AsyncClient(transport=httpx.ASGITransport(application), base_url="http://node")


class References(HTMLParser):
    """What a page has the browser fetch, and whatever stands in it that its policy forbids."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: set[str] = set()
        self.inline: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self.inline += [name for name in attributes if name == "style" or name.startswith("on")]
        source = attributes.get("src") or (attributes.get("href") if tag == "link" else None)
        if source:
            self.found.add(source)
        elif tag in ("script", "style"):
            self.inline.append(tag)


def imports(name: str) -> Iterator[str]:
    """A module and those that it needs."""
    yield name
    for needed in IMPORT.findall((FOLDER / name).read_text()):
        yield from imports(needed)


async def test_the_page_needs_nothing_but_files_of_its_own(node: httpx.AsyncClient) -> None:
    async with node:
        answer = await node.get("/")
        assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
        references = References(answer.text)
        assert references.inline == []
        assert "//" not in answer.text
        needed = references.found | {f"page/{name}" for name in imports("page.js")}
        for reference in needed:
            assert (await node.get(f"/{reference}")).status_code == 200, reference
    served = {path.name for path in FOLDER.rglob("*") if path.is_file()} - NOT_SERVED
    assert {Path(reference).name for reference in needed} | {"LICENSE"} == served


async def test_the_browser_is_told_to_load_and_run_nothing_else(node: httpx.AsyncClient) -> None:
    async with node:
        policy = (await node.get("/")).headers["content-security-policy"]
    directives = dict(part.strip().partition(" ")[::2] for part in policy.split(";"))
    assert directives["default-src"] == "'none'"
    assert {directives[f"{kind}-src"] for kind in ("script", "style", "img", "connect")} == {"'self'"}
    assert {directives[name] for name in ("base-uri", "form-action", "frame-ancestors")} == {"'none'"}


@pytest.mark.parametrize(
    ("file", "media_type"),
    [
        ("page.js", "text/javascript"),
        ("page.css", "text/css"),
        ("icon.svg", "image/svg+xml"),
        ("LICENSE", "text/plain"),
    ],
)
async def test_files_say_what_they_are(node: httpx.AsyncClient, file: str, media_type: str) -> None:
    async with node:
        answer = await node.get(f"/page/{file}")
    assert answer.headers["content-type"].partition(";")[0] == media_type
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("file", ["missing.js", "README.md", "page.html", "..%2Fmain.py", "%2Fetc%2Fpasswd", "%2e%2e"])
async def test_no_other_file_can_be_had(node: httpx.AsyncClient, file: str) -> None:
    async with node:
        assert (await node.get(f"/page/{file}")).status_code == 404


def test_what_was_taken_over_is_unchanged() -> None:
    sums = dict(line.split("  ")[::-1] for line in (FOLDER / "SHA256SUMS").read_text().splitlines())
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (FOLDER / "uplot").iterdir()}
    assert found == sums
