"""What clients, operators, upstreams and peers do to nodes in a lap: each thing in a way of its own that may be left open."""

import random
import socket
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import quote

from tests.containerd.oci import OciImage, build_image
from tests.support.blob_store import BlobStore
from tests.support.made import content, write
from tests.support.nodes import Node
from tests.support.origin import Origin, always, file, then_close
from tests.support.ports import free_port
from tests.support.wire import End
from tests.upstream.conversation import response

LAYER_BYTES = 700_000
FILE_BYTES = 3_000_000
REGISTRY_NAME = "registry.test"

Job = Callable[[], None]


class Lap:
    """Contents that nobody has asked for yet, and what is done with them."""

    def __init__(self, number: int, storage: Path, store: BlobStore, origin: Origin, rng: random.Random) -> None:
        self._rng = rng
        self._repository = f"team/lap-{number}"
        self._image: OciImage = build_image(seed=f"lap {number}", layers=3, layer_size=LAYER_BYTES)
        self._image.publish(storage, self._repository, "1")
        self._data = content(f"lap {number}", FILE_BYTES)
        write(store.files / f"lap-{number}", f"lap {number}", FILE_BYTES)
        self._url = f"/blobs/{store.url}/lap-{number}"
        self._failing = self._upstreams(origin, number)

    def _upstreams(self, origin: Origin, number: int) -> dict[str, tuple[int, End]]:
        """Those that fail or are odd: what is asked of a node, what it answers, and how that ends."""
        data = content(f"odd {number}", 300_000)
        short = then_close(response(200, data[:1000], length=len(data), ETag='"1"'))
        scripts = {
            "away": (always(response(404)), (404, End.WHOLE)),
            "broken": (always(response(500)), (502, End.WHOLE)),
            "forbidden": (always(response(403)), (403, End.WHOLE)),
            "short": (short, (200, End.EARLY)),
            "nonsense": (then_close(b"220 mail.example ESMTP\r\n"), (502, End.WHOLE)),
            "versionless": (file(data), (200, End.WHOLE)),
            "unframed": (then_close(response(200, data, framed=False)), (200, End.WHOLE)),
        }
        targets = {
            f"/blobs/{origin.at(f'/{name}-{number}', script)}": answer for name, (script, answer) in scripts.items()
        }
        return {**targets, f"/blobs/http://127.0.0.1:{free_port()}/refused-{number}": (502, End.WHOLE)}

    def jobs(self, nodes: Sequence[Node]) -> list[Job]:
        """All of it on each node, in an order of chance."""
        made: list[Job] = []
        for node in nodes:
            made += [lambda node=node: self.pull(node), lambda node=node: self.reset_in_a_body(node)]
            spans = [self._span() for _ in range(12)]
            made += [lambda node=node, span=span: self.read(node, *span) for span in spans]
            made += [lambda node=node: self.read_parts(node), lambda node=node: self.hang_up_in_a_body(node)]
            made += [lambda node=node: self.hang_up_in_a_request(node), lambda node=node: self.purge(node)]
            made += [
                lambda node=node, target=target, answer=answer: self.ask_a_failing_upstream(node, target, *answer)
                for target, answer in self._failing.items()
            ]
        self._rng.shuffle(made)
        return made

    def _span(self) -> tuple[int, int]:
        start = self._rng.randrange(FILE_BYTES)
        return start, self._rng.randint(start, min(FILE_BYTES, start + 400_000) - 1)

    def pull(self, node: Node) -> None:
        base = f"/v2/{self._repository}"
        head = node.ask(f"{base}/manifests/1?ns={REGISTRY_NAME}", method="HEAD")
        assert head.headers["docker-content-digest"] == str(self._image.target)
        for digest, data in self._image.blobs.items():
            kind = "blobs" if digest in (self._image.config, *self._image.layers) else "manifests"
            reply = node.ask(f"{base}/{kind}/{digest}?ns={REGISTRY_NAME}")
            assert reply.correct
            assert reply.body == data

    def read(self, node: Node, first: int, last: int) -> None:
        reply = node.ask(self._url, headers={"Range": f"bytes={first}-{last}"})
        assert reply.correct
        assert reply.body == self._data[first : last + 1]

    def read_parts(self, node: Node) -> None:
        reply = node.ask(self._url, headers={"Range": "bytes=0-99,1000000-1400000,-5"})
        assert reply.status == 206

    def hang_up_in_a_body(self, node: Node) -> None:
        with node.connect() as wire:
            assert wire.begin(self._url).status == 200
            wire.read(100_000)

    def reset_in_a_body(self, node: Node) -> None:
        with node.connect() as wire:
            assert wire.begin(self._url).status == 200
            wire._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def hang_up_in_a_request(self, node: Node) -> None:
        with socket.create_connection((node.host, node.http_port)) as connection:
            connection.sendall(f"GET {self._url} HT".encode())

    def purge(self, node: Node) -> None:
        reply = node.ask(f"/api/v1/contents/{quote(str(self._image.layers[0]), safe='')}", method="DELETE")
        assert reply.status in (200, 204, 404), reply.body

    def ask_a_failing_upstream(self, node: Node, target: str, status: int, end: End) -> None:
        reply = node.ask(target)
        assert (reply.status, reply.end) == (status, end), (target, reply.body[:300])
