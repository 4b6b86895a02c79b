"""The content store against a real containerd 1.6."""

import asyncio
import re
import signal
from collections.abc import Callable
from concurrent.futures import Executor
from pathlib import Path

import pytest

from app.containerd.image import ShareRule
from app.containerd.inventory import Change, SharedBlob
from app.containerd.store import ContainerdStore, Timing
from app.content.byte_range import ByteRange
from app.content.digest import Digest
from app.content.key import ContentKey
from app.content.names import Name, Resolution
from app.content.source import Content, SourceKind, Stat
from app.errors import SourceUnavailable
from tests.containerd.daemon import Containerd
from tests.containerd.oci import OciImage, build_image

NAME = "example.local/test/app:v1"
EVERYTHING = ShareRule()
# No look but those that events cause.
EVENTS_ONLY = Timing(settle_seconds=3600.0, look_interval_seconds=3600.0)
WITHDRAWN_SECONDS_MAX = 5.0


class Advertised:
    """What a listener that only hears of changes believes to be shared."""

    def __init__(self) -> None:
        self.blobs: dict[Digest, SharedBlob] = {}
        self.tags: dict[str, Digest] = {}
        self.changes = 0

    def on_change(self, change: Change) -> None:
        self.changes += 1
        for blob in change.added:
            self.blobs[blob.digest] = blob
        for digest in change.removed:
            del self.blobs[digest]
        self.tags |= change.tags_added
        for tag in change.tags_removed:
            del self.tags[tag]


class Collected:
    """A sink that keeps all."""

    def __init__(self) -> None:
        self.data = b""

    def write(self, data: bytes | memoryview) -> None:
        self.data += data

    def expect_checksum(self, sha256: bytes) -> None:
        pytest.fail("containerd vouches for no chunk")


class Setting:
    """Makes stores and imports images."""

    def __init__(self, containerd: Containerd, executor: Executor, folder: Path) -> None:
        self.containerd = containerd
        self.advertised = Advertised()
        self._executor = executor
        self._folder = folder

    def store(
        self, rule: ShareRule = EVERYTHING, *, content_dir: Path | None = None, timing: Timing | None = None
    ) -> ContainerdStore:
        return ContainerdStore(
            socket=self.containerd.socket,
            namespace=self.containerd.namespace,
            rule=rule,
            content_dir=content_dir,
            executor=self._executor,
            on_change=self.advertised.on_change,
            timing=timing,
        )

    def add(self, image: OciImage, *names: str) -> None:
        self.containerd.import_image(image.save(self._folder / "image.tar", *names))

    async def until_shared(self, digests: set[Digest]) -> None:
        await eventually(lambda: set(self.advertised.blobs) == digests, f"{digests} shared")


@pytest.fixture
def setting(containerd: Containerd, executor: Executor, tmp_path: Path) -> Setting:
    return Setting(containerd, executor, tmp_path)


async def eventually(is_so: Callable[[], bool], what: str, *, seconds: float = 15.0) -> None:
    deadline = asyncio.get_running_loop().time() + seconds
    while not is_so():
        if asyncio.get_running_loop().time() > deadline:
            pytest.fail(f"not within {seconds} s: {what}")
        await asyncio.sleep(0.02)


def content_of(digest: Digest, size: int) -> Content:
    return Content(ContentKey.of_digest(digest), digest, size, Stat(size, None), None)


async def test_what_was_there_before_is_advertised_with_sizes_types_and_tags(setting: Setting) -> None:
    image = build_image()
    setting.add(image, NAME, "example.local/test/app:latest")
    async with setting.store().running() as store:
        await setting.until_shared(image.digests)
        for digest, data in image.blobs.items():
            assert setting.advertised.blobs[digest] == SharedBlob(digest, len(data), image.media_types[digest])
        assert setting.advertised.tags == {NAME: image.target, "example.local/test/app:latest": image.target}
        assert store.tagged(NAME) == image.target
        resolution = await store.resolve(Name.of_tag("example.local", "test/app", "v1"))
        assert resolution == Resolution(len(image.blobs[image.target]), image.target, image.media_types[image.target])
        assert await store.resolve(Name.of_tag("example.local", "test/app", "v2")) is None
        keys = [ContentKey("url:x"), ContentKey.of_unverified(image.config, "h"), ContentKey.of_digest(image.config)]
        assert await store.find(keys) == Stat(len(image.blobs[image.config]), None, image.media_types[image.config])
        assert await store.find(keys[:2]) is None
        assert store.inventory().blobs == setting.advertised.blobs
        state = store.state()
        assert state.version is not None
        assert state.version.startswith("1.")
        assert (state.blobs, state.size_bytes) == (len(image.blobs), sum(map(len, image.blobs.values())))


async def test_a_platform_that_was_not_pulled_is_a_hole(setting: Setting) -> None:
    image = build_image()
    setting.add(image, NAME)
    async with setting.store().running() as store:
        await setting.until_shared(image.digests)
        assert store.shared(image.foreign) is None
        assert list(store.offers(content_of(image.foreign, 7), 0)) == []


async def test_an_unpacked_layer_that_was_discarded_is_a_hole(setting: Setting) -> None:
    image = build_image()
    setting.add(image, NAME)
    setting.containerd.ctr("content", "rm", image.layers[0])
    async with setting.store().running():
        await setting.until_shared(image.digests - {image.layers[0]})


async def test_an_image_that_comes_is_advertised_and_one_that_goes_is_withdrawn(setting: Setting) -> None:
    first, second = build_image(seed=1), build_image(seed=2)
    setting.add(first, NAME)
    async with setting.store(timing=EVENTS_ONLY).running() as store:
        await setting.until_shared(first.digests)
        await asyncio.to_thread(setting.add, second, "example.local/test/other:v1")
        await setting.until_shared(first.digests | second.digests)
        await asyncio.to_thread(setting.containerd.ctr, "images", "rm", NAME)
        await eventually(
            lambda: set(setting.advertised.blobs) == second.digests, "withdrawn", seconds=WITHDRAWN_SECONDS_MAX
        )
        assert setting.advertised.tags == {"example.local/test/other:v1": second.target}
        with pytest.raises(SourceUnavailable):
            await store.fetch(first.config, ByteRange(0, 1), Collected())


async def test_content_that_is_deleted_is_withdrawn(setting: Setting) -> None:
    image = build_image()
    setting.add(image, NAME)
    async with setting.store(timing=EVENTS_ONLY).running():
        await setting.until_shared(image.digests)
        await asyncio.to_thread(setting.containerd.ctr, "content", "rm", image.layers[1])
        await setting.until_shared(image.digests - {image.layers[1]})


async def test_layers_of_an_image_that_stays_are_not_withdrawn(setting: Setting) -> None:
    image = build_image()
    setting.add(image, NAME, "example.local/test/app:v2")
    async with setting.store(timing=EVENTS_ONLY).running():
        await setting.until_shared(image.digests)
        await asyncio.to_thread(setting.containerd.ctr, "images", "rm", NAME)
        await eventually(lambda: NAME not in setting.advertised.tags, "tag withdrawn")
        assert set(setting.advertised.blobs) == image.digests


@pytest.mark.parametrize(
    ("rule", "shared"),
    [
        pytest.param(ShareRule(), {"public", "private"}, id="all"),
        pytest.param(ShareRule(frozenset({"example.local"})), {"public"}, id="hosts"),
        pytest.param(ShareRule(frozenset({"_default", "example.local"})), {"public", "private"}, id="hosts _default"),
        pytest.param(ShareRule(pattern=re.compile("^(?!private)")), {"public"}, id="share-filter"),
    ],
)
async def test_only_what_the_rule_allows_leaves_the_node(setting: Setting, rule: ShareRule, shared: set[str]) -> None:
    images = {"public": build_image(seed=1), "private": build_image(seed=2)}
    setting.add(images["public"], "example.local/test/app:v1")
    setting.add(images["private"], "private.local/test/app:v1")
    # The CRI plugin's alias for the same image, which must not open a way around the rule.
    setting.containerd.ctr("images", "tag", "private.local/test/app:v1", str(images["private"].config))
    async with setting.store(rule).running():
        await setting.until_shared({digest for name in shared for digest in images[name].digests})


@pytest.mark.parametrize("by_file", [True, False], ids=["from its file", "by the API"])
async def test_every_byte_of_every_blob(setting: Setting, by_file: bool) -> None:
    image = build_image(layer_size=3 << 20)
    setting.add(image, NAME)
    content_dir = setting.containerd.content_dir if by_file else None
    async with setting.store(content_dir=content_dir).running() as store:
        await setting.until_shared(image.digests)
        for digest, data in image.blobs.items():
            for span in (ByteRange(0, len(data)), ByteRange(len(data) // 3, len(data) // 2), ByteRange(0, 1)):
                [offer] = store.offers(content_of(digest, len(data)), 0)
                assert (offer.kind, offer.trusted) == (SourceKind.CONTAINERD, False)
                sink = Collected()
                await offer.fetch(span, sink)
                assert sink.data == data[span.start : span.stop]
        assert await store.read_manifest(image.manifest) == image.blobs[image.manifest]
        assert list(store.offers(content_of(image.config, len(image.blobs[image.config]) + 1), 0)) == []


async def test_the_file_itself_is_open_to_zero_copy_and_outlives_its_deletion(setting: Setting) -> None:
    image = build_image()
    setting.add(image, NAME)
    async with setting.store(content_dir=setting.containerd.content_dir).running() as store:
        await setting.until_shared(image.digests)
        [layer, _] = image.layers
        file = store.open_file(layer)
        assert file is not None
        await asyncio.to_thread(setting.containerd.ctr, "images", "rm", "--sync", NAME)
        await setting.until_shared(set())
        assert store.open_file(layer) is None
        with open(file.fileno(), "rb", closefd=False) as opened:
            assert opened.read() == image.blobs[layer]


async def test_a_content_folder_that_is_not_readable_falls_back_to_the_api(setting: Setting, tmp_path: Path) -> None:
    image = build_image()
    setting.add(image, NAME)
    async with setting.store(content_dir=tmp_path / "absent").running() as store:
        await setting.until_shared(image.digests)
        assert store.open_file(image.config) is None
        sink = Collected()
        await store.fetch(image.config, ByteRange(0, len(image.blobs[image.config])), sink)
        assert sink.data == image.blobs[image.config]


async def test_a_blob_that_vanished_in_silence_is_withdrawn_by_the_read_that_finds_out(setting: Setting) -> None:
    image = build_image()
    setting.add(image, NAME)
    async with setting.store(content_dir=setting.containerd.content_dir).running() as store:
        await setting.until_shared(image.digests)
        blob_file(setting, image.layers[0]).unlink()
        with pytest.raises(SourceUnavailable, match=image.layers[0].hex):
            await store.fetch(image.layers[0], ByteRange(0, 10), Collected())
        assert set(setting.advertised.blobs) == image.digests - {image.layers[0]}
        # containerd's database still lists it; the looks that its own events cause must not advertise it again.
        other = build_image(seed=9)
        await asyncio.to_thread(setting.add, other, "example.local/test/other:v1")
        await setting.until_shared((image.digests | other.digests) - {image.layers[0]})


async def test_a_regular_look_shares_again_what_was_pulled_again(setting: Setting) -> None:
    image = build_image()
    setting.add(image, NAME)
    timing = Timing(look_interval_seconds=0.2)
    async with setting.store(content_dir=setting.containerd.content_dir, timing=timing).running() as store:
        await setting.until_shared(image.digests)
        file = blob_file(setting, image.layers[0])
        data = file.read_bytes()
        file.unlink()
        with pytest.raises(SourceUnavailable):
            await store.fetch(image.layers[0], ByteRange(0, 10), Collected())
        file.write_bytes(data)
        await setting.until_shared(image.digests)


async def test_checksums_are_vouched_for_by_the_digest_of_the_whole(setting: Setting) -> None:
    image = build_image(layer_size=100_000)
    setting.add(image, NAME)
    async with setting.store().running() as store:
        await setting.until_shared(image.digests)
        data = image.blobs[image.layers[0]]
        chunks = [data[start : start + 4096] for start in range(0, len(data), 4096)]
        want = tuple(bytes.fromhex(Digest.of(chunk).hex) for chunk in chunks)
        assert await store.checksums(image.layers[0], 4096) == want


async def test_a_layer_that_has_rotted_is_found_and_stays_withdrawn(setting: Setting) -> None:
    image = build_image()
    setting.add(image, NAME)
    async with setting.store(timing=Timing(look_interval_seconds=0.1)).running() as store:
        await setting.until_shared(image.digests)
        rot(blob_file(setting, image.layers[0]))
        with pytest.raises(SourceUnavailable, match="not what its digest says"):
            await store.checksums(image.layers[0], 4096)
        rest = image.digests - {image.layers[0]}
        assert set(setting.advertised.blobs) == rest
        # Regular looks follow; a sign of one that began later is the new image's coming.
        other = build_image(seed=9)
        await asyncio.to_thread(setting.add, other, "example.local/test/other:v1")
        await setting.until_shared(rest | other.digests)


async def test_a_manifest_that_has_rotted_is_not_shared_nor_believed(setting: Setting) -> None:
    image, other = build_image(), build_image(seed=9)
    setting.add(image, NAME)
    setting.add(other, "example.local/test/other:v1")
    rot(blob_file(setting, image.manifest))
    async with setting.store().running():
        await setting.until_shared({image.target} | other.digests)


async def test_containerd_may_come_later(absent_containerd: Containerd, executor: Executor, tmp_path: Path) -> None:
    setting = Setting(absent_containerd, executor, tmp_path)
    image = build_image()
    async with setting.store(timing=Timing(retry_seconds_max=0.2)).running() as store:
        assert store.state().version is None
        await asyncio.to_thread(absent_containerd.start)
        await asyncio.to_thread(setting.add, image, NAME)
        await setting.until_shared(image.digests)


async def test_a_restart_withdraws_nothing_and_what_came_meanwhile_is_found(setting: Setting) -> None:
    first, second = build_image(seed=1), build_image(seed=2)
    setting.add(first, NAME)
    async with setting.store(timing=Timing(retry_seconds_max=0.2)).running() as store:
        await setting.until_shared(first.digests)
        changes = setting.advertised.changes
        await asyncio.to_thread(setting.containerd.stop, signal.SIGKILL)
        await eventually(lambda: store.state().version is None, "away")
        assert list(store.offers(content_of(first.config, len(first.blobs[first.config])), 0)) == []
        with pytest.raises(SourceUnavailable, match="away"):
            await store.fetch(first.config, ByteRange(0, 1), Collected())
        await asyncio.to_thread(setting.containerd.start)
        await asyncio.to_thread(setting.add, second, "example.local/test/other:v1")
        await setting.until_shared(first.digests | second.digests)
        assert setting.advertised.changes == changes + 1
        sink = Collected()
        await store.fetch(first.config, ByteRange(0, 5), sink)
        assert sink.data == first.blobs[first.config][:5]


async def test_files_are_served_while_containerd_is_away(setting: Setting) -> None:
    image = build_image()
    setting.add(image, NAME)
    timing = Timing(grace_seconds=0.0)
    async with setting.store(content_dir=setting.containerd.content_dir, timing=timing).running() as store:
        await setting.until_shared(image.digests)
        await asyncio.to_thread(setting.containerd.stop)
        await eventually(lambda: store.state().version is None, "away")
        data = image.blobs[image.layers[0]]
        [offer] = store.offers(content_of(image.layers[0], len(data)), 0)
        sink = Collected()
        await offer.fetch(ByteRange(0, len(data)), sink)
        assert sink.data == data


async def test_what_only_its_process_can_read_is_withdrawn_when_containerd_stays_away(setting: Setting) -> None:
    image = build_image()
    setting.add(image, NAME)
    async with setting.store(timing=Timing(grace_seconds=0.2, retry_seconds_max=0.2)).running():
        await setting.until_shared(image.digests)
        await asyncio.to_thread(setting.containerd.stop)
        await setting.until_shared(set())
        assert setting.advertised.tags == {}


async def test_an_abandoned_read_leaves_the_store_usable(setting: Setting) -> None:
    image = build_image(layer_size=8 << 20)
    setting.add(image, NAME)

    class Left(Exception):
        pass

    class Leaving(Collected):
        def write(self, data: bytes | memoryview) -> None:
            raise Left

    async with setting.store().running() as store:
        await setting.until_shared(image.digests)
        data = image.blobs[image.layers[0]]
        with pytest.raises(Left):
            await store.fetch(image.layers[0], ByteRange(0, len(data)), Leaving())
        sink = Collected()
        await store.fetch(image.layers[0], ByteRange(0, len(data)), sink)
        assert sink.data == data


def blob_file(setting: Setting, digest: Digest) -> Path:
    return setting.containerd.content_dir / "blobs" / "sha256" / digest.hex


def rot(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.chmod(0o644)
    file.write_bytes(data)
