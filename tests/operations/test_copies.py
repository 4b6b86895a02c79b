"""How often upstream sent the same bytes, as one node counts it and as several put it together."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.content.byte_range import ByteRange
from app.content.digest import Digest
from app.content.key import ContentKey
from app.content.location import BlobInRegistry, FileAtUrl, Location
from app.content.source import Content, Stat
from app.observability.copies import (
    CONTENTS_MAX,
    NAME_LENGTH_MAX,
    PIECES_MAX,
    Copies,
    ImageCopies,
    host_of,
    images_in,
    name_of,
    piece_size,
    together,
)

KIB, MIB = 1 << 10, 1 << 20
FILE = FileAtUrl("https://store.test/data/disk.img?sig=secret")


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def content(name: str, size: int, location: Location | None = FILE) -> Content:
    return Content(ContentKey(f"url:{name}"), None, size, Stat(size, None), location)


def blob(repository: str, data: bytes, key: str | None = None) -> Content:
    digest = Digest.of(data)
    location = BlobInRegistry("reg.test", repository, digest)
    return Content(ContentKey(key or str(digest)), digest, len(data), Stat(len(data), None), location)


def summed(nodes: Sequence[Copies]) -> list[ImageCopies]:
    return images_in(together(one for node in nodes for one in node.newest_first()))


def only(nodes: Sequence[Copies]) -> ImageCopies:
    [image] = summed(nodes)
    return image


def test_three_nodes_that_share_the_work_make_one_copy() -> None:
    nodes, shared = [Copies() for _ in range(3)], content("a", 3 * MIB)
    for number, node in enumerate(nodes):
        node.came_in(shared, ByteRange(number * MIB, (number + 1) * MIB))
    image = only(nodes)
    assert (image.name, image.size, image.received) == ("store.test/data/disk.img", 3 * MIB, 3 * MIB)
    assert image.copies == 1


def test_three_nodes_that_pull_straight_make_three() -> None:
    nodes, pulled = [Copies() for _ in range(3)], content("a", 3 * MIB + 5)
    for node in nodes:
        node.came_in(pulled, ByteRange(0, 3 * MIB))
        node.came_in(pulled, ByteRange(3 * MIB, 3 * MIB + 5))
    assert only(nodes).copies == 3


def test_a_part_that_two_nodes_fetched_twice_is_two_copies_of_that_part() -> None:
    nodes, large = [Copies(), Copies()], content("a", 300 * MIB)
    for node in nodes:
        node.came_in(large, ByteRange(7 * MIB, 9 * MIB))
    image = only(nodes)
    assert (image.received, image.distinct, image.size) == (4 * MIB, 2 * MIB, 300 * MIB)
    assert image.copies == 2


def test_the_copies_of_an_image_are_those_of_all_its_contents() -> None:
    nodes, small, large = [Copies(), Copies()], blob("team/app", b"small"), blob("team/app", bytes(MIB))
    for node in nodes:
        node.came_in(small, ByteRange(0, 5))
    nodes[1].came_in(large, ByteRange(0, MIB))
    image = only(nodes)
    assert (image.name, image.size, image.received) == ("reg.test/team/app", MIB + 5, MIB + 10)
    assert image.distinct == MIB + 5


def test_what_was_proved_is_still_the_same_content() -> None:
    claimed, proved = blob("app", b"layer", "sha256:claimed@reg.test"), blob("app", b"layer")
    nodes = [Copies(), Copies()]
    nodes[0].came_in(claimed, ByteRange(0, 5))
    nodes[1].came_in(proved, ByteRange(0, 5))
    assert only(nodes).copies == 2


def test_another_version_of_a_file_is_another_content() -> None:
    node = Copies()
    node.came_in(content("old", MIB), ByteRange(0, MIB))
    node.came_in(content("new", MIB), ByteRange(0, MIB))
    assert only([node]).copies == 1
    assert only([node]).size == 2 * MIB


def test_what_was_begun_again_is_more_than_one_copy() -> None:
    node, file = Copies(), content("a", 64 * KIB)
    node.came_in(file, ByteRange(0, 32 * KIB))
    node.came_in(file, ByteRange(0, 64 * KIB))
    assert only([node]).copies == 1.5


@given(
    size=st.integers(1, 1 << 34),
    parts=st.lists(st.tuples(st.floats(0, 1), st.integers(1, 4 * MIB), st.integers(0, 2)), min_size=1, max_size=20),
)
def test_it_tells_at_least_one_copy_and_never_more_than_there_are(
    size: int, parts: list[tuple[float, int, int]]
) -> None:
    nodes, large = [Copies() for _ in range(3)], content("a", size)
    spans = []
    for place, length, node in parts:
        start = int(place * (size - 1))
        spans.append(ByteRange(start, min(size, start + length)))
        nodes[node].came_in(large, spans[-1])
    differing, reached = 0, 0
    for span in sorted(spans):
        differing += max(0, span.stop - max(reached, span.start))
        reached = max(reached, span.stop)
    image = only(nodes)
    assert image.received == sum(map(len, spans))
    assert differing <= image.distinct <= image.received


@pytest.mark.parametrize("size", [1, 64 * KIB, 64 * KIB + 1, 64 * MIB, 64 * MIB + 1, 10 << 30, 1 << 59])
def test_a_content_has_not_too_many_pieces(size: int) -> None:
    piece = piece_size(size)
    assert -(-size // piece) <= PIECES_MAX
    assert piece == 64 * KIB or -(-size // (piece // 2)) > PIECES_MAX


@pytest.mark.parametrize(
    ("location", "name"),
    [
        (BlobInRegistry("docker.io", "library/app", Digest.of(b"")), "docker.io/library/app"),
        (FileAtUrl("https://acct.blob.test:8443/a/b%20c?sv=1&sig=secret"), "acct.blob.test:8443/a/b%20c"),
        (FileAtUrl("https://user:secret@host.test/a#secret"), "host.test/a"),
    ],
)
def test_a_name_holds_no_signature(location: Location, name: str) -> None:
    assert name_of(location) == name


def test_a_long_name_is_cut() -> None:
    node = Copies()
    node.came_in(content("a", 10, FileAtUrl("https://host.test/" + "a" * 1000)), ByteRange(0, 10))
    assert only([node]).name == "host.test/" + "a" * (NAME_LENGTH_MAX - 11) + "…"


def test_where_not_everybody_may_know_what_is_got_hosts_alone_are_told() -> None:
    node = Copies(host_of)
    node.came_in(blob("team/secret", b"layer"), ByteRange(0, 5))
    node.came_in(content("a", 10, FileAtUrl("https://user:word@store.test/secret")), ByteRange(0, 10))
    assert {image.name for image in summed([node])} == {"reg.test", "store.test"}


def test_those_of_which_anything_came_last_are_remembered() -> None:
    clock = Clock()
    node = Copies(clock=clock)
    for number in range(CONTENTS_MAX):
        node.came_in(content(str(number), 10), ByteRange(0, 5))
    clock.now += 60
    node.came_in(content("0", 10), ByteRange(5, 10))
    node.came_in(content("one more", 10), ByteRange(0, 10))
    known = node.newest_first()
    assert len(known) == CONTENTS_MAX
    assert [(one.count, one.at) for one in known[:3]] == [(10, 1060), (10, 1060), (5, 1000)]
    # The first was used again, so the second went.
    assert sum(one.count for one in known) == 2 * 10 + 5 * (CONTENTS_MAX - 2)


def test_all_members_together_are_no_longer_than_one() -> None:
    clock = Clock()
    nodes = [Copies(clock=clock), Copies(clock=clock)]
    for number in range(CONTENTS_MAX):
        nodes[0].came_in(content(f"old {number}", 10), ByteRange(0, 10))
    clock.now += 1
    for number in range(CONTENTS_MAX):
        nodes[1].came_in(content(f"new {number}", 10), ByteRange(0, 10))
    put = together(one for node in nodes for one in node.newest_first())
    assert len(put) == CONTENTS_MAX
    assert {one.at for one in put} == {1001}


def test_images_come_newest_first() -> None:
    clock = Clock()
    node = Copies(clock=clock)
    for repository in ("first", "second", "first"):
        node.came_in(blob(repository, repository.encode() * round(clock.now)), ByteRange(0, 5))
        clock.now += 1
    assert [(image.name, image.at) for image in summed([node])] == [("reg.test/first", 1002), ("reg.test/second", 1001)]


def test_members_that_disagree_about_a_size_do_not_spoil_each_other_s() -> None:
    nodes = [Copies(), Copies()]
    nodes[0].came_in(content("a", 100 * MIB), ByteRange(99 * MIB, 100 * MIB))
    nodes[1].came_in(content("a", 10), ByteRange(0, 10))
    assert only(nodes).distinct == MIB + 10
