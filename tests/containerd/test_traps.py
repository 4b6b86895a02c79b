"""What containerd does not forgive, and what upstreams do: whatever peerd's own upstream answers, the pull succeeds.

containerd asks peerd first, then the registry itself. What peerd takes for that registry is a server that misbehaves; the one that
containerd knows is in order. So a pull fails only by what peerd makes of its upstream's answers.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from app.content.digest import Digest
from tests.containerd.daemon import Containerd
from tests.containerd.oci import OciImage, build_image
from tests.containerd.registry import tiny_registry
from tests.support.nodes import Node, running_alone
from tests.support.origin import Origin, always, file
from tests.upstream.conversation import Asked, Script, Wire, part, response

pytestmark = [pytest.mark.xdist_group("containerd-traps")]

CHUNK_BYTES = 1 << 20
NEVER_ANSWERED = (401, 403, 408, 429)
"""containerd repeats the request at once five times, or gives up, instead of going to the registry."""


@pytest.fixture(scope="module")
def running_containerd() -> Iterator[Containerd]:
    containerd = Containerd()
    try:
        containerd.start()
        yield containerd
    finally:
        containerd.close()


@pytest.fixture(scope="module")
def node(new_folder: Callable[[], Path], origin: Origin) -> Iterator[Node]:
    with running_alone(new_folder(), "--registry", f"trap.test={origin.url}", "--mirror-timeout", "500ms") as node:
        yield node


Fault = Callable[[bytes], Script]
"""Makes a script of the bytes that an honest server would send."""


def says(status: int, **headers: str) -> Fault:
    return lambda _data: always(response(status, b"{}", **headers))


def ends(how: str, *, after: str) -> Fault:
    """An answer that stops: before its head, after its head, or in the middle of its body."""

    def fault(data: bytes) -> Script:
        async def script(asked: Asked, wire: Wire) -> None:
            whole = part(data, asked)
            head = whole.index(b"\r\n\r\n") + 4
            await wire.send(whole[: {"nothing": 0, "head": head, "middle": (head + len(whole)) // 2}[after]])
            match how:
                case "close":
                    wire.close()
                case "reset":
                    wire.reset()
                case "silence":
                    await wire.gone()

        return script

    return fault


FAULTS: Mapping[str, Fault] = {
    **{f"{status}": says(status) for status in (400, 403, 404, 408, 416, 500, 502)},
    "401 that asks for a password": says(401, WWW_Authenticate='Basic realm="trap"'),
    "401 whose tokens come from nowhere": says(401, WWW_Authenticate='Bearer realm="http://127.0.0.1:9/token"'),
    "429, come back in an hour": says(429, Retry_After="3600"),
    "503, come back in a second": says(503, Retry_After="1"),
    "a redirect to itself": says(307, Location="?again"),
    **{
        f"{how} after {after}": ends(how, after=after)
        for how in ("close", "reset", "silence")
        for after in ("nothing", "head", "middle")
    },
}
LIES: Mapping[str, Fault] = {
    "fewer bytes than it is": lambda data: file(data[: len(data) // 2]),
    "more bytes than it is": lambda data: file(data + b"more"),
    "another end": lambda data: file(data[:-1] + bytes([255 - data[-1]])),
}
"""Not of a tag: what the registry says of that containerd believes, with peerd and without."""


def serve(origin: Origin, repository: str, image: OciImage, faulty: Callable[[str], Fault | None]) -> None:
    """Have the origin serve an image, but for what `faulty` names a fault for, by kind: tag, manifest or blob."""

    def put(kind: str, place: str, digest: Digest) -> None:
        data, fault = image.blobs[digest], faulty(kind)
        headers = {"Content_Type": image.media_types[digest], "Docker_Content_Digest": str(digest)}
        origin.at(f"/v2/{repository}/{place}", file(data, **headers) if fault is None else fault(data))

    put("tag", "manifests/v1", image.target)
    for digest in (image.target, image.manifest):
        put("manifest", f"manifests/{digest}", digest)
    for digest in (image.config, *image.layers):
        put("blob", f"blobs/{digest}", digest)


def pull(containerd: Containerd, folder: Path, node: Node, repository: str, image: OciImage) -> list[str]:
    """Have containerd pull the image; returns what the registry itself was asked for."""
    with tiny_registry(image) as registry:
        (folder / "trap.test").mkdir()
        (folder / "trap.test" / "hosts.toml").write_text(f'server = "{registry.url}"\n[host."http://{node.netloc}"]\n')
        containerd.ctr("content", "fetch", "--hosts-dir", folder, f"trap.test/{repository}:v1")
        assert {str(digest) for digest in image.digests} <= containerd.blobs()
        for status in NEVER_ANSWERED:
            assert node.metric("peerd_request_duration_seconds_count", code=str(status)) == 0
        return registry.asked


def image_for(name: str, layer_size: int) -> tuple[str, OciImage]:
    return f"traps/{Digest.of(name.encode()).hex[:12]}", build_image(seed=name, layers=2, layer_size=layer_size)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("where", ["tag", "manifest", "blob"])
def test_an_upstream_that_answers(
    running_containerd: Containerd, node: Node, origin: Origin, tmp_path: Path, where: str, fault: str
) -> None:
    repository, image = image_for(f"{where} {fault}", 2 * CHUNK_BYTES + 5)
    serve(origin, repository, image, lambda kind: FAULTS[fault] if kind == where else None)
    pull(running_containerd, tmp_path, node, repository, image)


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.parametrize("where", ["manifest", "blob"])
def test_an_upstream_that_lies(
    running_containerd: Containerd, node: Node, origin: Origin, tmp_path: Path, where: str, lie: str
) -> None:
    repository, image = image_for(f"{where} {lie}", 2 * CHUNK_BYTES + 5)
    serve(origin, repository, image, lambda kind: LIES[lie] if kind == where else None)
    asked = pull(running_containerd, tmp_path, node, repository, image)
    assert asked, "containerd goes to the registry for what is wrong"


def test_an_upstream_in_order_is_all_that_is_asked(
    running_containerd: Containerd, node: Node, origin: Origin, tmp_path: Path
) -> None:
    repository, image = image_for("in order", 2 * CHUNK_BYTES + 5)
    serve(origin, repository, image, lambda _kind: None)
    assert pull(running_containerd, tmp_path, node, repository, image) == []
    blobs = [origin.asked_for(f"/v2/{repository}/blobs/{layer}") for layer in image.layers]
    assert [len(asked) for asked in blobs] == [3, 3], "once for each chunk: its size stands in the manifest"
