"""Who may speak at a door with certificates, before and after they are replaced under a running node."""

import asyncio
import datetime as dt
import ssl

import pytest

from app.cli.authority import new_authority
from app.server.certificates import Certificates
from app.server.doors import bind, open_door
from app.settings import Address
from tests.support.certificates import written

NOW = dt.datetime.now(dt.UTC)
LONG_AGO = NOW - dt.timedelta(days=400)


async def app(_scope, _receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
    await send({"type": "http.response.body", "body": b"bytes"})


@pytest.fixture
def authority():
    return new_authority(days=1000, now=LONG_AGO)


@pytest.fixture
async def door(tmp_path, authority):
    certificates = Certificates(written(tmp_path / "door", authority, "node-a"))
    async with open_door(
        "peer", bind("peer", Address("127.0.0.1", 0)), app, tls=certificates, drain_seconds=1
    ) as opened:
        yield opened.address


async def what_is_got(address, context, *, sni="node-a.peerd"):
    """The bytes that a client with this context is given; empty where it is refused."""
    context.check_hostname = False
    try:
        reader, writer = await asyncio.open_connection(address.host, address.port, ssl=context, server_hostname=sni)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answer = await asyncio.wait_for(reader.read(), 30)
        writer.close()
    except (OSError, ssl.SSLError):
        return b""
    return answer.partition(b"\r\n\r\n")[2]


def client(files):
    context = Certificates(files).client()
    context.check_hostname = False
    return context


async def test_a_member_is_served(door, tmp_path, authority):
    assert await what_is_got(door, client(written(tmp_path / "b", authority, "node-b"))) == b"bytes"


async def test_a_member_that_names_no_server_is_served(door, tmp_path, authority):
    assert await what_is_got(door, client(written(tmp_path / "b", authority, "node-b")), sni="") == b"bytes"


async def test_who_shows_no_certificate_gets_no_byte(door, tmp_path):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    assert await what_is_got(door, context) == b""


async def test_who_comes_with_a_certificate_of_another_ca_gets_no_byte(door, tmp_path):
    context = client(written(tmp_path / "b", new_authority(days=10, now=NOW), "node-b"))
    context.verify_mode = ssl.CERT_NONE
    assert await what_is_got(door, context) == b""


async def test_who_comes_with_an_expired_certificate_gets_no_byte(door, tmp_path, authority):
    assert await what_is_got(door, client(written(tmp_path / "b", authority, "node-b", days=1, now=LONG_AGO))) == b""


async def test_tls_1_2_is_not_spoken(door, tmp_path, authority):
    context = client(written(tmp_path / "b", authority, "node-b"))
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
    assert await what_is_got(door, context) == b""


async def test_a_replaced_ca_takes_effect_without_a_restart(door, tmp_path, authority):
    former = client(written(tmp_path / "b", authority, "node-b"))
    assert await what_is_got(door, former) == b"bytes"
    new = new_authority(days=10, now=NOW)
    written(tmp_path / "door", new, "node-a")
    former.verify_mode = ssl.CERT_NONE
    assert await what_is_got(door, former) == b""
    assert await what_is_got(door, client(written(tmp_path / "b", new, "node-b"))) == b"bytes"


def test_files_that_are_half_replaced_change_nothing(tmp_path, authority):
    files = written(tmp_path / "a", authority, "node-a")
    certificates = Certificates(files)
    before = certificates.client()
    files.cert.write_text("-----BEGIN CERTIFICATE-----\nhalf")
    assert certificates.client() is before
    assert certificates.generation == 0
    written(tmp_path / "a", authority, "node-a", days=5, now=NOW)
    assert certificates.client() is not before
    assert certificates.generation == 1
    assert certificates.expires_at == pytest.approx((NOW + dt.timedelta(days=5)).timestamp(), abs=2)


async def test_an_idle_connection_does_not_keep_the_door_open(tmp_path, authority):
    certificates = Certificates(written(tmp_path / "door", authority, "node-a"))
    context = client(written(tmp_path / "b", authority, "node-b"))
    async with asyncio.timeout(15):  # A goodbye that is waited for takes 30 s.
        async with open_door(
            "peer", bind("peer", Address("127.0.0.1", 0)), app, tls=certificates, drain_seconds=60
        ) as opened:
            address = opened.address
            reader, writer = await asyncio.open_connection(
                address.host, address.port, ssl=context, server_hostname="node-a.peerd"
            )
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            await reader.readuntil(b"bytes")
            writer.transport.pause_reading()
        writer.transport.abort()
