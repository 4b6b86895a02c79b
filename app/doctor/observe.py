"""How the facts are come by: this machine, its containerd, its files, and the node. Every question has a time-out."""

import asyncio
import ctypes
import datetime as dt
import http.client
import os
import shutil
import socket
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from app.api.models import Status
from app.client import api
from app.client.node import Node
from app.containerd import hosts_toml
from app.containerd.api import ContainerdApi, ContainerdUnavailable
from app.containerd.config_toml import ConfigUnreadable, read_config
from app.containerd.hosts_dir import HostsDirRefused
from app.containerd.hosts_toml import HostsTomlRefused, door_url
from app.containerd.mirrors import mirror_folder, mirror_url
from app.containerd.registry_name import RegistryName
from app.doctor.facts import (
    CertificateFacts,
    ClockFacts,
    ConfigFacts,
    ContainerdFacts,
    DiskFacts,
    DoorFacts,
    Facts,
    MirrorFileFacts,
    NodeFacts,
    ReachFacts,
)
from app.errors import PeerdError
from app.settings import Address, Settings, TlsFiles

_ANSWER_SECONDS = 5.0
# Enough to find a closed port; a thousand members need not be called for that.
_MEMBERS_MAX = 32
# adjtimex(2): what it returns when the clock is not synchronised.
_TIME_ERROR = 5


def observe(settings: Settings, node: Node) -> Facts:
    """All facts about this machine and the node. Takes seconds when something does not answer; raises nothing of its own."""
    node_facts, status = observe_node(node)
    url = mirror_url(settings)
    if status is not None:
        # The node knows better than options that may not be the ones it runs with.
        door = Address.parse(status.node.doors.http)
        url = door_url(door.host, door.port)
    mirrors = tuple(_observe_mirror(settings, registry.name) for registry in settings.hosts)
    return Facts(
        containerd=observe_containerd(settings.containerd_socket),
        config=observe_config(settings),
        mirrors=mirrors,
        mirror_url=url,
        door=observe_door(url) if mirrors else None,
        node=node_facts,
        reach=observe_reach(node) if status is not None else (),
        certificate=observe_certificate(settings.tls, settings.node_name) if settings.tls else None,
        clock=observe_clock(),
        disk=observe_disk(settings, status),
    )


def observe_containerd(path: Path) -> ContainerdFacts:
    """Its version."""

    async def ask() -> str:
        async with asyncio.timeout(_ANSWER_SECONDS), ContainerdApi(path, "default") as containerd:
            return await containerd.version()

    if not path.exists():
        return ContainerdFacts(path, None, "no such socket")
    try:
        return ContainerdFacts(path, asyncio.run(ask()))
    except (ContainerdUnavailable, TimeoutError) as error:
        return ContainerdFacts(path, None, str(error) or "it is silent")


def observe_config(settings: Settings) -> ConfigFacts:
    """What its configuration says of mirrors."""
    folder = mirror_folder(settings).path
    try:
        return ConfigFacts(settings.containerd_config, read_config(settings.containerd_config), folder)
    except ConfigUnreadable as error:
        return ConfigFacts(settings.containerd_config, None, folder, str(error))


def _observe_mirror(settings: Settings, name: str) -> MirrorFileFacts:
    folder = mirror_folder(settings)
    registry = RegistryName.parse(name)
    usual = folder.path / registry.new_folder / "hosts.toml"
    try:
        file = folder.file(registry)
        if file is None:
            return MirrorFileFacts(name, usual, None)
        path = folder.path / file.folder / "hosts.toml"
        return MirrorFileFacts(name, path, tuple(hosts_toml.hosts(file.text)))
    except (HostsDirRefused, HostsTomlRefused) as error:
        return MirrorFileFacts(name, usual, None, f"{usual}: {error}")


def observe_door(url: str) -> DoorFacts:
    """Whether `/v2/` is answered there."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=_ANSWER_SECONDS)
    try:
        connection.request("GET", "/v2/")
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        return DoorFacts(url, _words(error))
    finally:
        connection.close()
    return DoorFacts(url, None if status == 200 else f"/v2/ is answered {status}: not peerd")


def observe_node(node: Node) -> tuple[NodeFacts, Status | None]:
    """What the node says of itself."""
    try:
        status = api.status(node)
    except PeerdError as error:
        return NodeFacts(node.url, error=str(error)), None
    counts = status.members
    facts = NodeFacts(
        node.url, status.node.state, status.node.version, status.node.membership, counts.alive, counts.failed
    )
    return facts, status


def observe_reach(node: Node) -> tuple[ReachFacts, ...]:
    """Which doors of live members can be connected to from here."""
    try:
        members = api.members(node).members
    except PeerdError:
        return ()
    alive = [member for member in members if member.state == "alive"][:_MEMBERS_MAX]
    wanted = [
        ReachFacts(member.name, member.me, door, address)
        for member in alive
        for door, address in (("peer", member.peer_address), ("gossip", member.gossip_address))
        if address
    ]
    with ThreadPoolExecutor(16) as threads:
        return tuple(threads.map(_reach, wanted))


def _reach(wanted: ReachFacts) -> ReachFacts:
    address = Address.parse(wanted.address)
    try:
        socket.create_connection((address.host, address.port), timeout=_ANSWER_SECONDS).close()
    except OSError as error:
        return ReachFacts(wanted.member, wanted.me, wanted.door, wanted.address, _words(error))
    return wanted


def observe_certificate(files: TlsFiles, node_name: str) -> CertificateFacts:
    """What is in this node's certificate, and who signed it."""
    wanted = f"{node_name}.peerd"
    try:
        certificate = x509.load_pem_x509_certificate(files.cert.read_bytes())
        authorities = x509.load_pem_x509_certificates(files.ca.read_bytes())
        key = load_pem_private_key(files.key.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:
        return CertificateFacts(files.cert, wanted, error=_words(error))
    try:
        alternatives = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        names = tuple(alternatives.get_values_for_type(x509.DNSName))
    except x509.ExtensionNotFound:
        names = ()
    return CertificateFacts(
        files.cert,
        wanted,
        names,
        trusted=_signed_by_any(certificate, authorities),
        keyed=key.public_key() == certificate.public_key(),
        begins=certificate.not_valid_before_utc,
        ends=certificate.not_valid_after_utc,
    )


def _signed_by_any(certificate: x509.Certificate, authorities: Iterable[x509.Certificate]) -> bool:
    for authority in authorities:
        try:
            certificate.verify_directly_issued_by(authority)
        except (InvalidSignature, ValueError, TypeError):
            continue
        return True
    return False


def observe_clock() -> ClockFacts:
    """The time, and whether the kernel was told by anybody that it is right."""
    now = dt.datetime.now(dt.UTC)
    # struct timex has 208 bytes on 64-bit Linux; zeroed, its `modes` say that nothing is to be changed.
    timex = ctypes.create_string_buffer(512)
    state = ctypes.CDLL(None, use_errno=True).adjtimex(timex)
    return ClockFacts(now, None if state < 0 else state != _TIME_ERROR)


def observe_disk(settings: Settings, status: Status | None) -> DiskFacts:
    """Room for the cache. The node's own numbers, where it runs."""
    folder = settings.cache_dir
    existing = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
    if not os.access(existing, os.W_OK):
        return DiskFacts(folder, error=f"{existing} can not be written to by this user")
    used = status.cache.used_bytes if status else 0
    quota = status.cache.quota_bytes if status else settings.cache_size
    return DiskFacts(folder, shutil.disk_usage(existing).free, used, quota)


def _words(error: Exception) -> str:
    """`Connection refused` rather than a number and a tuple."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
