"""What tests of upstream read with: a sink, contents, and a clock that jumps."""

import random
import threading

from app.content.byte_range import ByteRange
from app.content.key import ContentKey
from app.content.location import FileAtUrl, Location
from app.content.source import Abandoned, Content, Stat
from app.content.validator import Validator
from app.upstream.config import UpstreamConfig
from app.upstream.patience import Patience
from app.upstream.source import UpstreamSource

LOOPBACK = UpstreamConfig(allow=("127.0.0.1:*",))


class Bytes:
    """A sink that keeps what it is given; told to abandon, it does so at the next write."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.written = threading.Event()
        self.abandoned = False

    def write(self, data: bytes | memoryview) -> None:
        if self.abandoned:
            raise Abandoned
        self.data += data
        self.written.set()

    def expect_checksum(self, sha256: bytes) -> None:
        raise AssertionError("upstream knows no checksum of a chunk")


class VirtualTime:
    """Sleeping moves the clock at once; what was slept is remembered."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    def patience(self, deadline_seconds: float = 10.0) -> Patience:
        return Patience(deadline_seconds, rng=random.Random(0), sleep=self.sleep, clock=self.clock)


def file(url: str, **rest) -> FileAtUrl:
    return FileAtUrl(url, **rest)


def etag(text: str) -> Validator:
    return Validator(text, None, None)


def content(
    location: Location | None, size: int, validator: Validator | None = None, *, ranged: bool = True
) -> Content:
    """A content as the reader would make it after a first look."""
    return Content(ContentKey("test"), None, size, Stat(size, validator, ranged=ranged), location)


async def fetch(source: UpstreamSource, what: Content, start: int, stop: int) -> bytes:
    """The bytes that the first offer gives for a range."""
    sink = Bytes()
    try:
        await next(source.offers(what, 0)).fetch(ByteRange(start, stop), sink)
    except Exception as error:
        error.add_note(f"{len(sink.data)} bytes were in the sink")
        error.got = bytes(sink.data)  # what came before is still true
        raise
    return bytes(sink.data)
