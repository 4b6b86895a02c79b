"""How a node takes part in the cluster that its settings name: as which member, and who tells it of the others."""

import time
from contextlib import AbstractAsyncContextManager

from app import __version__
from app.settings import Address, Settings
from peerd_gossip import (
    Gossip,
    GossipConfig,
    Member,
    Membership,
    SerfConfig,
    SerfMembership,
    StaticMembership,
    TlsFiles,
    read_key,
)


def joined(settings: Settings, peer_port: int) -> AbstractAsyncContextManager[Gossip]:
    """A member of the cluster within the block, whose peer door is at `peer_port`. Raises GossipError on entry."""
    me = Member(
        settings.node_name,
        int(time.time() * 1000),  # greater at each start: a newer life replaces the older one
        str(Address(settings.advertise_host, peer_port)),
        str(Address(settings.advertise_host, settings.gossip_addr.port)),
        settings.zone or "",
        __version__,
    )
    tls = settings.tls
    config = GossipConfig(
        me,
        str(settings.gossip_addr),
        tls=TlsFiles(tls.ca, tls.cert, tls.key) if tls else None,
        fp_rate=settings.filter_fp_rate,
    )
    return Gossip.running(config, _membership(settings))


def _membership(settings: Settings) -> Membership:
    """Who tells which members there are."""
    join = [str(address) for address in settings.join_addresses]
    if settings.membership != "serf":
        return StaticMembership(join)  # names among them are asked again: that is all that `dns` means
    rpc = settings.serf_rpc_addr
    return SerfMembership(
        SerfConfig(
            join=join,
            bind=str(settings.serf_bind),
            advertise=str(Address(settings.advertise_host, settings.serf_bind.port)),
            key=read_key(settings.serf_key_file) if settings.serf_key_file else None,
            state=settings.cache_dir / "serf",
            rpc_addr=str(rpc) if rpc else None,
        )
    )
