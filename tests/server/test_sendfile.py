"""What uvicorn is held to: a body sent from a file is byte for byte that file's, in every mixture of messages."""

import asyncio
import contextlib
import datetime as dt
import gc
import os
import random
import socket
import struct
import weakref

import pytest
import uvicorn
import uvloop
from starlette.requests import Request

from app.cli.authority import new_authority
from app.content.descriptor import Slice
from app.content.source import SourceKind
from app.server import pieces, sendfile
from app.server.certificates import Certificates
from app.server.sendfile import HEAD, ZEROCOPY, BodyBrokenOff, ClientLeft, SendfileProtocol, outlet_of
from tests.support.certificates import written


class Serve:
    """Opens doors, and converses with them, all plain or all over mutual TLS."""

    def __init__(self, authority=None, folder=None):
        self.own = self.client = None
        if authority is not None:
            self.own = Certificates(written(folder / "own", authority, "node-a")).door
            self.client = Certificates(written(folder / "client", authority, "node-b")).client()
            self.client.check_hostname = False

    @contextlib.asynccontextmanager
    async def __call__(self, app):
        listener = socket.create_server(("127.0.0.1", 0))
        config = uvicorn.Config(
            app, http=SendfileProtocol, loop="none", lifespan="off", log_config=None, timeout_keep_alive=5
        )
        config.load()
        config.ssl = self.own
        server = uvicorn.Server(config)
        server.install_signal_handlers = lambda: None
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(server.serve([listener]))
            while not server.started:
                await asyncio.sleep(0.01)
            try:
                yield listener.getsockname()
            finally:
                server.should_exit = True

    async def connect(self, address):
        return await asyncio.open_connection(*address, ssl=self.client, server_hostname="" if self.client else None)

    async def conversation(self, address, request: bytes) -> bytes:
        reader, writer = await self.connect(address)
        writer.write(request)
        data = await asyncio.wait_for(reader.read(-1), 30)
        writer.close()
        return data


@pytest.fixture(params=["plain", "tls"])
def served(request, tmp_path):
    return Serve(*(() if request.param == "plain" else (new_authority(days=10, now=dt.datetime.now(dt.UTC)), tmp_path)))


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "data"
    path.write_bytes(os.urandom(9 << 20))
    fd = os.open(path, os.O_RDONLY)
    yield fd, path.read_bytes()
    os.close(fd)


def app_sending(pieces, length):
    async def app(scope, receive, send):
        assert ZEROCOPY in scope["extensions"]
        headers = [(b"content-length", b"%d" % length), (b"connection", b"close")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for piece in pieces:
            if isinstance(piece, bytes):
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            else:
                fd, offset, count = piece
                await send({"type": ZEROCOPY, "file": fd, "offset": offset, "count": count})
        await send({"type": "http.response.body", "body": b""})

    return app


async def test_a_whole_file_larger_than_every_buffer(served, file):
    fd, data = file
    async with served(app_sending([(fd, 0, len(data))], len(data))) as address:
        answer = await served.conversation(address, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    assert body == data


async def test_pieces_of_files_and_of_memory_in_any_order_keep_their_order(served, file):
    fd, data = file
    big = os.urandom(3 << 20)
    pieces = [b"--part\r\n", (fd, 100, 5000), big, (fd, 0, 1 << 20), b"", (fd, 7 << 20, 2 << 20), b"--end"]
    want = b"".join(p if isinstance(p, bytes) else data[p[1] : p[1] + p[2]] for p in pieces)
    async with served(app_sending(pieces, len(want))) as address:
        answer = await served.conversation(address, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert answer.partition(b"\r\n\r\n")[2] == want


async def test_a_body_without_a_length_goes_in_chunks(served, file):
    fd, data = file

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": [(b"connection", b"close")]})
        for offset, count in (0, 5000), (5000, 0), (5000, len(data) - 5000):
            await send({"type": ZEROCOPY, "file": fd, "offset": offset, "count": count})
            await send({"type": "http.response.body", "body": b"|", "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    async with served(app) as address:
        answer = await served.conversation(address, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    head, _, rest = answer.partition(b"\r\n\r\n")
    assert b"transfer-encoding: chunked" in head.lower()
    body = []
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        body.append(rest[: int(size, 16)])
        assert rest[int(size, 16) :].startswith(b"\r\n")
        rest = rest[int(size, 16) + 2 :]
    assert b"".join(body) == data[:5000] + b"||" + data[5000:] + b"|"


async def test_head_is_answered_without_a_body(served, file):
    fd, _ = file
    async with served(app_sending([(fd, 0, 1 << 20)], 1 << 20)) as address:
        answer = await served.conversation(address, b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b"content-length: 1048576" in answer
    assert answer.endswith(b"\r\n\r\n")


async def test_a_head_that_is_ready_is_sent_as_it_is(served, file):
    fd, data = file

    async def app(scope, receive, send):
        await send({"type": HEAD, "status": 206, "lines": b"content-length: 5000\r\netag: x\r\n", "count": 5000})
        for offset, count in (0, 2000), (2000, 3000):
            await send({"type": ZEROCOPY, "file": fd, "offset": offset, "count": count})
        await send({"type": "http.response.body", "body": b""})

    async with served(app) as address:
        asking = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" + b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        answer = await served.conversation(address, asking)
    first, second, end = answer.split(data[:5000])
    for head, is_last in (first, False), (second, True):
        lines = head.split(b"\r\n")
        assert lines[0] == b"HTTP/1.1 206 Partial Content"
        assert {b"content-length: 5000", b"etag: x"} <= set(lines)
        assert (b"connection: close" in lines) is is_last
        assert any(line.startswith(b"date: ") for line in lines)
    assert end == b""


async def test_a_head_that_is_ready_promises_no_less_than_is_sent(served, file):
    fd, data = file

    async def app(scope, receive, send):
        await send({"type": HEAD, "status": 200, "lines": b"content-length: 10\r\n", "count": 10})
        await send({"type": ZEROCOPY, "file": fd, "offset": 0, "count": 11})

    async with served(app) as address:
        assert data[:11] not in await served.conversation(address, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")


async def test_what_is_on_disk_only_is_read_too(file, tmp_path):
    fd, data = file
    os.fsync(fd)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    offset, got = 0, []
    while piece := await pieces.read_piece(fd, len(data) - offset, offset):
        got.append(bytes(piece))
        offset += len(piece)
    assert b"".join(got) == data


async def test_a_file_that_is_shorter_than_was_said_ends_the_connection(served, file):
    fd, data = file
    async with served(app_sending([(fd, 1 << 20, len(data))], len(data))) as address:
        answer = await served.conversation(address, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert answer.partition(b"\r\n\r\n")[2] == data[1 << 20 :]


async def test_a_client_that_takes_nothing_is_cut_off(served, file, monkeypatch):
    fd, data = file
    monkeypatch.setattr(sendfile, "STALLED_SECONDS", 0.5)
    ended: list[type[BaseException]] = []

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % (1 << 40))]})
        try:
            while True:
                await send({"type": ZEROCOPY, "file": fd, "offset": 0, "count": len(data)})
        except Exception as error:
            ended.append(type(error))
            raise

    async with served(app) as address, asyncio.timeout(30):
        reader, writer = await served.connect(address)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await reader.readexactly(1000)
        reader._transport.pause_reading()
        while not ended:
            await asyncio.sleep(0.01)
        writer.transport.abort()
    assert ended == [ClientLeft]


async def test_two_requests_on_one_connection(served, file):
    fd, data = file

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"1000")]})
        await send({"type": ZEROCOPY, "file": fd, "offset": int(scope["path"][1:]), "count": 1000})
        await send({"type": "http.response.body", "body": b""})

    async with served(app) as address:
        pipelined = b"GET /5 HTTP/1.1\r\nHost: x\r\n\r\nGET /77 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        answer = await served.conversation(address, pipelined)
    first, second = answer.split(b"HTTP/1.1 200 OK")[1:]
    assert first.endswith(data[5:1005])
    assert second.endswith(data[77:1077])


async def test_a_body_that_is_broken_off_ends_with_an_orderly_close(served, file):
    fd, data = file

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(data))]})
        await send({"type": ZEROCOPY, "file": fd, "offset": 0, "count": 1 << 20})
        raise BodyBrokenOff("no source has the rest")

    async with served(app) as address:
        answer = await served.conversation(address, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")  # a reset would raise here
    assert answer.partition(b"\r\n\r\n")[2] == data[: 1 << 20]


async def test_a_client_that_leaves_ends_the_answer(served, file):
    fd, data = file
    ended = asyncio.Event()

    async def app(scope, receive, send):
        try:
            await send(
                {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % (1 << 40))]}
            )
            while True:
                await send({"type": ZEROCOPY, "file": fd, "offset": 0, "count": len(data)})
        finally:
            ended.set()

    async with served(app) as address:
        reader, writer = await served.connect(address)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await reader.readexactly(1 << 20)
        writer.close()
        await asyncio.wait_for(ended.wait(), 30)


async def test_a_client_that_leaves_within_its_request_is_no_error_of_the_application(served, caplog):
    left = asyncio.Event()

    async def app(scope, receive, send):
        try:
            await Request(scope, receive).body()
        finally:
            left.set()

    async with served(app) as address:
        _, writer = await served.connect(address)
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf")
        await writer.drain()
        await asyncio.sleep(0.1)
        writer.close()
        await asyncio.wait_for(left.wait(), 30)
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_a_connection_that_broke_in_the_same_turn_of_the_loop_is_written_to_no_more():
    """uvloop closes a transport whose write failed at once, and raises RuntimeError for the next one."""
    ends: list[type[BaseException]] = []

    async def conversation_that_breaks() -> None:
        async def app(scope, receive, send):
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
            try:
                await send({"type": "http.response.start", "status": 200, "headers": []})
                for _ in range(3):
                    await send({"type": "http.response.body", "body": b"piece", "more_body": True})
            except Exception as error:
                ends.append(type(error))
                raise

        async with Serve()(app) as address, asyncio.timeout(20):
            client = socket.create_connection(address)
            client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            while not ends:
                await asyncio.sleep(0.01)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(conversation_that_breaks())
    assert ends == [ClientLeft]


class Fd:
    """A file as slices have it."""

    def __init__(self, fd):
        self.fileno = lambda: fd


def sending_from_threads(fd, length, *, whole_head, rng):
    """An application that lets a thread and the loop send by turns, as the client takes it."""

    async def app(scope, receive, send):
        outlet = outlet_of(scope)
        assert not outlet.is_open
        if whole_head:
            await send({"type": "http.response.start", "status": 206, "headers": [(b"content-length", b"%d" % length)]})
        else:
            outlet.promise(206, lambda kind: b"content-length: %d\r\nx-from: %b\r\n" % (length, kind.encode()), length)
        position = 0
        while position < length:
            step = min(length - position, rng.randrange(1, 1 << 20))
            if outlet.is_open and rng.random() < 0.8:
                position += await asyncio.to_thread(outlet.take, Slice(Fd(fd), position, step, SourceKind.UPSTREAM))
                step = min(length - position, step)
            if rng.random() < 0.5 and step:
                if not whole_head and not position:
                    await send(
                        {"type": HEAD, "status": 206, "lines": b"content-length: %d\r\n" % length, "count": length}
                    )
                await send({"type": ZEROCOPY, "file": fd, "offset": position, "count": step})
                position += step
        await send({"type": "http.response.body", "body": b""})

    return app


@pytest.mark.parametrize("whole_head", [True, False])
@pytest.mark.parametrize("seed", range(5))
async def test_a_thread_and_the_loop_send_one_body_by_turns(file, whole_head, seed):
    fd, data = file
    app = sending_from_threads(fd, len(data), whole_head=whole_head, rng=random.Random(seed))
    async with Serve()(app) as address:
        asking = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" + b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        answer = await Serve().conversation(address, asking)
    for _ in range(2):
        head, _, rest = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 206")
        assert rest[: len(data)] == data
        answer = rest[len(data) :]
    assert answer == b""


async def test_a_head_that_was_promised_goes_out_with_the_first_byte_from_a_thread(file):
    fd, data = file

    async def app(scope, receive, send):
        outlet = outlet_of(scope)
        outlet.promise(200, lambda kind: b"content-length: 10\r\nx-from: %b\r\n" % kind.encode(), 10)
        assert outlet.is_open
        part = Slice(Fd(fd), 0, 100, SourceKind.UPSTREAM)
        assert await asyncio.to_thread(outlet.take, part) == 10
        assert await asyncio.to_thread(outlet.take, part) == 0, "more than was promised"
        await send({"type": "http.response.body", "body": b""})

    async with Serve()(app) as address:
        answer = await Serve().conversation(address, b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"\r\nx-from: upstream\r\n" in head
    assert body == data[:10]


async def test_what_a_thread_can_not_send_the_loop_learns(file):
    """Threads never learn why: the client has left, or the file is shorter than it was said to be."""
    fd, data = file
    results = []

    async def app(scope, receive, send):
        outlet, length = outlet_of(scope), len(data) + 1
        outlet.promise(200, lambda _kind: b"content-length: %d\r\n" % length, length)
        try:
            for _ in range(1000):
                results.append(outlet.take(Slice(Fd(fd), len(data), 1, SourceKind.UPSTREAM)))
                await send({"type": ZEROCOPY, "file": fd, "offset": 0 if results[1:] else len(data), "count": 1})
                await asyncio.sleep(0.01)
        except Exception as error:
            results.append(type(error))
            raise

    async with Serve()(app) as address:
        assert await Serve().conversation(address, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n") != b""
    assert results == [0, BodyBrokenOff]


async def test_no_thread_sends_on_a_connection_that_is_lost(file):
    fd, data = file
    outlets, lost = [], asyncio.Event()

    async def app(scope, receive, send):
        outlet = outlet_of(scope)
        outlet.promise(200, lambda _kind: b"content-length: %d\r\n" % len(data), len(data))
        assert outlet.take(Slice(Fd(fd), 0, 1000, SourceKind.UPSTREAM)) == 1000
        outlets.append(outlet)
        while (await receive())["type"] != "http.disconnect":
            pass
        lost.set()

    async with Serve()(app) as address:
        reader, writer = await asyncio.open_connection(*address)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await reader.readexactly(1000)
        writer.close()
        await asyncio.wait_for(lost.wait(), 30)
        assert not outlets[0].is_open
        assert outlets[0].take(Slice(Fd(fd), 1000, 1000, SourceKind.UPSTREAM)) == 0


async def test_an_answer_that_has_ended_keeps_nothing_open(file):
    """Nor does the connection that is kept after it. The garbage collector does not come by."""
    kept = []

    async def app(scope, receive, send):
        outlet, told = outlet_of(scope), Fd(file[0])
        kept.append(weakref.ref(told))
        outlet.tell(lambda _kind, _count: told)
        outlet.promise(200, lambda _kind: b"content-length: 10\r\n%d" % told.fileno(), 10)
        await send({"type": HEAD, "status": 200, "lines": b"content-length: 0\r\n", "count": 0})
        await send({"type": "http.response.body", "body": b""})
        outlet.withdraw()

    gc.collect()
    gc.disable()
    try:
        async with Serve()(app) as address, asyncio.timeout(30):
            reader, writer = await asyncio.open_connection(*address)
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            await reader.readuntil(b"\r\n\r\n")
            while not kept or kept[0]() is not None:
                await asyncio.sleep(0.01)
            writer.close()
    finally:
        gc.enable()


async def test_there_is_no_outlet_over_tls_for_a_head_or_without_a_length(served, file):
    seen = []

    async def app(scope, receive, send):
        outlet = outlet_of(scope)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"connection", b"close")]})
        seen.append(outlet is not None and outlet.is_open)
        await send({"type": "http.response.body", "body": b""})

    async with served(app) as address:
        for method in (b"GET", b"HEAD"):
            await served.conversation(address, method + b" / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert seen == [False, False]
