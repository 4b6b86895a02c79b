"""A node with all its doors, before an origin on this machine that is its only upstream."""

import os
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.leaks.holdings import at_rest
from tests.support.made import content, digest_of
from tests.support.nodes import Node, running_nodes
from tests.support.origin import Origin, always, file
from tests.support.ports import free_port
from tests.upstream.conversation import response

REGISTRY_NAME = "registry.test"
FILE = content("fuzz", 40_000)
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
MANIFEST = b'{"schemaVersion": 2, "mediaType": "%s", "config": {}, "layers": []}' % MANIFEST_TYPE.encode()

SLACK = {"files": 8, "sockets": 24, "threads": 16, "tasks": 0}
"""Kept connections to the origin, and the threads that use them, grow to what their pools allow."""

SEED = int(os.environ.get("PEERD_FUZZ_SEED") or random.SystemRandom().getrandbits(32))
"""Of all that is drawn here."""

CASES = int(os.environ.get("PEERD_FUZZ_CASES") or 1500)
"""Conversations on raw sockets, over all doors; 10,000 in the long form."""


@dataclass(frozen=True)
class Fuzzed:
    """A node, and how to ask for what there is behind it."""

    node: Node
    metrics_port: int
    origin: str

    @property
    def ports(self) -> dict[str, int]:
        """Of each door that speaks HTTP."""
        return {"node": self.node.http_port, "metrics": self.metrics_port, "peer": self.node.peer_port}

    def asked_once(self) -> None:
        """Each kind of request once, so that what a node makes on demand is there."""
        for target in (
            f"/blobs/http://{self.origin}/file",
            f"/v2/app/manifests/1?ns={REGISTRY_NAME}",
            f"/v2/app/blobs/{digest_of(FILE)}?ns={REGISTRY_NAME}",
            "/api/v1/status",
        ):
            assert self.node.ask(target).correct


def publish(origin: Origin) -> None:
    """What upstream has: a file, an image's parts, and what fails at once."""
    origin.at("/file", file(FILE, ETag='"1"', Last_Modified="Sun, 01 Jun 2025 08:00:00 GMT"))
    origin.at("/empty", file(b"", ETag='"0"'))
    for status in (401, 403, 404):
        origin.at(f"/{status}", always(response(status)))
    manifest = file(MANIFEST, Content_Type=MANIFEST_TYPE, Docker_Content_Digest=digest_of(MANIFEST))
    for reference in ("1", digest_of(MANIFEST)):
        origin.at(f"/v2/app/manifests/{reference}", manifest)
    origin.at(f"/v2/app/blobs/{digest_of(FILE)}", file(FILE))


@pytest.fixture(scope="module")
def fuzzed(new_folder: Callable[[], Path], origin: Origin) -> Iterator[Fuzzed]:
    """After all that was done to it, it is ready, holds no more than before, and has logged no traceback."""
    print(f"PEERD_FUZZ_SEED={SEED}")
    publish(origin)
    port = free_port()
    with running_nodes(
        new_folder(),
        1,
        *("--metrics-addr", f"127.0.0.1:{port}"),
        *("--registry", f"{REGISTRY_NAME}={origin.url}", "--default-registry", REGISTRY_NAME),
        *("--upstream-deny-unlisted", "--mirror-timeout", "1s", "--chunk-size", "16KiB"),
    ) as [node]:
        fuzzed = Fuzzed(node, port, origin.netloc)
        fuzzed.asked_once()
        before = at_rest(node)
        yield fuzzed
        assert node.ask("/readyz").status == 200
        fuzzed.asked_once()
        after = at_rest(node)
        grown = {
            kind: (before[kind], after[kind]) for kind, slack in SLACK.items() if after[kind] > before[kind] + slack
        }
        assert not grown, f"before and after: {grown}"
