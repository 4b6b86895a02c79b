"""The page in a real browser, with real nodes behind it."""

import os
import signal
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from app.demo.image import Image
from tests.conftest import Cluster
from tests.operations.images import MIB, NAME, GatedRegistry, image, layer
from tests.page.browser import WIDE, Browser, Screen
from tests.support.blob_store import BlobStore
from tests.support.nodes import Node

SCREENS = [
    Screen(name, width, height, dark)
    for name, width, height in (("wide", WIDE.width, WIDE.height), ("tablet", 820, 1100), ("phone", 390, 844))
    for dark in (False, True)
]


def pull(node: Node, repository: str, image: Image) -> None:
    for place in ("manifests/1", f"manifests/{image.manifest.digest}", *(f"blobs/{one.digest}" for one in image.blobs)):
        assert node.ask(f"/v2/{repository}/{place}?ns={NAME}").correct, place


@contextmanager
def beside(node: Node, target: str) -> Iterator[list[bool]]:
    """A client that reads at the same time; whether it got all stands in the list after the block."""
    outcome: list[bool] = []
    thread = threading.Thread(target=lambda: outcome.append(node.ask(target).correct))
    thread.start()
    try:
        yield outcome
    finally:
        thread.join()


def test_a_transfer_appears_goes_on_and_ends(page: Browser, nodes: list[Node], images: GatedRegistry) -> None:
    made = image("watched", [layer("watched", 3 * MIB)])
    images.push("watched", "1", made)
    blob = made.blobs[1].digest
    row = f'#transfers li:has(code[title^="{blob}"])'
    assert page.text(row) == ""
    with images.shut(), beside(nodes[0], f"/v2/watched/blobs/{blob}?ns={NAME}") as outcome:
        # What upstream has sent so far goes on to the client at once.
        page.wait_until(lambda: "256 KiB of 3.00 MiB" in page.text(row), "showing a quarter of a chunk")
        assert page.text(f"{row} .state") == "running"
        assert "from upstream" in page.run(f"document.querySelector({row!r}).querySelector('.split').title")
        assert page.text("#transfers-count") == "1 running"
        images.open()
        page.wait_until(lambda: page.text(f"{row} .state") == "finished", "showing that it has ended")
    assert outcome == [True]
    assert "3.00 MiB" in page.text(f"{row} .facts")
    page.wait_until(lambda: page.text("#transfers-count") == "none running", "counting it no more")


def test_what_the_cluster_spares_is_told(page: Browser, nodes: list[Node], images: GatedRegistry) -> None:
    made = image("spared", [layer("spared", 4 * MIB)])
    images.push("spared", "1", made)
    for node in nodes:
        pull(node, "spared", made)
    # Three clients, one upstream copy: what was sent before by other tests makes it no less than a third.
    page.wait_until(lambda: page.text("#saved").endswith("%") and int(float(page.text("#saved")[:-1])) > 33, "sparing")
    for node in nodes:
        row = f"#members tr[data-key='member {node.name}']"
        page.wait_until(partial(_has, page, row, "of 256 MiB"), f"telling what {node.name} holds")
    assert page.run("[...document.querySelectorAll('#members tr.zone')].map(row => row.innerText)") == [
        "west-1 · 2 of 2 alive",
        "west-2 · 1 of 1 alive",
    ]
    row = f"#images tr[data-key='{NAME}/spared']"
    page.wait_until(lambda: "1.00" in page.text(row), "telling how often upstream sent it")
    assert page.run(f"[...document.querySelector({row!r}).cells].slice(0, 4).map(cell => cell.textContent)") == [
        f"{NAME}/spared",
        *["4.00 MiB"] * 2,
        "1.00",
    ]
    page.wait_until(lambda: "s ago" in page.text(row), "telling how long ago that was")
    page.wait_until(lambda: page.text("#images-count") == "received by 3 members since their start", "asking all")
    # The chart's own words: a rate for each source, and something painted.
    assert page.run("document.querySelectorAll('#legend li').length") == 4
    painted = """(() => {
        const canvas = document.querySelector('#chart canvas');
        const colours = new Set(new Uint32Array(
            canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data.buffer));
        return colours.size;
    })()"""
    page.wait_until(lambda: int(page.run(painted)) > 3, "painting rates")


def _has(page: Browser, selector: str, text: str) -> bool:
    return text in page.text(selector)


def test_a_member_fails_and_comes_back(page: Browser, nodes: list[Node]) -> None:
    row = "#members tr[data-key='member node-3']"
    assert page.text(f"{row} .state") == "alive"
    nodes[2].program.end(signal.SIGKILL)
    page.wait_until(lambda: page.text(f"{row} .state") == "failed", "showing that it failed")
    assert "1 of 3 failed" in page.text("#tile-health")
    assert page.run("document.getElementById('announcer').textContent") == "node-3 failed"
    nodes[2].program.start_again()
    page.wait_until(lambda: page.text(f"{row} .state") == "alive", "showing that it is back")
    page.wait_until(lambda: "3 alive" in page.text("#tile-health"), "well again")


def test_the_page_says_when_its_node_is_away(page: Browser, nodes: list[Node]) -> None:
    with nodes[0].program.away():
        page.wait_until(lambda: "not reached" in page.text("#live"), "saying so")
    page.wait_until(lambda: page.text("#live") == "live", "live again, by itself")
    page.wait_until(lambda: "3 alive" in page.text("#tile-health"), "well again")


def test_errors_come_with_their_reason(one_browser: Browser, cluster: Cluster, blob_store: BlobStore) -> None:
    # Alone, since of several members the one that asks upstream for all of them has the error.
    [node] = cluster(1, "--tag-ttl", "1s")
    one_browser.open(f"http://{node.netloc}/")
    one_browser.wait_until(lambda: "None since the start" in one_browser.text("#errors-panel"), "without errors")
    (blob_store.files / "remembered.bin").write_bytes(bytes(3 * MIB))
    url = f"/blobs/{blob_store.url}/remembered.bin"
    assert node.ask(url).correct
    with blob_store.program.away():

        def told() -> bool:
            assert node.ask(url).correct
            return "answered from what is remembered" in one_browser.text("#errors")

        one_browser.wait_until(told, "telling that upstream is away")
    assert str(blob_store.port) in one_browser.text("#errors")
    assert "None since the start" not in one_browser.text("#errors-panel")


def test_what_is_shared_can_be_filtered(page: Browser, nodes: list[Node], images: GatedRegistry) -> None:
    made = image("listed", [layer("listed")])
    images.push("listed", "1", made)
    pull(nodes[0], "listed", made)
    digest = str(made.blobs[1].digest)
    page.wait_until(lambda: digest[:19] in page.text("#contents"), "listing it")
    page.run(
        f"""(() => {{
            const filter = document.getElementById('contents-filter');
            filter.value = {digest!r};
            filter.dispatchEvent(new Event('input'));
        }})()"""
    )
    assert page.run("document.querySelectorAll('#contents tr').length") == 1
    assert "whole, verified" in page.text("#contents")
    assert "1 of" in page.text("#contents-count")


def test_all_can_be_done_by_keyboard(page: Browser) -> None:
    focused = "document.activeElement.id || document.activeElement.className || document.activeElement.textContent"
    order = []
    for _ in range(7):
        page.press("Tab")
        order.append(page.run(focused))
    assert order[:4] == ["skip", "API", "Metrics", "theme"]
    assert "contents-filter" in order
    theme = "document.documentElement.dataset.theme ?? 'system'"
    page.run("document.getElementById('theme').focus()")
    themes = []
    for _ in range(3):
        page.press("Enter")
        themes.append((page.run(theme), page.run("getComputedStyle(document.documentElement).colorScheme")))
    assert themes == [("light", "light"), ("dark", "dark"), ("system", "light dark")]
    page.run("document.querySelector('[name=scope]:checked').focus()")
    page.press("ArrowRight")
    assert page.run("document.querySelector('[name=scope]:checked').value") == "node"


def test_a_chosen_theme_is_kept(page: Browser, nodes: list[Node]) -> None:
    page.run("document.getElementById('theme').click()")
    page.open(f"http://{nodes[0].netloc}/")
    page.wait_until(lambda: page.text("#live") == "live", "live")
    assert page.run("document.documentElement.dataset.theme") == "light"
    page.run("localStorage.clear()")


def test_text_from_outside_is_never_markup(page: Browser, nodes: list[Node], images: GatedRegistry) -> None:
    made = image("marked", [layer("marked")])
    images.push("marked", "1", made)
    evil = "<img/src=x/onerror=document.title='taken'>"
    target = f"/v2/marked/blobs/{made.blobs[1].digest}?ns={NAME}"
    assert nodes[0].ask(target, headers={"X-MS-Peerd-CorrelationId": evil}).correct
    shown = "[...document.querySelectorAll('#transfers li')].map(row => row.title)"
    page.wait_until(lambda: f"request {evil}" in page.run(shown), "showing the request's name")
    assert page.run("document.querySelectorAll('main img').length") == 0
    assert page.run("document.title") == "peerd: node-1"


@pytest.fixture(scope="module")
def busy(one_browser: Browser, nodes: list[Node], images: GatedRegistry) -> Browser:
    """The page of a cluster that has something to do: images come onto all nodes, one after the other."""
    one_browser.show_on(WIDE)
    one_browser.open(f"http://{nodes[0].netloc}/")
    one_browser.wait_until(lambda: "3 alive" in one_browser.text("#tile-health"), "showing three that are alive")
    for number, size in enumerate((24, 9, 17, 30)):
        made = image(f"busy {number}", [layer(f"busy/{number}", size * MIB), layer(f"busy/{number}/small", 2 * MIB)])
        images.push(f"busy/{number}", "1", made)
        for place in range(3):
            sent = one_browser.text("#served")
            pull(nodes[(number + place) % 3], f"busy/{number}", made)
            one_browser.wait_until(partial(_differs, one_browser, "#served", sent), "telling what was sent")
    return one_browser


def _differs(page: Browser, selector: str, before: str) -> bool:
    return page.text(selector) != before


@pytest.mark.parametrize("screen", SCREENS, ids=lambda one: f"{one.name}-{'dark' if one.dark else 'light'}")
def test_it_fits_the_screen(busy: Browser, tmp_path: Path, screen: Screen) -> None:
    busy.show_on(screen)
    assert busy.run("document.documentElement.scrollWidth") == screen.width
    chart = "document.querySelector('#chart canvas').clientWidth / document.getElementById('chart').clientWidth"
    busy.wait_until(lambda: 0.7 < busy.run(chart) <= 1, "drawing a chart that fits")
    ground = busy.run("getComputedStyle(document.documentElement).backgroundColor")
    assert (max(map(int, ground[4:-1].split(","))) < 64) == screen.dark
    # Bars grow to their new width, and a chart is drawn again, before the eye sees them as they are.
    busy.run(
        "Promise.all(document.getAnimations().map(one => one.finished)).then(() => new Promise(requestAnimationFrame))"
    )
    # `PEERD_PICTURES=docs/images` keeps them.
    name = f"page-{screen.name}-{'dark' if screen.dark else 'light'}.png"
    picture = Path(os.environ.get("PEERD_PICTURES", tmp_path)) / name
    busy.picture(picture, screen)
    header = picture.read_bytes()[:24]
    assert header[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", header[16:]) == (screen.width, screen.height)


def test_nothing_was_asked_of_anybody_else_and_nothing_went_wrong(busy: Browser, nodes: list[Node]) -> None:
    asked = busy.asked_for()
    assert f"http://{nodes[0].netloc}/api/v1/events" in asked
    # All that is on this machine are the nodes whose pages were opened.
    opened = {url.split("/")[2] for url in asked if url.endswith("/api/v1/events")}
    assert {url.split("/")[2] for url in asked if not url.startswith("about:")} == opened
    # While the node was away its events could not be had, which is what that test is about.
    assert [fault for fault in busy.faults() if "/api/v1/" not in fault] == []
