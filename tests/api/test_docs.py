"""`/openapi.json` is the description itself, and `/docs` draws it with nothing from elsewhere."""

import hashlib
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpx
import pytest
from fastapi import FastAPI

CHROMIUM_OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
    "--enable-logging=stderr",
    "--virtual-time-budget=30000",
    "--dump-dom",
)


def client(application: FastAPI) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(application), base_url="http://node")


class References(HTMLParser):
    """What a page has the browser fetch, with the media types that the element implies."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, str]] = []
        self.inline = 0
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        match tag, attributes:
            case "script", {"src": str(url)}:
                self.found.append((url, "text/javascript"))
            case "link", {"rel": "stylesheet", "href": str(url)}:
                self.found.append((url, "text/css"))
            case "link", {"rel": "icon", "href": str(url), "type": str(media_type)}:
                self.found.append((url, media_type))
            case "link" | "script" | "style" | "img" | "iframe" | "object" | "embed" | "base", _:
                self.inline += 1


async def test_the_description_is_served_as_it_is_written(door: FastAPI, document: dict[str, Any]) -> None:
    async with client(door) as node:
        answer = await node.get("/openapi.json")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == document


async def test_the_page_refers_to_nothing_but_files_of_its_own(door: FastAPI) -> None:
    async with client(door) as node:
        page = await node.get("/docs")
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        assert "//" not in page.text
        references = References(page.text)
        assert references.found
        assert references.inline == 0
        for url, media_type in references.found:
            where = urljoin(str(page.url), url)
            assert urlsplit(where).netloc == "node"
            answer = await node.get(where)
            assert answer.status_code == 200, url
            assert answer.headers["content-type"].partition(";")[0] == media_type, url
            assert answer.content, url


async def test_the_browser_is_told_to_load_nothing_from_elsewhere(door: FastAPI) -> None:
    async with client(door) as node:
        policy = (await node.get("/docs")).headers["content-security-policy"]
    directives = dict(part.strip().partition(" ")[::2] for part in policy.split(";"))
    assert directives["default-src"] == "'self'"
    assert not {"script-src", "connect-src", "style-src", "font-src", "frame-src"} & directives.keys()
    assert set(directives["img-src"].split()) <= {"'self'", "data:"}


@pytest.mark.parametrize("name", ["LICENSE.txt", "NOTICE.txt", "swagger-ui-bundle.js.LICENSE.txt"])
async def test_the_licences_go_with_what_they_license(door: FastAPI, name: str) -> None:
    async with client(door) as node:
        answer = await node.get(f"/docs/assets/{name}")
    assert answer.status_code == 200
    assert answer.headers["content-type"].partition(";")[0] == "text/plain"
    assert answer.content


@pytest.mark.parametrize("name", ["missing.js", "README.md", "..%2Fapi%2Fopenapi.json", "%2Fetc%2Fpasswd", "%2e%2e"])
async def test_no_other_file_can_be_had(door: FastAPI, name: str) -> None:
    async with client(door) as node:
        assert (await node.get(f"/docs/assets/{name}")).status_code == 404


def test_what_was_taken_over_is_unchanged(root: Path) -> None:
    folder = root / "app" / "docs_assets"
    sums = dict(line.split("  ")[::-1] for line in (folder / "SHA256SUMS").read_text().splitlines())
    assert {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (folder / "swagger-ui").iterdir()
    } == sums


def test_a_browser_without_network_draws_every_operation(served: Any, document: dict[str, Any], tmp_path: Path) -> None:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    assert chromium, "no Chromium: install Debian's package `chromium`, or another that is called so"
    log = tmp_path / "net.json"
    profile = (f"--user-data-dir={tmp_path / 'profile'}", f"--log-net-log={log}")
    drawn = subprocess.run(
        [chromium, *CHROMIUM_OPTIONS, *profile, f"{served.origin}/docs#/mirror/get_blob"],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    for path in document["paths"].values():
        for method, operation in path.items():
            if method != "parameters":
                assert f'id="operations-{operation["tags"][0]}-{operation["operationId"]}"' in drawn.stdout
    opened = re.findall(r'<div class="parameter__name[^>]*>([\w-]+)', drawn.stdout)
    assert {"name", "digest", "ns", "OCI-Namespace", "Range", "If-Range", "Authorization"} <= set(opened)
    assert "Content Security Policy" not in drawn.stderr, drawn.stderr
    assert {"/docs", "/docs/assets/swagger-ui-bundle.js", "/openapi.json"} <= set(served.asked)
    assert fetched_by(served.origin, log) == {served.origin}


def fetched_by(origin: str, log: Path) -> set[str]:
    """The origins of all that the page of `origin` asked for, had or not, by the browser's own record."""
    events = json.loads(log.read_text())["events"]
    urls = {
        event["params"]["url"]
        for event in events
        if event.get("params", {}).get("initiator") == origin
        and not event["params"].get("url", "data:").startswith("data:")
    }
    return {"{0.scheme}://{0.netloc}".format(urlsplit(url)) for url in urls}
