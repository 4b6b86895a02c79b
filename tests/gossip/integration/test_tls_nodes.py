"""The gossip door with certificates: only members of the cluster's CA, each under its own name."""

from __future__ import annotations

import datetime as dt
import ipaddress
import itertools
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from peerd_gossip import (
    Gossip,
    GossipConfig,
    GossipUnavailable,
    Member,
    MemberState,
    StaticMembership,
    TlsFiles,
    key_hash,
)
from peerd_gossip.membership.static import StaticTiming

LIVES = itertools.count(1_700_000_000_000)
Until = Callable[..., Awaitable[None]]
QUICK = StaticTiming(greet_s=0.1, answer_s=0.5, failed_after_s=1.0)


class Authority:
    """A cluster CA in a folder."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "peerd test CA")])
        self._cert = self._sign(self._name, self._key.public_key(), [], ca=True)
        (folder / "ca.pem").write_bytes(self._cert.public_bytes(serialization.Encoding.PEM))

    def issue(self, name: str, host: str) -> TlsFiles:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        names = [x509.DNSName(f"{name}.peerd"), x509.IPAddress(ipaddress.ip_address(host))]
        cert = self._sign(subject, key.public_key(), names, ca=False)
        files = TlsFiles(self._folder / "ca.pem", self._folder / f"{name}.pem", self._folder / f"{name}.key")
        files.cert.write_bytes(cert.public_bytes(serialization.Encoding.PEM))
        files.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return files

    def _sign(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey, names: list[x509.GeneralName], *, ca: bool
    ) -> x509.Certificate:
        now = dt.datetime.now(dt.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(hours=1))
            .not_valid_after(now + dt.timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self._key, hashes.SHA256())


def node(name: str, host: str, tls: TlsFiles | None, *join: str) -> AbstractAsyncContextManager[Gossip]:
    me = Member(name, next(LIVES), f"{host}:5001", f"{host}:0")
    return Gossip.running(GossipConfig(me=me, bind=f"{host}:0", tls=tls), StaticMembership(join, timing=QUICK))


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "ca")


def alive(gossip: Gossip) -> set[str]:
    return {member.name for member, state in gossip.members() if state is MemberState.ALIVE}


async def test_members_of_one_ca_find_each_other_and_exchange_filters(authority: Authority, until: Until) -> None:
    async with AsyncExitStack() as stack:
        a = await stack.enter_async_context(node("a", "127.0.0.1", authority.issue("a", "127.0.0.1")))
        b = await stack.enter_async_context(node("b", "127.0.0.2", authority.issue("b", "127.0.0.2"), a.me.gossip_addr))
        c = await stack.enter_async_context(node("c", "127.0.0.3", authority.issue("c", "127.0.0.3"), a.me.gossip_addr))
        c.advertise([key_hash("blob")])
        await until(lambda: a.holders(key_hash("blob")) == [c.me] and b.holders(key_hash("blob")) == [c.me])


async def test_a_node_with_another_ca_or_none_is_nobody(authority: Authority, tmp_path: Path, until: Until) -> None:
    other = Authority(tmp_path / "other")
    async with AsyncExitStack() as stack:
        a = await stack.enter_async_context(node("a", "127.0.0.1", authority.issue("a", "127.0.0.1")))
        stranger = await stack.enter_async_context(
            node("stranger", "127.0.0.2", other.issue("stranger", "127.0.0.2"), a.me.gossip_addr)
        )
        plain = await stack.enter_async_context(node("plain", "127.0.0.3", None, a.me.gossip_addr))
        friend = await stack.enter_async_context(
            node("friend", "127.0.0.4", authority.issue("friend", "127.0.0.4"), a.me.gossip_addr)
        )
        await until(lambda: alive(a) == {"a", "friend"} == alive(friend))
        assert alive(stranger) == {"stranger"}
        assert alive(plain) == {"plain"}


async def test_a_member_that_uses_another_members_name_is_an_impostor(authority: Authority, until: Until) -> None:
    async with AsyncExitStack() as stack:
        a = await stack.enter_async_context(node("a", "127.0.0.1", authority.issue("a", "127.0.0.1")))
        mallory = authority.issue("mallory", "127.0.0.2")
        await stack.enter_async_context(node("victim", "127.0.0.2", mallory, a.me.gossip_addr))
        await until(lambda: a.statistics().refused.get("impostor"))
        assert alive(a) == {"a"}


async def test_certificates_that_can_not_be_read_are_an_error_of_the_start(tmp_path: Path) -> None:
    missing = TlsFiles(tmp_path / "ca.pem", tmp_path / "cert.pem", tmp_path / "key.pem")
    with pytest.raises(GossipUnavailable, match=r"ca\.pem"):
        async with node("a", "127.0.0.1", missing):
            pass


async def test_a_gossip_address_that_is_taken_is_an_error_of_the_start() -> None:
    async with node("a", "127.0.0.1", None) as a:
        me = Member("b", next(LIVES), "127.0.0.1:5001", a.me.gossip_addr)
        with pytest.raises(GossipUnavailable, match=r"can not be opened"):
            async with Gossip.running(GossipConfig(me=me, bind=a.me.gossip_addr), StaticMembership([])):
                pass
